//! Attempts with real processes: how they start, end and are ended.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

#[path = "support/bench.rs"]
mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use haul_launcher::{ExitRecord, Launcher, Outcome, StartStep, StopReason, Stopped};
use haul_types::ExitStatus;
use support::{Bench, PROBE, content_of, exited};

async fn run(launcher: &Launcher, order: haul_launcher::AttemptOrder) -> ExitRecord {
    launcher.start(order).await.unwrap().ended().await
}

#[tokio::test]
async fn codes_and_signals_are_the_main_process_own() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    for (index, (script, status)) in [
        ("exit 0", ExitStatus::Code(0)),
        ("exit 7", ExitStatus::Code(7)),
        ("exit 255", ExitStatus::Code(255)),
        ("kill -SEGV $$", ExitStatus::Signal(11)),
        ("kill -KILL $$", ExitStatus::Signal(9)),
    ]
    .into_iter()
    .enumerate()
    {
        let record = run(&launcher, bench.shell(index as u32, script)).await;
        assert_eq!(exited(&record), status, "{script}");
        assert_eq!((record.stopped, record.killed_leftovers), (None, 0), "{script}");
        assert!(record.usage.cpu < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn a_start_that_fails_says_what_failed() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let path = bench.directory.path();
    let script = |name: &str, text: &[u8], mode| {
        let path = path.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let plain = script("plain", b"x", 0o644);
    let noise = script("noise", b"\x01\x02\x03\x04 no program", 0o755);
    let orphan = script("orphan", b"#!/no/such/interpreter\n", 0o755);
    let order = |index, program: &std::path::Path| bench.order(index, program.as_os_str(), &[]);
    let mut nowhere = bench.order(5, "true", &[]);
    nowhere.cwd = path.join("nowhere");
    let mut no_output = bench.order(6, "true", &[]);
    no_output.stderr = path.join("missing/err");
    let cases = [
        (
            bench.order(0, "no-such-program", &[]),
            StartStep::FindProgram,
            2,
            "no-such-program",
        ),
        (order(1, &path.join("none")), StartStep::Execute, 2, "none"),
        (order(2, &plain), StartStep::Execute, 13, "plain"),
        (order(3, &noise), StartStep::Execute, 8, "noise"),
        (order(4, &orphan), StartStep::Execute, 2, "orphan"),
        (nowhere, StartStep::EnterDirectory, 2, "nowhere"),
        (no_output, StartStep::OpenStderr, 2, "missing/err"),
    ];
    for (order, step, errno, subject) in cases {
        let record = run(&launcher, order).await;
        let Outcome::StartFailed {
            step: s,
            subject: on,
            errno: e,
            message,
        } = record.outcome
        else {
            panic!("{subject}: {:?}", record.outcome);
        };
        assert_eq!((s, e), (step, errno), "{subject}");
        assert!(on.ends_with(subject) && !message.is_empty(), "{on}: {message}");
    }
    // And the supervisor is none the worse.
    assert_eq!(
        exited(&run(&launcher, bench.shell(9, "exit 3")).await),
        ExitStatus::Code(3)
    );
}

#[tokio::test]
async fn output_environment_and_directory_are_the_orders() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let mut order = bench.shell(
        4,
        "cat; printf 'a\\000b\\377'; printf err >&2; env | sort; pwd; ls -l /proc/self/fd | wc -l",
    );
    order.env.push(("HAUL_ATTEMPT".into(), "99".into()));
    std::fs::write(&order.stdout, "before\n").unwrap();
    assert_eq!(exited(&run(&launcher, order).await), ExitStatus::Code(0));
    let out = std::fs::read(bench.directory.path().join("4.out")).unwrap();
    let (head, tail) = out.split_at(11);
    assert_eq!(head, b"before\na\0b\xff");
    let expected = format!(
        "HAUL_ATTEMPT=1\nHAUL_JOB_ID={}\nHAUL_TASK_INDEX=4\nPATH=/usr/bin:/bin\nPWD={dir}\n{dir}\n",
        bench.job,
        dir = bench.directory.path().display()
    );
    let tail = String::from_utf8_lossy(tail);
    // `total 0`, the three standard ones, and the directory that `ls` reads: nothing of the supervisor leaks.
    assert_eq!(tail, format!("{expected}5\n"));
    let err = bench.directory.path().join("4.err");
    assert_eq!(std::fs::read(&err).unwrap(), b"err");
    assert_eq!(err.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_time_limit_ends_also_what_ignores_the_request() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let mut order = bench.shell(
        0,
        "trap '' TERM; (trap '' TERM; setsid sleep 600) & while :; do sleep 600; done",
    );
    order.timeout = Some(Duration::from_millis(300));
    order.grace = Duration::from_millis(300);
    let record = run(&launcher, order).await;
    assert_eq!(
        (exited(&record), record.stopped),
        (ExitStatus::Signal(9), Some(Stopped::TimedOut))
    );
    assert!(record.killed_leftovers >= 1, "{record:?}");
    assert!((600..2000).contains(&record.duration.as_millis()), "{record:?}");
    assert_eq!(bench.processes(), []);
}

#[tokio::test]
async fn a_stop_lets_the_job_put_things_in_order() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let script = "trap 'echo tidied; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut attempt = launcher.start(bench.shell(0, script)).await.unwrap();
    content_of(&bench.directory.path().join("0.out")).await;
    attempt.stop(StopReason::Canceled);
    attempt.stopper().stop(StopReason::Canceled);
    let record = attempt.ended().await;
    assert_eq!(
        (exited(&record), record.stopped),
        (ExitStatus::Code(5), Some(Stopped::Canceled))
    );
    assert_eq!(bench.stdout(0), "ready\ntidied\n");
    // After its end, and with the supervisor at the next attempt: nothing happens.
    let mut next = launcher.start(bench.shell(1, "sleep 0.2; exit 6")).await.unwrap();
    attempt.stop(StopReason::Canceled);
    let record = next.ended().await;
    assert_eq!((exited(&record), record.stopped), (ExitStatus::Code(6), None));
}

#[tokio::test]
async fn a_stop_may_come_at_any_time() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    for index in 0..60u32 {
        let mut attempt = launcher
            .start(bench.order(index, "sleep", &["600"]))
            .await
            .unwrap();
        if index % 3 > 0 {
            tokio::time::sleep(Duration::from_micros(u64::from(index) * 150)).await;
        }
        attempt.stop(StopReason::Canceled);
        let record = attempt.ended().await;
        assert_eq!(record.stopped, Some(Stopped::Canceled), "{record:?}");
        assert!(
            matches!(
                record.outcome,
                Outcome::NotStarted | Outcome::Exited(ExitStatus::Signal(15))
            ),
            "{record:?}"
        );
        launcher.acknowledge(record.attempt).unwrap();
    }
    assert_eq!(bench.processes(), []);
}

