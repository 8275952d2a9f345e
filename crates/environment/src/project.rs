//! Projects: `pyproject.toml`, and `uv.lock` beside it.
//!
//! With a lock, the lock is the truth (`uv sync --frozen`): it is installed as it stands, whatever index this node
//! has, and the project itself is not. Without one, the project's dependencies are resolved on the node.
//!
//! Of `pyproject.toml` only the tables that can change what is installed go into the key, so that a new version number
//! or another linter's settings build nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::{Table, Value};

use crate::error::RequirementsError;
use crate::inputs::{Inputs, Local, Origin};
use crate::redact::Redactor;

/// What is in `[project]` that changes what is installed. The name is, because an extra of the project may refer to
/// the project.
const PROJECT_KEYS: [&str; 5] = [
    "name",
    "requires-python",
    "dependencies",
    "optional-dependencies",
    "dynamic",
];

/// A project's meaning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Project {
    /// Its directory, relative to the job's.
    pub(crate) dir: PathBuf,
    /// The tables that matter, in a fixed order.
    pub(crate) canonical: String,
    /// The lock's text.
    pub(crate) lock: Option<String>,
}

/// Reads the `pyproject.toml` at `path` and the lock beside it.
pub(crate) fn read(
    inputs: &mut Inputs,
    path: &Path,
    redactor: &mut Redactor,
) -> Result<Project, RequirementsError> {
    let origin = Origin { path, line: 0 };
    let path = match inputs.locate(Path::new(""), &path.to_string_lossy(), origin)? {
        Local::File(path) => path,
        Local::Directory(path) => path.join("pyproject.toml"),
    };
    let dir = path.parent().unwrap_or(Path::new("")).to_owned();
    let text = inputs.text(&path)?;
    redactor.learn(text);
    let table = parse(text, &path)?;
    let lock_path = dir.join("uv.lock");
    let lock = inputs.optional_text(&lock_path)?.map(str::to_owned);
    match &lock {
        Some(lock) => {
            redactor.learn(lock);
            for archive in local_archives(&parse(lock, &lock_path)?, &lock_path)? {
                let origin = Origin {
                    path: &lock_path,
                    line: 0,
                };
                if let Local::File(archive) = inputs.locate(&dir, &archive, origin)? {
                    inputs.archive(&archive)?;
                }
            }
        }
        None => check_unlocked(&table, &path)?,
    }
    // Settings of uv beside the project; they win over `[tool.uv]`.
    let settings = inputs.optional_text(&dir.join("uv.toml"))?.map(str::to_owned);
    redactor.learn(settings.as_deref().unwrap_or_default());
    Ok(Project {
        dir,
        canonical: canonical(&table) + settings.as_deref().unwrap_or_default(),
        lock,
    })
}

/// What uv takes from beside a requirements file: its settings, which are part of the key.
pub(crate) fn read_settings(
    inputs: &mut Inputs,
    redactor: &mut Redactor,
) -> Result<String, RequirementsError> {
    let mut settings = String::new();
    let path = Path::new("pyproject.toml");
    if let Some(text) = inputs.optional_text(path)? {
        redactor.learn(text);
        if let Some(uv) = parse(text, path)?.get("tool").and_then(|tool| tool.get("uv")) {
            settings = sorted(uv);
        }
    }
    if let Some(text) = inputs.optional_text(Path::new("uv.toml"))? {
        redactor.learn(text);
        settings.push_str(text);
    }
    Ok(settings)
}

/// Whether `text` is a project that names packages.
pub(crate) fn names_packages(text: &str) -> bool {
    text.parse::<Table>().is_ok_and(|table| {
        table
            .get("project")
            .and_then(|project| project.get("dependencies"))
            .is_some_and(Value::is_array)
    })
}

fn parse(text: &str, path: &Path) -> Result<Table, RequirementsError> {
    text.parse().map_err(|source| RequirementsError::NotToml {
        path: path.to_owned(),
        source: Arc::new(source),
    })
}

