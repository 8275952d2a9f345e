//! What being followed costs a script that writes a million lines, one write each, in its own CPU time: nobody watching is
//! the floor.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use haul_spool::{Follower, StreamFile};

const LINES: u64 = 1_000_000;

fn write_lines(path: &Path) {
    let mut file = File::options().append(true).open(path).expect("open");
    for _ in 0..LINES {
        file.write_all(b"epoch 17 step 123456 loss 0.123456\n")
            .expect("write");
    }
}

/// Follows `path` until told to stop; reads everything and throws it away.
fn follow(path: &Path, stop: &AtomicBool) {
    let mut follower = Follower::new().expect("inotify");
    follower.watch(path, ()).expect("watch");
    let file = StreamFile::open(path).expect("open");
    let (mut at, mut buffer) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        for () in follower.wait(Some(Duration::from_millis(50))).expect("wait") {
            while file.read(at, 1 << 20, &mut buffer).expect("read") > 0 {
                at += buffer.len() as u64;
                buffer.clear();
            }
        }
    }
}

/// CPU time this thread has used: the writer's own cost, whatever the reader and others do to the clock on the wall.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("stdout");
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5));
    let mut group = criterion.benchmark_group("a million lines, one write each");
    group.throughput(Throughput::Elements(LINES));
    for followed in [false, true] {
        let name = if followed {
            "followed"
        } else {
            "floor: nobody watches"
        };
        group.bench_function(name, |bench| {
            bench.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    File::create(&path).expect("create");
                    let stop = AtomicBool::new(false);
                    thread::scope(|scope| {
                        if followed {
                            scope.spawn(|| follow(&path, &stop));
                            // Until the watch is there.
                            thread::sleep(Duration::from_millis(20));
                        }
                        let start = cpu_time();
                        write_lines(&path);
                        spent += cpu_time() - start;
                        stop.store(true, Ordering::Relaxed);
                    });
                }
                spent
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
