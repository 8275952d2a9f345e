//! The services of `deploy/systemd` as they are shipped, on a machine that systemd runs: a controller, an agent that has
//! joined it, jobs as users without rights, restarts of each service in the middle of one, a reboot, and a job that tries
//! what it should not.
//!
//! They need root and Docker. `cargo xtask test` sees to it that those are there; elsewhere a test says what is missing
//! and passes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod machine;

use machine::{ADDRESS, CONTEXT, Machine, OTHER_USER, USER};

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
    assert_eq!(machine.root("cat /srv/alice/project/outputs/kept"), "kept\n");

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
fn more_tasks_than_users_for_jobs_wait_and_none_fails() {
    let Some(machine) = machine() else { return };
    machine.root(
        "mkdir /etc/systemd/system/haul-launcher.service.d
        printf '[Service]\\nExecStart=\\n' > /etc/systemd/system/haul-launcher.service.d/users.conf
        sed -n '/^ExecStart/,/[^\\\\]$/p' /etc/systemd/system/haul-launcher.service | sed s/60800-60863/60800-60801/ \\
            >> /etc/systemd/system/haul-launcher.service.d/users.conf
        systemctl daemon-reload
        systemctl restart haul-launcher haul-agent",
    );
    // The first one holds its user until all others have run under the other one.
    let id = machine.submit("mkfifo gate; echo up; read line < gate");
    let array = ["run", "--array", "1-12", "--cpus", "0.01", "--", "id", "-u"];
    assert_eq!(machine.haul(&array).0, Some(0));
    for index in 1..=12 {
        let (_, user) = machine.haul(&["logs", &format!("last.{index}")]);
        assert!(["60800\n", "60801\n"].contains(&&*user), "{user}");
        let (_, shown) = machine.haul(&["show", "--json", &format!("last.{index}")]);
        assert!(!shown.contains("start_failed"), "{shown}");
    }
    let_go(&machine, "gate");
    assert_eq!(machine.haul(&["wait", &id]).0, Some(0));
}

#[test]
fn agents_and_users_are_told_what_is_there_and_what_is_not() {
    let Some(machine) = machine() else { return };
    let check =
        "haul-agent check --cache-dir /var/cache/haul-agent --launcher /run/haul-launcher/launcher.sock";
    assert_eq!(machine.haul(&["run", "--", "true"]).0, Some(0));
    let said = machine.root(check);
    for found in [
        "node box, from ",
        "127.0.0.1:7070, directly",
        "the controller knows node box",
        "jobs run as 64 users",
        "free at /var/lib/haul-agent",
    ] {
        assert!(said.contains(found), "{found}: {said}");
    }
    let (code, said) = machine.haul(&["doctor"]);
    assert_eq!(code, Some(0));
    for found in [
        "reached 127.0.0.1:7070 directly",
        "alice is a submitter",
        "1 of 1 connected",
    ] {
        assert!(said.contains(found), "{found}: {said}");
    }

    machine.root("systemctl stop haul-controller haul-launcher");
    let said = machine.root(&format!("{check} || echo code $?"));
    for found in ["bad controller", "bad launcher", "code 1\n"] {
        assert!(said.contains(found), "{found}: {said}");
    }
    let (code, said) = machine.haul(&["doctor"]);
    assert_eq!(code, Some(125));
    assert!(said.contains("bad network"), "{said}");

    // What root made without the directory being there before is the service's by its start.
    machine.root(
        "chown -R root: /var/lib/haul-controller
        systemctl start haul-controller haul-launcher",
    );
    machine.wait_for_controller();
    assert_eq!(machine.haul(&["run", "--", "true"]).0, Some(0));
}

