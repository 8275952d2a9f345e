//! Finds uv, or fetches it.
//!
//! In this order: the configuration, `$HAUL_UV`, `PATH`, `~/.local/bin`, `~/.cargo/bin`, one that was fetched before.
//! One that was named must work; one that was merely found and is too old or broken is passed over. If there is none,
//! the node's own pip fetches it, by the indexes that the node is set up for, into the cache; another process that
//! wants the same waits on a lock and finds it done.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::{EnvironmentsConfig, is_executable};
use crate::entry::Layout;
use crate::error::{EnvironmentError, UvError};
use crate::interpreter::Stamp;
use crate::lock;
use crate::process::{self, Answer, Ended, Tool};
use crate::redact::Redactor;

/// The oldest that has every flag used here: `UV_DEFAULT_INDEX` came in 0.4.23.
const OLDEST: [u32; 3] = [0, 5, 0];
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// A uv that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uv {
    /// Where.
    pub path: PathBuf,
    /// As in `0.5.1`.
    pub version: String,
    /// How it was found.
    pub origin: UvOrigin,
}

/// How a uv was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UvOrigin {
    /// The configuration names it.
    Configured,
    /// `HAUL_UV` names it.
    Variable,
    /// It is on `PATH` or in a usual place below `HOME`.
    Found,
    /// It was fetched into the cache.
    Fetched,
}

/// Hears a line of a tool's output.
pub(crate) type Said<'a> = &'a (dyn Fn(&[u8]) + Sync);

/// What is known of the node's uv.
#[derive(Default)]
pub(crate) struct Uvs {
    versions: Mutex<HashMap<PathBuf, (Stamp, String)>>,
    fetching: tokio::sync::Mutex<()>,
}

impl Uvs {
    /// A uv that is there.
    pub(crate) async fn find(
        &self,
        config: &EnvironmentsConfig,
        layout: &Layout,
    ) -> Result<Option<Uv>, UvError> {
        let variable = config.var("HAUL_UV").map(PathBuf::from);
        let named = [
            (config.uv.clone(), UvOrigin::Configured, "the configuration"),
            (variable, UvOrigin::Variable, "HAUL_UV"),
        ];
        for (path, origin, by) in named {
            let Some(path) = path else { continue };
            let version = self
                .version(config, &path)
                .await
                .map_err(|said| UvError::Unusable {
                    path: path.clone(),
                    by,
                    said,
                })?;
            return Ok(Some(Uv {
                path,
                version,
                origin,
            }));
        }
        let home = config.var("HOME").map(PathBuf::from);
        let at_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        let usual = [
            config.on_path("uv"),
            at_home(".local/bin/uv"),
            at_home(".cargo/bin/uv"),
        ];
        let found = usual.into_iter().flatten().map(|path| (path, UvOrigin::Found));
        let fetched = fetched(layout).into_iter().map(|path| (path, UvOrigin::Fetched));
        for (path, origin) in found.chain(fetched) {
            if !is_executable(&path) {
                continue;
            }
            match self.version(config, &path).await {
                Ok(version) => {
                    return Ok(Some(Uv {
                        path,
                        version,
                        origin,
                    }));
                }
                Err(said) => tracing::debug!(uv = %path.display(), said, "a uv was passed over"),
            }
        }
        Ok(None)
    }

    /// A uv that is there, or is by now.
    pub(crate) async fn ensure(
        &self,
        config: &EnvironmentsConfig,
        layout: &Layout,
        said: Said<'_>,
        cancel: &CancellationToken,
    ) -> Result<Uv, EnvironmentError> {
        if let Some(uv) = self.find(config, layout).await? {
            return Ok(uv);
        }
        let _turn = self.fetching.lock().await;
        let path = layout.locks().join("uv");
        let lock = lock::exclusive(&path)
            .await
            .map_err(EnvironmentError::disk("cannot lock", &path))?;
        if let Some(uv) = self.find(config, layout).await? {
            return Ok(uv);
        }
        said(b"uv is not on this node; fetching it with pip\n");
        let fetch = Fetch {
            config,
            layout,
            lock: &lock,
            said,
            cancel,
        };
        let tried = fetch.run().await?;
        self.find(config, layout)
            .await?
            .ok_or_else(|| UvError::Unavailable { tried }.into())
    }

