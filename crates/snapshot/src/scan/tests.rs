use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A directory with these files (a path ending in `/` is a directory).
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path_on_disk = dir.path().join(path);
        if path.ends_with('/') {
            fs::create_dir_all(path_on_disk).unwrap();
        } else {
            fs::create_dir_all(path_on_disk.parent().unwrap()).unwrap();
            fs::write(path_on_disk, content).unwrap();
        }
    }
    dir
}

fn scan_of(root: &Path) -> Result<Scan, ScanError> {
    scan(&ScanOptions::new(root), &())
}

fn paths(scan: &Scan) -> Vec<String> {
    scan.manifest
        .entries()
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.path).into_owned())
        .collect()
}

/// Waits until what was written before is older than the grain of file times.
fn let_times_pass() {
    std::thread::sleep(Duration::from_millis(45));
}

#[test]
fn gitignore_files_rule_their_directories() {
    let dir = tree(&[
        (".gitignore", "*.log\n/data/\n!keep.log\n"),
        ("a.log", ""),
        ("keep.log", ""),
        ("data/big", ""),
        ("src/data/small", ""),
        ("src/.gitignore", "!a.log\n*.tmp\n"),
        ("src/a.log", ""),
        ("src/x.tmp", ""),
        ("x.tmp", ""),
        (".git/config", ""),
        ("sub/.git", "gitdir: elsewhere"),
        (".hg/x", ""),
        (".svn/x", ""),
        ("venv/pyvenv.cfg", ""),
        ("venv/bin/python", ""),
        ("conda/conda-meta/x", ""),
        ("conda/y", ""),
    ]);
    let scan = scan_of(dir.path()).unwrap();
    assert_eq!(
        paths(&scan),
        [
            ".gitignore",
            "keep.log",
            "src",
            "src/.gitignore",
            "src/a.log",
            "src/data",
            "src/data/small",
            "sub",
            "x.tmp"
        ]
    );
}

#[test]
fn one_file_at_the_root_rules_alone() {
    let files = [
        (".gitignore", "a\n"),
        (".amlignore", "b\n"),
        ("a", ""),
        ("b", ""),
        ("c", ""),
    ];
    let dir = tree(&files);
    assert_eq!(
        paths(&scan_of(dir.path()).unwrap()),
        [".amlignore", ".gitignore", "a", "c"]
    );
    fs::write(dir.path().join(".haulignore"), "c\n.*ignore\n").unwrap();
    assert_eq!(paths(&scan_of(dir.path()).unwrap()), ["a", "b"]);
    let mut options = ScanOptions::new(dir.path());
    options.rules = IgnoreRules::None;
    assert_eq!(scan(&options, &()).unwrap().totals().files, 6);
}

