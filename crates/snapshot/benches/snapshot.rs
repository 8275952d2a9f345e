//! 5,000 files in 250 directories, 200 MB: what each step costs, beside what `find` and `cp` cost on the same tree.

use std::collections::HashSet;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use haul_snapshot::bundle::{DecodedFrame, read_frame};
use haul_snapshot::{ScanOptions, scan, tree};

const FILES: usize = 5000;
const PER_DIR: usize = 20;
const FILE: usize = 40_000;
const THREADS: usize = 2;

fn make(root: &Path) {
    let mut content = vec![0; FILE];
    for i in 0..FILES {
        let dir = root.join(format!("d{:02}/e{:03}", i / PER_DIR % 25, i / PER_DIR));
        if i % PER_DIR == 0 {
            fs::create_dir_all(&dir).expect("a directory can be made");
        }
        // Half random, half text: it compresses about as data and code do together.
        blake3::Hasher::new()
            .update(&i.to_le_bytes())
            .finalize_xof()
            .fill(&mut content[..FILE / 2]);
        content[FILE / 2..].fill(b'x');
        fs::write(dir.join(format!("file{i}.txt")), &content).expect("a file can be written");
    }
}

fn options(root: &Path, cache: Option<PathBuf>) -> ScanOptions {
    let mut options = ScanOptions::new(root);
    options.stat_cache = cache;
    options.threads = THREADS;
    options
}

fn steps(criterion: &mut Criterion) {
    let base = tempfile::tempdir().expect("there is a temporary directory");
    let source = base.path().join("source");
    make(&source);
    let cache = base.path().join("cache");
    let scanned = scan(&options(&source, None), &()).expect("the tree can be read");
    let wanted: HashSet<_> = scanned
        .pages()
        .flat_map(|page| page.chunks())
        .map(|chunk| chunk.digest)
        .collect();
    let mut frames = Vec::new();
    let mut keep = |frame| {
        frames.push(frame);
        Ok::<_, ()>(())
    };
    scanned
        .write_bundle(&wanted, THREADS, &mut keep, &())
        .expect("the tree did not change");

    let mut group = criterion.benchmark_group("5000-files-200-MB");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(5))
        .throughput(Throughput::Bytes((FILES * FILE) as u64));
    group.bench_function("scan, cold", |b| {
        b.iter(|| scan(&options(&source, None), &()).map(|scan| scan.id()));
    });
    std::thread::sleep(Duration::from_millis(50));
    scan(&options(&source, Some(cache.clone())), &()).expect("the cache can be written");
    group.bench_function("scan, warm", |b| {
        b.iter(|| scan(&options(&source, Some(cache.clone())), &()).map(|scan| scan.id()));
    });
    group.bench_function("peer: find -printf", |b| {
        b.iter(|| {
            run(Command::new("find")
                .arg(&source)
                .args(["-printf", "%s %T@ %C@ %i %p\\n"]));
        });
    });
    group.bench_function("bundle", |b| {
        b.iter(|| {
            scanned.write_bundle(
                &wanted,
                THREADS,
                &mut |frame| {
                    black_box(frame);
                    Ok::<_, ()>(())
                },
                &(),
            )
        });
    });
    group.bench_function("read frames, one thread", |b| {
        b.iter(|| {
            frames.iter().for_each(|frame| {
                black_box(read_frame(&frame.bytes)).expect("it is a frame");
            });
        });
    });
    let decoded: Vec<DecodedFrame> = frames
        .iter()
        .map(|frame| read_frame(&frame.bytes).expect("it is a frame"))
        .collect();
    let mut serial = 0;
    let mut fresh = || {
        serial += 1;
        base.path().join(format!("target{serial}"))
    };
    let fill = |target: &Path| {
        let tree = tree::create(target, &scanned.manifest).expect("the target is new");
        std::thread::scope(|scope| {
            for part in decoded.chunks(decoded.len().div_ceil(THREADS)) {
                let tree = &tree;
                scope.spawn(move || {
                    part.iter()
                        .for_each(|frame| tree.accept(frame).expect("it can be written"));
                });
            }
        });
        tree.finish().expect("every chunk came")
    };
    group.bench_function("materialise decoded frames", |b| {
        b.iter_batched(&mut fresh, |target| fill(&target), BatchSize::PerIteration);
    });
    group.bench_function("peer: cp -r", |b| {
        b.iter_batched(
            &mut fresh,
            |target| run(Command::new("cp").arg("-r").arg(&source).arg(target)),
            BatchSize::PerIteration,
        );
    });
    let target = fresh();
    let mut state = fill(&target);
    std::thread::sleep(Duration::from_millis(50));
    state.hand_over();
    group.bench_function("reset, untouched", |b| {
        b.iter(|| {
            let plan = tree::reset(&target, &state, &scanned.manifest, &["outputs", "logs"])
                .expect("it can be reset");
            assert_eq!((plan.materializer.missing(), plan.removed), (0, 0));
            plan.materializer.finish().expect("nothing is missing")
        });
    });
    group.finish();
}

fn run(command: &mut Command) {
    let status = command
        .stdout(Stdio::null())
        .status()
        .expect("the program is there");
    assert!(status.success());
}

criterion_group!(benches, steps);
criterion_main!(benches);
