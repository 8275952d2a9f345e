//! `haul-controller init`, and the configuration file that it leaves.

#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output};

use haul_identity::Token;
use haul_types::Role;

fn controller(arguments: &[&str], state_dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_haul-controller"))
        .args(arguments)
        .arg("--state-dir")
        .arg(state_dir)
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_first_token_goes_to_standard_output_and_keys_are_closed_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let made = controller(
        &[
            "init",
            "--address",
            "haul.example.org:7070",
            "--address",
            "[fd00::1]:7070",
        ],
        &state,
    );
    assert!(made.status.success(), "{}", stderr(&made));
    let text = String::from_utf8(made.stdout).unwrap();
    let token: Token = text.parse().unwrap();
    assert_eq!(
        (token.role(), token.addresses().len(), text.lines().count()),
        (Role::Admin, 2, 1)
    );
    let mode = |path: &str| std::fs::metadata(state.join(path)).unwrap().mode() & 0o777;
    assert_eq!(
        (mode("identity"), mode("identity/authorities.json")),
        (0o700, 0o600)
    );

    let again = controller(&["init", "--address", "haul.example.org:7070"], &state);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        stderr(&again).contains("has its authority already") && again.stdout.is_empty(),
        "{}",
        stderr(&again)
    );
}

#[test]
fn what_makes_no_sense_is_refused_with_exit_code_2() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, named) in [
        (&["init"][..], "--address"),
        (&["init", "--address", "here"], "HOST:PORT"),
        (
            &["--socket", "s", "--config", "/nowhere/controller.toml"],
            "/nowhere/controller.toml",
        ),
    ] {
        let output = controller(arguments, directory.path());
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
    std::fs::write(directory.path().join("controller.toml"), "adresses = []\n").unwrap();
    let output = controller(&["--socket", "s"], directory.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("adresses"), "{}", stderr(&output));
}

#[test]
fn addresses_without_an_authority_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("controller.toml"),
        "addresses = [\"haul.example.org:7070\"]\n",
    )
    .unwrap();
    let socket = directory.path().join("socket");
    let output = controller(&["--socket", socket.to_str().unwrap()], directory.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("haul-controller init"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn root_makes_it_as_whoever_the_directory_belongs_to() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root gives anything away");
        return;
    }
    const OWNER: u32 = 64_000;
    let directory = tempfile::tempdir().unwrap();
    // What is above it can be passed, as /var/lib can.
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let given = directory.path().join("given");
    std::fs::create_dir(&given).unwrap();
    chown(&given, Some(OWNER), Some(OWNER)).unwrap();
    let address = ["init", "--address", "haul.example.org:7070"];
    let made = controller(&address, &given);
    assert!(made.status.success(), "{}", stderr(&made));
    for path in [
        "controller.toml",
        "identity",
        "identity/authorities.json",
        "metadata",
    ] {
        let found = std::fs::metadata(given.join(path)).unwrap();
        assert_eq!((found.uid(), found.gid()), (OWNER, OWNER), "{path}");
    }
    assert!(!stderr(&made).contains("belongs to root"), "{}", stderr(&made));

    let roots = directory.path().join("roots");
    let made = controller(&address, &roots);
    assert!(
        made.status.success() && stderr(&made).contains("chown -R USER"),
        "{}",
        stderr(&made)
    );

    // A way out of somebody's directory leads root nowhere: it is not root any more.
    let trap = directory.path().join("trap");
    std::fs::create_dir(&trap).unwrap();
    std::os::unix::fs::symlink(directory.path().join("target"), trap.join("identity")).unwrap();
    chown(&trap, Some(OWNER), Some(OWNER)).unwrap();
    let refused = controller(&address, &trap);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
    assert!(!directory.path().join("target").exists());
}
