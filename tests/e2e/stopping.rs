//! Time limits and cancels: nothing of a job is left, and what it wrote is kept.

use std::time::Duration;

use haul_tests::{Home, Role, Signal};

/// Processes that are no part of Haul: those of jobs.
fn of_jobs(home: &Home) -> Vec<haul_tests::Process> {
    home.processes_as(Role::Other)
}

#[test]
fn a_time_limit_ends_the_job_with_124() {
    let home = Home::new();
    let ended = home
        .run([
            "run",
            "--timeout",
            "500ms",
            "--",
            "sh",
            "-c",
            "echo begun; sleep 60",
        ])
        .expect_code(124);
    assert_eq!(ended.out(), "begun\n");
    assert!(ended.err().contains("limit"), "{}", ended.err());
    assert_eq!(of_jobs(&home), []);
    assert_eq!(home.json(["show"])["state"], "failed");
}

#[test]
fn who_ignores_term_is_killed_after_the_grace() {
    let home = Home::new();
    home.script("deaf.sh", "trap '' TERM; echo deaf; while :; do sleep 0.1; done");
    let ended = home
        .run(["run", "--timeout", "300ms", "--grace", "500ms", "deaf.sh"])
        .expect_code(124);
    assert_eq!(ended.out(), "deaf\n");
    assert_eq!(of_jobs(&home), []);
}

#[test]
fn a_polite_job_has_its_grace() {
    let home = Home::new();
    home.script(
        "polite.sh",
        "trap 'echo saved > outputs/model; echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done",
    );
    let running = home.haul(["run", "polite.sh"]).start();
    running.wait_for_stdout("ready");
    running.signal(Signal::INT);
    let ended = running.end().expect_code(130);
    assert_eq!(ended.out(), "ready\nbye\n");
    let show = home.json(["show"]);
    assert_eq!(show["state"], "canceled");
    home.run(["outputs", "get", "last"]).ok();
    assert_eq!(
        std::fs::read_to_string(home.project().join("outputs/model")).unwrap(),
        "saved\n"
    );
}

#[test]
fn cancel_stops_it_and_whoever_watches_sees_it() {
    let home = Home::new();
    let running = home
        .haul(["run", "--", "sh", "-c", "echo ready; sleep 60"])
        .start();
    running.wait_for_stdout("ready");
    home.run(["cancel", "last"]).ok();
    running.end().expect_code(130);
    home.run(["wait", "last"]).expect_code(130);
    let again = home.run(["cancel", "last"]).ok();
    assert!(again.err().contains("ended already"), "{}", again.err());
}

#[test]
fn a_job_that_waits_can_be_canceled() {
    let home = Home::new().with("HAUL_SLOTS", "1");
    let first = home.detach(["--", "sleep", "60"]);
    let second = home.detach(["--", "sleep", "60"]);
    home.run(["cancel", &second]).ok();
    home.run(["wait", &second]).expect_code(130);
    assert_ne!(home.json(["show", &first])["state"], "canceled");
    home.run(["cancel", &first]).ok();
    home.run(["wait", &first]).expect_code(130);
}

#[test]
fn no_process_outlives_its_job() {
    let home = Home::new();
    home.write(
        "fork.py",
        r#"
import os, signal, subprocess, sys, time
def stay(name):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    open("outputs/" + name, "w").write(str(os.getpid()))
    time.sleep(600)
# A child, a child in a session of its own, and a double fork whose parent is gone, out of every group.
if os.fork() == 0: stay("child")
if os.fork() == 0: os.setsid(); stay("session")
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: os.setpgid(0, 0); stay("double")
    os._exit(0)
subprocess.Popen(["setsid", "-f", "nohup", "sleep", "600"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
while len(os.listdir("outputs")) < 3: time.sleep(0.01)
print("ready")
if sys.argv[1] == "stay": time.sleep(600)
"#,
    );
    // It ends by itself: what it left behind goes.
    let ended = home.run(["run", "fork.py", "go"]).ok();
    assert_eq!(ended.out(), "ready\n");
    assert_eq!(of_jobs(&home), [], "after a job that ended by itself");
    // It is stopped: the same.
    let running = home.haul(["run", "--grace", "300ms", "fork.py", "stay"]).start();
    running.wait_for_stdout("ready");
    assert!(of_jobs(&home).len() >= 5);
    running.signal(Signal::INT);
    running.end().expect_code(130);
    assert_eq!(of_jobs(&home), [], "after a job that was stopped");
}

#[test]
fn a_second_signal_leaves_at_once() {
    let home = Home::new();
    home.script("deaf.sh", "trap '' TERM; echo deaf; while :; do sleep 0.1; done");
    let running = home.haul(["run", "--grace", "4s", "deaf.sh"]).start();
    running.wait_for_stdout("deaf");
    running.signal(Signal::INT);
    running.wait_for_stderr("stopping");
    running.signal(Signal::INT);
    let ended = running.end().expect_code(3);
    assert!(ended.err().contains("goes on"), "{}", ended.err());
    home.run(["wait", "last"]).expect_code(130);
}

#[test]
fn a_closed_terminal_leaves_the_job_running() {
    let home = Home::new();
    home.script(
        "job.sh",
        "echo ready; until [ -e outputs/stop ]; do sleep 0.05; done",
    );
    let running = home.haul(["run", "--timeout", "20s", "job.sh"]).start();
    running.wait_for_stdout("ready");
    running.signal(Signal::HUP);
    running.end().expect_code(3);
    home.run(["wait", "--timeout", "200ms", "last"]).expect_code(3);
    home.run(["cancel", "last"]).ok();
    home.run(["wait", "last"]).expect_code(130);
}

#[test]
fn a_fork_bomb_with_a_lid_is_gone_soon() {
    let home = Home::new();
    home.write(
        "bomb.py",
        r#"
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(300):
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
print("ready", flush=True)
time.sleep(600)
"#,
    );
    let running = home.haul(["run", "--grace", "100ms", "bomb.py"]).start();
    running.wait_for_stdout("ready");
    running.signal(Signal::INT);
    let ended = running.end().expect_code(130);
    assert!(ended.took < Duration::from_secs(10), "{:?}", ended.took);
    assert_eq!(of_jobs(&home), []);
}
