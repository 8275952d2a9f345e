//! Agents and supervisors that die.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

#[path = "support/bench.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use haul_launcher::{
    Boot, Found, LauncherConfig, OpenError, Outcome, StopReason, Stopped, SupervisorProgram,
};
use haul_types::{ExitStatus, JobId};
use support::{Bench, PROBE, alive, content_of, exited, kill, parent};

/// An agent in a process of its own, with attempts that run.
struct Agent {
    process: Child,
    pids: Vec<i32>,
}

impl Agent {
    fn start(bench: &Bench, attempts: usize, script: &str) -> Self {
        std::fs::create_dir_all(bench.state()).unwrap();
        let mut process = Command::new(PROBE)
            .arg("agent")
            .arg(bench.state())
            .args([
                &bench.job.to_bits().to_string(),
                &attempts.to_string(),
                "sh",
                "-c",
                script,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let pids = lines
            .take(attempts)
            .map(|line| line.unwrap().parse().unwrap())
            .collect();
        Self { process, pids }
    }

    fn kill(mut self) -> Vec<i32> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.pids
    }
}

fn bench() -> Bench {
    let mut bench = Bench::new();
    bench.job = JobId::from_bits(JobId::random().to_bits() >> 28).unwrap();
    bench
}

#[tokio::test]
async fn a_job_outlives_its_agent_and_its_end_is_told_to_the_next() {
    let bench = bench();
    let go = bench.directory.path().join("go");
    let script = format!(
        "echo begun; while [ ! -e {} ]; do sleep 0.01; done; echo done; exit 9",
        go.display()
    );
    let pids = Agent::start(&bench, 2, &script).kill();
    let (launcher, found) = bench.open();
    let mut adopted: Vec<_> = found
        .into_iter()
        .map(|found| match found {
            Found::Running(adopted) => adopted,
            other => panic!("{other:?}"),
        })
        .collect();
    adopted.sort_by_key(haul_launcher::AdoptedAttempt::attempt);
    assert_eq!(
        adopted
            .iter()
            .map(haul_launcher::AdoptedAttempt::pid)
            .collect::<Vec<_>>(),
        [Some(pids[0]), Some(pids[1])]
    );
    // Another one is stopped by the new agent; the first ends by itself.
    adopted[1].stop(StopReason::Canceled);
    let record = adopted[1].wait().await;
    assert_eq!(
        (exited(&record), record.stopped),
        (ExitStatus::Signal(15), Some(Stopped::Canceled))
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(50), adopted[0].wait())
            .await
            .is_err()
    );
    std::fs::write(&go, "").unwrap();
    assert_eq!(exited(&adopted[0].wait().await), ExitStatus::Code(9));
    assert_eq!(
        std::fs::read_to_string(bench.state().join("0.out")).unwrap(),
        "begun\ndone\n"
    );
    for index in 0..2 {
        launcher.acknowledge(bench.attempt(index)).unwrap();
    }
    drop((adopted, launcher));
    assert_eq!(bench.processes(), []);
    drop(bench.launcher());
}

#[tokio::test]
async fn an_end_while_no_agent_was_there_is_found() {
    let bench = bench();
    let script = "while [ ! -e go ]; do sleep 0.01; done; exit 12"
        .replace("go", &bench.state().join("go").display().to_string());
    let pids = Agent::start(&bench, 1, &script).kill();
    let supervisor = parent(pids[0]);
    std::fs::write(bench.state().join("go"), "").unwrap();
    while alive(supervisor) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (launcher, found) = bench.open();
    let [Found::Ended(record)] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(
        (record.attempt, exited(record)),
        (bench.attempt(0), ExitStatus::Code(12))
    );
    // Not acknowledged: found again. Acknowledged: not.
    drop((found, launcher));
    let (launcher, found) = bench.open();
    assert_eq!(found.len(), 1);
    launcher.acknowledge(bench.attempt(0)).unwrap();
    drop((found, launcher));
    drop(bench.launcher());
}

#[tokio::test]
async fn agents_that_die_again_and_again_lose_nothing() {
    let bench = bench();
    let go = bench.state().join("go");
    let script = format!("while [ ! -e {} ]; do sleep 0.01; done; exit 21", go.display());
    let pids = Agent::start(&bench, 1, &script).kill();
    for _ in 0..10 {
        let (_launcher, found) = bench.open();
        let [Found::Running(adopted)] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(adopted.pid(), Some(pids[0]));
    }
    let (_launcher, mut found) = bench.open();
    std::fs::write(&go, "").unwrap();
    let [Found::Running(adopted)] = found.as_mut_slice() else {
        panic!("{found:?}");
    };
    assert_eq!(exited(&adopted.wait().await), ExitStatus::Code(21));
}

