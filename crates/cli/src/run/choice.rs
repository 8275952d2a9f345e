//! Which environment the job gets, and whether the Python that was named is one.

use std::error::Error as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use haul_environment::RequirementsError;
use haul_snapshot::scan::ignored_reason;
use haul_types::{EnvironmentSpec, JobSpec, Requirements};

use super::plan::inner_text;
use super::program::{find_on_path, is_executable};
use crate::args::RunArgs;
use crate::failure::Failure;

/// What the one line that every Python understands prints.
const PROOF: &str = "haul-python";

/// Chooses, from what was said or else from what lies beside the script.
pub(super) fn environment(
    args: &RunArgs,
    dir: &Path,
    working_dir: &Path,
    cwd: &Path,
    command: &[String],
) -> Result<EnvironmentSpec, Failure> {
    let python = args.python.as_deref().map(|said| python(said, cwd)).transpose()?;
    let named = match (&args.requirements, &args.project) {
        (Some(file), _) => Some(Requirements::RequirementsTxt {
            path: inside(file, "--requirements", dir, cwd)?,
        }),
        (None, Some(file)) => {
            let file = if cwd.join(file).is_dir() {
                file.join("pyproject.toml")
            } else {
                file.clone()
            };
            Some(Requirements::Project {
                path: inside(&file, "--project", dir, cwd)?,
            })
        }
        (None, None) => None,
    };
    let detected = || {
        // An interpreter named by its path is to be used as it is.
        let wanted = !args.no_env && !matches!(python, Some(Python::Existing(_)));
        wanted.then(|| detect(dir, working_dir)).flatten()
    };
    if let Some(requirements) = named.or_else(detected) {
        let var = |name: &str| std::env::var(name).ok();
        haul_environment::check(&requirements, dir, &var).map_err(|error| unusable(&error))?;
        return Ok(EnvironmentSpec::Venv {
            requirements,
            python: python.map(|python| match python {
                Python::Existing(path) => path,
                Python::Version(version) => version,
            }),
        });
    }
    match python {
        Some(Python::Existing(interpreter)) => Ok(EnvironmentSpec::Python { interpreter }),
        Some(Python::Version(version)) => {
            let name = format!("python{version}");
            if find_on_path(&name).is_none() {
                return Err(Failure::usage(format!("there is no {name} on the PATH")).help(
                    "name an interpreter by its path, or add a requirements.txt to have an environment built",
                ));
            }
            Ok(EnvironmentSpec::Python { interpreter: name })
        }
        None => {
            let needs_python = command.first().is_some_and(|word| word == JobSpec::PYTHON);
            if needs_python && find_on_path("python3").is_none() {
                return Err(
                    Failure::usage("there is no python3 on the PATH").help("name an interpreter by --python")
                );
            }
            Ok(EnvironmentSpec::Node)
        }
    }
}

/// A file that names packages has a mistake.
fn unusable(error: &RequirementsError) -> Failure {
    let failure =
        Failure::usage(error.to_string()).help("correct it, or name another file; --no-env uses none");
    match error.source() {
        Some(source) => source.to_string().lines().fold(failure, Failure::at),
        None => failure,
    }
}

/// A Python, as the user named it.
enum Python {
    /// One that is there: a path, or a name on `PATH`.
    Existing(String),
    /// A version to build on.
    Version(String),
}

fn python(said: &str, cwd: &Path) -> Result<Python, Failure> {
    if said.is_empty() {
        return Err(Failure::usage("--python: the name is empty")
            .help("give the path of a python3 executable, or a version as in 3.11"));
    }
    let is_version = said.starts_with(|c: char| c.is_ascii_digit())
        && said.chars().all(|c| c.is_ascii_digit() || c == '.')
        && !said.ends_with('.');
    if is_version {
        return Ok(Python::Version(said.to_owned()));
    }
    let not_there = || {
        Failure::usage(format!("there is no Python at {said}"))
            .help("give the path of a python3 executable, or a version as in 3.11")
    };
    let path = if said.contains('/') {
        cwd.join(said)
    } else {
        find_on_path(said).ok_or_else(not_there)?
    };
    if !path.is_file() {
        return Err(not_there());
    }
    if !is_executable(&path) {
        return Err(Failure::usage(format!("{} cannot be executed", path.display()))
            .help("chmod +x, or name another"));
    }
    prove(&path)?;
    Ok(Python::Existing(inner_text(&path)?))
}

