//! Machines of a test: network namespaces on two switches, each with names and addresses of its own.
//!
//! ```text
//!   outer, 10.77.0.0/24                      inner, 10.78.0.0/24
//!   hub 10.77.0.1   laptop 10.77.0.2  …  proxy 10.77.0.4 ╪ 10.78.0.4   far-box 10.78.0.5
//!    └───────────────────┴────────────────────┘          └───────────────────┘
//! ```
//!
//! Nothing of it is connected to the machine's own network, and no machine forwards packets. A machine has its own
//! host name, `/etc/hosts` (all machines, by `name` and `name.example.org`), `/var/lib` and home; otherwise it shares
//! this machine's files, processes and users. Needs root, iproute2 and util-linux.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::Process;
use crate::{Command, Signal, haul_binary};

/// Where a machine is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// At the switch that most are at.
    Outer,
    /// At the other one.
    Inner,
    /// At both.
    Both,
}

/// Two switches and what is plugged into them. Dropping it ends every process on the machines.
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
    home: PathBuf,
    variables: Vec<(OsString, OsString)>,
}

/// No command on a machine takes longer, even while others use the real one.
const LIMIT: Duration = Duration::from_secs(60);

/// Gives a namespace what a machine has of its own, and becomes the program.
const SETTLE: &str = "\
    set -e; echo \"$0\" > /proc/sys/kernel/hostname
    mount --bind \"$HOME/.machine/hosts\" /etc/hosts; mount --bind \"$HOME/.machine/lib\" /var/lib
    exec \"$@\"";

fn ip(words: &[&str]) -> Result<(), String> {
    let output = std::process::Command::new("ip").args(words).output();
    let output = output.map_err(|error| format!("ip of iproute2 cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", words.join(" "), said.trim()))
}

impl Network {
    /// A network of these machines. An error is why there cannot be one here.
    pub fn new(machines: &[(&str, Side)]) -> Result<Self, String> {
        // Names of namespaces are the real machine's; tests run in processes of their own, or not.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = tempfile::Builder::new()
            .prefix("haul-net-")
            .tempdir()
            .expect("a temporary directory can be made");
        let mut network = Self {
            name: format!("haul-{}-{number}", std::process::id()),
            root,
            machines: Vec::new(),
        };
        ip(&["netns", "add", &network.name])?;
        for switch in ["outer", "inner"] {
            ip(&["-n", &network.name, "link", "add", switch, "type", "bridge"])?;
            ip(&["-n", &network.name, "link", "set", switch, "up"])?;
        }
        let hosts = hosts(machines);
        for (place, (name, side)) in (1..).zip(machines) {
            network.plug_in(place, name, *side, &hosts)?;
        }
        Ok(network)
    }

    fn plug_in(&mut self, place: u8, name: &str, side: Side, hosts: &str) -> Result<(), String> {
        let namespace = format!("{}-{place}", self.name);
        let home = self.root.path().join(name);
        std::fs::create_dir_all(home.join(".machine/lib")).expect("a directory can be made");
        std::fs::write(home.join(".machine/hosts"), hosts).expect("a file can be written");
        ip(&["netns", "add", &namespace])?;
        self.machines.push(Machine {
            namespace: namespace.clone(),
            name: name.to_owned(),
            home,
            variables: Vec::new(),
        });
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        for switch in [Side::Outer, Side::Inner] {
            if side != switch && side != Side::Both {
                continue;
            }
            let (port, interface) = (format!("{}{place}", switch.name()), switch.name());
            ip(&[
                "-n", &self.name, "link", "add", &port, "type", "veth", "peer", "name", interface, "netns",
                &namespace,
            ])?;
            ip(&[
                "-n",
                &self.name,
                "link",
                "set",
                &port,
                "master",
                switch.name(),
                "up",
            ])?;
            let address = format!("{}/24", switch.address(place));
            ip(&["-n", &namespace, "addr", "add", &address, "dev", interface])?;
            ip(&["-n", &namespace, "link", "set", interface, "up"])?;
        }
        Ok(())
    }

    /// The machine of this name.
    #[must_use]
    #[track_caller]
    pub fn machine(&self, name: &str) -> &Machine {
        let found = self.machines.iter().find(|machine| machine.name == name);
        found.unwrap_or_else(|| panic!("there is no machine {name}"))
    }

    /// Sets a variable for all that will be started on a machine.
    #[track_caller]
    pub fn set(&mut self, machine: &str, variable: &str, value: impl AsRef<OsStr>) {
        let found = self.machines.iter_mut().find(|it| it.name == machine);
        let found = found.unwrap_or_else(|| panic!("there is no machine {machine}"));
        let value = value.as_ref().to_owned();
        found.variables.push((variable.into(), value));
    }

    /// Pulls a machine's cable, or plugs it in again.
    #[track_caller]
    pub fn set_connected(&self, name: &str, connected: bool) {
        let machine = self.machine(name);
        let state = if connected { "up" } else { "down" };
        ip(&["-n", &machine.namespace, "link", "set", Side::Outer.name(), state])
            .expect("it is plugged in there");
    }
}

/// The file that tells all machines of each other.
fn hosts(machines: &[(&str, Side)]) -> String {
    let mut hosts = "127.0.0.1 localhost\n".to_owned();
    for (place, (name, side)) in (1..).zip(machines) {
        for switch in [Side::Outer, Side::Inner] {
            if *side == switch || *side == Side::Both {
                let address = switch.address(place);
                writeln!(hosts, "{address} {name} {name}.example.org").expect("a text takes more");
            }
        }
    }
    hosts
}

impl Side {
    const fn name(self) -> &'static str {
        match self {
            Self::Outer | Self::Both => "outer",
            Self::Inner => "inner",
        }
    }

    const fn address(self, place: u8) -> Ipv4Addr {
        match self {
            Self::Outer | Self::Both => Ipv4Addr::new(10, 77, 0, place),
            Self::Inner => Ipv4Addr::new(10, 78, 0, place),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for machine in &self.machines {
            machine.end_all();
            let _ = ip(&["netns", "del", &machine.namespace]);
        }
        let _ = ip(&["netns", "del", &self.name]);
    }
}

impl Machine {
    /// A path in its home.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.home.join(path)
    }

    /// A program about to start in its home, with nothing of this process's environment but the `PATH`, where the
    /// binaries that are tested come first.
    #[must_use]
    pub fn command<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut path = OsString::from(haul_binary().parent().expect("a file is in a directory"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut command = std::process::Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.namespace))
            .args(["unshare", "--uts", "--mount", "sh", "-c", SETTLE, &self.name])
            .args(words)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.home)
            .env("LANG", "C.UTF-8")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        Command::new(command, LIMIT)
    }

    /// Ends every process on it.
    pub fn end_all(&self) {
        let Ok(output) = std::process::Command::new("ip")
            .args(["netns", "pids", &self.namespace])
            .output()
        else {
            return;
        };
        let pids = String::from_utf8_lossy(&output.stdout).into_owned();
        let processes: Vec<Process> = pids
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .map(|pid| Process {
                pid,
                words: String::new(),
            })
            .collect();
        for process in &processes {
            process.signal(Signal::KILL);
        }
        for process in &processes {
            let _ = process.is_gone_within(Duration::from_secs(5));
        }
    }
}