#[test]
fn a_hostile_job_gets_at_nothing() {
    let Some(machine) = machine() else { return };
    let victim = machine
        .submit("SECRET=mine; export SECRET; echo up; echo mine > secret; chmod 644 secret; sleep 1000");
    let directory = machine.root("ls -d /var/lib/haul-agent/work/*");
    let directory = directory.trim();
    let pid = &processes(&machine)[0];
    let files = [
        (
            "the agent's identity and key",
            "/var/lib/haul-agent/identity/identity.json".to_owned(),
        ),
        (
            "the authority's key",
            "/var/lib/haul-controller/identity/authorities.json".to_owned(),
        ),
        (
            "the controller's configuration",
            "/var/lib/haul-controller/controller.toml".to_owned(),
        ),
        (
            "a user's token",
            format!("/srv/{USER}/.config/haul/credentials/{CONTEXT}"),
        ),
        ("the admin's token", "/root/admin".to_owned()),
        ("another job's file", format!("{directory}/tree/secret")),
    ];
    let directories = [
        ("the agent's directory", "/var/lib/haul-agent".to_owned()),
        ("the agent's identity", "/var/lib/haul-agent/identity".to_owned()),
        (
            "the controller's directory",
            "/var/lib/haul-controller".to_owned(),
        ),
        ("the authority", "/var/lib/haul-controller/identity".to_owned()),
        ("other jobs' logs", "/var/lib/haul-agent/jobs".to_owned()),
        ("another job's directory", format!("{directory}/tree")),
        ("the launcher's directory", "/var/lib/haul-launcher".to_owned()),
    ];
    let sockets = [
        (
            "the launcher's socket",
            "/run/haul-launcher/launcher.sock".to_owned(),
        ),
        (
            "the controller's socket",
            "/var/lib/haul-controller/controller.sock".to_owned(),
        ),
    ];
    // They are there for who may have them.
    for (_, path) in files.iter().chain(&directories).chain(&sockets) {
        machine.root(&format!("test -r {path}"));
    }
    let used = machine.root("cat /root/used");
    let revoked = machine.root("haul token create --json --role admin --name gone");
    let revoked: serde_json::Value = serde_json::from_str(&revoked).unwrap();
    machine.root(&format!("haul token revoke {}", revoked["id"].as_str().unwrap()));
    let agent = machine.root("systemctl show --property=MainPID --value haul-agent");
    let (used, revoked, agent) = (used.trim(), revoked["token"].as_str().unwrap(), agent.trim());
    let python = |program: &str| format!("python3 -c \"{program}\"");
    let connect = |path: &str| {
        python(&format!(
            "import socket; socket.socket(socket.AF_UNIX).connect('{path}')"
        ))
    };
    let (host, port) = ADDRESS.rsplit_once(':').unwrap();
    let others = [
        ("another job's home", format!("touch {directory}/home/x")),
        ("the environment of another job", format!("cat /proc/{pid}/environ")),
        ("the command of another job", format!("test -s /proc/{pid}/cmdline")),
        ("the environment of the agent", format!("cat /proc/{agent}/environ")),
        ("the agent's memory", python(&format!("open('/proc/{agent}/mem', 'rb')"))),
        ("another job's life", format!("kill -9 {pid}")),
        ("another job's memory", python(&format!("open('/proc/{pid}/mem', 'rb')"))),
        ("the supervisor", "kill -9 $PPID".to_owned()),
        ("the supervisor's environment", "cat /proc/$PPID/environ".to_owned()),
        ("root", python("import os; os.setuid(0)")),
        ("a program that runs as root", "su -c true root </dev/null".to_owned()),
        ("its own limits", "find /sys/fs/cgroup -path \"*.scope/haul-$HAUL_JOB_ID*/pids.max\" | grep . && echo max | tee $(find /sys/fs/cgroup -path \"*.scope/haul-$HAUL_JOB_ID*/pids.max\")".to_owned()),
        ("a way out of its group", "echo $$ > /sys/fs/cgroup/pids/cgroup.procs".to_owned()),
        ("the environments", "touch /var/cache/haul-agent/envs/x".to_owned()),
        ("the machine", "touch /etc/x".to_owned()),
        ("its own log", "cat /proc/$$/fd/1".to_owned()),
        ("the controller by nothing", python(&format!("import socket; s = socket.create_connection(('{host}', {port})); s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n'); exit(not s.recv(99).startswith(b'HTTP/1.1 2'))"))),
        ("the controller by a token that was revoked", format!("HAUL_TOKEN={revoked} haul jobs")),
        ("the controller by a token that was used", format!("haul-agent join {used} --name evil --state-dir $PWD/evil")),
        ("the controller by another role's token", format!("HAUL_TOKEN={used} haul jobs")),
    ];
    let reads = files.iter().map(|(what, path)| (*what, format!("cat {path}")));
    let lists = directories
        .iter()
        .map(|(what, path)| (*what, format!("ls {path}")));
    let connects = sockets.iter().map(|(what, path)| (*what, connect(path)));
    // The ways lead somewhere for who has what it takes.
    let good = machine.root("haul token create --role viewer --name good");
    let mut script = format!("HAUL_TOKEN={} haul jobs >/dev/null && echo tried\n", good.trim());
    for (what, command) in reads.chain(lists).chain(connects).chain(others) {
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
    // Nor does somebody who may submit jobs change another's.
    for words in [["cancel", &victim], ["rm", &victim]] {
        let (code, _) = machine.haul_of(OTHER_USER, &words);
        assert_ne!(code, Some(0), "{words:?}");
    }
    assert_eq!(processes(&machine).len(), 2, "it runs still");
    assert_eq!(machine.haul(&["cancel", &victim]).0, Some(0));
}
