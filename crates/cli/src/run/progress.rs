//! How long work comes along: a bar on a terminal, and elsewhere a line when it takes long.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use haul_client::SendProgress;
use haul_snapshot::ScanProgress;
use haul_types::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::context::Context;
use crate::output::{Event, Mode};

/// A bar comes up after this long: what is over sooner needs none.
const BAR_AFTER: Duration = Duration::from_millis(250);
/// A plain line is printed after this long, and then at most so often.
const LINE_AFTER: Duration = Duration::from_secs(1);
const LINE_EVERY: Duration = Duration::from_secs(10);
/// How often a bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Counts, from whatever thread.
#[derive(Debug, Default)]
pub(super) struct Counts {
    found: AtomicU64,
    hashed_files: AtomicU64,
    hashed_bytes: AtomicU64,
    missing_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl ScanProgress for Counts {
    fn on_found(&self, entries: u64) {
        self.found.fetch_add(entries, Ordering::Relaxed);
    }

    fn on_hashed(&self, files: u64, bytes: u64) {
        self.hashed_files.fetch_add(files, Ordering::Relaxed);
        self.hashed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn on_sent(&self, _: u64, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl SendProgress for Counts {
    fn on_missing(&self, _: u64, bytes: u64) {
        self.missing_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Counts {
    fn text(&self) -> String {
        let bytes = |count: &AtomicU64| ByteSize(count.load(Ordering::Relaxed));
        let missing = bytes(&self.missing_bytes);
        if missing.0 > 0 {
            return format!("sending: {} of {missing}", bytes(&self.sent_bytes));
        }
        format!(
            "reading: {} files found, {} ({}) hashed",
            self.found.load(Ordering::Relaxed),
            self.hashed_files.load(Ordering::Relaxed),
            bytes(&self.hashed_bytes)
        )
    }
}

/// Waits for `work`, and shows meanwhile how it comes along.
pub(super) async fn watched<T>(
    context: &mut Context,
    counts: &Arc<Counts>,
    work: impl Future<Output = T>,
) -> T {
    tokio::pin!(work);
    let draws = context.may_draw();
    let first = if draws { BAR_AFTER } else { LINE_AFTER };
    if let Ok(done) = tokio::time::timeout(first, &mut work).await {
        return done;
    }
    if context.mode == Mode::Quiet {
        return work.await;
    }
    if !draws {
        loop {
            context.output.event(&Event::Progress(&counts.text()));
            if let Ok(done) = tokio::time::timeout(LINE_EVERY, &mut work).await {
                return done;
            }
        }
    }
    let bar = spinner();
    loop {
        let missing = counts.missing_bytes.load(Ordering::Relaxed);
        if missing > 0 && bar.length().is_none() {
            bar.set_style(style(
                "{spinner} sending {bar:30} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
            ));
            bar.set_length(missing);
        }
        if missing > 0 {
            bar.set_position(counts.sent_bytes.load(Ordering::Relaxed).min(missing));
        } else {
            bar.set_message(counts.text());
        }
        bar.tick();
        if let Ok(done) = tokio::time::timeout(TICK, &mut work).await {
            bar.finish_and_clear();
            return done;
        }
    }
}

/// A spinner with a message, on standard error.
pub(super) fn spinner() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.set_style(style("{spinner} {wide_msg}"));
    bar
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