#[test]
fn what_is_ignored_is_not_even_read() {
    let dir = tree(&[(".gitignore", "odd/\n"), ("a", "")]);
    fs::create_dir(dir.path().join("odd")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("odd/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(paths(&scan_of(dir.path()).unwrap()), [".gitignore", "a"]);
}

#[test]
fn the_reason_for_staying_behind_is_told() {
    let dir = tree(&[
        (".gitignore", "# notes\n\n*.py\nout/\n*.py\n"),
        ("src/.gitignore", "!train.py\nlocal*\n"),
        ("src/train.py", ""),
        ("venv/pyvenv.cfg", ""),
    ]);
    let reason = |path: &str| {
        ignored_reason(dir.path(), Path::new(path))
            .unwrap()
            .map(|reason| reason.to_string())
    };
    assert_eq!(reason("train.py").as_deref(), Some(".gitignore:5 (*.py)"));
    assert_eq!(reason("out/deep/x").as_deref(), Some(".gitignore:4 (out/)"));
    assert_eq!(reason("src/train.py"), None);
    assert_eq!(
        reason("./src/local.txt").as_deref(),
        Some("src/.gitignore:2 (local*)")
    );
    assert_eq!(
        reason("venv/x").as_deref(),
        Some("venv, which is a virtual environment")
    );
    assert_eq!(
        reason(".git/config").as_deref(),
        Some(".git, which is version control's")
    );
    assert!(ignored_reason(dir.path(), Path::new("../x")).is_err());
}

#[test]
fn everything_that_cannot_travel_is_named_at_once() {
    let dir = tree(&[("d/e/", ""), ("ok", "")]);
    let at = |name: &str| dir.path().join(name);
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("../x", at("outside")).unwrap();
    symlink("../..", at("d/e/up")).unwrap();
    symlink("d/e/up/../x", at("through")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let error = scan_of(dir.path()).unwrap_err().to_string();
    let lines: Vec<_> = error.lines().skip(1).map(str::trim).collect();
    assert_eq!(lines.len(), 4, "{error}");
    for (line, name) in lines.iter().zip(["absolute", "outside", "socket", "through"]) {
        assert!(line.starts_with(name), "{error}");
    }
    let mut options = ScanOptions::new(dir.path());
    options.special_files = SpecialFiles::Skip;
    let scan = scan(&options, &()).unwrap();
    assert_eq!(scan.skipped.len(), 4);
    assert_eq!(paths(&scan), ["d", "d/e", "d/e/up", "dangling", "ok"]);
}

#[test]
fn a_long_list_of_refusals_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..25 {
        symlink("/", dir.path().join(format!("l{i:02}"))).unwrap();
    }
    match scan_of(dir.path()) {
        Err(ScanError::Refused { refusals, more, .. }) => assert_eq!((refusals.len(), more), (20, 5)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tree_over_the_limit_is_refused_before_it_is_read() {
    let dir = tree(&[("small", "1"), ("large", "12345")]);
    let mut options = ScanOptions::new(dir.path());
    options.max_bytes = Some(ByteSize(5));
    let error = scan(&options, &()).unwrap_err().to_string();
    assert!(
        error.ends_with("the largest files: large (5 B), small (1 B)"),
        "{error}"
    );
    options.max_bytes = Some(ByteSize(6));
    assert!(scan(&options, &()).is_ok());
}

#[test]
fn the_cache_saves_reading_and_is_never_wrong() {
    let dir = tree(&[("a", "one"), ("b/c", "two"), ("d", "")]);
    let cache = tempfile::tempdir().unwrap();
    let mut options = ScanOptions::new(dir.path());
    options.stat_cache = Some(cache.path().join("stat"));
    let run = || scan(&options, &()).unwrap();
    let first = run();
    let_times_pass();
    let second = run();
    assert!(second.hashed <= 3);
    let third = run();
    assert_eq!(third.hashed, 0);
    assert_eq!(first.id(), third.id());
    let written = fs::metadata(cache.path().join("stat"))
        .unwrap()
        .modified()
        .unwrap();
    let_times_pass();
    run();
    assert_eq!(
        fs::metadata(cache.path().join("stat"))
            .unwrap()
            .modified()
            .unwrap(),
        written
    );

    // The same size, and the time put back.
    let path = dir.path().join("a");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "ONE").unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(before)
        .unwrap();
    let changed = run();
    assert_ne!(changed.id(), first.id());
    fs::write(&path, "one").unwrap();
    assert_eq!(run().id(), first.id());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_ne!(run().id(), first.id());

    // Damage is as good as no cache.
    let mut bytes = fs::read(cache.path().join("stat")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(cache.path().join("stat"), &bytes).unwrap();
    let damaged = run();
    assert_eq!(damaged.hashed, 3);
    fs::write(cache.path().join("stat"), b"").unwrap();
    assert_eq!(run().id(), damaged.id());
}

#[test]
fn an_edit_within_the_grain_of_file_times_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let mut options = ScanOptions::new(dir.path());
    options.stat_cache = Some(cache.path().join("stat"));
    let path = dir.path().join("f");
    for round in 0..300u32 {
        // Same size, in place, at once after a scan: the times often do not move.
        fs::write(&path, round.to_le_bytes()).unwrap();
        let scan = scan(&options, &()).unwrap();
        assert_eq!(
            scan.manifest.entries()[0].chunks()[0].digest,
            Digest::of(&round.to_le_bytes())
        );
    }
}

#[test]
fn a_file_that_never_rests_is_refused_by_name() {
    let dir = tree(&[("calm", "x")]);
    let path = dir.path().join("busy");
    fs::write(&path, vec![0; 30 << 20]).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&path).unwrap();
            let mut len = 30u64 << 20;
            while !stop.load(Ordering::Relaxed) {
                len += 1;
                file.set_len(len).unwrap();
            }
        });
        let started = Instant::now();
        while fs::metadata(&path).unwrap().len() == 30 << 20 {
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        let error = scan_of(dir.path());
        stop.store(true, Ordering::Relaxed);
        let error = error.unwrap_err().to_string();
        assert!(error.contains("busy: keeps changing"), "{error}");
    });
    assert!(scan_of(dir.path()).is_ok());
}

