//! What runs: a script of the directory, a program of the directory, or one that the machine has.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use haul_types::JobSpec;

use crate::failure::Failure;

/// What runs. Paths are absolute and real but for the file itself, which may be a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Program {
    /// A script: runs in the directory that it lies in.
    Script {
        /// The file.
        path: PathBuf,
        /// How to start it.
        start: Start,
    },
    /// A program of the directory that is sent: runs where the user stands.
    Inside {
        /// The file.
        path: PathBuf,
    },
    /// A program of the machine: a name on its `PATH`, or an absolute path.
    Elsewhere {
        /// As said.
        word: String,
    },
}

/// How a script is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// By the environment's Python.
    Python,
    /// By itself.
    Itself,
    /// By an interpreter, with its own arguments.
    Interpreter(Vec<String>),
}

impl Start {
    /// The command's first words, for a script of this name in the working directory.
    pub(super) fn words(&self, file: &str) -> Vec<String> {
        // A name alone would be looked for on PATH, and one with a dash be taken for an option.
        let dotted = || format!("./{file}");
        match self {
            Self::Python if file.starts_with('-') => vec![JobSpec::PYTHON.to_owned(), dotted()],
            Self::Python => vec![JobSpec::PYTHON.to_owned(), file.to_owned()],
            Self::Itself => vec![dotted()],
            Self::Interpreter(words) => words.iter().cloned().chain([dotted()]).collect(),
        }
    }
}

impl Program {
    /// The directory that is sent for it unless another is named.
    pub(super) fn home(&self) -> Option<&Path> {
        match self {
            Self::Script { path, .. } => path.parent(),
            Self::Inside { .. } | Self::Elsewhere { .. } => None,
        }
    }

    /// The job's name unless another is given.
    pub(super) fn name(&self) -> String {
        let path = match self {
            Self::Script { path, .. } | Self::Inside { path } => path.as_path(),
            Self::Elsewhere { word } => Path::new(word),
        };
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().chars().take(60).collect()
    }
}

/// What `haul run WORD` means: a script, looked for in the current directory and then in `--dir`. A compiled program
/// outside both, or one from a directory of `PATH`, is a program of the machine.
pub(super) fn script(word: &str, dir: Option<&Path>, cwd: &Path) -> Result<Program, Failure> {
    let mut candidates = vec![cwd.join(word)];
    candidates.extend(dir.map(|dir| dir.join(word)));
    let Some(found) = candidates.iter().find(|path| path.exists()) else {
        return Err(missing(word, cwd));
    };
    let path = real(found)?;
    if path.is_dir() {
        return Err(
            Failure::usage(format!("{word} is a directory, not a script")).help(format!(
                "name a script in it, or a program: haul run --dir {word} -- PROGRAM"
            )),
        );
    }
    let head = head(&path)?;
    let sent = dir.unwrap_or(cwd);
    let is_script = is_python(&path) || is_shell(&path) || head.starts_with(b"#!");
    if !path.starts_with(sent) && is_executable(&path) && (!is_script || is_on_path(&path)) {
        return Ok(Program::Elsewhere { word: text(&path)? });
    }
    let start = if is_python(&path) {
        Start::Python
    } else if is_executable(&path) {
        Start::Itself
    } else {
        start_of(&path, &head)?
    };
    Ok(Program::Script { path, start })
}

