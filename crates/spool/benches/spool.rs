//! What a spool costs: a log of a million lines, many small streams, reading anywhere. The floor is a plain write of the
//! same bytes. Rates are of raw bytes.

use std::fmt::Write as _;
use std::fs::File;
use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use haul_spool::{JobSpool, SpoolOptions};
use haul_types::{StreamKey, StreamKind};

const LINES: usize = 1_000_000;

/// A training log of lines of 100 bytes; the numbers differ in every line, as they do in life.
fn log() -> Vec<u8> {
    let mut text = String::with_capacity(LINES * 100);
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    for step in 0..LINES {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let start = text.len();
        let _ = write!(
            text,
            "2026-03-01 12:{:02}:{:02},{:03} INFO trainer: epoch {} step {step} loss {:.6} lr {:.3e} grad {:.4}",
            step / 60_000 % 60,
            step / 1_000 % 60,
            step % 1_000,
            step / 10_000,
            (noise >> 40) as f64 / 1e6,
            1e-4 / (1.0 + step as f64),
            (noise >> 20 & 0xffff) as f64 / 1e3,
        );
        while text.len() < start + 99 {
            text.push(' ');
        }
        text.truncate(start + 99);
        text.push('\n');
    }
    text.into_bytes()
}

fn key(task: u32) -> StreamKey {
    StreamKey {
        task,
        attempt: 1,
        kind: StreamKind::Stdout,
    }
}

fn fill(spool: &JobSpool, log: &[u8], piece: usize) {
    let mut at = 0;
    for piece in log.chunks(piece) {
        at = spool.append(key(0), at, piece).expect("append");
    }
}

/// What most scripts print: a counter and a few words, lines of 100 bytes.
fn plain_log() -> Vec<u8> {
    let mut text = String::with_capacity(LINES * 100);
    for line in 0..LINES {
        let _ = writeln!(
            text,
            "line {line:07}: {:<84} ",
            "the quick brown fox jumps over the lazy dog"
        );
    }
    text.into_bytes()
}

/// CPU time this thread has used: unlike the wall clock, not the business of whoever else is on the machine.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// Speed and ratio of the levels worth considering: what the default was chosen by.
fn report(log: &[u8], dir: &std::path::Path) {
    std::fs::create_dir_all(dir).expect("create");
    let (start, path) = (cpu_time(), dir.join("floor"));
    let mut file = File::create(&path).expect("create");
    for piece in log.chunks(1 << 20) {
        file.write_all(piece).expect("write");
    }
    eprintln!(
        "floor: a plain write of {} MB takes {:?} of CPU",
        log.len() / 1_000_000,
        cpu_time() - start
    );
    for level in [-50, -7, -3, -1, 1, 3] {
        let options = SpoolOptions {
            level,
            ..SpoolOptions::default()
        };
        let spool = JobSpool::open(&dir.join(format!("level{level}")), &options).expect("open");
        let start = cpu_time();
        fill(&spool, log, 1 << 20);
        spool.sync().expect("sync");
        let spent = cpu_time() - start;
        let ratio = log.len() as f64 / spool.disk_bytes() as f64;
        eprintln!(
            "level {level:>3}: append and sync take {spent:?} of CPU ({:.0} MB/s), ratio {ratio:.1}",
            log.len() as f64 / 1e6 / spent.as_secs_f64(),
        );
    }
}

fn main() {
    let log = log();
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, log) in [("plain", &plain_log()), ("noisy", &log)] {
        eprintln!("a {name} log:");
        report(log, &dir.path().join(name));
    }
    let mut criterion = Criterion::default()
        .configure_from_args()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3));
    let fresh = |name: &str| {
        let path = dir.path().join(name);
        let _ = std::fs::remove_dir_all(&path);
        JobSpool::open(&path, &SpoolOptions::default()).expect("open")
    };

    let mut group = criterion.benchmark_group("a log of 100 MB");
    group.throughput(Throughput::Bytes(log.len() as u64));
    group.bench_function("floor: plain write", |bench| {
        bench.iter_batched(
            || File::create(dir.path().join("floor")).expect("create"),
            |mut file| {
                for piece in log.chunks(1 << 20) {
                    file.write_all(piece).expect("write");
                }
            },
            BatchSize::PerIteration,
        );
    });
    for (name, piece) in [
        ("in 1 MiB", 1 << 20),
        ("in 256 KiB", 256 << 10),
        ("in 4 KiB", 4 << 10),
    ] {
        group.bench_function(name, |bench| {
            bench.iter_batched(
                || fresh("log"),
                |spool| fill(&spool, &log, piece),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("small appends");
    group.throughput(Throughput::Elements(20_000));
    group.bench_function("20,000 streams of 200 bytes, one sync", |bench| {
        bench.iter_batched(
            || fresh("array"),
            |spool| {
                for task in 0..20_000 {
                    spool.append(key(task), 0, &log[..200]).expect("append");
                }
                spool.sync().expect("sync");
            },
            BatchSize::PerIteration,
        );
    });
    let array = fresh("array");
    for task in 0..20_000 {
        array.append(key(task), 0, &log[..200]).expect("append");
    }
    array.sync().expect("sync");
    let dir_of_array = array.dir().to_owned();
    drop(array);
    group.bench_function("open 20,000 streams, unsealed", |bench| {
        bench.iter(|| JobSpool::open(&dir_of_array, &SpoolOptions::default()).expect("open"));
    });
    JobSpool::open(&dir_of_array, &SpoolOptions::default())
        .expect("open")
        .seal()
        .expect("seal");
    group.bench_function("open 20,000 streams, sealed", |bench| {
        bench.iter(|| JobSpool::open(&dir_of_array, &SpoolOptions::default()).expect("open"));
    });
    group.finish();

    let spool = fresh("read");
    fill(&spool, &log, 1 << 20);
    spool.seal().expect("seal");
    let mut group = criterion.benchmark_group("reading");
    let mut noise = 1_u64;
    group.bench_function("64 KiB at random", |bench| {
        bench.iter(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            black_box(
                spool
                    .read(key(0), (noise >> 16) % log.len() as u64, 64 << 10)
                    .expect("read"),
            );
        });
    });
    group.throughput(Throughput::Bytes(log.len() as u64));
    group.bench_function("all in 64 KiB", |bench| {
        bench.iter(|| {
            let mut at = 0;
            while at < log.len() as u64 {
                at += spool.read(key(0), at, 64 << 10).expect("read").len() as u64;
            }
        });
    });
    group.finish();
    criterion.final_summary();
}