#[tokio::test]
async fn a_supervisor_killed_under_an_attempt_leaves_no_process() {
    let bench = bench();
    let launcher = bench.launcher();
    let script = "setsid sh -c 'trap \"\" TERM; sleep 600; :' & env -i sleep 600 & env -i setsid sleep 600 & echo up; wait";
    let mut attempt = launcher.start(bench.shell(0, script)).await.unwrap();
    let pid = attempt.started().await.unwrap();
    content_of(&bench.directory.path().join("0.out")).await;
    kill(parent(pid));
    let record = attempt.ended().await;
    assert_eq!(record.outcome, Outcome::Lost(Boot::Same));
    assert!(record.killed_leftovers >= 4, "{record:?}");
    assert_eq!(bench.processes(), []);
    // The next attempt gets another supervisor.
    let record = launcher
        .start(bench.shell(1, "exit 2"))
        .await
        .unwrap()
        .ended()
        .await;
    assert_eq!(exited(&record), ExitStatus::Code(2));
    launcher.acknowledge(bench.attempt(0)).unwrap();
    launcher.acknowledge(bench.attempt(1)).unwrap();
}

#[tokio::test]
async fn agent_and_supervisor_killed_is_lost_and_no_process_is_left() {
    let bench = bench();
    let pids = Agent::start(&bench, 1, "setsid sleep 600 & sleep 600 & echo up; wait").kill();
    content_of(&bench.state().join("0.out")).await;
    kill(parent(pids[0]));
    let (launcher, found) = bench.open();
    let [
        Found::Lost {
            attempt,
            boot,
            killed_leftovers,
        },
    ] = found.as_slice()
    else {
        panic!("{found:?}");
    };
    assert_eq!((*attempt, *boot), (bench.attempt(0), Boot::Same));
    assert!(*killed_leftovers >= 3, "{killed_leftovers}");
    assert_eq!(bench.processes(), []);
    launcher.acknowledge(*attempt).unwrap();
    drop((found, launcher));
    drop(bench.launcher());
}

#[tokio::test]
async fn an_idle_supervisor_that_was_killed_is_replaced() {
    let bench = bench();
    let launcher = bench.launcher();
    for index in 0..5 {
        // It stays until its parent is known.
        let go = bench.state().join(format!("go-{index}"));
        let waits = format!("until [ -e '{}' ]; do sleep 0.01; done; exit 3", go.display());
        let mut attempt = launcher.start(bench.shell(index, &waits)).await.unwrap();
        let supervisor = parent(attempt.started().await.unwrap());
        std::fs::write(&go, "").unwrap();
        assert_eq!(exited(&attempt.ended().await), ExitStatus::Code(3));
        kill(supervisor);
        while alive(supervisor) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test]
async fn a_state_directory_has_one_launcher() {
    let bench = bench();
    let _launcher = bench.launcher();
    let config = LauncherConfig::new(SupervisorProgram::at(PROBE));
    let second = haul_launcher::Launcher::open(&bench.state(), config);
    assert!(matches!(second, Err(OpenError::InUse(_))), "{second:?}");
}

#[tokio::test]
async fn an_attempt_nobody_follows_is_still_acknowledged() {
    let bench = bench();
    let launcher = bench.launcher();
    drop(
        launcher
            .start(bench.shell(0, "sleep 0.05; exit 1"))
            .await
            .unwrap(),
    );
    while launcher.acknowledge(bench.attempt(0)).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bench.processes(), []);
}

#[tokio::test]
async fn a_program_that_is_no_supervisor_is_told_with_its_words() {
    let bench = bench();
    let config = LauncherConfig::new(SupervisorProgram::at("/bin/ls"));
    let (launcher, _) = haul_launcher::Launcher::open(&bench.state(), config).unwrap();
    let error = launcher.start(bench.shell(0, "exit 0")).await.unwrap_err();
    assert!(error.to_string().contains("__supervise"), "{error}");
    assert!(matches!(error, haul_launcher::StartError::GaveUp { .. }));
}
