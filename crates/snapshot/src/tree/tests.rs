use super::*;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use crate::bundle::{Frame, read_frame};
use crate::scan::{IgnoreRules, Scan, ScanOptions, scan};

/// Where things happen: a source, a target, and a directory outside that must not change.
struct Stage {
    base: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        for dir in ["source/src/empty", "outside"] {
            fs::create_dir_all(base.path().join(dir)).unwrap();
        }
        let stage = Self { base };
        fs::write(stage.at("outside/canary"), "alive").unwrap();
        fs::write(stage.at("source/train.py"), "print(1)\n").unwrap();
        fs::write(stage.at("source/src/lib.py"), "x = 1\n").unwrap();
        fs::write(stage.at("source/src/none"), "").unwrap();
        let mut large = vec![0; 6 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut large);
        fs::write(stage.at("source/model.bin"), large).unwrap();
        fs::set_permissions(stage.at("source/train.py"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("src/lib.py", stage.at("source/link")).unwrap();
        stage
    }

    fn at(&self, path: &str) -> PathBuf {
        self.base.path().join(path)
    }

    fn scan(&self, dir: &str) -> Scan {
        let mut options = ScanOptions::new(self.at(dir));
        options.rules = IgnoreRules::None;
        scan(&options, &()).unwrap()
    }

    fn frames(&self, wanted: &Materializer) -> Vec<Frame> {
        let wanted: HashSet<Digest> = wanted.needed().map(|chunk| chunk.digest).collect();
        let mut frames = Vec::new();
        self.scan("source")
            .write_bundle(
                &wanted,
                2,
                &mut |frame| {
                    frames.push(frame);
                    Ok::<_, ()>(())
                },
                &(),
            )
            .unwrap();
        frames
    }

    fn fill(&self, tree: Materializer) -> TreeState {
        for frame in self.frames(&tree) {
            tree.accept(&read_frame(&frame.bytes).unwrap()).unwrap();
        }
        tree.finish().unwrap()
    }

    /// A finished tree in `target`, handed over once its times prove something.
    fn made(&self) -> TreeState {
        let state = self.fill(create(&self.at("target"), &self.scan("source").manifest).unwrap());
        std::thread::sleep(Duration::from_millis(45));
        let mut state = TreeState::decode(&state.encode()).unwrap();
        state.hand_over();
        state
    }

    fn check(&self) {
        assert_eq!(fs::read_to_string(self.at("outside/canary")).unwrap(), "alive");
        assert_eq!(fs::read_dir(self.at("outside")).unwrap().count(), 1);
    }
}

#[test]
fn a_tree_is_what_was_scanned() {
    let stage = Stage::new();
    let state = stage.made();
    assert_eq!(state.manifest(), stage.scan("source").id());
    assert_eq!(stage.scan("target").id(), stage.scan("source").id());
    let again = create(&stage.at("target"), &stage.scan("source").manifest);
    assert!(matches!(again, Err(UnpackError::NotEmpty { .. })));
}

#[test]
fn missing_chunks_are_named() {
    let stage = Stage::new();
    let tree = create(&stage.at("target"), &stage.scan("source").manifest).unwrap();
    let needed = tree.needed().count();
    match tree.finish() {
        Err(UnpackError::Missing { count, some }) => {
            assert_eq!(count, needed);
            assert_eq!(some.len(), NAMED);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_untouched_tree_needs_nothing_and_keeps_its_files() {
    let stage = Stage::new();
    let state = stage.made();
    let before = fs::metadata(stage.at("target/model.bin")).unwrap().ino();
    let manifest = stage.scan("source").manifest;
    let plan = reset(&stage.at("target"), &state, &manifest, &["outputs", "logs"]).unwrap();
    assert_eq!(
        (plan.kept, plan.removed, plan.hashed),
        (manifest.entries().len(), 0, 0)
    );
    assert_eq!(plan.materializer.missing(), 0);
    let next = plan.materializer.finish().unwrap();
    assert_eq!(fs::metadata(stage.at("target/model.bin")).unwrap().ino(), before);
    let untouched = |extra: &[&str]| is_untouched(&stage.at("target"), &next, &manifest, extra);
    assert!(untouched(&["outputs", "logs"]));
    assert!(!untouched(&["outputs"]), "it holds one more");
    assert!(!untouched(&["outputs", "logs", "more"]), "it lacks one");
    fs::write(stage.at("target/logs/x"), "x").unwrap();
    assert!(!untouched(&["outputs", "logs"]), "one is not empty");
    let outputs = fs::metadata(stage.at("target/outputs")).unwrap().ino();
    fs::create_dir_all(stage.at("target/outputs/a/b")).unwrap();
    fs::write(stage.at("target/outputs/a/b/c"), "x").unwrap();
    fs::set_permissions(stage.at("target/outputs/a"), fs::Permissions::from_mode(0o0)).unwrap();
    let plan = reset(&stage.at("target"), &next, &manifest, &["outputs", "logs"]).unwrap();
    assert_eq!(plan.removed, 0);
    assert_eq!(fs::metadata(stage.at("target/outputs")).unwrap().ino(), outputs);
    assert_eq!(fs::read_dir(stage.at("target/outputs")).unwrap().count(), 0);
}

#[test]
fn whatever_a_job_did_is_undone() {
    type Deed = fn(&Stage);
    let deeds: [(&str, Deed); 14] = [
        ("edited", |s| {
            fs::write(s.at("target/train.py"), "print(2)\n").unwrap();
        }),
        ("edited, time put back", |s| {
            let path = s.at("target/src/lib.py");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            fs::write(&path, "x = 2\n").unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
        }),
        ("one byte of a large file", |s| {
            use std::os::unix::fs::FileExt;
            let file = fs::File::options()
                .write(true)
                .open(s.at("target/model.bin"))
                .unwrap();
            file.write_all_at(b"!", 5_000_000).unwrap();
        }),
        ("truncated", |s| {
            drop(fs::File::create(s.at("target/model.bin")).unwrap());
        }),
        ("chmodded", |s| {
            fs::set_permissions(s.at("target/train.py"), fs::Permissions::from_mode(0o4777)).unwrap();
        }),
        ("locked directory", |s| {
            fs::set_permissions(s.at("target/src"), fs::Permissions::from_mode(0o0)).unwrap();
        }),
        ("added", |s| {
            fs::create_dir_all(s.at("target/src/__pycache__/x")).unwrap();
            fs::write(s.at("target/src/__pycache__/x/y"), "").unwrap();
        }),
        ("deleted", |s| fs::remove_dir_all(s.at("target/src")).unwrap()),
        ("file made a directory", |s| {
            fs::remove_file(s.at("target/train.py")).unwrap();
            fs::create_dir_all(s.at("target/train.py/deep")).unwrap();
        }),
        ("file made a link out", |s| {
            fs::remove_file(s.at("target/train.py")).unwrap();
            symlink(s.at("outside/canary"), s.at("target/train.py")).unwrap();
        }),
        ("directory made a link out", |s| {
            fs::remove_dir_all(s.at("target/src")).unwrap();
            symlink(s.at("outside"), s.at("target/src")).unwrap();
        }),
        ("link turned", |s| {
            fs::remove_file(s.at("target/link")).unwrap();
            symlink("/etc", s.at("target/link")).unwrap();
        }),
        ("hard-linked elsewhere", |s| {
            fs::hard_link(s.at("target/train.py"), s.at("elsewhere")).unwrap();
        }),
        ("extra directory made a link out", |s| {
            symlink(s.at("outside"), s.at("target/outputs")).unwrap();
        }),
    ];
    for (name, deed) in deeds {
        let stage = Stage::new();
        let state = stage.made();
        let manifest = stage.scan("source").manifest;
        assert!(
            is_untouched(&stage.at("target"), &state, &manifest, &[]),
            "{name}"
        );
        deed(&stage);
        assert!(
            !is_untouched(&stage.at("target"), &state, &manifest, &[]),
            "{name}"
        );
        let plan = reset(
            &stage.at("target"),
            &state,
            &stage.scan("source").manifest,
            &["outputs"],
        )
        .unwrap();
        let next = stage.fill(plan.materializer);
        assert!(
            fs::symlink_metadata(stage.at("target/outputs")).unwrap().is_dir(),
            "{name}"
        );
        fs::remove_dir(stage.at("target/outputs")).unwrap();
        assert_eq!(stage.scan("target").id(), stage.scan("source").id(), "{name}");
        let mode = fs::metadata(stage.at("target/train.py")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o755, "{name}");
        if stage.at("elsewhere").exists() {
            let inos =
                ["elsewhere", "target/train.py"].map(|path| fs::metadata(stage.at(path)).unwrap().ino());
            assert_ne!(inos[0], inos[1]);
        }
        assert_eq!(next.manifest(), stage.scan("source").id());
        stage.check();
    }
}

#[test]
fn an_edit_right_after_the_tree_was_made_is_seen() {
    for round in 0..30 {
        let stage = Stage::new();
        let state = stage.fill(create(&stage.at("target"), &stage.scan("source").manifest).unwrap());
        // In place, same size, maybe within the same tick as the file's creation.
        fs::write(stage.at("target/src/lib.py"), "x = 2\n").unwrap();
        let manifest = stage.scan("source").manifest;
        assert!(
            !is_untouched(&stage.at("target"), &state, &manifest, &[]),
            "{round}"
        );
        let plan = reset(&stage.at("target"), &state, &manifest, &[]).unwrap();
        stage.fill(plan.materializer);
        assert_eq!(
            fs::read_to_string(stage.at("target/src/lib.py")).unwrap(),
            "x = 1\n",
            "{round}"
        );
    }
}

#[test]
fn a_reset_to_another_manifest_fetches_the_difference() {
    let stage = Stage::new();
    let state = stage.made();
    fs::write(stage.at("source/new"), "new").unwrap();
    fs::remove_dir_all(stage.at("source/src")).unwrap();
    fs::remove_file(stage.at("source/link")).unwrap();
    let manifest = stage.scan("source").manifest;
    assert!(!is_untouched(&stage.at("target"), &state, &manifest, &[]));
    let plan = reset(&stage.at("target"), &state, &manifest, &[]).unwrap();
    assert_eq!(plan.materializer.needed().count(), 1);
    stage.fill(plan.materializer);
    assert_eq!(stage.scan("target").id(), stage.scan("source").id());
}

#[test]
fn extra_directories_are_plain_names_outside_the_manifest() {
    let stage = Stage::new();
    let state = stage.made();
    for bad in ["", ".", "..", "a/b", "/x", "src"] {
        let plan = reset(
            &stage.at("target"),
            &state,
            &stage.scan("source").manifest,
            &[bad],
        );
        assert!(matches!(plan, Err(UnpackError::ExtraDir { .. })), "{bad:?}");
    }
}

#[test]
fn removing_follows_no_link_and_minds_no_mode() {
    let stage = Stage::new();
    stage.made();
    symlink(stage.at("outside"), stage.at("target/out")).unwrap();
    fs::set_permissions(stage.at("target/src"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(stage.at("target"), fs::Permissions::from_mode(0o0)).unwrap();
    remove_tree(&stage.at("target")).unwrap();
    remove_tree(&stage.at("target")).unwrap();
    assert!(!stage.at("target").exists());
    symlink(stage.at("outside"), stage.at("target")).unwrap();
    assert!(remove_tree(&stage.at("target")).is_err());
    stage.check();
}

#[test]
fn very_deep_trees_are_removed() {
    let stage = Stage::new();
    let top = stage.at("deep");
    fs::create_dir(&top).unwrap();
    let mut dir = rustix::fs::open(&top, rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..5000 {
        rustix::fs::mkdirat(&dir, "d", rustix::fs::Mode::RWXU).unwrap();
        dir = rustix::fs::openat(&dir, "d", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    }
    remove_tree(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn restoring_obeys_the_policy() {
    let stage = Stage::new();
    let manifest = stage.scan("source").manifest;
    fs::create_dir_all(stage.at("target/src")).unwrap();
    fs::write(stage.at("target/src/lib.py"), "mine").unwrap();
    fs::write(stage.at("target/other"), "mine too").unwrap();
    let refused = restore(&stage.at("target"), &manifest, Overwrite::Refuse).unwrap_err();
    assert!(
        matches!(refused, UnpackError::Exists { count: 1, .. }),
        "{refused}"
    );
    assert!(!stage.at("target/link").exists());

    let kept = restore(&stage.at("target"), &manifest, Overwrite::Keep).unwrap();
    stage.fill(kept);
    assert_eq!(fs::read_to_string(stage.at("target/src/lib.py")).unwrap(), "mine");
    assert_eq!(
        fs::read_to_string(stage.at("target/train.py")).unwrap(),
        "print(1)\n"
    );

    symlink(stage.at("outside/canary"), stage.at("target/spare")).unwrap();
    fs::remove_file(stage.at("target/train.py")).unwrap();
    symlink(stage.at("outside/canary"), stage.at("target/train.py")).unwrap();
    stage.fill(restore(&stage.at("target"), &manifest, Overwrite::Replace).unwrap());
    assert_eq!(
        fs::read_to_string(stage.at("target/src/lib.py")).unwrap(),
        "x = 1\n"
    );
    assert_eq!(fs::read_to_string(stage.at("target/other")).unwrap(), "mine too");
    assert!(
        fs::symlink_metadata(stage.at("target/train.py"))
            .unwrap()
            .is_file()
    );
    stage.check();
}

#[test]
fn restoring_through_a_link_is_refused() {
    let stage = Stage::new();
    let manifest = stage.scan("source").manifest;
    fs::create_dir(stage.at("target")).unwrap();
    symlink(stage.at("outside"), stage.at("target/src")).unwrap();
    assert!(restore(&stage.at("target"), &manifest, Overwrite::Keep).is_err());
    stage.fill(restore(&stage.at("target"), &manifest, Overwrite::Replace).unwrap());
    stage.check();
}

#[test]
fn a_link_put_in_the_way_meanwhile_leads_nowhere() {
    let stage = Stage::new();
    let tree = create(&stage.at("target"), &stage.scan("source").manifest).unwrap();
    let frames = stage.frames(&tree);
    fs::remove_dir_all(stage.at("target/src")).unwrap();
    symlink(stage.at("outside"), stage.at("target/src")).unwrap();
    let failures = frames
        .iter()
        .filter(|frame| tree.accept(&read_frame(&frame.bytes).unwrap()).is_err())
        .count();
    assert!(failures > 0);
    stage.check();
}

#[test]
fn a_damaged_state_is_told_apart() {
    let stage = Stage::new();
    let mut bytes = stage.made().encode();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(TreeState::decode(&bytes).is_err());
    assert!(TreeState::decode(b"").is_err());
}
