//! Attempts per second through one and two supervisors, against making the same processes directly.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use haul_launcher::{AttemptOrder, Launcher, LauncherConfig, Limits, SupervisorProgram};
use haul_types::{AttemptId, JobId};

fn order(directory: &Path, job: JobId, index: u32) -> AttemptOrder {
    AttemptOrder {
        attempt: AttemptId::new(job, index, 1),
        program: "/bin/true".into(),
        args: Vec::new(),
        cwd: "/".into(),
        env: (0..20)
            .map(|i| (format!("VARIABLE_{i}").into(), "x".repeat(40).into()))
            .collect(),
        stdout: directory.join("out"),
        stderr: directory.join("err"),
        timeout: None,
        grace: Duration::from_secs(5),
        limits: Limits::default(),
    }
}

/// Runs `count` attempts, so many at a time.
async fn attempts(launcher: &Launcher, directory: &Path, count: u64, slots: u64) {
    let job = JobId::random();
    let slot = |slot: u64| async move {
        for index in (slot..count).step_by(usize::try_from(slots).expect("few")) {
            let index = u32::try_from(index).expect("few");
            let mut attempt = launcher
                .start(order(directory, job, index))
                .await
                .expect("started");
            let record = attempt.ended().await;
            launcher.acknowledge(record.attempt).expect("it has just ended");
        }
    };
    match slots {
        1 => slot(0).await,
        _ => {
            tokio::join!(slot(0), slot(1));
        }
    }
}

fn spawn_directly(count: u64) {
    for _ in 0..count {
        let mut child = Command::new("/bin/true")
            .stdin(Stdio::null())
            .spawn()
            .expect("it is there");
        child.wait().expect("it is ours");
    }
}

fn main() {
    if haul_launcher::supervisor::main_if_asked().is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("room for a state directory");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = LauncherConfig::new(SupervisorProgram::this_one());
    let (launcher, _) = Launcher::open(&directory.path().join("state"), config).expect("an empty directory");
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("attempts");
    group
        .throughput(Throughput::Elements(1))
        .sample_size(20)
        .measurement_time(Duration::from_secs(5));
    for slots in [1, 2] {
        group.bench_function(format!("launcher/{slots}"), |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                runtime.block_on(attempts(&launcher, directory.path(), count, slots));
                began.elapsed()
            });
        });
        group.bench_function(format!("direct/{slots}"), |bencher| {
            bencher.iter_custom(|count| {
                let began = Instant::now();
                std::thread::scope(|scope| {
                    for slot in 0..slots {
                        scope.spawn(move || spawn_directly((count + slots - 1 - slot) / slots));
                    }
                });
                began.elapsed()
            });
        });
    }
    group.finish();
    drop(launcher);
    criterion.final_summary();
}
