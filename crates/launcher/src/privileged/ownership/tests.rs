//! As root, since only root gives files away. Where the tests run without, there is nothing that could be handed over.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use super::*;
use crate::beneath::open_dir;

const AGENT: u32 = 60_001;
const JOB: u32 = 60_002;
const OTHER: u32 = 60_003;

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

fn owner(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().uid()
}

fn make(path: &Path, owner: u32) {
    std::fs::write(path, "x").unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

fn make_dir(path: &Path, owner: u32) {
    std::fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
}

fn over() -> Change {
    Change {
        from: AGENT..=AGENT,
        to: JOB,
        group: JOB,
        several_names: false,
    }
}

fn back() -> Change {
    Change {
        from: JOB..=JOB,
        to: AGENT,
        group: AGENT,
        several_names: true,
    }
}

fn handle(path: &Path) -> OwnedFd {
    open_dir(path).unwrap()
}

#[test]
fn what_is_the_owners_is_given_and_nothing_else() {
    if !root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    make_dir(&outside, AGENT);
    make(&outside.join("key"), AGENT);
    make(&outside.join("root"), 0);
    let tree = scratch.path().join("tree");
    make_dir(&tree, AGENT);
    make_dir(&tree.join("d"), AGENT);
    make(&tree.join("d/f"), AGENT);
    make(&tree.join("foreign"), OTHER);
    std::fs::hard_link(outside.join("key"), tree.join("linked")).unwrap();
    std::fs::hard_link(outside.join("root"), tree.join("root")).unwrap();
    symlink(&outside, tree.join("way-out")).unwrap();
    rustix::fs::chownat(
        rustix::fs::CWD,
        tree.join("way-out"),
        Some(Uid::from_raw(AGENT)),
        None,
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .unwrap();
    make_dir(&tree.join("theirs"), OTHER);
    make(&tree.join("theirs/f"), AGENT);

    change(handle(scratch.path()).as_fd(), Path::new("tree"), &over()).unwrap();

    let now = |name: &str| owner(&tree.join(name));
    assert_eq!((now(""), now("d"), now("d/f")), (JOB, JOB, JOB));
    assert_eq!(now("way-out"), JOB, "the link itself");
    assert_eq!(now("foreign"), OTHER);
    assert_eq!(now("theirs/f"), AGENT, "beneath somebody else's directory");
    assert_eq!(now("linked"), AGENT, "it has a name that the job is not to reach");
    assert_eq!(now("root"), 0);
    assert_eq!(owner(&outside), AGENT);
    let mode = std::fs::metadata(&tree).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn what_a_job_made_comes_back_without_its_rights() {
    if !root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_dir(&tree, JOB);
    make(&tree.join("program"), JOB);
    std::fs::set_permissions(tree.join("program"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    std::fs::hard_link(tree.join("program"), tree.join("again")).unwrap();
    make_dir(&tree.join("closed"), JOB);
    make(&tree.join("closed/f"), JOB);
    std::fs::set_permissions(tree.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
    make(&tree.join("agents"), AGENT);
    rustix::fs::mknodat(rustix::fs::CWD, tree.join("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    chown(tree.join("fifo"), Some(JOB), None).unwrap();

    change(handle(scratch.path()).as_fd(), Path::new("tree"), &back()).unwrap();

    for name in ["", "program", "again", "closed", "closed/f", "agents"] {
        assert_eq!(owner(&tree.join(name)), AGENT, "{name}");
    }
    assert_eq!(owner(&tree.join("fifo")), JOB);
    let mode = std::fs::metadata(tree.join("program"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7000, 0, "it would run as the agent");
}

#[test]
fn a_link_is_no_directory_to_hand_over() {
    if !root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    make_dir(&scratch.path().join("real"), AGENT);
    symlink("real", scratch.path().join("tree")).unwrap();
    change(handle(scratch.path()).as_fd(), Path::new("tree"), &over()).unwrap_err();
    assert_eq!(owner(&scratch.path().join("real")), AGENT);
    make_dir(&scratch.path().join("others"), OTHER);
    change(handle(scratch.path()).as_fd(), Path::new("others"), &over()).unwrap_err();
    change(handle(scratch.path()).as_fd(), Path::new("real/.."), &over()).unwrap_err();
}