#[tokio::test]
async fn nothing_outlasts_the_main_process() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let script = "setsid sh -c 'trap \"\" TERM; sleep 600; sleep 600' & \
                  (setsid sh -c '(trap \"\" TERM; env -i sleep 600) & exec sleep 600' &) ; \
                  (while :; do echo more; sleep 0.01; done) & sleep 0.1; exit 4";
    let record = run(&launcher, bench.shell(0, script)).await;
    assert_eq!((exited(&record), record.stopped), (ExitStatus::Code(4), None));
    assert!(record.killed_leftovers >= 4, "{record:?}");
    assert!(record.duration < Duration::from_secs(2), "{record:?}");
    assert_eq!(bench.processes(), []);
    // The writers are gone: the length is final.
    let length = bench.stdout(0).len();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(bench.stdout(0).len(), length);
}

#[tokio::test]
async fn a_leftover_may_put_things_in_order() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let script = "sh -c 'trap \"echo tidied; exit\" TERM; echo ready; while :; do sleep 0.01; done' & \
                  while ! grep -q ready 0.out; do sleep 0.01; done";
    let record = run(&launcher, bench.shell(0, script)).await;
    assert_eq!(exited(&record), ExitStatus::Code(0));
    assert_eq!(bench.stdout(0), "ready\ntidied\n");
}

