//! Limits, and what control groups add to the end of an attempt.
//!
//! They need a node whose control groups can be written to, as the superuser's can. Where a hierarchy of version 2 has
//! no controllers to give, what is limited is tried in version 1, and the other way round; killing is tried in both.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

#[path = "support/bench.rs"]
mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use haul_launcher::{
    ExitRecord, Launcher, LauncherConfig, Limits, MilliCpus, Outcome, Placement, StartStep, StopReason,
    SupervisorProgram,
};
use haul_types::{ByteSize, ExitStatus};
use support::{Bench, PROBE, content_of, exited};

const MIB: u64 = 1 << 20;
/// Holds as many MiB as it is told, and touches them.
const EATER: &str = "import sys; held = bytearray(int(sys.argv[1]) << 20); print(len(held))";

fn limits(set: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    set(&mut limits);
    limits
}

/// A hierarchy of version 2 of the test's own, if the kernel has one to show.
struct Unified(tempfile::TempDir);

impl Unified {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "cgroup2", "none"])
            .arg(directory.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(directory))
    }

    fn group(&self) -> PathBuf {
        let group = self.0.path().join(format!("haul-test-{}", std::process::id()));
        std::fs::create_dir_all(&group).unwrap();
        group
    }
}

impl Drop for Unified {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.group());
        let _ = std::process::Command::new("umount").arg(self.0.path()).status();
    }
}

/// A launcher for each way that this node has, by name.
fn ways(bench: &Bench) -> (Vec<(String, Launcher)>, Option<Unified>) {
    let unified = Unified::mount();
    let mut placements = vec![("own", Placement::Own)];
    if let Some(unified) = &unified {
        placements.push(("version 2", Placement::At(unified.group())));
    }
    let open = |(name, placement): (&str, Placement)| {
        let config = LauncherConfig {
            placement,
            ..LauncherConfig::new(SupervisorProgram::at(PROBE))
        };
        let state = bench.state().join(name);
        let launcher = Launcher::open(&state, config).unwrap().0;
        (format!("{name}: {}", launcher.enforced()), launcher)
    };
    (placements.into_iter().map(open).collect(), unified)
}

async fn run(launcher: &Launcher, order: haul_launcher::AttemptOrder) -> ExitRecord {
    launcher.start(order).await.unwrap().ended().await
}

#[tokio::test]
async fn too_much_memory_is_told_from_other_deaths() {
    let bench = Bench::new();
    let (ways, _unified) = ways(&bench);
    let mut tried = 0;
    for (index, (name, launcher)) in ways.iter().enumerate() {
        if !launcher.enforced().memory {
            continue;
        }
        tried += 1;
        let index = index as u32 * 10;
        let order = |nth: u32, script: &str| haul_launcher::AttemptOrder {
            limits: limits(|it| it.memory = Some(ByteSize(64 * MIB))),
            ..bench.order(index + nth, "python3", &["-c", script, "400"])
        };
        let record = run(launcher, order(0, EATER)).await;
        assert_eq!(exited(&record), ExitStatus::Signal(9), "{name}");
        assert_eq!(record.oom_kills, 1, "{name}");
        let child =
            format!("import subprocess, sys\nsubprocess.run([sys.executable, '-c', {EATER:?}, '400'])");
        let record = run(launcher, order(1, &child)).await;
        assert_eq!(exited(&record), ExitStatus::Code(0), "{name}");
        assert_eq!(record.oom_kills, 1, "{name}: only a child was killed");
        let record = run(launcher, order(2, "import os; os.kill(os.getpid(), 9)")).await;
        assert_eq!(exited(&record), ExitStatus::Signal(9), "{name}");
        assert_eq!(record.oom_kills, 0, "{name}: nothing to do with memory");
        let mut roomy = order(3, EATER);
        roomy.limits.memory = Some(ByteSize(900 * MIB));
        assert_eq!(exited(&run(launcher, roomy).await), ExitStatus::Code(0), "{name}");
    }
    assert!(tried > 0, "no way to limit memory here: {ways:?}");
}

