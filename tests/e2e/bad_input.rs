//! Bad input gets a clear error on standard error, exit code 2, and no job.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command as Program;

use haul_tests::{Ended, Home};

/// Insists on a clear refusal; its words, with the home's paths taken out.
#[track_caller]
fn refused(home: &Home, ended: Ended) -> String {
    let ended = ended.expect_code(2);
    assert_eq!(ended.out(), "", "errors are no data");
    let text = ended.err();
    assert!(
        !text.contains("panicked") && !text.contains("RUST_BACKTRACE"),
        "{text}"
    );
    text.replace(&*home.path("").to_string_lossy(), "/HOME/")
}

/// The same, and no job came of it.
#[track_caller]
fn refused_without_a_job<'a>(home: &Home, words: impl IntoIterator<Item = &'a str>) -> String {
    let before = home.jobs();
    let text = refused(home, home.run(words));
    assert_eq!(home.jobs(), before, "there is a job after\n{text}");
    text
}

fn is_root() -> bool {
    let out = Program::new("id").arg("-u").output().expect("`id` is everywhere");
    out.stdout.trim_ascii() == b"0"
}

#[test]
fn what_does_not_exist() {
    let home = Home::new();
    home.write("job.py", "print('no')\n");
    home.write("text", "no program\n");
    for (name, words) in [
        ("missing_script", &["run", "nope.py"][..]),
        ("missing_script_that_is_a_program", &["run", "sleep"]),
        ("nothing_but_an_empty_word", &["run", ""]),
        ("a_directory", &["run", "."]),
        ("not_executable", &["run", "text"]),
        ("missing_program", &["run", "--", "no-such-program-here"]),
        ("missing_dir", &["run", "--dir", "nowhere", "job.py"]),
        ("dir_is_a_file", &["run", "--dir", "text", "job.py"]),
        ("script_outside", &["run", "--dir", ".git", "job.py"]),
        (
            "missing_requirements",
            &["run", "--requirements", "no.txt", "job.py"],
        ),
        ("missing_project", &["run", "--project", "no.toml", "job.py"]),
    ] {
        std::fs::create_dir_all(home.project().join(".git")).unwrap();
        insta::assert_snapshot!(name, refused_without_a_job(&home, words.iter().copied()));
    }
}

#[test]
fn interpreters() {
    let home = Home::new();
    home.write("job.py", "print('no')\n");
    home.script("fake", "echo I am no Python; exit 3");
    home.script("yes", "exec yes");
    home.write("plain", "");
    for (name, words) in [
        (
            "missing_interpreter",
            &["run", "--python", "/no/such/python", "job.py"][..],
        ),
        ("not_python", &["run", "--python", "./fake", "job.py"]),
        ("not_an_executable", &["run", "--python", "./plain", "job.py"]),
        ("true_is_no_python", &["run", "--python", "/bin/true", "job.py"]),
        ("interpreter_is_a_directory", &["run", "--python", "./", "job.py"]),
        ("interpreter_without_a_name", &["run", "--python", "", "job.py"]),
        // Says something without end.
        ("yes_is_no_python", &["run", "--python", "./yes", "job.py"]),
    ] {
        insta::assert_snapshot!(name, refused_without_a_job(&home, words.iter().copied()));
    }
}

#[test]
fn options() {
    let home = Home::new();
    home.write("job.py", "print('no')\n");
    for (name, words) in [
        ("env_without_a_name", &["run", "--env", "=x", "job.py"][..]),
        ("env_of_nothing", &["run", "--env", "", "job.py"]),
        ("grace_negative", &["run", "--grace", "-1s", "job.py"]),
        ("env_with_a_bad_name", &["run", "--env", "1A=x", "job.py"]),
        ("env_with_a_dash", &["run", "--env", "A-B=x", "job.py"]),
        (
            "env_that_is_not_set",
            &["run", "--env", "NOT_SET_AT_ALL", "job.py"],
        ),
        ("env_of_hauls_own", &["run", "--env", "HAUL_JOB_ID=x", "job.py"]),
        ("timeout_without_a_unit", &["run", "--timeout", "abc", "job.py"]),
        ("timeout_of_nothing", &["run", "--timeout", "0s", "job.py"]),
        ("timeout_negative", &["run", "--timeout=-5s", "job.py"]),
        (
            "timeout_too_large",
            &["run", "--timeout", "99999999999999999999h", "job.py"],
        ),
        ("array_backwards", &["run", "--array", "5-1", "job.py"]),
        ("array_of_none", &["run", "--array", "1-5%0", "job.py"]),
        ("array_endless", &["run", "--array", "0-4294967295", "job.py"]),
        ("size", &["run", "--max-snapshot", "big", "job.py"]),
        ("nothing_to_run", &["run"]),
        ("unknown_option", &["run", "--nope", "job.py"]),
        ("empty_name", &["run", "--name", "", "job.py"]),
    ] {
        insta::assert_snapshot!(name, refused_without_a_job(&home, words.iter().copied()));
    }
}

