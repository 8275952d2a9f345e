//! A home of its own for a test: state, cache, socket and project below one temporary directory.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, Role};
use crate::running::{Ended, Running};

/// No command of a test takes longer, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The `haul` that is tested: `HAUL_TEST_BINARY`, or the one that was built beside the test.
#[must_use]
pub fn haul_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("HAUL_TEST_BINARY") {
        return named.into();
    }
    let test = std::env::current_exe().expect("a test knows its own file");
    // target/<profile>/deps/<test>
    let found = test
        .ancestors()
        .nth(2)
        .map(|profile| profile.join("haul"))
        .filter(|haul| haul.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "there is no `haul` beside {}: run `cargo build --bin haul` first, as `cargo xtask test` does",
            test.display()
        )
    })
}

/// A home. Dropping it ends whatever lives in it.
#[derive(Debug)]
pub struct Home {
    root: TempDir,
    variables: Vec<(OsString, OsString)>,
}

impl Default for Home {
    fn default() -> Self {
        Self::new()
    }
}

impl Home {
    /// A home with an empty project, two slots, and daemons that go by themselves soon after the last command.
    #[must_use]
    pub fn new() -> Self {
        // Short, because a socket's path has to be.
        let root = tempfile::Builder::new()
            .prefix("haul-e2e-")
            .tempdir()
            .expect("a temporary directory can be made");
        let home = Self {
            root,
            variables: Vec::new(),
        };
        for dir in ["home", "state", "cache", "run", "project"] {
            let dir = home.path(dir);
            std::fs::create_dir(&dir).expect("a directory can be made");
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))
                .expect("our own directory can be closed");
        }
        let paths = [
            ("HOME", "home"),
            ("XDG_STATE_HOME", "state"),
            ("XDG_CACHE_HOME", "cache"),
            ("XDG_RUNTIME_DIR", "run"),
        ];
        let mut home = paths
            .into_iter()
            .fold(home, |home, (name, dir)| home.at(name, dir));
        home = home.with("HAUL_SLOTS", "2").with("HAUL_IDLE_TIMEOUT", "30s");
        home
    }

    fn at(self, name: &str, dir: &str) -> Self {
        let path = self.path(dir);
        self.with(name, path)
    }

    /// The same home with a variable for all that is started in it.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A path in the home.
    #[must_use]
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.path().join(path)
    }

    /// The project's directory, where commands start.
    #[must_use]
    pub fn project(&self) -> PathBuf {
        self.path("project")
    }

    /// Writes a file of the project.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.project().join(path);
        std::fs::create_dir_all(path.parent().expect("a file has a parent"))
            .expect("a directory can be made");
        std::fs::write(&path, content)
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// Writes a shell script that can be executed.
    pub fn script(&self, path: impl AsRef<Path>, lines: &str) {
        self.write(&path, format!("#!/bin/sh\n{lines}\n"));
        std::fs::set_permissions(self.project().join(path), std::fs::Permissions::from_mode(0o755))
            .expect("our own file can be made executable");
    }

    /// `haul` with these words, about to start in the project.
    #[must_use]
    pub fn haul<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Command {
        let mut inner = std::process::Command::new(haul_binary());
        let ours = std::env::vars_os().map(|(name, _)| name);
        for name in ours.filter(|name| name.to_string_lossy().starts_with("HAUL_")) {
            inner.env_remove(name);
        }
        inner
            .args(words)
            .current_dir(self.project())
            .env_remove("NO_COLOR")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        Command::new(inner, LIMIT)
    }

    /// Runs `haul` with these words to its end.
    #[track_caller]
    pub fn run<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Ended {
        self.haul(words).run()
    }

    /// Runs `haul --json` with these words, which must succeed, and gives its document.
    #[must_use]
    #[track_caller]
    pub fn json<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> Value {
        let first = [OsString::from("--json")].into_iter();
        let words = words.into_iter().map(|word| word.as_ref().to_owned());
        self.run(first.chain(words)).ok().json()
    }

    /// Leaves a job running; its id.
    #[track_caller]
    pub fn detach<W: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = W>) -> String {
        let mut command = self.haul(["run", "--detach"]);
        command.inner.args(words);
        command.run().ok().out().trim_end().to_owned()
    }

    /// How many jobs there are.
    #[must_use]
    #[track_caller]
    pub fn jobs(&self) -> usize {
        self.json(["jobs", "--all"])["jobs"]
            .as_array()
            .expect("jobs are a list")
            .len()
    }

    /// All processes that live here.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        Process::all_below(self.root.path())
    }

    /// Those with this role.
    #[must_use]
    pub fn processes_as(&self, role: Role) -> Vec<Process> {
        let mut all = self.processes();
        all.retain(|process| process.role() == role);
        all
    }

    /// What controller and agent have said.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.path("state/haul/daemon.log")).unwrap_or_default()
    }

    /// Ends everything that lives here.
    pub fn kill_all(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            // Controllers first: what they keep would come back.
            let mut left = self.processes();
            if left.is_empty() || Instant::now() > deadline {
                return;
            }
            left.sort_by_key(|process| match process.role() {
                Role::Controller => 0,
                Role::Agent => 1,
                Role::Supervisor => 2,
                Role::Other => 3,
            });
            for process in left {
                process.signal(crate::Signal::KILL);
                let _ = process.is_gone_within(Duration::from_secs(5));
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.kill_all();
        if std::thread::panicking() {
            let log = self.daemon_log();
            let begin = log.char_indices().rev().nth(6000).map_or(0, |(place, _)| place);
            eprintln!(
                "--- daemon.log of {}\n{}",
                self.root.path().display(),
                &log[begin..]
            );
        }
    }
}