#[tokio::test]
async fn a_share_of_a_processor_is_all_that_is_used() {
    let bench = Bench::new();
    let (ways, _unified) = ways(&bench);
    let (name, launcher) = ways.iter().find(|(_, it)| it.enforced().cpu).expect("cpu");
    let spin = "import time\nstart = time.monotonic()\nwhile time.monotonic() - start < 2: pass";
    let order = haul_launcher::AttemptOrder {
        limits: limits(|it| it.cpus = Some(MilliCpus(200))),
        ..bench.order(0, "python3", &["-c", spin])
    };
    let record = run(launcher, order).await;
    assert_eq!(exited(&record), ExitStatus::Code(0));
    // A fifth of two seconds, and one period before it is noticed.
    assert!(
        record.usage.cpu < Duration::from_millis(700),
        "{name}: {:?}",
        record.usage
    );
}

#[tokio::test]
async fn a_fork_bomb_is_bounded_and_gone_at_once() {
    let bench = Bench::new();
    let (ways, _unified) = ways(&bench);
    for (index, (name, launcher)) in ways.iter().enumerate() {
        let mut order = bench.order(
            index as u32,
            "python3",
            &[
                "-c",
                "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n\
                 for _ in range(100000):\n  try:\n    if os.fork() == 0: os.setsid()\n  except OSError: pass",
            ],
        );
        // Without a limit this is left to the walk, which other tests try; a bomb of this size is what it can do.
        order.limits.pids = Some(100);
        if !launcher.enforced().pids {
            order.program = "sh".into();
            order.args = [
                "-c",
                "for i in $(seq 90); do setsid sh -c 'trap \"\" TERM; sleep 600' & done; echo on; wait",
            ]
            .map(Into::into)
            .to_vec();
        }
        let output = order.stdout.clone();
        order.grace = Duration::ZERO;
        let mut running = launcher.start(order).await.unwrap();
        content_of(&output).await;
        let asked = Instant::now();
        running.stop(StopReason::Canceled);
        let record = running.ended().await;
        assert!(
            asked.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            asked.elapsed()
        );
        assert!(record.killed_leftovers < 200, "{name}: {record:?}");
        assert_eq!(bench.processes(), [] as [i32; 0], "{name}");
    }
}

#[tokio::test]
async fn no_group_is_left_and_a_killed_supervisor_leaves_no_process() {
    let bench = Bench::new();
    let (ways, unified) = ways(&bench);
    for (index, (name, launcher)) in ways.iter().enumerate() {
        let mut order = bench.shell(
            index as u32,
            // Three things hide it from a walk: no mark, a session of its own, no parent.
            "env -i setsid sh -c 'echo $$; exec sleep 600' & sleep 600",
        );
        order.limits.pids = Some(50);
        let output = order.stdout.clone();
        let mut running = launcher.start(order).await.unwrap();
        let hidden: i32 = content_of(&output).await.parse().unwrap();
        let main = running.started().await.unwrap();
        support::kill(support::parent(main));
        let record = running.ended().await;
        assert!(matches!(record.outcome, Outcome::Lost(_)), "{name}: {record:?}");
        assert!(!support::alive(hidden), "{name}: it outlived its attempt");
        let found = std::process::Command::new("find")
            .args(["/sys/fs/cgroup", "-type", "d", "-name"])
            .arg(format!("haul-{}*", bench.job))
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{name}");
    }
    if let Some(unified) = unified {
        assert_eq!(
            std::fs::read_dir(unified.group())
                .unwrap()
                .flatten()
                .filter(|it| it.path().is_dir())
                .count(),
            0
        );
    }
}

#[tokio::test]
async fn a_limit_that_holds_no_process_fails_the_start() {
    let bench = Bench::new();
    let launcher = bench.launcher();
    let mut order = bench.shell(0, "exit 0");
    order.limits.memory = Some(ByteSize(1000));
    let record = run(&launcher, order).await;
    assert!(
        matches!(
            record.outcome,
            Outcome::StartFailed {
                step: StartStep::Limit,
                ..
            }
        ),
        "{record:?}"
    );
    assert_eq!(
        exited(&run(&launcher, bench.shell(1, "exit 3")).await),
        ExitStatus::Code(3)
    );
}