#[test]
fn options_as_json() {
    let home = Home::new();
    let ended = home
        .run(["run", "--json", "--array", "5-1", "job.py"])
        .expect_code(2);
    let said: serde_json::Value = serde_json::from_str(&ended.out()).expect("JSON");
    assert_eq!(said["error"]["exit_code"], 2);
    let what = said["error"]["what"].as_str().unwrap();
    assert!(what.contains("5-1"), "{what}");
}

#[test]
fn files_that_name_packages() {
    let home = Home::new();
    for (name, path, text) in [
        (
            "requirements_include",
            "requirements.txt",
            "six\n-r missing.txt\n",
        ),
        ("requirements_editable", "requirements.txt", "-e .\n"),
        ("requirements_option", "requirements.txt", "-r\n"),
        ("project_is_no_toml", "pyproject.toml", "[project\n"),
        ("lock_is_no_toml", "uv.lock", "garbage\n"),
    ] {
        let dir = home.project().join(name);
        home.write(dir.join("job.py"), "print('no')\n");
        let project = "[project]\nname = \"x\"\nversion = \"1\"\ndependencies = [\"six\"]\n";
        if path == "uv.lock" {
            home.write(dir.join("pyproject.toml"), project);
        }
        home.write(dir.join(path), text);
        let script = format!("{name}/job.py");
        let mut words = vec!["run", &script];
        let file = format!("{name}/{path}");
        if path == "pyproject.toml" {
            words = vec!["run", "--project", &file, &script];
        }
        insta::assert_snapshot!(name, refused_without_a_job(&home, words));
    }
}

#[test]
fn places_where_outputs_cannot_go() {
    let home = Home::new();
    home.write("job.py", "open('outputs/o', 'w')\n");
    for (name, to) in [
        ("outputs_into_a_file", "--fetch-outputs=job.py"),
        ("outputs_below_a_file", "--fetch-outputs=job.py/below"),
    ] {
        insta::assert_snapshot!(name, refused_without_a_job(&home, ["run", to, "job.py"]));
    }
}

#[test]
fn jobs_that_are_not_there() {
    let home = Home::new();
    insta::assert_snapshot!("last_of_none", refused_without_a_job(&home, ["show", "last"]));
    home.run(["run", "--", "true"]).ok();
    for command in ["show", "logs", "wait", "cancel", "rerun", "rm"] {
        let text = refused_without_a_job(&home, [command, "zzzzzzzzzzzz"]);
        assert!(
            text.contains("zzzzzzzzzzzz") && text.contains("haul jobs"),
            "{text}"
        );
    }
    let id = home.json(["show"])["id"].as_str().unwrap().to_owned();
    let text = refused_without_a_job(&home, ["show", "last.5"]);
    insta::assert_snapshot!("task_of_no_array", text.replace(&id, "ID"));
    for (name, words) in [
        ("unknown_job", &["show", "zzzz"][..]),
        ("not_an_id", &["show", "../../etc"]),
        ("since", &["logs", "--since", "yesterday"]),
    ] {
        insta::assert_snapshot!(name, refused_without_a_job(&home, words.iter().copied()));
    }
}

#[test]
fn ambiguous_beginnings_are_refused() {
    let home = Home::new();
    // With more jobs than first letters, two begin alike.
    let id = home.detach(["--array", "0-0", "--", "true"]);
    let mut ids = vec![id];
    for _ in 0..40 {
        ids.push(home.detach(["--", "true"]));
        let first = &ids[ids.len() - 1][..1];
        if ids.iter().filter(|id| id.starts_with(first)).count() > 1 {
            let text = refused_without_a_job(&home, ["show", first]);
            assert!(text.contains("more than one job"), "{text}");
            return;
        }
    }
    panic!("41 ids with different first letters: {ids:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let home = Home::new();
    home.script("job.sh", "echo no");
    home.write("secret/key", "k");
    let closed = home.project().join("secret");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).unwrap();
    let run = home.haul(["run", "job.sh"]);
    let ended = if is_root() {
        // Root reads everything: run as nobody in particular, who owns the home, and by a copy of the program there: the
        // checkout may be closed to others.
        let copy = home.path("haul");
        std::fs::copy(haul_tests::haul_binary(), &copy).unwrap();
        give_away(&home);
        let by_the_copy = ["sh", "-c", "shift; exec \"$0\" \"$@\"", copy.to_str().unwrap()];
        run.by(AS_NOBODY.into_iter().chain(by_the_copy)).run()
    } else {
        run.run()
    };
    let text = refused(&home, ended);
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(text.contains("secret") && text.contains("help:"), "{text}");
}

/// Runs its words as a user without privileges.
const AS_NOBODY: [&str; 6] = [
    "setpriv",
    "--reuid",
    "65534",
    "--regid",
    "65534",
    "--clear-groups",
];

