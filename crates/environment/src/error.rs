//! Why an environment is not to be had: one enum for the whole of `ensure`, and one for each of its steps.
//!
//! All of them are `Clone`, because everyone who waited for a build is told of its failure.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use haul_types::Digest;

/// Why [`Environments::ensure`](crate::Environments::ensure) gave no environment.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// No interpreter.
    #[error(transparent)]
    Interpreter(#[from] InterpreterError),
    /// The files that name the packages cannot be used.
    #[error(transparent)]
    Requirements(#[from] RequirementsError),
    /// No uv to build with.
    #[error(transparent)]
    Uv(#[from] UvError),
    /// A tool ran and said no. Nothing is kept; the next ask builds again.
    #[error("building {description} failed: {step} ended with {}\n{said}", ended(*exit_code))]
    BuildFailed {
        /// What was built.
        description: String,
        /// The step, as in `uv pip install`.
        step: String,
        /// Its exit code; none when a signal ended it.
        exit_code: Option<i32>,
        /// Its own last lines.
        said: String,
    },
    /// A tool could not be started or listened to.
    #[error("{program} could not be run")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// Something on the disk.
    #[error("{attempted} {}", path.display())]
    Disk {
        /// What was attempted, as in `cannot write`.
        attempted: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The caller canceled.
    #[error("the environment was not waited for: canceled")]
    Canceled,
    /// The environment was removed again and again while it was asked for.
    #[error(
        "environment {key} was removed as soon as it was built, {attempts} times; is the disk budget too small?"
    )]
    Vanished {
        /// Which.
        key: Digest,
        /// How often.
        attempts: u32,
    },
    /// The task that built it panicked; a fault of Haul.
    #[error("the build of environment {key} ended without a result; this is a fault of Haul's")]
    Lost {
        /// Which.
        key: Digest,
    },
}

impl EnvironmentError {
    /// For `map_err` on a file operation.
    pub(crate) fn disk(attempted: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk {
            attempted,
            path,
            source: Arc::new(source),
        }
    }
}

fn ended(code: Option<i32>) -> String {
    code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"))
}

/// Why a Python cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum InterpreterError {
    /// There is no such file.
    #[error("there is no Python at {} on this node; give the path of one that is there, or a name on its PATH", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// It is there, but may not be executed.
    #[error("{} is there but cannot be executed; check its permissions (chmod +x) or give another Python", path.display())]
    NotExecutable {
        /// Which file.
        path: PathBuf,
    },
    /// It is no Python, or one that does not work.
    #[error("{} does not behave as a Python: {said}; give the path of a python3 executable", path.display())]
    NotPython {
        /// Which program.
        path: PathBuf,
        /// What it did instead.
        said: String,
    },
    /// No interpreter of the version that was asked for.
    #[error(
        "no Python {version} was found on this node: {said}; install it (`uv python install {version}`), or ask for another"
    )]
    NoSuchVersion {
        /// The version.
        version: String,
        /// What the search said.
        said: String,
    },
    /// The probe could not be started.
    #[error("{} could not be asked for its version", path.display())]
    Probe {
        /// Which program.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
}

/// Why the files that name packages cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequirementsError {
    /// A file cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which, relative to the job's directory.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// A file is no UTF-8.
    #[error("{} is not UTF-8 text", path.display())]
    NotText {
        /// Which.
        path: PathBuf,
    },
    /// A path that leads out of the job's directory.
    #[error("{}:{line}: {target:?} is outside the job's directory, and would not be there on another node; copy it into the directory", path.display())]
    Outside {
        /// The file that names it.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What it names.
        target: String,
    },
    /// Files that include one another.
    #[error("{}:{line}: {target:?} includes itself", path.display())]
    Cycle {
        /// The file that names it.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What it names.
        target: String,
    },
    /// An include by URL.
    #[error("{}:{line}: {target:?} is fetched from elsewhere, so its content cannot be known beforehand; copy it into the directory", path.display())]
    RemoteInclude {
        /// The file that names it.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// What it names.
        target: String,
    },
    /// A directory as a requirement.
    #[error(
        "{}:{line}: {target:?} would install a directory of the job itself, which is not kept with the environment; remove the line and put the code on the script's path (PYTHONPATH), or build a wheel and name that", path.display()
    )]
    LocalDirectory {
        /// The file that names it.
        path: PathBuf,
        /// Where in it; 0 when the file has no such notion.
        line: usize,
        /// What it names.
        target: String,
    },
    /// The line ends where something was expected.
    #[error("{}:{line}: {option} needs a value", path.display())]
    NoValue {
        /// The file.
        path: PathBuf,
        /// Where in it.
        line: usize,
        /// The option.
        option: String,
    },
    /// Not TOML.
    #[error("{} is not valid TOML", path.display())]
    NotToml {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Arc<toml::de::Error>,
    },
    /// A project without dependencies that could be read.
    #[error("{} says no packages: {why}", path.display())]
    NotAProject {
        /// Which.
        path: PathBuf,
        /// What is missing and what to do.
        why: &'static str,
    },
    /// More than a requirements file ever has.
    #[error("{} is larger than {limit} bytes; that is no requirements file", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

/// Why there is no uv.
#[derive(Clone, Debug, thiserror::Error)]
pub enum UvError {
    /// The one that was named does not work.
    #[error("{} was named by {by} but cannot be used: {said}; correct it, or remove the setting to have uv found or fetched", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Who named it.
        by: &'static str,
        /// What it did.
        said: String,
    },
    /// None is there and none could be fetched.
    #[error(
        "uv is not on this node and could not be fetched ({tried}); install it with `python3 -m pip install uv`, put it on the agent's PATH, or name it by HAUL_UV=/path/to/uv"
    )]
    Unavailable {
        /// What was tried and what came of it.
        tried: String,
    },
}
