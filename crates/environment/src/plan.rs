//! The plan of an environment is data: what it stands on, what goes into its key, and which commands build it.
//!
//! Making a plan reads the job's files and asks the interpreter; carrying it out is [`build`](crate)'s. Nothing in
//! a plan depends on where the environment will be: its own paths are [`Word`]s, filled in when it is built.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use haul_types::{Digest, Requirements};

use crate::config::EnvironmentsConfig;
use crate::error::RequirementsError;
use crate::index::{self, IndexSettings};
use crate::inputs::Inputs;
use crate::interpreter::Interpreter;
use crate::redact::Redactor;
use crate::{project, requirements};

/// Raised whenever the same inputs would build something else; then everything is built anew.
const FORMAT: u32 = 1;

/// Something that decides what the environment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInput {
    /// What it is, as in `requirements`.
    pub name: &'static str,
    /// Its content; never with credentials.
    pub content: String,
}

/// A word of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// As it is.
    Text(OsString),
    /// The environment's directory.
    Prefix,
    /// The environment's Python.
    Python,
}

impl From<&str> for Word {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<&Path> for Word {
    fn from(path: &Path) -> Self {
        Self::Text(path.into())
    }
}

impl Word {
    /// The word, for an environment at `prefix`.
    #[must_use]
    pub fn fill(&self, prefix: &Path) -> OsString {
        match self {
            Self::Text(text) => text.clone(),
            Self::Prefix => prefix.into(),
            Self::Python => prefix.join("bin/python").into(),
        }
    }
}

/// One command of uv's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to call it, as in `uv pip install`.
    pub name: &'static str,
    /// uv's arguments.
    pub args: Vec<Word>,
    /// Variables beside the node's.
    pub env: Vec<(&'static str, Word)>,
    /// Where it runs, relative to the job's directory.
    pub dir: PathBuf,
}

/// How to make an environment, and what it will be known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What it stands on.
    pub interpreter: Interpreter,
    /// For people, as in `Python 3.11.7, requirements.txt`.
    pub description: String,
    /// What decides what it is.
    pub inputs: Vec<KeyInput>,
    /// What makes it, in order.
    pub steps: Vec<Step>,
    /// Variables for every step, taken from pip's settings.
    pub index_env: Vec<(OsString, OsString)>,
}

impl Plan {
    /// What the environment is known by: BLAKE3 over the format and every input, each with its length, so that no two
    /// lists of inputs look alike.
    #[must_use]
    pub fn key(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"haul venv ");
        hasher.update(&FORMAT.to_le_bytes());
        for KeyInput { name, content } in &self.inputs {
            for part in [name.as_bytes(), content.as_bytes()] {
                hasher.update(&(part.len() as u64).to_le_bytes());
                hasher.update(part);
            }
        }
        Digest::from_bytes(*hasher.finalize().as_bytes())
    }

    /// The inputs as they are recorded: short ones in clear, long ones by their digest.
    pub(crate) fn shown_inputs(&self) -> Vec<(String, String)> {
        let show = |content: &str| match content.len() {
            0..=200 => content.to_owned(),
            long => format!("blake3:{} ({long} bytes)", Digest::of(content.as_bytes())),
        };
        self.inputs
            .iter()
            .map(|input| (input.name.to_owned(), show(&input.content)))
            .collect()
    }
}

/// A plan and the files that it was made from.
#[derive(Debug)]
pub(crate) struct Planned {
    pub(crate) plan: Plan,
    pub(crate) inputs: Inputs,
    pub(crate) redactor: Redactor,
}

/// Plans the virtual environment that `wanted` in `source_dir` describes, on `interpreter`.
pub(crate) fn venv(
    config: &EnvironmentsConfig,
    interpreter: Interpreter,
    wanted: &Requirements,
    source_dir: &Path,
) -> Result<Planned, RequirementsError> {
    let mut redactor = Redactor::default();
    let mut inputs = Inputs::new(source_dir)?;
    let index = index::read(config, &interpreter.base_prefix, &mut redactor);
    let mut key = vec![
        interpreter_input(&interpreter),
        KeyInput {
            name: "index",
            content: index.canonical.clone(),
        },
    ];
    let mut steps = vec![create(&interpreter)];
    let path = match wanted {
        Requirements::RequirementsTxt { path } => {
            let var = |name: &str| config.text_var(name).map(str::to_owned);
            let meaning = requirements::read(&mut inputs, Path::new(path), &var, &mut redactor)?;
            let settings = project::read_settings(&mut inputs, &mut redactor)?;
            key.push(KeyInput {
                name: "requirements",
                content: meaning.canonical(),
            });
            key.push(KeyInput {
                name: "settings",
                content: settings,
            });
            steps.push(install(config, path.as_ref(), PathBuf::new()));
            path
        }
        Requirements::Project { path } => {
            let project = project::read(&mut inputs, Path::new(path), &mut redactor)?;
            key.push(KeyInput {
                name: "project",
                content: project.canonical,
            });
            match project.lock {
                Some(lock) => {
                    key.push(KeyInput {
                        name: "lock",
                        content: lock,
                    });
                    steps.push(sync(config, project.dir));
                }
                None => steps.push(install(config, "pyproject.toml".as_ref(), project.dir)),
            }
            path
        }
    };
    key.push(KeyInput {
        name: "bytecode",
        content: config.compile_bytecode.to_string(),
    });
    let description = format!("Python {}, {path}", interpreter.version);
    let IndexSettings {
        env: index_env,
        no_index,
        ..
    } = index;
    if no_index {
        // The first only makes the directory.
        for step in steps.iter_mut().skip(1) {
            step.args.push("--no-index".into());
        }
    }
    Ok(Planned {
        plan: Plan {
            interpreter,
            description,
            inputs: key,
            steps,
            index_env,
        },
        inputs,
        redactor,
    })
}

fn interpreter_input(interpreter: &Interpreter) -> KeyInput {
    KeyInput {
        name: "interpreter",
        content: format!(
            "{} {} {} {}",
            interpreter.base_executable.display(),
            interpreter.version,
            interpreter.implementation,
            interpreter.platform
        ),
    }
}

fn create(interpreter: &Interpreter) -> Step {
    let base: &Path = &interpreter.base_executable;
    Step {
        name: "uv venv",
        args: vec![
            "venv".into(),
            "--no-project".into(),
            // Its name and "Activate with" are of no use in a log.
            "--quiet".into(),
            "--python".into(),
            base.into(),
            Word::Prefix,
        ],
        env: Vec::new(),
        dir: PathBuf::new(),
    }
}

fn install(config: &EnvironmentsConfig, file: &OsStr, dir: PathBuf) -> Step {
    let mut args: Vec<Word> = vec!["pip".into(), "install".into(), "--python".into(), Word::Python];
    args.extend(bytecode(config));
    args.extend(["--requirement".into(), Word::Text(file.to_owned())]);
    Step {
        name: "uv pip install",
        args,
        env: Vec::new(),
        dir,
    }
}

fn sync(config: &EnvironmentsConfig, dir: PathBuf) -> Step {
    let mut args: Vec<Word> = vec!["sync".into(), "--frozen".into(), "--no-install-project".into()];
    args.extend(bytecode(config));
    args.extend(["--python".into(), Word::Python]);
    Step {
        name: "uv sync",
        args,
        env: vec![("UV_PROJECT_ENVIRONMENT", Word::Prefix)],
        dir,
    }
}

fn bytecode(config: &EnvironmentsConfig) -> Option<Word> {
    config.compile_bytecode.then(|| "--compile-bytecode".into())
}
