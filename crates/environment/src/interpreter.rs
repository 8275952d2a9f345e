//! Pythons that are there: finding one, and asking it what it is.
//!
//! The answer is remembered by the file's device, inode, size and time of change, so that asking again costs a stat.
//! A wrapper script (pyenv's shims are such) may mean another Python tomorrow without having changed itself: its
//! answer is remembered for a minute only, and only while the Python that it led to is unchanged too.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::config::{EnvironmentsConfig, is_executable};
use crate::error::InterpreterError;
use crate::process::{self, Answer};

/// How long a Python may take to say its version.
const PROBE_LIMIT: Duration = Duration::from_secs(10);
/// How long the answer of a wrapper script is believed.
const WRAPPER_TTL: Duration = Duration::from_secs(60);
const MARK: &str = "haul-python:";
const PROBE: &str = "\
import json, os, sys, sysconfig
base = getattr(sys, '_base_executable', None) or sys.executable
sys.stdout.write('\\nhaul-python:' + json.dumps({
    'executable': sys.executable,
    'base_executable': os.path.realpath(base),
    'version': '.'.join(map(str, sys.version_info[:3])) + ('' if sys.version_info[3] == 'final' else sys.version_info[3]),
    'implementation': sys.implementation.cache_tag + getattr(sys, 'abiflags', ''),
    'platform': sysconfig.get_platform(),
    'prefix': sys.prefix,
    'base_prefix': sys.base_prefix,
}) + '\\n')
";

/// A Python, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// What to start.
    pub executable: PathBuf,
    /// The executable that a virtual environment made from it would stand on, with no symbolic link in it.
    pub base_executable: PathBuf,
    /// As in `3.11.7`.
    pub version: String,
    /// As in `cpython-311`, with the flags of its ABI.
    pub implementation: String,
    /// As in `linux-x86_64`.
    pub platform: String,
    /// Its `sys.prefix`.
    pub prefix: PathBuf,
    /// Its `sys.base_prefix`; another than `prefix` in a virtual environment.
    pub base_prefix: PathBuf,
}

impl Interpreter {
    /// Whether it belongs to a virtual environment.
    #[must_use]
    pub fn is_virtual(&self) -> bool {
        self.prefix != self.base_prefix
    }