#[test]
fn large_files_are_cut_where_their_content_says() {
    let mut content = vec![0; 12 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), &content).unwrap();
    let before = scan_of(dir.path()).unwrap();
    let old: HashSet<_> = before.manifest.entries()[0].chunks().iter().copied().collect();
    assert!(old.len() >= 5);
    content.splice(100..100, *b"inserted near the front");
    fs::write(dir.path().join("f"), &content).unwrap();
    let after = scan_of(dir.path()).unwrap();
    let new = after.manifest.entries()[0].chunks();
    assert!(new.iter().filter(|chunk| !old.contains(chunk)).count() <= 2);
    assert_eq!(
        new.iter().map(|chunk| u64::from(chunk.len)).sum::<u64>(),
        content.len() as u64
    );
}

#[test]
fn a_bundle_tells_changes_strangers_and_a_failing_sink() {
    let dir = tree(&[("a", "one"), ("b", "two")]);
    let scan = scan_of(dir.path()).unwrap();
    let wanted: HashSet<_> = scan
        .pages()
        .flat_map(|page| page.chunks())
        .map(|chunk| chunk.digest)
        .collect();
    let stranger = HashSet::from([Digest::of(b"stranger")]);
    let mut none = |_| Ok::<_, ()>(());
    assert!(matches!(
        scan.write_bundle(&stranger, 2, &mut none, &()),
        Err(BundleError::Unknown { .. })
    ));
    assert!(matches!(
        scan.write_bundle(&wanted, 2, &mut |_| Err("full"), &()),
        Err(BundleError::Sink("full"))
    ));
    fs::write(dir.path().join("a"), "ONE").unwrap();
    match scan.write_bundle(&wanted, 2, &mut none, &()) {
        Err(BundleError::Changed { path }) => assert_eq!(path.as_bytes(), b"a"),
        other => panic!("{other:?}"),
    }
    fs::remove_file(dir.path().join("a")).unwrap();
    assert!(matches!(
        scan.write_bundle(&wanted, 2, &mut none, &()),
        Err(BundleError::Changed { .. })
    ));
}

#[test]
fn progress_counts_everything_once() {
    #[derive(Default)]
    struct Counts([AtomicU64; 5]);
    impl ScanProgress for Counts {
        fn on_found(&self, entries: u64) {
            self.0[0].fetch_add(entries, Ordering::Relaxed);
        }
        fn on_hashed(&self, files: u64, bytes: u64) {
            self.0[1].fetch_add(files, Ordering::Relaxed);
            self.0[2].fetch_add(bytes, Ordering::Relaxed);
        }
        fn on_sent(&self, chunks: u64, bytes: u64) {
            self.0[3].fetch_add(chunks, Ordering::Relaxed);
            self.0[4].fetch_add(bytes, Ordering::Relaxed);
        }
    }
    let dir = tree(&[("a", "one"), ("b/c", "seven"), ("b/twin", "one")]);
    let counts = Counts::default();
    let scan = scan(&ScanOptions::new(dir.path()), &counts).unwrap();
    let wanted = scan
        .pages()
        .flat_map(|page| page.chunks())
        .map(|chunk| chunk.digest)
        .collect();
    scan.write_bundle(&wanted, 2, &mut |_| Ok::<_, ()>(()), &counts)
        .unwrap();
    assert_eq!(counts.0.map(AtomicU64::into_inner), [4, 3, 11, 2, 8]);
}
