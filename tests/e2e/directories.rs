//! The directory a job runs in: exactly what was sent, each time anew, and sent only when it has changed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt, symlink};

use haul_tests::Home;

#[test]
fn each_job_finds_its_directory_clean() {
    let home = Home::new();
    home.write("data.txt", "original\n");
    home.write("sub/keep.txt", "keep\n");
    home.script(
        "job.sh",
        "find . | sort; cat data.txt\n\
         echo left > left.txt; echo changed > data.txt; chmod 600 data.txt; rm -r sub; mkdir new; echo o > outputs/o",
    );
    let first = home.run(["run", "-q", "job.sh"]).ok();
    for _ in 0..3 {
        let again = home.run(["run", "-q", "job.sh"]).ok();
        assert_eq!(again.out(), first.out());
    }
    assert_eq!(
        first.out(),
        ".\n./data.txt\n./job.sh\n./logs\n./outputs\n./sub\n./sub/keep.txt\noriginal\n"
    );
    let own = std::fs::read_to_string(home.project().join("data.txt")).unwrap();
    assert_eq!(own, "original\n", "the user's own directory is left alone");
}

#[test]
fn a_same_size_change_with_its_time_put_back_is_undone() {
    let home = Home::new();
    home.write("data.txt", "original\n");
    home.script(
        "job.sh",
        "cat data.txt; touch -r data.txt ref; printf 'tampered\\n' > data.txt; touch -r ref data.txt",
    );
    for _ in 0..3 {
        assert_eq!(home.run(["run", "-q", "job.sh"]).ok().out(), "original\n");
    }
}

#[test]
fn changes_between_runs_arrive() {
    let home = Home::new();
    home.script("job.sh", "cat *.txt");
    for round in 0..4 {
        home.write("a.txt", format!("round {round}\n"));
        assert_eq!(
            home.run(["run", "-q", "job.sh"]).ok().out(),
            format!("round {round}\n")
        );
    }
    home.write("b.txt", "b\n");
    std::fs::remove_file(home.project().join("a.txt")).unwrap();
    assert_eq!(home.run(["run", "-q", "job.sh"]).ok().out(), "b\n");
}

#[test]
fn an_unchanged_directory_is_stored_once() {
    let home = Home::new();
    let mut noise = 1_u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (noise >> 56) as u8
    })
    .take(4 << 20)
    .collect();
    home.write("data.bin", &bytes);
    home.script("job.sh", "wc -c < data.bin");
    let stored = || -> u64 {
        let packs = std::fs::read_dir(home.path("state/haul/controller/chunks")).unwrap();
        packs
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().ends_with(".tar.zst"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    };
    home.run(["run", "-q", "job.sh"]).ok();
    let once = stored();
    assert!(once >= 4 << 20, "{once}");
    home.run(["run", "-q", "job.sh"]).ok();
    assert_eq!(stored(), once, "nothing was sent again");
    // One byte in the middle: a part of the file travels.
    let mut changed = bytes;
    changed[2 << 20] ^= 1;
    home.write("data.bin", &changed);
    home.run(["run", "-q", "job.sh"]).ok();
    let more = stored() - once;
    assert!(
        more > 0 && more < 2 << 20,
        "{more} bytes for one that has changed"
    );
}

#[test]
fn odd_names_modes_links_and_empty_directories_survive() {
    let home = Home::new();
    let odd: [&[u8]; 6] = [
        b"with space",
        b"new\nline",
        b"\xff\xfe not UTF-8",
        b"-rf",
        b"\"quote'",
        "ünïcode".as_bytes(),
    ];
    for name in odd {
        home.write(OsStr::from_bytes(name), name);
    }
    home.script("tool", "");
    home.write("private", "p");
    let project = home.project();
    std::fs::set_permissions(project.join("private"), PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::create_dir_all(project.join("empty/deeper")).unwrap();
    symlink("with space", project.join("link")).unwrap();
    symlink("empty", project.join("dirlink")).unwrap();
    symlink("nowhere", project.join("dangling")).unwrap();
    home.write(
        "look.py",
        r"
import os, stat
for top, dirs, files in os.walk(b'.'):
    for name in sorted(dirs + files):
        path = os.path.join(top, name)
        mode = os.lstat(path).st_mode
        what = os.readlink(path) if stat.S_ISLNK(mode) else b'dir' if stat.S_ISDIR(mode) else open(path, 'rb').read() if name not in (b'look.py', b'tool') else b''
        execute = bool(mode & 0o100) and not stat.S_ISLNK(mode)
        print(path, what, execute)
",
    );
    let there = home.run(["run", "-q", "look.py"]).ok();
    let here = std::process::Command::new("python3")
        .arg("look.py")
        .current_dir(&project)
        .output()
        .unwrap();
    let sorted = |bytes: &[u8]| {
        let mut lines: Vec<String> = String::from_utf8_lossy(bytes)
            .lines()
            .filter(|line| !line.starts_with("b'./outputs'") && !line.starts_with("b'./logs'"))
            .map(str::to_owned)
            .collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&there.stdout), sorted(&here.stdout));
}

#[test]
fn links_that_leave_the_tree_and_special_files_are_refused_by_name() {
    let home = Home::new();
    home.script("job.sh", "echo no");
    symlink("/etc/passwd", home.project().join("out")).unwrap();
    let ended = home.run(["run", "job.sh"]).expect_code(2);
    assert!(ended.err().contains("out"), "{}", ended.err());
    std::fs::remove_file(home.project().join("out")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.project().join("sock")).unwrap();
    let ended = home.run(["run", "job.sh"]).expect_code(2);
    assert!(ended.err().contains("sock"), "{}", ended.err());
    home.write(".haulignore", "sock\n");
    home.run(["run", "job.sh"]).ok();
    assert_eq!(home.jobs(), 1);
}

#[test]
fn ignore_files_leave_out_what_they_name_and_only_one_kind_counts() {
    let home = Home::new();
    home.script("job.sh", "find . -type f | sort");
    home.write("a.git-left-out", "");
    home.write("b.aml-left-out", "");
    home.write("c.haul-left-out", "");
    home.write("sub/d.nested", "");
    home.write("sub/e.kept", "");
    home.write(".git/config", "");
    home.write("venv/pyvenv.cfg", "home = /usr\n");
    home.write("venv/lib/x.py", "");
    let seen = || {
        let out = home.run(["run", "-q", "job.sh"]).ok().out();
        assert!(!out.contains(".git/") && !out.contains("venv/"), "{out}");
        let letters = ["a.git", "b.aml", "c.haul", "d.nested", "e.kept"];
        letters
            .into_iter()
            .filter(|name| out.contains(name))
            .map(|name| &name[..1])
            .collect::<String>()
    };
    assert_eq!(seen(), "abcde");
    home.write(".gitignore", "*.git-left-out\n");
    home.write("sub/.gitignore", "*\n!*.kept\n");
    assert_eq!(seen(), "bce");
    home.write(".amlignore", "*.aml-left-out\n");
    assert_eq!(seen(), "acde");
    home.write(".haulignore", "*.haul-left-out\n");
    assert_eq!(seen(), "abde");
}

#[test]
fn a_size_limit_is_kept() {
    let home = Home::new();
    home.script("job.sh", "echo sent");
    home.write("big.bin", vec![7; 2 << 20]);
    let ended = home
        .run(["run", "--max-snapshot", "1MB", "job.sh"])
        .expect_code(2);
    assert!(ended.err().contains("--max-snapshot"), "{}", ended.err());
    assert_eq!(home.jobs(), 0);
    home.run(["run", "--max-snapshot", "3MB", "job.sh"]).ok();
}
