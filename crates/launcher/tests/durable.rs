//! Ends on the disk: what is told may be relied on, and one sync serves many.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

#[path = "support/bench.rs"]
mod support;

use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use haul_launcher::{Launcher, SyncError};
use support::Bench;

async fn run(launcher: &Launcher, bench: &Bench, index: u32) {
    let order = bench.order(index, "true", &[]);
    launcher.start(order).await.unwrap().ended().await;
}

/// The journals of the supervisors that have one.
fn journals(bench: &Bench) -> Vec<PathBuf> {
    let directories = std::fs::read_dir(bench.state().join("supervisors")).unwrap();
    directories
        .map(|directory| directory.unwrap().path().join("journal"))
        .filter(|journal| journal.exists())
        .collect()
}

/// Puts what cannot be opened into the place of every journal; supervisors go on writing to their own.
fn break_journals(bench: &Bench) {
    for journal in journals(bench) {
        std::fs::rename(&journal, journal.with_extension("aside")).unwrap();
        drop(UnixListener::bind(journal).unwrap());
    }
}

#[tokio::test]
async fn an_end_is_durable_only_if_the_disk_took_it() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    run(&launcher, &bench, 0).await;
    launcher.durable(bench.attempt(0), Duration::ZERO).await.unwrap();
    run(&launcher, &bench, 1).await;
    break_journals(&bench);
    let refused = launcher.durable(bench.attempt(1), Duration::ZERO).await;
    assert!(matches!(refused, Err(SyncError::Sync { .. })), "{refused:?}");
    // The earlier one is on the disk already, and of a third nothing is written that could be lost.
    launcher.durable(bench.attempt(0), Duration::ZERO).await.unwrap();
    launcher.durable(bench.attempt(2), Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn ends_that_may_wait_are_made_durable_with_one_that_may_not() {
    const FOR_EVER: Duration = Duration::from_secs(3600);
    let bench = Bench::new();
    let launcher = bench.launcher();
    let mut patient = Vec::new();
    for index in 0..5 {
        run(&launcher, &bench, index).await;
        patient.push(launcher.durable(bench.attempt(index), FOR_EVER));
    }
    run(&launcher, &bench, 5).await;
    let begun = Instant::now();
    launcher.durable(bench.attempt(5), Duration::ZERO).await.unwrap();
    for durable in patient {
        durable.await.unwrap();
    }
    assert!(begun.elapsed() < FOR_EVER / 2);
}

#[tokio::test]
async fn patience_ends() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    run(&launcher, &bench, 0).await;
    let dropped = launcher.durable(bench.attempt(0), Duration::from_millis(1));
    drop(dropped);
    launcher
        .durable(bench.attempt(0), Duration::from_millis(20))
        .await
        .unwrap();
    break_journals(&bench);
    // Nothing is left to do: it does not even look.
    launcher.durable(bench.attempt(0), Duration::ZERO).await.unwrap();
}

#[test]
fn what_an_earlier_agent_heard_of_is_made_durable_by_the_next() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let bench = Bench::new();
    let earlier = runtime();
    earlier.block_on(async { run(&bench.launcher(), &bench, 0).await });
    // With it goes the making of a spare supervisor, which holds the state directory.
    drop(earlier);
    runtime().block_on(async {
        let (launcher, found) = bench.open();
        assert_eq!(found.len(), 1);
        launcher.durable(bench.attempt(0), Duration::ZERO).await.unwrap();
        launcher.acknowledge(bench.attempt(0)).unwrap();
        // The directory of its supervisor is gone with its last end.
        assert_eq!(journals(&bench), Vec::<PathBuf>::new());
        launcher.durable(bench.attempt(0), Duration::ZERO).await.unwrap();
    });
}
