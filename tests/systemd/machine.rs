//! A Debian machine with systemd as its first process, in a container, with Haul's services installed as an administrator
//! would install them.
//!
//! The image is made once, by debootstrap, and kept with everything else of Docker's below the target directory, where
//! the machine's own Docker, if it has one, is not touched. One test at a time has it.

use std::fs::File;
use std::io::{BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The image, by what it holds: another list of packages is another image.
const IMAGE: &str = "haul-machine:1";
/// What is in it beyond Debian's smallest set.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,python3-minimal";
/// What systemd wants of a container to be the first process in, short of all rights.
const RIGHTS: [&str; 12] = [
    "--cap-add=SYS_ADMIN",
    "--cap-add=NET_ADMIN",
    "--cap-add=SYS_PTRACE",
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--tmpfs=/run",
    "--tmpfs=/run/lock",
    "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
    "--network=none",
    // What an orderly shutdown is to systemd.
    "--stop-signal=SIGRTMIN+3",
    "--hostname=box",
    "--detach",
];

/// Where the controller is.
pub(crate) const ADDRESS: &str = "127.0.0.1:7070";
/// How it is called by those who have logged in to it.
pub(crate) const CONTEXT: &str = "127.0.0.1";
/// Whose jobs they are.
pub(crate) const USER: &str = "alice";
/// Somebody else who may submit jobs.
pub(crate) const OTHER_USER: &str = "bob";

/// How long systemd may take to listen.
const LISTENS_WITHIN: Duration = Duration::from_secs(60);
/// How soon it is asked again until then.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A machine that runs.
pub(crate) struct Machine {
    docker: Docker,
    container: String,
}

/// Docker of the tests' own.
struct Docker {
    daemon: Child,
    socket: String,
    _exec_root: tempfile::TempDir,
    _one_at_a_time: File,
}

impl Machine {
    /// Starts one; an error is why there cannot be any here.
    pub(crate) fn start() -> Result<Self, String> {
        let docker = Docker::start()?;
        docker.ensure_image();
        let binaries = haul_tests::haul_binary();
        let directory = binaries.parent().expect("it is in a directory");
        let volumes = ["haul", "haul-agent", "haul-controller", "haul-launcher"].map(|name| {
            let path = directory.join(name);
            assert!(
                path.exists(),
                "{} is not built: cargo build --bins",
                path.display()
            );
            format!("--volume={}:/usr/bin/{name}:ro", path.display())
        });
        let mut run = docker.command(&["run"]);
        run.args(RIGHTS).args(&volumes).arg(IMAGE);
        let container = text(&succeed(&mut run)).trim().to_owned();
        let machine = Self { docker, container };
        machine.install();
        Ok(machine)
    }

    /// Installs the services from `deploy/`, as an administrator does: a controller made, this machine joined to it, and
    /// two users who have tokens. All of it goes over TLS, on the machine's own loopback.
    fn install(&self) {
        self.wait_until_up();
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
        self.root("mkdir -p /etc/sysusers.d /etc/tmpfiles.d");
        for (from, to) in [
            ("systemd/.", "/etc/systemd/system/"),
            ("sysusers.d/haul.conf", "/etc/sysusers.d/"),
            ("tmpfiles.d/haul.conf", "/etc/tmpfiles.d/"),
        ] {
            let from = deploy.join(from);
            let to = format!("{}:{to}", self.container);
            succeed(self.docker.command(&["cp"]).arg(from).arg(to));
        }
        self.root(&format!(
            "systemd-sysusers
            systemd-tmpfiles --create
            systemctl daemon-reload
            haul-controller init --state-dir /var/lib/haul-controller --address {ADDRESS} > /root/admin
            systemctl enable --now haul-controller"
        ));
        self.wait_for_controller();
        self.root("haul login --token-file /root/admin");
        self.root(
            "haul token create --role agent > /root/used
            haul-agent join - < /root/used
            systemctl enable --now haul-launcher haul-agent",
        );
        for (user, role) in [(USER, "submitter"), (OTHER_USER, "submitter")] {
            self.root(&format!(
                "useradd --create-home --home-dir /srv/{user} {user}
                mkdir /srv/{user}/project
                haul token create --role {role} --name {user} > /srv/{user}/token
                chown -R {user} /srv/{user}"
            ));
            let token = format!("/srv/{user}/token");
            succeed(
                self.command_of(user, &["haul", "login", "--token-file"])
                    .arg(token),
            );
        }
    }

    /// Until systemd listens there is nobody to ask; from then on it tells.
    fn wait_until_up(&self) {
        let give_up_at = Instant::now() + LISTENS_WITHIN;
        let state = loop {
            let mut wait = self.docker.command(&["exec", &self.container]);
            let output = run(wait.args(["systemctl", "is-system-running", "--wait"]));
            let state = text(&output).trim().to_owned();
            if !matches!(state.as_str(), "" | "offline") || Instant::now() >= give_up_at {
                break state;
            }
            std::thread::sleep(ASK_AGAIN_AFTER);
        };
        assert!(state == "running", "{state}{}", self.failed());
    }

    /// Until it listens, commands would say that it does not.
    pub(crate) fn wait_for_controller(&self) {
        let (host, port) = ADDRESS.rsplit_once(':').expect("it has a port");
        self.root(&format!(
            "timeout 60 bash -c 'until 2>/dev/null : < /dev/tcp/{host}/{port}; do sleep 0.05; done'"
        ));
    }

    /// Kills a service, and starts it in order right away.
    pub(crate) fn kill_and_restart(&self, unit: &str) {
        self.root(&format!(
            "systemctl kill --signal=KILL {unit}; systemctl restart {unit}"
        ));
        self.wait_for_controller();
    }

    fn failed(&self) -> String {
        self.root("systemctl --failed --no-pager; journalctl --no-pager --lines=50")
    }

    /// Runs a shell script as root, and gives what it wrote.
    pub(crate) fn root(&self, script: &str) -> String {
        let mut command = self
            .docker
            .command(&["exec", &self.container, "sh", "-euc", script]);
        text(&succeed(&mut command))
    }

    /// A command of a user's.
    fn command_of(&self, user: &str, words: &[&str]) -> Command {
        let mut command = self.docker.command(&[
            "exec",
            &format!("--user={user}"),
            &format!("--workdir=/srv/{user}/project"),
            &format!("--env=HOME=/srv/{user}"),
            &self.container,
            // Ends also the process in the container, which nobody else would.
            "timeout",
            "120",
        ]);
        command.args(words);
        command
    }

    /// Runs `haul` to its end, as the user.
    pub(crate) fn haul(&self, words: &[&str]) -> (Option<i32>, String) {
        self.haul_of(USER, words)
    }

    /// Runs `haul` to its end, as one of the users.
    pub(crate) fn haul_of(&self, user: &str, words: &[&str]) -> (Option<i32>, String) {
        let output = run(self.command_of(user, &["haul"]).args(words));
        let said = String::from_utf8_lossy(&output.stderr);
        eprintln!("haul {words:?}: {:?}\n{}{said}", output.status, text(&output));
        (output.status.code(), text(&output))
    }

    /// Submits a shell script, waits until it has said `up`, and gives the job's id.
    pub(crate) fn submit(&self, script: &str) -> String {
        let (code, id) = self.haul(&["run", "--quiet", "--detach", "--", "sh", "-c", script]);
        assert_eq!(code, Some(0), "{}", self.root("journalctl --no-pager --lines=50"));
        let id = id.trim().to_owned();
        let follow = format!(
            "rm -f ~/said; mkfifo ~/said; haul logs -f {id} >~/said & head -n 1 ~/said; kill $!; wait"
        );
        let mut following = self.command_of(USER, &["sh", "-c", &follow]);
        assert_eq!(text(&run(&mut following)), "up\n", "{}", self.failed());
        id
    }

    /// Shuts it down in order, and starts it again.
    pub(crate) fn reboot(&self) {
        succeed(&mut self.docker.command(&["restart", "--time=60", &self.container]));
        self.wait_until_up();
        self.wait_for_controller();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut journal = self
                .docker
                .command(&["exec", &self.container, "journalctl", "--no-pager"]);
            eprintln!("{}", text(&run(&mut journal)));
        }
        run(&mut self
            .docker
            .command(&["rm", "--force", "--volumes", &self.container]));
    }
}