/// Asks it whether it is one.
fn prove(path: &Path) -> Result<(), Failure> {
    let script = format!("import sys; sys.stdout.write('{PROOF}')");
    let answer = ask(path, &script);
    let not_python = || {
        Failure::usage(format!("{} is not a Python", path.display()))
            .help("give the path of a python3 executable, or a version as in 3.11")
    };
    match answer {
        Ok(answer) if answer.proof => Ok(()),
        Ok(answer) => Err(not_python().at(answer.ended)),
        Err(error) => Err(not_python().because(&error)),
    }
}

/// What something said that may be a Python.
struct Answer {
    proof: bool,
    /// How it ended, with its last words.
    ended: String,
}

/// Longer than every Python's answer, with what a wrapper may say before it.
const LONGEST_ANSWER: u64 = 64 << 10;

/// Runs it. What talks without end is no Python, and must not fill the memory either: it writes to a closed pipe then.
fn ask(path: &Path, script: &str) -> std::io::Result<Answer> {
    let mut child = Command::new(path)
        .args(["-I", "-S", "-B", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (said, complaint) = std::thread::scope(|scope| {
        let complaint = scope.spawn(|| beginning(stderr));
        (beginning(stdout), complaint.join().unwrap_or_default())
    });
    if [&said, &complaint]
        .iter()
        .any(|text| text.len() as u64 == LONGEST_ANSWER)
    {
        child.kill()?;
    }
    let status = child.wait()?;
    let complaint = String::from_utf8_lossy(&complaint);
    let last = complaint.lines().last().unwrap_or_default().trim();
    Ok(Answer {
        proof: status.success() && said.ends_with(PROOF.as_bytes()),
        ended: format!(
            "it ended with {status}{}{last}",
            if last.is_empty() { "" } else { ": " }
        ),
    })
}

/// Reads and closes it. What cannot be read proves nothing, like silence.
fn beginning(pipe: Option<impl Read>) -> Vec<u8> {
    let mut text = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(LONGEST_ANSWER).read_to_end(&mut text);
    }
    text
}

/// A file that was named, relative to the directory that is sent.
fn inside(file: &Path, option: &str, dir: &Path, cwd: &Path) -> Result<String, Failure> {
    let said = cwd.join(file);
    let real = said.canonicalize().map_err(|error| {
        Failure::usage(format!("{option}: cannot open {}", file.display())).because(&error)
    })?;
    if !real.is_file() {
        return Err(Failure::usage(format!(
            "{option}: {} is not a file",
            file.display()
        )));
    }
    let inner = real.strip_prefix(dir).map_err(|_| {
        Failure::usage(format!(
            "{option}: {} is not in the directory that is sent",
            file.display()
        ))
        .at(format!("the directory is {}", dir.display()))
        .help("move it there, or choose another directory by --dir")
    })?;
    if let Ok(Some(rule)) = ignored_reason(dir, inner) {
        return Err(
            Failure::usage(format!("{option}: {} is not sent", file.display()))
                .at(format!("it is left out by {rule}"))
                .help("change that rule, or name another file"),
        );
    }
    inner_text(inner)
}

/// What lies beside the script, or at the directory's root.
fn detect(dir: &Path, working_dir: &Path) -> Option<Requirements> {
    let places = [working_dir, Path::new("")];
    let places = if working_dir.as_os_str().is_empty() {
        &places[1..]
    } else {
        &places[..]
    };
    places.iter().find_map(|place| {
        let found = haul_environment::detect(&dir.join(place))?;
        let below = |path: &str| {
            let inner: PathBuf = place.join(path);
            // What is left out is not there for the job.
            let sent = matches!(ignored_reason(dir, &inner), Ok(None));
            sent.then(|| inner.to_str().map(str::to_owned)).flatten()
        };
        match found {
            Requirements::RequirementsTxt { path } => {
                below(&path).map(|path| Requirements::RequirementsTxt { path })
            }
            Requirements::Project { path } => below(&path).map(|path| Requirements::Project { path }),
        }
    })
}
