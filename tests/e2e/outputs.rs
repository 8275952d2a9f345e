//! `./outputs`: what a job leaves comes back as it was, however the job ended.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use haul_tests::{Home, Signal};

#[test]
fn outputs_come_back_as_they_were() {
    let home = Home::new();
    home.write(
        "job.py",
        r"
import os
os.makedirs('outputs/empty')
os.makedirs('outputs/deep/er')
open(b'outputs/deep/\xff name\n', 'wb').write(bytes(range(256)) * 5000)
open('outputs/deep/er/exec', 'w').write('#!/bin/sh\n')
os.chmod('outputs/deep/er/exec', 0o755)
os.symlink('deep/er/exec', 'outputs/link')
open('outputs/.hidden', 'w').write('h')
open('outputs/.gitignore', 'w').write('*\n')
open('logs/train.log', 'w').write('l')
",
    );
    home.run(["run", "job.py"]).ok();
    let listed = home.run(["outputs", "ls"]).ok().out();
    assert!(listed.contains("deep/er/exec"), "{listed}");
    home.run(["outputs", "get", "--to", "back"]).ok();
    let back = home.project().join("back");
    use std::os::unix::ffi::OsStrExt as _;
    let odd = std::fs::read(back.join(std::ffi::OsStr::from_bytes(b"deep/\xff name\n"))).unwrap();
    assert_eq!(odd, (0..=255).collect::<Vec<u8>>().repeat(5000));
    assert!(back.join("empty").is_dir());
    assert_eq!(
        std::fs::read_link(back.join("link")).unwrap().to_str(),
        Some("deep/er/exec")
    );
    assert_eq!(
        back.join("deep/er/exec").metadata().unwrap().permissions().mode() & 0o777,
        0o755
    );
    assert!(back.join(".hidden").exists() && back.join(".gitignore").exists());
    home.run(["outputs", "get", "--logs"]).ok();
    assert_eq!(
        std::fs::read_to_string(home.project().join("logs/train.log")).unwrap(),
        "l"
    );
}

#[test]
fn a_failed_job_s_outputs_are_kept() {
    let home = Home::new();
    home.run(["run", "--", "sh", "-c", "echo half > outputs/half; exit 1"])
        .expect_code(1);
    home.run(["outputs", "get"]).ok();
    assert_eq!(
        std::fs::read_to_string(home.project().join("outputs/half")).unwrap(),
        "half\n"
    );
}

#[test]
fn a_killed_jobs_outputs_are_kept() {
    let home = Home::new();
    home.script(
        "deaf.sh",
        "trap '' TERM; echo kept > outputs/kept; echo ready; while :; do sleep 0.05; done",
    );
    let running = home.haul(["run", "--grace", "100ms", "deaf.sh"]).start();
    running.wait_for_stdout("ready");
    running.signal(Signal::TERM);
    running.end().expect_code(130);
    home.run(["outputs", "get"]).ok();
    assert_eq!(
        std::fs::read_to_string(home.project().join("outputs/kept")).unwrap(),
        "kept\n"
    );
}

#[test]
fn what_is_there_is_not_replaced_unless_forced() {
    let home = Home::new();
    home.run([
        "run",
        "--",
        "sh",
        "-c",
        "echo new > outputs/a; echo new > outputs/b",
    ])
    .ok();
    home.write("outputs/a", "mine\n");
    let refused = home.run(["outputs", "get"]).expect_code(2);
    assert!(refused.err().contains("--force"), "{}", refused.err());
    assert_eq!(
        std::fs::read_to_string(home.project().join("outputs/a")).unwrap(),
        "mine\n"
    );
    assert!(!home.project().join("outputs/b").exists(), "nothing was written");
    home.run(["outputs", "get", "--force"]).ok();
    assert_eq!(
        std::fs::read_to_string(home.project().join("outputs/a")).unwrap(),
        "new\n"
    );
}

#[test]
fn outputs_are_fetched_into_no_place_but_the_named_one() {
    let home = Home::new();
    home.run(["run", "--", "sh", "-c", "mkdir outputs/d; echo x > outputs/d/f"])
        .ok();
    // The place has a link where the outputs have a directory: it is not followed.
    let outside = home.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(home.project().join("to")).unwrap();
    symlink(&outside, home.project().join("to/d")).unwrap();
    home.run(["outputs", "get", "--to", "to"]).expect_code(2);
    let _ = home.run(["outputs", "get", "--to", "to", "--force"]);
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing was written through the link"
    );
}

#[test]
fn sockets_and_pipes_in_outputs_are_left_out_and_named() {
    let home = Home::new();
    home.run(["run", "--", "sh", "-c", "mkfifo outputs/pipe; echo x > outputs/x"])
        .ok();
    let show = home.json(["show"]).to_string();
    assert!(show.contains("not collected") && show.contains("pipe"), "{show}");
    home.run(["outputs", "get"]).ok();
    assert!(home.project().join("outputs/x").exists());
}

#[test]
fn nothing_left_is_no_error() {
    let home = Home::new();
    home.run(["run", "-o", "--", "true"]).ok();
    let ended = home.run(["outputs", "get"]).ok();
    assert!(ended.err().contains("left nothing"), "{}", ended.err());
}