fn check_unlocked(table: &Table, path: &Path) -> Result<(), RequirementsError> {
    let no = |why| RequirementsError::NotAProject {
        path: path.to_owned(),
        why,
    };
    let Some(project) = table.get("project") else {
        return Err(no(
            "it has no [project] table; add one with `dependencies`, or use a requirements.txt",
        ));
    };
    let dynamic = project.get("dynamic").and_then(Value::as_array);
    if dynamic.is_some_and(|names| names.iter().any(|name| name.as_str() == Some("dependencies"))) {
        return Err(no(
            "its dependencies are dynamic, known only by running its build; run `uv lock` and keep the uv.lock beside it",
        ));
    }
    if !project.get("dependencies").is_some_and(Value::is_array) {
        return Err(no(
            "[project] has no `dependencies`; add them, or use a requirements.txt",
        ));
    }
    let sources = table
        .get("tool")
        .and_then(|tool| tool.get("uv"))
        .and_then(|uv| uv.get("sources"))
        .and_then(Value::as_table);
    for (name, source) in sources.into_iter().flatten() {
        let local = |source: &Value| source.get("path").or_else(|| source.get("workspace")).is_some();
        let is_local = local(source) || source.as_array().is_some_and(|all| all.iter().any(local));
        if is_local {
            return Err(RequirementsError::LocalDirectory {
                path: path.to_owned(),
                line: 0,
                target: name.clone(),
            });
        }
    }
    Ok(())
}

/// The archives of the job that a lock names, which it knows by their hash. A locked package that is a directory of
/// the job, other than the project itself, cannot be kept with the environment.
fn local_archives(lock: &Table, path: &Path) -> Result<Vec<String>, RequirementsError> {
    let mut archives = Vec::new();
    for package in lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let Some(source) = package.get("source") else {
            continue;
        };
        archives.extend(source.get("path").and_then(Value::as_str).map(str::to_owned));
        let directory = ["directory", "editable", "virtual"]
            .iter()
            .find_map(|kind| source.get(kind))
            .and_then(Value::as_str);
        if directory.is_some_and(|target| target != ".") {
            let name = package.get("name").and_then(Value::as_str).unwrap_or_default();
            return Err(RequirementsError::LocalDirectory {
                path: path.to_owned(),
                line: 0,
                target: name.to_owned(),
            });
        }
    }
    Ok(archives)
}

fn canonical(table: &Table) -> String {
    let mut out = String::new();
    let mut add = |name: &str, value: Option<&Value>| {
        if let Some(value) = value {
            out.push_str(&format!("{name} = {}\n", sorted(value)));
        }
    };
    for name in PROJECT_KEYS {
        add(name, table.get("project").and_then(|project| project.get(name)));
    }
    add("build-system", table.get("build-system"));
    add("dependency-groups", table.get("dependency-groups"));
    add("tool.uv", table.get("tool").and_then(|tool| tool.get("uv")));
    out
}

/// TOML with the keys of every table in order, however the parser was built to keep them.
fn sorted(value: &Value) -> String {
    match value {
        Value::Table(table) => {
            let mut pairs: Vec<_> = table.iter().collect();
            pairs.sort_by_key(|(key, _)| *key);
            let pairs: Vec<String> = pairs
                .into_iter()
                .map(|(key, value)| format!("{key:?} = {}", sorted(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(sorted).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_the_packages_counts() {
        let key = |text: &str| canonical(&text.parse().unwrap());
        let base =
            key("[project]\nname='x'\nversion='1'\ndependencies=['six']\n[tool.ruff]\nline-length=80\n");
        assert_eq!(
            base,
            key("[project]\ndependencies=[ 'six' ] # c\nversion='2'\nname='x'\n")
        );
        for other in [
            "[project]\nname='x'\ndependencies=['idna']\n",
            "[project]\nname='x'\ndependencies=['six']\nrequires-python='>=3.12'\n",
            "[project]\nname='x'\ndependencies=['six']\n[tool.uv]\nprerelease='allow'\n",
            "[project]\nname='x'\ndependencies=['six']\n[dependency-groups]\ndev=['idna']\n",
        ] {
            assert_ne!(base, key(other), "{other}");
        }
    }

    #[test]
    fn a_lock_with_another_local_package_is_refused() {
        let lock = |source: &str| {
            let text = format!("version = 1\n[[package]]\nname = 'lib'\nsource = {{ {source} }}\n");
            local_archives(&text.parse().unwrap(), Path::new("uv.lock"))
        };
        assert!(lock("virtual = '.'").is_ok());
        assert!(lock("registry = 'https://index.test/simple'").is_ok());
        let refused = lock("editable = 'packages/lib'").unwrap_err().to_string();
        assert!(refused.contains("\"lib\""), "{refused}");
    }
}