    /// Whether it is of `version`: `3`, `3.11` and `3.11.7` all match 3.11.7.
    pub(crate) fn is_version(&self, version: &str) -> bool {
        self.version
            .strip_prefix(version)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(path: &Path) -> std::io::Result<Self> {
        let meta = path.metadata()?;
        Ok(Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

struct Known {
    stamp: Stamp,
    /// For a wrapper: when it was asked, and the state of the Python that it led to.
    wrapper: Option<(Instant, Stamp)>,
    interpreter: Interpreter,
}

/// What is known of the node's Pythons.
#[derive(Default)]
pub(crate) struct Interpreters {
    known: Mutex<HashMap<PathBuf, Known>>,
    /// One probe at a time: a hundred jobs that start together ask the same question.
    probing: tokio::sync::Mutex<()>,
}

impl Interpreters {
    /// The Python at `name`: a path, or a name on the node's `PATH`.
    pub(crate) async fn named(
        &self,
        config: &EnvironmentsConfig,
        name: &str,
    ) -> Result<(PathBuf, Interpreter), InterpreterError> {
        let path = find(config, name)?;
        let interpreter = self.probe(config, &path).await?;
        Ok((path, interpreter))
    }

    /// The first Python on the node's `PATH` that is of `version`.
    pub(crate) async fn of_version(
        &self,
        config: &EnvironmentsConfig,
        version: &str,
    ) -> Result<Option<Interpreter>, InterpreterError> {
        let minor: Vec<&str> = version.splitn(3, '.').take(2).collect();
        for name in [
            format!("python{}", minor.join(".")),
            "python3".to_owned(),
            "python".to_owned(),
        ] {
            let Some(path) = config.on_path(&name) else {
                continue;
            };
            match self.probe(config, &path).await {
                Ok(found) if found.is_version(version) => return Ok(Some(found)),
                // A shim for a version that is not installed is as good as none.
                Ok(_) | Err(InterpreterError::NotPython { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// What the Python at `path` says of itself.
    pub(crate) async fn probe(
        &self,
        config: &EnvironmentsConfig,
        path: &Path,
    ) -> Result<Interpreter, InterpreterError> {
        if let Some(found) = self.remembered(path) {
            return Ok(found);
        }
        let _turn = self.probing.lock().await;
        if let Some(found) = self.remembered(path) {
            return Ok(found);
        }
        let failed = |source| InterpreterError::Probe {
            path: path.to_owned(),
            source: Arc::new(source),
        };
        // Before the question: a change while it is asked is seen at the next.
        let stamp = Stamp::of(path).map_err(failed)?;
        let wrapper = is_wrapper(path);
        let interpreter = ask(config, path).await?;
        let wrapper = match wrapper {
            true => Some((
                Instant::now(),
                Stamp::of(&interpreter.executable).map_err(failed)?,
            )),
            false => None,
        };
        self.known
            .lock()
            .expect("nothing panics while it is held")
            .insert(
                path.to_owned(),
                Known {
                    stamp,
                    wrapper,
                    interpreter: interpreter.clone(),
                },
            );
        Ok(interpreter)
    }

    fn remembered(&self, path: &Path) -> Option<Interpreter> {
        let stamp = Stamp::of(path).ok()?;
        let known = self.known.lock().expect("nothing panics while it is held");
        let known = known.get(path).filter(|known| known.stamp == stamp)?;
        let fresh = known.wrapper.is_none_or(|(asked, stamp)| {
            asked.elapsed() < WRAPPER_TTL
                && Stamp::of(&known.interpreter.executable).is_ok_and(|now| now == stamp)
        });
        fresh.then(|| known.interpreter.clone())
    }
}

fn find(config: &EnvironmentsConfig, name: &str) -> Result<PathBuf, InterpreterError> {
    let path = match name.strip_prefix("~/") {
        Some(rest) => Path::new(config.var("HOME").unwrap_or(OsStr::new("/"))).join(rest),
        None => PathBuf::from(name),
    };
    let missing = || InterpreterError::NotFound { path: path.clone() };
    if !name.contains('/') {
        return config.on_path(name).ok_or_else(missing);
    }
    // A relative path would mean another file on every node and in every directory.
    if !path.is_absolute() || !path.is_file() {
        return Err(missing());
    }
    if !is_executable(&path) {
        return Err(InterpreterError::NotExecutable { path });
    }
    Ok(path)
}

async fn ask(config: &EnvironmentsConfig, path: &Path) -> Result<Interpreter, InterpreterError> {
    let args: [&OsStr; 4] = ["-I".as_ref(), "-B".as_ref(), "-c".as_ref(), PROBE.as_ref()];
    let env: Vec<(OsString, OsString)> = process::changed(
        &config.node_env,
        ["PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"].map(|name| (name, None)),
    );
    let not_python = |said: String| InterpreterError::NotPython {
        path: path.to_owned(),
        said,
    };
    match process::ask(path, &args, &env, PROBE_LIMIT).await {
        Ok(Answer::Silent) => Err(not_python(format!(
            "it did not answer within {} seconds",
            PROBE_LIMIT.as_secs()
        ))),
        Ok(Answer::Said { code, said }) => {
            let answer = said.lines().find_map(|line| line.strip_prefix(MARK));
            match answer.and_then(|json| serde_json::from_str(json).ok()) {
                Some(interpreter) if code == Some(0) => Ok(interpreter),
                _ => Err(not_python(describe(code, &said))),
            }
        }
        // The kernel knows no such format, or the interpreter in its first line is missing.
        Err(error) if matches!(error.raw_os_error(), Some(8 | 2)) => Err(not_python(error.to_string())),
        Err(source) => Err(InterpreterError::Probe {
            path: path.to_owned(),
            source: Arc::new(source),
        }),
    }
}

fn describe(code: Option<i32>, said: &str) -> String {
    let mut text: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = text.char_indices().nth(200) {
        text.truncate(end);
        text.push('…');
    }
    let how = code.map_or_else(
        || "a signal ended it".to_owned(),
        |code| format!("it ended with exit code {code}"),
    );
    if text.is_empty() {
        format!("{how} and said nothing")
    } else {
        format!("{how} and said: {text}")
    }
}

fn is_wrapper(path: &Path) -> bool {
    let mut start = [0; 2];
    std::fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut start))
        .is_ok_and(|()| &start == b"#!")
}
