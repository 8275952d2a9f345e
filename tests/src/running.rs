//! A `haul` that runs: what it says is read as it comes, and every wait has a limit.

use std::io::Read;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Signal;
use crate::process::Process;

/// What a pipe has brought so far, and whether it is closed.
#[derive(Debug, Default)]
struct Pipe {
    bytes: Vec<u8>,
    closed: bool,
}

type Pipes = Arc<(Mutex<[Pipe; 2]>, Condvar)>;

/// A `haul` that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    limit: Duration,
    pipes: Pipes,
    readers: Vec<JoinHandle<()>>,
}

/// How a `haul` ended, and what it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The command, for messages.
    pub what: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Running {
    pub(crate) fn new(mut child: Child, what: String, limit: Duration) -> Self {
        let pipes = Pipes::default();
        let mut readers = Vec::new();
        if let Some(out) = child.stdout.take() {
            readers.push(read(out, 0, Arc::clone(&pipes)));
        } else {
            lock(&pipes)[0].closed = true;
        }
        if let Some(err) = child.stderr.take() {
            readers.push(read(err, 1, Arc::clone(&pipes)));
        } else {
            lock(&pipes)[1].closed = true;
        }
        Self {
            child,
            what,
            limit,
            pipes,
            readers,
        }
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> Process {
        Process {
            pid: i32::try_from(self.child.id()).expect("process ids are small"),
            words: self.what.clone(),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process().signal(signal);
    }

    /// Waits until standard output holds `text`.
    pub fn wait_for_stdout(&self, text: &str) {
        self.wait_for(0, text);
    }

    /// Waits until standard error holds `text`.
    pub fn wait_for_stderr(&self, text: &str) {
        self.wait_for(1, text);
    }

    fn wait_for(&self, pipe: usize, text: &str) {
        let holds = |pipes: &[Pipe; 2]| {
            pipes[pipe]
                .bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        let over = |pipes: &[Pipe; 2]| holds(pipes) || pipes[pipe].closed;
        self.wait_until(&format!("says {text:?}"), over);
        let pipes = lock(&self.pipes);
        assert!(
            holds(&pipes),
            "{} ended without {text:?}\n{}",
            self.what,
            shown(&pipes[0].bytes, &pipes[1].bytes)
        );
    }

    fn wait_until(&self, what: &str, done: impl Fn(&[Pipe; 2]) -> bool) {
        let pipes = lock(&self.pipes);
        let (pipes, waited) = self
            .pipes
            .1
            .wait_timeout_while(pipes, self.limit, |pipes| !done(pipes))
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let text = shown(&pipes[0].bytes, &pipes[1].bytes);
            drop(pipes);
            self.signal(Signal::KILL);
            panic!("{}: within {:?} it never {what}\n{text}", self.what, self.limit);
        }
    }

    /// Waits for its end.
    #[must_use]
    pub fn end(mut self) -> Ended {
        let start = Instant::now();
        if !self.process().is_gone_within(self.limit) {
            let text = {
                let pipes = lock(&self.pipes);
                shown(&pipes[0].bytes, &pipes[1].bytes)
            };
            self.signal(Signal::KILL);
            panic!("{} did not end within {:?}\n{text}", self.what, self.limit);
        }
        let status = self.child.wait().expect("a child can be waited for");
        // Nobody else may hold these pipes: a daemon that did would let scripts that read them hang.
        self.wait_until("lets go of its pipes", |pipes| {
            pipes.iter().all(|pipe| pipe.closed)
        });
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        let mut pipes = lock(&self.pipes);
        Ended {
            what: std::mem::take(&mut self.what),
            status,
            stdout: std::mem::take(&mut pipes[0].bytes),
            stderr: std::mem::take(&mut pipes[1].bytes),
            took: start.elapsed(),
        }
    }
}

fn lock(pipes: &Pipes) -> std::sync::MutexGuard<'_, [Pipe; 2]> {
    pipes.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(mut from: impl Read + Send + 'static, place: usize, pipes: Pipes) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let mut both = lock(&pipes);
            both[place].bytes.extend_from_slice(&buffer[..length]);
            both[place].closed = length == 0;
            drop(both);
            pipes.1.notify_all();
            if length == 0 {
                return;
            }
        }
    })
}

/// The beginnings of both streams, for messages.
fn shown(stdout: &[u8], stderr: &[u8]) -> String {
    const MOST: usize = 4000;
    let cut = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).into_owned();
    format!("--- stdout\n{}\n--- stderr\n{}", cut(stdout), cut(stderr))
}

impl Ended {
    /// Its exit code, as a shell gives it.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Standard output as text.
    #[must_use]
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Standard error as text.
    #[must_use]
    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// Insists on an exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "{}\n{}",
            self.what,
            shown(&self.stdout, &self.stderr)
        );
        self
    }

    /// Insists that it went well.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.expect_code(0)
    }

    /// Standard output as one JSON document.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap_or_else(|error| {
            panic!(
                "{} printed no JSON: {error}\n{}",
                self.what,
                shown(&self.stdout, &self.stderr)
            )
        })
    }

    /// Standard output as a JSON document a line.
    #[must_use]
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let line = |line: &str| {
            serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("{}: {line:?} is no JSON: {error}", self.what))
        };
        self.out().lines().map(line).collect()
    }
}
