//! The services of `deploy/systemd`, on a machine that systemd runs: jobs as users without rights, restarts of each
//! service in the middle of one, a reboot, and a job that tries what it should not.
//!
//! They need root and Docker. `cargo xtask test` sees to it that those are there; elsewhere a test says what is missing
//! and passes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod machine;

use machine::Machine;

fn machine() -> Option<Machine> {
    match Machine::start() {
        Ok(machine) => Some(machine),
        Err(why) => {
            eprintln!("skipped: {why}");
            None
        }
    }
}

/// Writes a line to the FIFO that a job reads from.
fn let_go(machine: &Machine, fifo: &str) {
    machine.root(&format!("echo on | tee /var/lib/haul-agent/work/*/tree/{fifo}"));
}

/// All processes of jobs.
fn processes(machine: &Machine) -> Vec<String> {
    let listed =
        machine.root("find /sys/fs/cgroup -path '*.scope/haul-*/cgroup.procs' -exec cat {} + | sort -u");
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn restarts_harm_no_job_and_a_reboot_ends_it_and_says_so() {
    let Some(machine) = machine() else { return };
    let id =
        machine.submit("mkfifo first; echo up; read line < first; id -u; echo kept > outputs/kept; exit 7");
    let before = processes(&machine);
    assert!(!before.is_empty());
    for unit in ["haul-launcher", "haul-agent", "haul-controller"] {
        machine.root(&format!("systemctl restart {unit}"));
        machine.kill_and_restart(unit);
    }
    assert_eq!(processes(&machine), before, "the very same processes");
    let_go(&machine, "first");
    assert_eq!(machine.haul(&["wait", &id]).0, Some(7));
    assert_eq!(machine.haul(&["logs", &id]).1, "up\n60800\n");
    machine.haul(&["outputs", "get", &id]);
    assert_eq!(machine.root("cat /srv/project/outputs/kept"), "kept\n");

    // Both end while nobody is there to see it.
    let id = machine.submit("mkfifo second; echo up; read line < second; exit 5");
    machine.root("systemctl stop haul-agent haul-launcher");
    let_go(&machine, "second");
    machine.root("systemctl start haul-agent haul-launcher");
    assert_eq!(machine.haul(&["wait", &id]).0, Some(5));

    let id = machine.submit("trap '' TERM; echo up; sleep 1000");
    machine.reboot();
    let (code, _) = machine.haul(&["wait", &id]);
    assert_eq!(code, Some(125));
    let (_, shown) = machine.haul(&["show", &id]);
    assert!(shown.contains("the machine was started again"), "{shown}");
    let again = machine.haul(&["run", "--", "sh", "-c", "exit 4"]);
    assert_eq!(again.0, Some(4));
}

#[test]
fn a_hostile_job_gets_at_nothing() {
    let Some(machine) = machine() else { return };
    machine
        .root("umask 077; echo secret > /var/lib/haul-agent/key; chown haul-agent /var/lib/haul-agent/key");
    let victim = machine
        .submit("SECRET=mine; export SECRET; echo up; echo mine > secret; chmod 644 secret; sleep 1000");
    let directory = machine.root("ls -d /var/lib/haul-agent/work/*");
    let directory = directory.trim();
    let pid = &processes(&machine)[0];
    let connect =
        |path: &str| format!("python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{path}')\"");
    let attempts = [
        ("the agent's key", "cat /var/lib/haul-agent/key".to_owned()),
        ("the agent's directory", "ls /var/lib/haul-agent".to_owned()),
        ("other jobs' logs", "ls /var/lib/haul-agent/jobs".to_owned()),
        ("another job's file", format!("cat {directory}/tree/secret")),
        ("another job's directory", format!("ls {directory}/tree")),
        ("another job's home", format!("touch {directory}/home/x")),
        ("the launcher's socket", connect("/run/haul-launcher/launcher.sock")),
        ("the controller's socket", connect("/run/haul-controller/controller.sock")),
        ("the launcher's directory", "ls /var/lib/haul-launcher".to_owned()),
        ("the environment of another job", format!("cat /proc/{pid}/environ")),
        ("the command of another job", format!("test -s /proc/{pid}/cmdline")),
        ("another job's life", format!("kill -9 {pid}")),
        ("another job's memory", format!("python3 -c \"open('/proc/{pid}/mem', 'rb')\"")),
        ("the supervisor", "kill -9 $PPID".to_owned()),
        ("the supervisor's environment", "cat /proc/$PPID/environ".to_owned()),
        ("root", "python3 -c 'import os; os.setuid(0)'".to_owned()),
        ("a program that runs as root", "su -c true root </dev/null".to_owned()),
        ("its own limits", "find /sys/fs/cgroup -path \"*.scope/haul-$HAUL_JOB_ID*/pids.max\" | grep . && echo max | tee $(find /sys/fs/cgroup -path \"*.scope/haul-$HAUL_JOB_ID*/pids.max\")".to_owned()),
        ("a way out of its group", "echo $$ > /sys/fs/cgroup/pids/cgroup.procs".to_owned()),
        ("the environments", "touch /var/cache/haul-agent/envs/x".to_owned()),
        ("the machine", "touch /etc/x".to_owned()),
        ("its own log", "cat /proc/$$/fd/1".to_owned()),
    ];
    let mut script = String::from("echo tried\n");
    for (what, command) in &attempts {
        script.push_str(&format!("({command}) >/dev/null 2>&1 && echo \"OPEN: {what}\"\n"));
    }
    script.push_str(
        "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'trap \"\" TERM HUP; sleep 1000' & done\nexit 0\n",
    );
    let (code, said) = machine.haul(&["run", "--", "sh", "-c", &script]);
    assert_eq!((code, said.as_str()), (Some(0), "tried\n"));
    assert_eq!(
        processes(&machine).len(),
        2,
        "the shell and the sleep of the one that runs"
    );
    machine.haul(&["cancel", &victim]);
}
