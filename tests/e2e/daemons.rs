//! The private controller and its agent: started when needed, one of each, gone when idle.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::time::Duration;

use haul_tests::{Home, Role};

#[test]
fn they_go_when_nothing_needs_them_and_come_back() {
    let home = Home::new().with("HAUL_IDLE_TIMEOUT", "1s");
    home.run(["run", "--", "sh", "-c", "exit 3"]).expect_code(3);
    let all = home.processes();
    assert_eq!(home.processes_as(Role::Controller).len(), 1);
    assert_eq!(home.processes_as(Role::Agent).len(), 1);
    for process in all {
        assert!(
            process.is_gone_within(Duration::from_secs(15)),
            "{process:?} stays"
        );
    }
    assert_eq!(home.processes(), []);
    assert_eq!(home.json(["local", "status"])["running"], false);
    home.run(["wait", "last"]).expect_code(3);
    assert_eq!(home.json(["local", "status"])["running"], true);
}

#[test]
fn a_job_keeps_them() {
    let home = Home::new().with("HAUL_IDLE_TIMEOUT", "300ms");
    let id = home.detach(["--", "sh", "-c", "sleep 2; exit 4"]);
    let controller = home.processes_as(Role::Controller).remove(0);
    assert!(!controller.is_gone_within(Duration::from_millis(1200)));
    home.run(["wait", &id]).expect_code(4);
    assert!(controller.is_gone_within(Duration::from_secs(15)));
}

#[test]
fn many_shells_at_the_same_moment_start_one() {
    let home = Home::new();
    home.script("job.sh", "echo $1");
    let running: Vec<_> = (0..6)
        .map(|n| home.haul(["run", "-q", "job.sh", &n.to_string()]).start())
        .collect();
    for (n, running) in running.into_iter().enumerate() {
        assert_eq!(running.end().ok().out(), format!("{n}\n"));
    }
    assert_eq!(home.processes_as(Role::Controller).len(), 1);
    assert_eq!(home.processes_as(Role::Agent).len(), 1);
    assert_eq!(home.daemon_log().matches("serving socket").count(), 1);
    assert_eq!(home.jobs(), 6);
}

#[test]
fn a_socket_that_nobody_serves_is_in_nobodys_way() {
    let home = Home::new();
    home.run(["run", "--", "true"]).ok();
    home.kill_all();
    assert!(home.path("run/haul/controller.sock").exists());
    home.run(["run", "--", "true"]).ok();
    assert_eq!(home.jobs(), 2);
}

#[test]
fn none_is_started_in_place_of_another_one_that_does_not_answer() {
    let home = Home::new();
    // The socket of some service, which is down: its directory has gone with it.
    let service = home.path("service");
    let link = home.path("run/haul");
    std::os::unix::fs::symlink(&service, &link).unwrap();
    let refused = |words: &[&str]| {
        let failed = home.run(words).expect_code(2);
        assert!(
            failed.err().contains(&format!("{}", service.display())),
            "{}",
            failed.err()
        );
        assert!(failed.err().contains("remove the link"), "{}", failed.err());
    };
    refused(&["jobs"]);
    std::fs::create_dir(&service).unwrap();
    refused(&["run", "--", "true"]);
    // Or the socket alone is a link.
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    std::os::unix::fs::symlink(&service, link.join("controller.sock")).unwrap();
    refused(&["jobs"]);
    assert_eq!(home.processes(), []);
    std::fs::remove_dir_all(&link).unwrap();
    home.run(["run", "--", "true"]).ok();
}

/// A token of a controller that nobody ever reaches: its port is one that no program listens on.
fn token_of_nobody() -> String {
    let addresses = vec!["127.0.0.1:1".parse().unwrap()];
    let pin = haul_identity::Pin::from_bytes([7; 32]);
    let token = haul_identity::Token::new(haul_types::Role::Submitter, addresses, pin);
    token.unwrap().reveal()
}

#[test]
fn none_is_started_in_place_of_a_shared_one_that_is_down() {
    let home = Home::new().with("HAUL_TOKEN", token_of_nobody());
    for words in [
        &["jobs"][..],
        &["run", "--", "true"],
        &["node", "ls"],
        &["wait", "last"],
    ] {
        let failed = home.run(words);
        assert_ne!(failed.code(), 0, "{words:?}");
        assert!(failed.err().contains("127.0.0.1:1"), "{}", failed.err());
    }
    let looked = home.run(["doctor", "--json"]).expect_code(125);
    let said = looked.json();
    let check = |name: &str| {
        let mut checks = said["checks"].as_array().unwrap().iter();
        checks
            .find(|check| check["name"] == name)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(said["ok"], false);
    assert_eq!(
        (&check("directories")["ok"], &check("context")["ok"]),
        (&true.into(), &true.into())
    );
    assert_eq!(check("network")["ok"], false);
    assert!(
        check("network")["found"]
            .as_str()
            .unwrap()
            .contains("127.0.0.1:1")
    );
    assert!(check("token").is_null() && check("agent").is_null(), "{said}");
    assert_eq!(home.processes(), []);
}

#[test]
fn stop_leaves_jobs_alone() {
    let home = Home::new();
    let id = home.detach(["--", "sh", "-c", "sleep 1; echo end; exit 2"]);
    let controller = home.processes_as(Role::Controller).remove(0);
    home.run(["local", "stop"]).ok();
    assert!(controller.is_gone_within(Duration::from_secs(10)));
    home.run(["wait", &id]).expect_code(2);
    assert_eq!(home.run(["logs", "-q", &id]).ok().out(), "end\n");
}

#[test]
fn state_is_closed_to_others() {
    let home = Home::new();
    home.run(["run", "--", "true"]).ok();
    for dir in ["state/haul", "cache/haul", "run/haul"] {
        let found = home.path(dir).metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o700, "{dir}");
        assert_eq!(found.uid(), home.project().metadata().unwrap().uid());
    }
}

#[test]
fn daemons_hold_neither_the_directory_nor_the_session_they_were_started_in() {
    let home = Home::new();
    home.run(["run", "--", "true"]).ok();
    let mut daemons = home.processes_as(Role::Controller);
    daemons.extend(home.processes_as(Role::Agent));
    let own = rustix_session();
    for daemon in daemons {
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", daemon.pid)).unwrap();
        assert_eq!(cwd.to_str(), Some("/"), "{daemon:?}");
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid)).unwrap();
        let session = session_of(&stat);
        assert_ne!(session, own, "{daemon:?}");
    }
}

/// The session in the text of `/proc/<pid>/stat`.
fn session_of(stat: &str) -> &str {
    let (_, after_name) = stat.rsplit_once(") ").expect("a name ends with a parenthesis");
    after_name
        .split(' ')
        .nth(3)
        .expect("the sixth field is the session")
}

fn rustix_session() -> String {
    session_of(&std::fs::read_to_string("/proc/self/stat").expect("our own state can be read")).to_owned()
}
