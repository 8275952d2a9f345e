//! What words mean, in directories made for the purpose.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use haul_types::{EnvironmentSpec, Requirements};

use super::plan::{Plan, plan, stands_after_dashes};
use super::{program, variables};
use crate::args::{Cli, Command};
use crate::failure::Failure;

struct Tree {
    _dir: tempfile::TempDir,
    root: PathBuf,
}

impl Tree {
    fn new(files: &[(&str, &str, u32)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for (path, text, mode) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        Self { _dir: dir, root }
    }

    /// What `haul run WORDS` means in `cwd`, below the root.
    fn plan(&self, cwd: &str, words: &[&str]) -> Result<Plan, Failure> {
        let words: Vec<OsString> = ["haul", "run"].iter().chain(words).map(OsString::from).collect();
        let Command::Run(args) = Cli::try_parse_from(&words).unwrap().command else {
            panic!("not a run");
        };
        let after_dashes = stands_after_dashes(&words, args.command.len());
        // As the system gives it: without a slash at the end.
        plan(&args, after_dashes, &self.root.join(cwd).canonicalize().unwrap())
    }

    fn fails(&self, cwd: &str, words: &[&str]) -> String {
        let failure = self.plan(cwd, words).unwrap_err();
        assert_eq!(failure.exit_code(), 2);
        let text = [&[failure.what().to_owned()], failure.places()]
            .concat()
            .join("\n");
        text.replace(self.root.to_str().unwrap(), "ROOT")
    }
}

#[test]
fn a_script_runs_in_its_own_directory() {
    let tree = Tree::new(&[("proj/train.py", "", 0o644)]);
    let plan = tree.plan("", &["proj/train.py", "--epochs", "5"]).unwrap();
    assert_eq!(plan.dir, tree.root.join("proj"));
    assert_eq!(plan.working_dir, "");
    assert_eq!(plan.command, ["{python}", "train.py", "--epochs", "5"]);
    assert_eq!(plan.name, "train.py");
}

#[test]
fn a_named_directory_may_hold_the_script_deeper() {
    let tree = Tree::new(&[("proj/sub/train.py", "", 0o644)]);
    for words in [
        ["--dir", "proj", "proj/sub/train.py"],
        ["--dir", "proj", "sub/train.py"],
    ] {
        let plan = tree.plan("", &words).unwrap();
        assert_eq!(
            (plan.dir.as_path(), plan.working_dir.as_str()),
            (tree.root.join("proj").as_path(), "sub")
        );
        assert_eq!(plan.command, ["{python}", "train.py"]);
    }
}

#[test]
fn a_script_is_started_as_it_says() {
    let tree = Tree::new(&[
        ("run.sh", "echo hi", 0o644),
        ("perl", "#!/usr/bin/perl -w\n", 0o644),
        ("env", "#!/usr/bin/env -S awk -f\n", 0o644),
        ("py", "#!/usr/bin/env python3\n", 0o644),
        ("ready", "#!/bin/sh\n", 0o755),
        ("-odd.py", "", 0o644),
        ("mute", "text", 0o644),
    ]);
    let command = |word: &str| tree.plan("", &[word]).unwrap().command;
    assert_eq!(command("run.sh"), ["sh", "./run.sh"]);
    assert_eq!(command("perl"), ["/usr/bin/perl", "-w", "./perl"]);
    assert_eq!(command("env"), ["awk", "-f", "./env"]);
    assert_eq!(command("py"), ["{python}", "py"]);
    assert_eq!(command("ready"), ["./ready"]);
    assert_eq!(command("./-odd.py"), ["{python}", "./-odd.py"]);
    insta::assert_snapshot!(tree.fails("", &["mute"]), @"ROOT/mute cannot be executed, and does not say what runs it");
}

#[test]
fn a_program_of_the_machine_runs_where_the_user_stands() {
    let tree = Tree::new(&[("proj/a", "", 0o644)]);
    for words in [&["/bin/true"][..], &["--", "/bin/true"]] {
        let plan = tree.plan("proj", words).unwrap();
        assert_eq!(plan.dir, tree.root.join("proj"));
        assert!(plan.command[0].ends_with("/true"), "{:?}", plan.command);
    }
    let plan = tree.plan("proj", &["--", "sh", "-c", "exit 3"]).unwrap();
    assert_eq!(plan.command, ["sh", "-c", "exit 3"]);
}

#[test]
fn a_program_of_the_directory_is_found_from_where_the_user_stands() {
    let tree = Tree::new(&[("proj/bin/prog", "", 0o755), ("proj/sub/x", "", 0o644)]);
    let here = tree.plan("proj", &["--", "bin/prog"]).unwrap();
    assert_eq!(
        (here.working_dir.as_str(), here.command),
        ("", vec!["./bin/prog".to_owned()])
    );
    let below = tree
        .plan("proj/sub", &["--dir", "..", "--", "../bin/prog"])
        .unwrap();
    assert_eq!(
        (below.working_dir.as_str(), below.command),
        ("sub", vec!["../bin/prog".to_owned()])
    );
    assert_eq!(
        program::from_within(Path::new("a/b"), Path::new("a/c/d")),
        Path::new("../c/d")
    );
}

#[test]
fn the_environment_is_found_beside_the_script_unless_said_otherwise() {
    let tree = Tree::new(&[
        ("proj/requirements.txt", "six\n", 0o644),
        ("proj/dev/other.txt", "six\n", 0o644),
        ("proj/sub/train.py", "", 0o644),
    ]);
    let environment = |words: &[&str]| tree.plan("proj", words).unwrap().environment;
    let venv = |path: &str, python: Option<&str>| EnvironmentSpec::Venv {
        requirements: Requirements::RequirementsTxt { path: path.into() },
        python: python.map(str::to_owned),
    };
    let said = ["--dir", ".", "sub/train.py"];
    assert_eq!(environment(&said), venv("requirements.txt", None));
    assert_eq!(
        environment(&["sub/train.py"]),
        EnvironmentSpec::Node,
        "above what is sent"
    );
    assert_eq!(
        environment(&[&["--no-env"], &said[..]].concat()),
        EnvironmentSpec::Node
    );
    assert_eq!(
        environment(&[&["--python", "3.11"], &said[..]].concat()),
        venv("requirements.txt", Some("3.11"))
    );
    assert_eq!(
        environment(&[&["--requirements", "dev/other.txt"], &said[..]].concat()),
        venv("dev/other.txt", None)
    );
}

#[test]
fn what_is_wrong_is_said_before_there_is_a_job() {
    let tree = Tree::new(&[
        ("train.py", "", 0o644),
        ("secret.py", "", 0o644),
        (".haulignore", "# a comment\nsecret*\n", 0o644),
        ("dir/x", "", 0o644),
        ("outside.txt", "", 0o644),
        ("fake", "#!/bin/sh\nexit 1\n", 0o755),
    ]);
    insta::assert_snapshot!(tree.fails("", &["nope.py"]), @r"
    there is no file nope.py
    looked for in ROOT
    ");
    insta::assert_snapshot!(tree.fails("", &["dir"]), @"dir is a directory, not a script");
    insta::assert_snapshot!(tree.fails("", &["secret.py"]), @r"
    secret.py is not sent, so it cannot run
    it is left out by .haulignore:2 (secret*)
    ");
    insta::assert_snapshot!(tree.fails("", &["--dir", "dir", "train.py"]), @r"
    ROOT/train.py is not in the directory that is sent
    the directory is ROOT/dir
    ");
    insta::assert_snapshot!(tree.fails("", &["--dir", "nope", "train.py"]), @r"
    cannot open the directory ROOT/nope
    No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(tree.fails("", &["--python", "/nope", "train.py"]), @"there is no Python at /nope");
    insta::assert_snapshot!(tree.fails("", &["--python", "./fake", "train.py"]), @r"
    ROOT/./fake is not a Python
    it ended with exit status: 1
    ");
    insta::assert_snapshot!(tree.fails("", &["--timeout", "0s", "train.py"]), @"--timeout 0 would end the job before it begins");
    insta::assert_snapshot!(tree.fails("", &["--requirements", "nope.txt", "train.py"]), @r"
    --requirements: cannot open nope.txt
    No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(tree.fails("dir", &["--dir", ".", "--requirements", "../outside.txt", "--", "true"]), @r"
    --requirements: ../outside.txt is not in the directory that is sent
    the directory is ROOT/dir
    ");
    insta::assert_snapshot!(tree.fails("", &["--", "./train.py"]), @"./train.py cannot be executed");
    insta::assert_snapshot!(tree.fails("", &["--", "no-such-program-anywhere"]), @r#"there is no program "no-such-program-anywhere" on the PATH"#);
}

#[test]
fn variables_are_set_or_passed_on() {
    let lookup = |name: &std::ffi::OsStr| (name == "HOME").then(|| "/home/u".into());
    let read = |said: &[&str]| {
        let said: Vec<OsString> = said.iter().map(OsString::from).collect();
        variables::read(&said, lookup)
    };
    let good = read(&["A=1", "HOME", "B=x=y", "A=2", "E="]).unwrap();
    let pairs: Vec<_> = good
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(pairs, [("A", "2"), ("B", "x=y"), ("E", ""), ("HOME", "/home/u")]);
    for bad in ["", "=x", "1A=x", "A B=x", "NOT_SET_HERE", "HAUL_JOB_ID=x"] {
        assert!(read(&[bad]).is_err(), "{bad:?}");
    }
}