#[tokio::test]
async fn a_fork_bomb_is_gone_in_two_seconds() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    // 511 processes, each in its own group, and 8 chains that never stand still.
    let hops = format!("{PROBE} hop 100000 & ").repeat(8);
    let script = format!(
        "{hops} {PROBE} tree 8 & while [ $(ls /proc | grep -c '^[0-9]') -lt 400 ]; do sleep 0.05; done; exit 1"
    );
    let mut attempt = launcher.start(bench.shell(0, &script)).await.unwrap();
    attempt.started().await;
    let record = attempt.ended().await;
    let left = bench.processes();
    assert_eq!((exited(&record), left), (ExitStatus::Code(1), vec![]));
    assert!(record.killed_leftovers > 100, "{record:?}");

    let began = Instant::now();
    let script = format!("trap '' TERM; {hops} {PROBE} tree 8");
    let mut order = bench.shell(1, &script);
    order.timeout = Some(Duration::from_secs(1));
    order.grace = Duration::ZERO;
    let record = run(&launcher, order).await;
    assert_eq!(record.stopped, Some(Stopped::TimedOut));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(bench.processes(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_attempts_through_two_supervisors() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let slot = |first: u32| {
        let (bench, launcher) = (&bench, &launcher);
        async move {
            let mut pids = BTreeSet::new();
            for index in (first..1000).step_by(2) {
                let mut order = bench.order(index, "/bin/sh", &["-c", &format!("exit {}", index % 256)]);
                order.stdout = "/dev/null".into();
                order.stderr = "/dev/null".into();
                let mut attempt = launcher.start(order).await.unwrap();
                let record = attempt.ended().await;
                assert_eq!(record.attempt.task.index, index);
                assert_eq!(exited(&record), ExitStatus::Code((index % 256) as u8));
                pids.extend(attempt.started().await);
                // Late, as by an agent that groups its own commits.
                if index >= 20 {
                    launcher.acknowledge(bench.attempt(index - 20)).unwrap();
                }
            }
            pids.len()
        }
    };
    let (even, odd) = tokio::join!(slot(0), slot(1));
    assert_eq!(even + odd, 1000);
    let supervisors = std::fs::read_dir(bench.state().join("supervisors"))
        .unwrap()
        .count();
    assert!(supervisors <= 3, "{supervisors}");
}

#[tokio::test]
async fn ends_that_are_not_acknowledged_are_all_found_again() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    for index in 0..100 {
        let record = run(&launcher, bench.order(index, "/bin/true", &[])).await;
        if index % 10 == 0 {
            launcher.acknowledge(record.attempt).unwrap();
        }
    }
    drop(launcher);
    let (launcher, found) = bench.open();
    let ends: BTreeSet<u32> = found
        .iter()
        .map(|found| match found {
            haul_launcher::Found::Ended(record) => record.attempt.task.index,
            other => panic!("{other:?}"),
        })
        .collect();
    for index in (0..100).filter(|index| index % 10 > 0) {
        assert!(ends.contains(&index), "{index}");
    }
    for index in ends {
        launcher.acknowledge(bench.attempt(index)).unwrap();
        assert!(launcher.acknowledge(bench.attempt(index)).is_err());
    }
    drop(launcher);
    assert!(bench.launcher().acknowledge(bench.attempt(1)).is_err());
    assert_eq!(
        std::fs::read_dir(bench.state().join("supervisors"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn signals_reach_the_job_as_they_should_and_the_supervisor_not_at_all() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let order = bench.order(0, "cat", &["/proc/self/status"]);
    assert_eq!(exited(&run(&launcher, order).await), ExitStatus::Code(0));
    let status = bench.stdout(0);
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mask = u64::from_str_radix(line.trim_start_matches([':', '\t']), 16).unwrap();
        // The C library keeps 32 and 33 for itself.
        assert_eq!(mask & !(0b11 << 31), 0, "{name}{line}");
    }
    let order = bench.shell(
        2,
        "for s in TERM INT HUP USR1 PIPE; do kill -$s $PPID; done; exit 3",
    );
    assert_eq!(exited(&run(&launcher, order).await), ExitStatus::Code(3));
    let record = run(&launcher, bench.shell(1, "exit 4")).await;
    assert_eq!(exited(&record), ExitStatus::Code(4));
}

#[tokio::test]
async fn a_large_order_can_be_stopped_at_once() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let mut order = bench.order(0, "sleep", &["600"]);
    order
        .env
        .extend((0..40).map(|i| (format!("LARGE_{i}").into(), "x".repeat(40_000).into())));
    let mut attempt = launcher.start(order).await.unwrap();
    attempt.stop(StopReason::Canceled);
    assert_eq!(attempt.ended().await.stopped, Some(Stopped::Canceled));
}
