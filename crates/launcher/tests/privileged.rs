//! The launcher as a process of its own: the socket, the hand-over, the users, and both sides' restarts. It takes root; who has that not, has no such launcher either.
#![allow(clippy::unwrap_used, reason = "what a test sets up may panic")]

#[path = "support/bench.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use haul_launcher::{
    AttemptHandle, AttemptOrder, ConnectError, Found, LauncherHandle, Outcome, Remote, StopReason, Stopped,
};
use haul_types::ExitStatus;
use support::{Bench, PROBE, content_of, exited};

/// Ids of nobody on this machine.
const FIRST: u32 = 60_900;
const GROUP: u32 = 60_899;

/// The directories of an agent, and room for a launcher. Both run as the test's user, which is root.
struct Machine {
    bench: Bench,
}

/// A launcher that serves.
struct Serving(Child);

impl Serving {
    /// Ends it as nothing else can.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Machine {
    fn new() -> Option<Self> {
        if !is_root() {
            return None;
        }
        let bench = Bench::new();
        std::fs::set_permissions(bench.directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let machine = Self { bench };
        for (name, mode) in [("agent", 0o711), ("agent/work", 0o711), ("agent/jobs", 0o700)] {
            let path = machine.path(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::write(machine.path("agent/key"), "secret").unwrap();
        std::fs::set_permissions(machine.path("agent/key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        Some(machine)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.bench.directory.path().join(name)
    }

    fn socket(&self) -> PathBuf {
        self.path("launcher.sock")
    }

    fn serve(&self) -> Serving {
        self.serve_user(0)
    }

    fn serve_user(&self, agent_uid: u32) -> Serving {
        let mut child = Command::new(PROBE)
            .arg("serve")
            .args([self.bench.state(), self.socket()])
            .arg(agent_uid.to_string())
            .arg(self.path("agent"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Serving(child)
    }

    async fn connect(&self) -> (LauncherHandle, Vec<Found<AttemptHandle>>) {
        LauncherHandle::there(Remote::connect(&self.socket()).await.unwrap())
    }

    fn workdir(&self, number: u32) -> PathBuf {
        let workdir = self.path(&format!("agent/work/{number}"));
        std::fs::create_dir(&workdir).unwrap();
        std::fs::set_permissions(&workdir, std::fs::Permissions::from_mode(0o711)).unwrap();
        for name in ["tree", "home"] {
            std::fs::create_dir(workdir.join(name)).unwrap();
        }
        std::fs::write(workdir.join("tree/input"), "from the snapshot").unwrap();
        workdir
    }

    fn order(&self, index: u32, workdir: &Path, script: &str) -> AttemptOrder {
        let mut order = self.bench.shell(index, script);
        order.cwd = workdir.join("tree");
        for (kind, path) in [("out", &mut order.stdout), ("err", &mut order.stderr)] {
            *path = self.path(&format!("agent/jobs/{index}.{kind}"));
            std::fs::write(&*path, "").unwrap();
            std::fs::set_permissions(&*path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        order
    }

    fn stdout(&self, index: u32) -> String {
        std::fs::read_to_string(self.path(&format!("agent/jobs/{index}.out"))).unwrap()
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn owner(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().uid()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_has_its_directory_and_nothing_else() {
    let Some(machine) = Machine::new() else { return };
    let _serving = machine.serve();
    let (launcher, _) = machine.connect().await;
    let other = machine.workdir(1);
    let mut neighbour = launcher
        .start(
            machine.order(1, &other, "echo mine > secret; echo up; sleep 600"),
            &other,
        )
        .await
        .unwrap();
    content_of(&machine.path("agent/jobs/1.out")).await;
    let neighbour_pid = machine.bench.processes()[0];

    let workdir = machine.workdir(2);
    let attempts = [
        ("key", format!("cat {}", machine.path("agent/key").display())),
        ("state", format!("ls {}", machine.path("agent").display())),
        ("logs", format!("ls {}", machine.path("agent/jobs").display())),
        (
            "neighbour",
            format!("cat {}", other.join("tree/secret").display()),
        ),
        ("launcher", format!("ls {}", machine.bench.state().display())),
        (
            "socket",
            format!(
                "python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{}')\"",
                machine.socket().display()
            ),
        ),
        ("environ", format!("cat /proc/{neighbour_pid}/environ")),
        ("kill", format!("kill -9 {neighbour_pid}")),
        ("supervisor", "kill -9 $PPID".to_owned()),
        ("root", "python3 -c 'import os; os.setuid(0)'".to_owned()),
        ("own log", "cat /proc/$$/fd/3".to_owned()),
    ];
    let mut script =
        String::from("id -u; id -g; id -G; cat input; echo out > made; mkdir -p d/e; echo in > d/e/f\n");
    script.push_str("grep NoNewPrivs /proc/self/status\n");
    for (name, command) in &attempts {
        script.push_str(&format!("{command} >/dev/null 2>&1 && echo OPEN {name}\n"));
    }
    script.push_str("exit 0\n");
    let mut running = launcher
        .start(machine.order(2, &workdir, &script), &workdir)
        .await
        .unwrap();
    let record = running.ended().await;
    assert_eq!(exited(&record), ExitStatus::Code(0));
    let uid = FIRST + 1;
    assert_eq!(
        machine.stdout(2),
        format!("{uid}\n{GROUP}\n{GROUP}\nfrom the snapshotNoNewPrivs:\t1\n")
    );
    assert_eq!(owner(&workdir.join("tree/d/e/f")), uid);
    assert_eq!(owner(&machine.path("agent/jobs/2.out")), 0);

    launcher.take_back(&workdir).await.unwrap();
    assert_eq!(owner(&workdir.join("tree/d/e/f")), 0);
    launcher.acknowledge(record.attempt).unwrap();

    launcher.take_back(&other).await.expect_err("it runs there");
    neighbour.stop(StopReason::Canceled);
    assert_eq!(neighbour.ended().await.stopped, Some(Stopped::Canceled));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_the_agents_business_is_refused() {
    let Some(machine) = Machine::new() else { return };
    let _serving = machine.serve();
    let (launcher, _) = machine.connect().await;
    let workdir = machine.workdir(1);
    std::os::unix::fs::symlink("/etc", workdir.join("tree/etc")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", machine.path("agent/jobs/link")).unwrap();
    let good = machine.order(0, &workdir, "exit 0");
    type Spoil = Box<dyn Fn(&mut AttemptOrder, &mut PathBuf)>;
    let agent = machine.path("agent");
    let spoilt: Vec<(&str, Spoil)> = vec![
        (
            "a directory elsewhere",
            Box::new(|_, workdir| *workdir = "/tmp".into()),
        ),
        ("one by another name", {
            let agent = agent.clone();
            Box::new(move |_, workdir| *workdir = agent.join("work/../work/1"))
        }),
        ("the whole", {
            let agent = agent.clone();
            Box::new(move |_, workdir| *workdir = agent.clone())
        }),
        ("cwd outside", Box::new(|order, _| order.cwd = "/".into())),
        ("cwd through a link", Box::new(|order, _| order.cwd.push("etc"))),
        ("cwd above", Box::new(|order, _| order.cwd.push("../../2/tree"))),
        (
            "stdout outside",
            Box::new(|order, _| order.stdout = "/etc/passwd".into()),
        ),
        ("stderr through a link", {
            let agent = agent.clone();
            Box::new(move |order, _| order.stderr = agent.join("jobs/link"))
        }),
        (
            "stderr above",
            Box::new(move |order, _| order.stderr = agent.join("jobs/../key")),
        ),
        ("no attempt", Box::new(|order, _| order.attempt.attempt = 0)),
        ("no program", Box::new(|order, _| order.program.clear())),
        (
            "a variable that is two",
            Box::new(|order, _| order.env.push(("a=b".into(), "c".into()))),
        ),
        ("a NUL", Box::new(|order, _| order.args.push("a\0b".into()))),
        (
            "too much",
            Box::new(|order, _| order.env.push(("x".into(), "y".repeat(3 << 20).into()))),
        ),
    ];
    for (what, spoil) in spoilt {
        let (mut order, mut named) = (good.clone(), workdir.clone());
        spoil(&mut order, &mut named);
        let refused = launcher.start(order, &named).await;
        let words = refused.map(|_| ()).expect_err(what).to_string();
        assert!(words.starts_with("the launcher refused: "), "{what}: {words}");
    }
    assert_eq!(owner(&workdir.join("tree")), 0);
    // And that the good one is good.
    let mut running = launcher.start(good, &workdir).await.unwrap();
    assert_eq!(exited(&running.ended().await), ExitStatus::Code(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn either_side_restarts_and_no_attempt_notices() {
    let Some(machine) = Machine::new() else { return };
    let serving = machine.serve();
    let (launcher, _) = machine.connect().await;
    let workdir = machine.workdir(1);
    let script = "echo up; read line < go; echo $line; exit 7";
    make_fifo(&workdir.join("tree/go"));
    let running = launcher
        .start(machine.order(1, &workdir, script), &workdir)
        .await
        .unwrap();
    content_of(&machine.path("agent/jobs/1.out")).await;

    serving.kill();
    let serving = machine.serve();
    // Said while nobody listened, perhaps, and heard nevertheless.
    let second = machine.workdir(2);
    let mut short = launcher
        .start(machine.order(2, &second, "exit 3"), &second)
        .await
        .unwrap();
    assert_eq!(exited(&short.ended().await), ExitStatus::Code(3));
    assert_ne!(
        owner(&workdir.join("tree")),
        owner(&second.join("tree")),
        "each has a user of its own"
    );
    launcher.take_back(&second).await.unwrap();
    launcher.acknowledge(short.attempt()).unwrap();
    launcher.take_back(&workdir).await.expect_err("it runs there");

    // The agent dies, and the attempt ends; another agent comes.
    drop(launcher);
    let (launcher, found) = machine.connect().await;
    assert!(
        matches!(found.as_slice(), [Found::Running(it)] if it.attempt() == running.attempt()),
        "{found:?}"
    );
    std::fs::write(workdir.join("tree/go"), "went on\n").unwrap();
    let Some(Found::Running(mut adopted)) = found.into_iter().next() else {
        panic!()
    };
    let record = adopted.ended().await;
    assert_eq!(exited(&record), ExitStatus::Code(7));
    assert_eq!(machine.stdout(1), "up\nwent on\n");
    assert!(matches!(exited(&record), ExitStatus::Code(7)));

    // Nobody has acknowledged it: whoever comes next hears of it, from another launcher too.
    drop(launcher);
    serving.kill();
    let serving = machine.serve();
    let (launcher, found) = machine.connect().await;
    // The short one may be among them: a supervisor hears of an acknowledgement with its next order.
    let mut ends = Vec::new();
    for it in found {
        ends.push(match it {
            Found::Running(mut running) => running.ended().await,
            Found::Ended(record) => record,
            Found::Lost { .. } => panic!("{it:?}"),
        });
    }
    assert!(ends.contains(&record), "{ends:?}");
    launcher.take_back(&workdir).await.unwrap();
    launcher.acknowledge(record.attempt).unwrap();
    let third = machine.workdir(3);
    let mut last = launcher
        .start(machine.order(3, &third, "exit 0"), &third)
        .await
        .unwrap();
    last.ended().await;
    drop(launcher);
    let (_, found) = machine.connect().await;
    let same = |it: &Found<AttemptHandle>| matches!(it, Found::Ended(it) if *it == record);
    assert!(
        !found.iter().any(same),
        "the acknowledged one is forgotten: {found:?}"
    );
    serving.kill();
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_takes_no_agents_place() {
    let Some(machine) = Machine::new() else { return };
    let _serving = machine.serve();
    let (launcher, _) = machine.connect().await;
    let workdir = machine.workdir(1);
    let order = machine.order(1, &workdir, "echo on; exec sleep 600");
    let mut running = launcher.start(order, &workdir).await.unwrap();
    let looked = haul_launcher::look(&machine.socket()).await.unwrap();
    assert_eq!(
        (Some(looked.users), looked.enforced),
        (launcher.slots(), launcher.enforced())
    );
    // What is told to who is connected comes to the one that was.
    running.stop(StopReason::Canceled);
    let ended = tokio::time::timeout(Duration::from_secs(20), running.ended());
    assert!(ended.await.is_ok());
    let nobody = haul_launcher::look(&machine.path("nobody")).await;
    assert!(matches!(nobody, Err(ConnectError::Reach { .. })), "{nobody:?}");
}

fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo").args(["-m", "666"]).arg(path).status();
    assert!(made.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_attempts_than_users_are_refused_and_others_are_not_served() {
    let Some(machine) = Machine::new() else { return };
    let serving = machine.serve();
    let (launcher, _) = machine.connect().await;
    assert_eq!(launcher.slots(), Some(2));
    let mut held = Vec::new();
    for number in 1..=2 {
        let workdir = machine.workdir(number);
        let order = machine.order(number, &workdir, "echo on; exec sleep 600");
        held.push(launcher.start(order, &workdir).await.unwrap());
    }
    let workdir = machine.workdir(3);
    let refused = launcher
        .start(machine.order(3, &workdir, "exit 0"), &workdir)
        .await;
    assert!(
        refused
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .contains("every user for jobs is taken")
    );
    for running in &mut held {
        content_of(&machine.path(&format!("agent/jobs/{}.out", running.attempt().task.index))).await;
        running.stop(StopReason::Canceled);
        let record = tokio::time::timeout(Duration::from_secs(20), running.ended())
            .await
            .unwrap();
        assert!(matches!(record.outcome, Outcome::Exited(_)));
    }
    assert_eq!(
        std::fs::metadata(machine.socket()).unwrap().permissions().mode() & 0o777,
        0o660
    );
    serving.kill();

    // This process is not the user that this one serves.
    let _serving = machine.serve_user(12_345);
    let refused = Remote::connect(&machine.socket()).await;
    assert!(matches!(refused, Err(ConnectError::NoLauncher(_))), "{refused:?}");
}