/// `haul`, about to start.
#[derive(Debug)]
pub struct Command {
    inner: std::process::Command,
    limit: Duration,
}

impl Command {
    pub(crate) fn new(mut inner: std::process::Command, limit: Duration) -> Self {
        inner
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { inner, limit }
    }

    /// From another directory, relative to the project.
    #[must_use]
    pub fn from(mut self, dir: impl AsRef<Path>) -> Self {
        let project = self.inner.get_current_dir().expect("it was set").to_owned();
        self.inner.current_dir(project.join(dir));
        self
    }

    /// With one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.inner.env(name, value);
        self
    }

    /// With another limit.
    #[must_use]
    pub const fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// With a standard input.
    #[must_use]
    pub fn from_stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.inner.stdin(stdin);
        self
    }

    /// With another standard output, which is then not read.
    #[must_use]
    pub fn into_stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.inner.stdout(stdout);
        self
    }

    /// By another program that runs the words it is given: `setpriv --reuid 1 --`, say.
    #[must_use]
    pub fn by<W: AsRef<OsStr>>(self, words: impl IntoIterator<Item = W>) -> Self {
        let mut words = words.into_iter();
        let mut outer = std::process::Command::new(words.next().expect("a program is named"));
        outer
            .args(words)
            .arg(self.inner.get_program())
            .args(self.inner.get_args());
        for (name, value) in self.inner.get_envs() {
            match value {
                Some(value) => outer.env(name, value),
                None => outer.env_remove(name),
            };
        }
        if let Some(dir) = self.inner.get_current_dir() {
            outer.current_dir(dir);
        }
        outer
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            inner: outer,
            limit: self.limit,
        }
    }

    /// Starts it.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let words: Vec<_> = self.inner.get_args().map(OsStr::to_string_lossy).collect();
        let what = format!("haul {}", words.join(" "));
        let child = self
            .inner
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        Running::new(child, what, self.limit)
    }

    /// Runs it to its end.
    #[track_caller]
    pub fn run(self) -> Ended {
        self.start().end()
    }
}
