//! A real `haul-controller`, a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use haul_tests::haul_binary;
use tempfile::TempDir;

use crate::deployment::Deployment;

/// A controller for many machines. Dropping it kills it, and what it keeps goes.
pub struct Controller {
    directory: TempDir,
    token: String,
    running: Child,
}

/// Of this process alone: all of 127/8 is this machine, so that no port has to be guessed to be free.
fn address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    SocketAddr::from((
        Ipv4Addr::new(127, high, low, NEXT.fetch_add(1, Ordering::Relaxed)),
        7979,
    ))
}

fn program() -> PathBuf {
    let program = haul_binary().with_file_name("haul-controller");
    assert!(
        program.is_file(),
        "there is no {}: run `cargo build --bin haul-controller` first, as `cargo xtask test` does",
        program.display()
    );
    program
}

fn state_dir(directory: &Path) -> PathBuf {
    directory.join("controller")
}

fn start(directory: &Path) -> Child {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(directory.join("controller.log"))
        .unwrap();
    Command::new(program())
        .arg("--state-dir")
        .arg(state_dir(directory))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Controller {
    /// Makes one and starts it.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Where it listens is where it is reached: nobody else is to have this port, not even elsewhere.
        let address = address();
        let made = Command::new(program())
            .args(["init", "--address", &address.to_string(), "--state-dir"])
            .arg(state_dir(directory.path()))
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let file = state_dir(directory.path()).join("controller.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}listen = \"{address}\"\n")).unwrap();
        let running = start(directory.path());
        Self {
            token: String::from_utf8(made.stdout).unwrap(),
            directory,
            running,
        }
    }

    /// How it is reached; calls wait until it is there.
    pub fn deployment(&self) -> Deployment {
        Deployment::new(&self.token).unwrap()
    }

    /// A place for files of the test.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills it without a word, and starts it again.
    pub fn kill_and_start(&mut self) {
        self.kill();
        self.running = start(self.directory.path());
    }

    fn kill(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.kill();
    }
}