    /// The version of the uv at `path`, or what is wrong with it.
    async fn version(&self, config: &EnvironmentsConfig, path: &Path) -> Result<String, String> {
        let stamp = Stamp::of(path).map_err(|error| error.to_string())?;
        let known = |versions: &HashMap<PathBuf, (Stamp, String)>| {
            versions
                .get(path)
                .filter(|(then, _)| *then == stamp)
                .map(|(_, version)| version.clone())
        };
        if let Some(version) = known(&self.versions.lock().expect("nothing panics while it is held")) {
            return Ok(version);
        }
        let answer = process::ask(path, &[OsStr::new("--version")], &config.node_env, PROBE_LIMIT).await;
        let version = match answer.map_err(|error| error.to_string())? {
            Answer::Silent => {
                return Err(format!(
                    "it did not answer within {} seconds",
                    PROBE_LIMIT.as_secs()
                ));
            }
            Answer::Said { code: Some(0), said } => parse_version(&said)?,
            Answer::Said { said, .. } => return Err(format!("it failed and said {:?}", said.trim())),
        };
        self.versions
            .lock()
            .expect("nothing panics while it is held")
            .insert(path.to_owned(), (stamp, version.clone()));
        Ok(version)
    }
}

fn parse_version(said: &str) -> Result<String, String> {
    let odd = || format!("it is no uv; it said {:?}", said.trim());
    let version = said.trim().strip_prefix("uv ").ok_or_else(odd)?;
    let version = version.split(' ').next().unwrap_or(version);
    let numbers: Vec<u32> = version
        .split(['.', '-', '+'])
        .map_while(|part| part.parse().ok())
        .collect();
    if numbers.len() < 3 {
        return Err(odd());
    }
    if numbers[..3] < OLDEST[..] {
        let [major, minor, patch] = OLDEST;
        return Err(format!("it is uv {version}, older than {major}.{minor}.{patch}"));
    }
    Ok(version.to_owned())
}

/// The uvs in the cache, the newest first by name.
fn fetched(layout: &Layout) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(layout.tools())
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("uv-"))
        })
        .map(|path| path.join("bin/uv"))
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found
}

/// One fetch, under the lock.
struct Fetch<'a> {
    config: &'a EnvironmentsConfig,
    layout: &'a Layout,
    lock: &'a fs::File,
    said: Said<'a>,
    cancel: &'a CancellationToken,
}