/// Makes the home that of the user without privileges.
fn give_away(home: &Home) {
    let status = Program::new("chown")
        .args(["-R", "65534:65534"])
        .arg(home.path(""))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "root can give files away"
    );
}

#[test]
fn a_state_directory_that_cannot_be_written() {
    let home = Home::new();
    home.script("job.sh", "echo no");
    let state = home.path("state");
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o500)).unwrap();
    let run = home.haul(["run", "job.sh"]);
    let ended = if is_root() {
        give_away(&home);
        run.by(AS_NOBODY).run()
    } else {
        run.run()
    };
    insta::assert_snapshot!("read_only_state", refused(&home, ended));
    std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(std::fs::read_dir(&state).unwrap().count(), 0, "nothing half-made");
}

#[test]
fn homes_that_cannot_be() {
    let home = Home::new();
    home.script("job.sh", "echo no");
    let relative = home
        .haul(["run", "job.sh"])
        .with("XDG_STATE_HOME", "relative")
        .run();
    insta::assert_snapshot!("relative_state", refused(&home, relative));
    let long = format!("/{}", "d".repeat(120));
    let long = home
        .haul(["run", "job.sh"])
        .with("XDG_STATE_HOME", long)
        .with("XDG_RUNTIME_DIR", "")
        .run();
    let text = refused(&home, long);
    assert!(text.contains("too long") && text.contains("help:"), "{text}");
    let (name, value) = ("HAUL_IDLE_TIMEOUT", "soon");
    let ended = home.haul(["run", "job.sh"]).with(name, value).run();
    let text = refused(&home, ended);
    assert!(text.contains(name) && text.contains(value), "{text}");
    home.kill_all();
}

/// A small file system of its own over the home's state, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn over(path: std::path::PathBuf, size: &str) -> Option<Self> {
        let words = ["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "haul-e2e"];
        let status = Program::new("mount")
            .args(words)
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success()).then(|| Self(path))
    }
}

impl SmallDisk {
    fn grow(&self, size: &str) {
        let status = Program::new("mount")
            .args(["-o", &format!("remount,size={size}")])
            .arg(&self.0)
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "a file system can grow"
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Program::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_was_full_costs_no_job() {
    let home = Home::new();
    home.script("job.sh", "echo ran");
    let Some(_disk) = SmallDisk::over(home.path("state"), "64m") else {
        eprintln!("skipped: only root can mount a small file system");
        return;
    };
    home.run(["run", "job.sh"]).ok();
    let filler = home.path("state/filler");
    let _ = Program::new("dd")
        .args(["if=/dev/zero", "bs=4k", &format!("of={}", filler.display())])
        .stderr(std::process::Stdio::null())
        .status();
    assert_eq!(home.jobs(), 1, "reading goes on");
    home.kill_all();
    assert_eq!(home.jobs(), 1, "and a controller starts");
    std::fs::remove_file(&filler).unwrap();
    assert_eq!(home.run(["run", "-q", "job.sh"]).ok().out(), "ran\n");
    assert_eq!(home.jobs(), 2, "nothing is lost");
    home.kill_all();
}

#[test]
fn a_log_that_found_the_disk_full_is_whole_once_there_is_room() {
    let home = Home::new();
    // Noise, which does not get smaller. It ends once the controller can store no more of it.
    home.script(
        "noisy.sh",
        "head -c 14000000 /dev/urandom | tee \"$COPY\"\n\
         until grep -q 'takes no logs' \"$SAID\"; do sleep 0.02; done\n\
         : > \"$FULL\"; exit 5",
    );
    // The directory of logs is there after the first one.
    home.run(["run", "--", "echo", "first"]).ok();
    let (logs, copy, full) = (
        home.path("state/haul/controller/logs"),
        home.path("copy"),
        home.path("full"),
    );
    let Some(disk) = SmallDisk::over(logs, "4m") else {
        eprintln!("skipped: only root can mount a small file system");
        return;
    };
    let fifo = Program::new("mkfifo").arg(&full).status();
    assert!(fifo.is_ok_and(|status| status.success()));
    let set = |name: &str, path: &std::path::Path| format!("{name}={}", path.display());
    let said = home.path("state/haul/daemon.log");
    let variables = [set("COPY", &copy), set("SAID", &said), set("FULL", &full)];
    let variables = variables.iter().flat_map(|set| ["--env", set]);
    let running = home
        .haul(["run", "-q"].into_iter().chain(variables).chain(["noisy.sh"]))
        .start();
    // Until the script has opened it, and ends.
    std::fs::read(&full).unwrap();
    disk.grow("64m");
    let ended = running.end().expect_code(5);
    let written = std::fs::read(&copy).unwrap();
    assert!(ended.stdout == written, "live");
    let logs = home.run(["logs", "-q", "last"]).ok();
    assert!(logs.stdout == written, "stored");
    home.kill_all();
}
