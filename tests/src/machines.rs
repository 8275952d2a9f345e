//! Machines of a test: network namespaces on one switch, each with an address of its own.
//!
//! ```text
//!   controller 10.77.0.1   box1 10.77.0.2   user 10.77.0.3 …
//!        └────────────────────┴──────────────┴── a bridge in a namespace of its own
//! ```
//!
//! Nothing of it is connected to the machine's own network. A namespace shares this machine's files and processes: each
//! test machine has a home, and state of its own below it. Needs root and iproute2; see [`Network::new`].

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// A switch and what is plugged into it. Dropping it ends every process in it.
#[derive(Debug)]
pub struct Network {
    name: String,
    root: TempDir,
    machines: Vec<Machine>,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct Machine {
    namespace: String,
    name: String,
    address: Ipv4Addr,
    home: PathBuf,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

#[track_caller]
fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().expect("iproute2 is there");
    assert!(
        output.status.success(),
        "ip {}: {}",
        words.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Network {
    /// A network of machines with these names, numbered from 10.77.0.1.
    #[must_use]
    #[track_caller]
    pub fn new(names: &[&str]) -> Self {
        // At most 15 letters make an interface's name.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("h{:x}-{number}", std::process::id());
        let root = tempfile::Builder::new()
            .prefix("haul-net-")
            .tempdir()
            .expect("a temporary directory can be made");
        ip(&["netns", "add", &name]);
        ip(&["-n", &name, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", &name, "link", "set", "switch", "up"]);
        let mut network = Self {
            name,
            root,
            machines: Vec::new(),
        };
        for name in names {
            network.plug_in(name);
        }
        network
    }

    fn plug_in(&mut self, name: &str) {
        let place = u8::try_from(self.machines.len() + 1).expect("a test has few machines");
        let namespace = format!("{}-{place}", self.name);
        let address = Ipv4Addr::new(10, 77, 0, place);
        ip(&["netns", "add", &namespace]);
        let cable = format!("p{place}");
        ip(&[
            "-n", &self.name, "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ]);
        ip(&["-n", &self.name, "link", "set", &cable, "master", "switch", "up"]);
        ip(&["-n", &namespace, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &namespace, "link", "set", "eth0", "up"]);
        ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        let home = self.root.path().join(name);
        std::fs::create_dir(&home).expect("a directory can be made");
        self.machines.push(Machine {
            namespace,
            name: name.to_owned(),
            address,
            home,
        });
    }

    /// The machine of this name.
    #[must_use]
    #[track_caller]
    pub fn machine(&self, name: &str) -> Machine {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.cloned().unwrap_or_else(|| panic!("there is no machine {name}"))
    }

    /// Pulls a machine's cable, or plugs it in again.
    #[track_caller]
    pub fn set_connected(&self, name: &str, connected: bool) {
        let machine = self.machine(name);
        let state = if connected { "up" } else { "down" };
        ip(&["-n", &machine.namespace, "link", "set", "eth0", state]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in &self.machines {
            machine.end_all();
            let _ = Command::new("ip").args(["netns", "del", &machine.namespace]).status();
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

impl Machine {
    /// Its address.
    #[must_use]
    pub const fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A path in its home.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.home.join(path)
    }

    /// A program about to start on it, with nothing of this process's environment but the `PATH`.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace])
            .arg(program)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("LANG", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program on it to its end, which must be a good one.
    #[track_caller]
    pub fn run<W: AsRef<OsStr>>(&self, program: &Path, words: impl IntoIterator<Item = W>) -> Output {
        let output = self.output(program, words);
        assert!(
            output.status.success(),
            "{} on {}: {}\n{}{}",
            program.display(),
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Runs a program on it to its end.
    #[track_caller]
    pub fn output<W: AsRef<OsStr>>(&self, program: &Path, words: impl IntoIterator<Item = W>) -> Output {
        let output = self.command(program).args(words).output();
        output.unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
    }

    /// Starts a daemon on it, whose words go to a file.
    #[track_caller]
    pub fn start<W: AsRef<OsStr>>(&self, program: &Path, words: impl IntoIterator<Item = W>) -> Child {
        let name = program.file_name().unwrap_or_default();
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.home.join(name).with_extension("log"))
            .expect("a file can be made");
        self.command(program)
            .args(words)
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", program.display()))
    }

    /// What a daemon on it has said.
    #[must_use]
    pub fn said(&self, program: &str) -> String {
        std::fs::read_to_string(self.home.join(program).with_extension("log")).unwrap_or_default()
    }

    /// Ends every process on it.
    pub fn end_all(&self) {
        let Ok(output) = Command::new("ip").args(["netns", "pids", &self.namespace]).output() else {
            return;
        };
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        let pids: Vec<&str> = pids.split_whitespace().collect();
        if !pids.is_empty() {
            let _ = Command::new("kill").arg("-KILL").args(pids).output();
        }
    }
}