impl Fetch<'_> {
    /// Tries every pip that there may be until one works. What came of those that did not.
    async fn run(&self) -> Result<String, EnvironmentError> {
        let tools = self.layout.tools();
        let (target, throwaway) = (tools.join("new"), tools.join("pip"));
        let clear = || remove(&target).and_then(|()| remove(&throwaway));
        let disk = || EnvironmentError::disk("cannot write", &tools);
        let mut tried = Vec::new();
        clear().map_err(disk())?;
        for python in ["python3", "python"]
            .iter()
            .filter_map(|name| self.config.on_path(name))
        {
            if self.pip(&python, &["-m", "pip"], &target, &mut tried).await? {
                self.keep(&target).map_err(disk())?;
                return Ok(String::new());
            }
            // Its pip is missing or broken; a virtual environment brings one along, and is thrown away after.
            let venv = [
                "-m".into(),
                "venv".into(),
                "--clear".into(),
                process::arg(&throwaway),
            ];
            let made = self.tool(&python, &venv, &mut tried).await?;
            let own = throwaway.join("bin/python");
            if made && self.pip(&own, &["-m", "pip"], &target, &mut tried).await? {
                self.keep(&target).map_err(disk())?;
                clear().map_err(disk())?;
                return Ok(String::new());
            }
        }
        for pip in ["pip3", "pip"]
            .iter()
            .filter_map(|name| self.config.on_path(name))
        {
            if self.pip(&pip, &[], &target, &mut tried).await? {
                self.keep(&target).map_err(disk())?;
                return Ok(String::new());
            }
        }
        clear().map_err(disk())?;
        if tried.is_empty() {
            tried.push("there is neither python3 nor pip on the PATH".to_owned());
        }
        Ok(tried.join("; "))
    }

    async fn pip(
        &self,
        program: &Path,
        start: &[&str],
        target: &Path,
        tried: &mut Vec<String>,
    ) -> Result<bool, EnvironmentError> {
        let [major, minor, patch] = OLDEST;
        let mut args: Vec<OsString> = start.iter().map(Into::into).collect();
        args.extend(
            [
                "install",
                "--no-input",
                "--disable-pip-version-check",
                "--progress-bar=off",
                "--no-deps",
                "--only-binary=:all:",
                "--target",
            ]
            .map(OsString::from),
        );
        args.push(process::arg(target));
        args.push(format!("uv>={major}.{minor}.{patch}").into());
        self.tool(program, &args, tried).await
    }

    /// Whether it went well; if not, `tried` says more.
    async fn tool(
        &self,
        program: &Path,
        args: &[OsString],
        tried: &mut Vec<String>,
    ) -> Result<bool, EnvironmentError> {
        let mut redactor = Redactor::default();
        for (_, value) in &self.config.node_env {
            redactor.learn(&value.to_string_lossy());
        }
        let env = process::changed(
            &self.config.node_env,
            [
                ("PIP_TARGET", None),
                ("PIP_USER", None),
                ("PIP_REQUIRE_VIRTUALENV", None),
                ("PIP_ROOT_USER_ACTION", Some("ignore".into())),
            ],
        );
        let tool = Tool {
            program,
            args,
            env: &env,
            cwd: self.layout.root(),
            hold: Some(self.lock),
        };
        let said = |line: &[u8]| (self.said)(redactor.redact(&String::from_utf8_lossy(line)).as_bytes());
        match process::run(&tool, &said, self.cancel).await {
            Ok(Ended::Exit { code: Some(0), .. }) => Ok(true),
            Ok(Ended::Exit { tail, .. }) => {
                let last = redactor
                    .redact(tail.lines().last().unwrap_or("it said nothing"))
                    .into_owned();
                tried.push(format!("{}: {last}", program.display()));
                Ok(false)
            }
            Ok(Ended::Canceled) => Err(EnvironmentError::Canceled),
            Err(source) => Err(EnvironmentError::Run {
                program: program.display().to_string(),
                source: Arc::new(source),
            }),
        }
    }

    /// Gives what pip wrote its name, at once and whole.
    fn keep(&self, target: &Path) -> io::Result<()> {
        let version = fs::read_dir(target)?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find_map(|name| Some(name.strip_prefix("uv-")?.strip_suffix(".dist-info")?.to_owned()))
            .ok_or_else(|| io::Error::other("pip installed no uv"))?;
        let kept = self.layout.tools().join(format!("uv-{version}"));
        remove(&kept)?;
        fs::rename(target, kept)
    }
}

fn remove(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_old_ones_refused() {
        assert_eq!(
            parse_version("uv 0.13.9 (x86_64-unknown-linux-gnu)\n").unwrap(),
            "0.13.9"
        );
        assert_eq!(parse_version("uv 1.0.0-rc.1\n").unwrap(), "1.0.0-rc.1");
        assert!(
            parse_version("uv 0.4.30\n")
                .unwrap_err()
                .contains("older than 0.5.0")
        );
        assert!(parse_version("git version 2.39\n").unwrap_err().contains("no uv"));
    }
}