/// What `haul run -- WORD` means: a name on the machine's `PATH`, or a file.
pub(super) fn named(word: &str, dir: Option<&Path>, cwd: &Path) -> Result<Program, Failure> {
    if !word.contains('/') {
        return if find_on_path(word).is_some() {
            Ok(Program::Elsewhere {
                word: word.to_owned(),
            })
        } else {
            Err(
                Failure::usage(format!("there is no program {word:?} on the PATH"))
                    .help(format!("write ./{word} for a file of the current directory")),
            )
        };
    }
    let said = cwd.join(word);
    if !said.exists() {
        return Err(missing(word, cwd));
    }
    let path = real(&said)?;
    if path.is_dir() {
        return Err(Failure::usage(format!("{word} is a directory, not a program")));
    }
    if !is_executable(&path) {
        return Err(Failure::usage(format!("{word} cannot be executed")).help(format!(
            "make it executable (chmod +x {word}), or name what runs it: haul run -- python3 {word}"
        )));
    }
    let cwd = real(cwd)?;
    if path.starts_with(dir.unwrap_or(&cwd)) {
        Ok(Program::Inside { path })
    } else {
        Ok(Program::Elsewhere { word: text(&path)? })
    }
}

/// The path to `inner`, from `working_dir`; both are relative to the same directory. Has a slash, so that it is not
/// looked for on `PATH`.
pub(super) fn from_within(working_dir: &Path, inner: &Path) -> PathBuf {
    let shared = working_dir
        .components()
        .zip(inner.components())
        .take_while(|(a, b)| a == b)
        .count();
    let up = working_dir.components().count() - shared;
    let mut path = if up == 0 {
        PathBuf::from(".")
    } else {
        PathBuf::new()
    };
    path.extend(std::iter::repeat_n(Component::ParentDir, up));
    path.extend(inner.components().skip(shared));
    path
}

/// How a file that cannot be executed is started.
fn start_of(path: &Path, head: &[u8]) -> Result<Start, Failure> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        // `env` looks the interpreter up; so does whoever starts the job.
        if words.first().is_some_and(|word| Path::new(word).ends_with("env")) {
            words.remove(0);
            words.retain(|word| word != "-S");
        }
        let name = words
            .first()
            .and_then(|word| Path::new(word).file_name())
            .and_then(|name| name.to_str());
        match name {
            Some(name) if name.starts_with("python") && words.len() == 1 => return Ok(Start::Python),
            Some(_) => return Ok(Start::Interpreter(words)),
            None => {}
        }
    } else if is_shell(path) {
        return Ok(Start::Interpreter(vec!["sh".to_owned()]));
    }
    let shown = path.display();
    Err(Failure::usage(format!(
        "{shown} cannot be executed, and does not say what runs it"
    ))
    .help(format!(
        "make it executable (chmod +x), begin it with #!, or write: haul run -- INTERPRETER {shown}"
    )))
}

fn missing(word: &str, cwd: &Path) -> Failure {
    let failure =
        Failure::usage(format!("there is no file {word}")).at(format!("looked for in {}", cwd.display()));
    if !word.contains('/') && find_on_path(word).is_some() {
        failure.help(format!(
            "to run the program of that name, write: haul run -- {word}"
        ))
    } else {
        failure
    }
}

/// The real path of the directory, with the file's own name: a link is run under its own name.
fn real(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error| Failure::usage(format!("cannot open {}", path.display())).because(&error);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) if !path.is_dir() => Ok(parent.canonicalize().map_err(failed)?.join(name)),
        _ => path.canonicalize().map_err(failed),
    }
}

fn head(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(256).read_to_end(&mut head))
        .map_err(|error| Failure::usage(format!("cannot read {}", path.display())).because(&error))?;
    Ok(head)
}

fn text(path: &Path) -> Result<String, Failure> {
    super::plan::inner_text(path)
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "py")
}

fn is_shell(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "sh")
}

/// Whether it is a file that somebody may execute.
pub(super) fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn path_dirs() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .collect()
}

/// The program of this name on `PATH`.
pub(crate) fn find_on_path(name: &str) -> Option<PathBuf> {
    path_dirs()
        .into_iter()
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path))
}

fn is_on_path(path: &Path) -> bool {
    path.parent().is_some_and(|parent| {
        path_dirs()
            .iter()
            .any(|dir| dir.canonicalize().is_ok_and(|dir| dir == parent))
    })
}