impl Docker {
    fn start() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("dockerd takes root".to_owned());
        }
        let cache = cache();
        std::fs::create_dir_all(&cache).expect("the target directory can be written to");
        let one_at_a_time = File::create(cache.join("lock")).expect("likewise");
        one_at_a_time.lock().expect("nobody has it for ever");
        let exec_root = tempfile::tempdir().expect("there is room");
        let at = |name: &str| exec_root.path().join(name).display().to_string();
        let socket = format!("unix://{}", at("docker.sock"));
        let daemon = Command::new("dockerd")
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false"])
            .arg(format!("--data-root={}", cache.join("docker").display()))
            .arg(format!("--exec-root={}", at("exec")))
            .arg(format!("--pidfile={}", at("pid")))
            .arg(format!("--host={socket}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("dockerd cannot be started: {error}"))?;
        let mut docker = Self {
            daemon,
            socket,
            _exec_root: exec_root,
            _one_at_a_time: one_at_a_time,
        };
        // It says on its log that it listens, or why it does not.
        let said = docker.daemon.stderr.take().expect("it is piped");
        let mut lines = BufReader::new(said).lines();
        let mut heard = Vec::new();
        let mut file = File::create(cache.join("dockerd.log")).expect("likewise");
        for line in lines.by_ref().map_while(Result::ok) {
            let _ = writeln!(file, "{line}");
            if line.contains("API listen on") {
                std::thread::spawn(move || {
                    for line in lines.map_while(Result::ok) {
                        let _ = writeln!(file, "{line}");
                    }
                });
                return Ok(docker);
            }
            heard.push(line);
        }
        let last = heard.last().map_or("without a word", String::as_str);
        Err(format!("dockerd ended: {last}"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("--host").arg(&self.socket).args(words);
        command
    }

    /// Makes the image if it was not made before.
    fn ensure_image(&self) {
        let mut inspect = self.command(&["image", "inspect", "--format={{.Id}}", IMAGE]);
        if run(&mut inspect).status.success() {
            return;
        }
        let root = cache().join("root");
        let _ = std::fs::remove_dir_all(&root);
        // What is made here is thrown away after a power cut anyway; syncing each of its files takes minutes.
        let settings = root.join("etc/dpkg/dpkg.cfg.d");
        std::fs::create_dir_all(&settings).expect("the target directory can be written to");
        std::fs::write(settings.join("unsafe-io"), "force-unsafe-io\n").expect("likewise");
        // What it mounts is gone when it is, also when it was killed.
        let mut make = Command::new("unshare");
        make.args(["--mount", "debootstrap", "--variant=minbase"])
            .args([&format!("--include={PACKAGES}"), &release()])
            .arg(&root);
        succeed(&mut make);
        let mut pack = Command::new("tar")
            .arg("--create")
            .arg("--directory")
            .arg(&root)
            .arg(".")
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is tar");
        let packed = pack.stdout.take().expect("it is piped");
        let mut import = self.command(&["import", "--change=CMD [\"/sbin/init\"]", "-", IMAGE]);
        succeed(import.stdin(packed));
        assert!(pack.wait().expect("it is a child").success());
        std::fs::remove_dir_all(&root).expect("it was just made");
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.daemon.wait();
    }
}

/// Where Docker keeps what it has, from one run of the tests to the next.
fn cache() -> PathBuf {
    let binary = haul_tests::haul_binary();
    let target = binary.ancestors().nth(2).expect("it is in target/<profile>");
    target.join("systemd-machine")
}

/// The machine's own release of Debian, so that programs built here run there; on another system, one that exists.
fn release() -> String {
    let about = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |name: &str| about.lines().find_map(|line| line.strip_prefix(name));
    match (value("ID="), value("VERSION_CODENAME=")) {
        (Some("debian"), Some(name)) => name.to_owned(),
        _ => "bookworm".to_owned(),
    }
}

fn run(command: &mut Command) -> Output {
    command.output().expect("it can be started")
}

fn succeed(command: &mut Command) -> Output {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}{said}", text(&output));
    output
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
