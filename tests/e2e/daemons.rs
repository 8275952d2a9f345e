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
