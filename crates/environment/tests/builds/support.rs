//! What the tests share: a job's directory, a cache, and a uv with packages that are fetched once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use haul_environment::{EnvironmentError, Environments, EnvironmentsConfig, Ready, SetupSink};
use haul_types::{EnvironmentSpec, Requirements};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
pub(crate) struct Heard(Mutex<Vec<u8>>, pub(crate) tokio::sync::Notify);

impl SetupSink for Heard {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
        self.1.notify_one();
    }
}

impl Heard {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What all tests of one run share: uv's cache, so that packages are fetched once.
pub(crate) fn shared_cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("environments");
        std::fs::create_dir_all(&path).unwrap();
        path
    })
}

pub(crate) fn node_env(extra: &[(&str, OsString)]) -> Vec<(OsString, OsString)> {
    let mut env: Vec<_> = std::env::vars_os().collect();
    env.push(("UV_CACHE_DIR".into(), shared_cache().join("uv").into()));
    for (name, value) in extra {
        env.retain(|(key, _)| key != name);
        env.push(((*name).into(), value.clone()));
    }
    env
}

/// A uv for the tests that are not about finding one; fetched into the shared cache by the first that wants it.
pub(crate) async fn uv() -> PathBuf {
    static UV: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    UV.get_or_init(|| async {
        let config = EnvironmentsConfig::new(shared_cache().to_owned(), node_env(&[]));
        let environments = Environments::open(config).unwrap();
        let job = job(&[("requirements.txt", "six\n")]);
        let ready = ensure(&environments, &job, "requirements.txt").await.unwrap();
        drop(ready);
        environments.doctor().await.unwrap().uv.unwrap().unwrap().path
    })
    .await
    .clone()
}

pub(crate) async fn open(cache: &Path) -> Environments {
    Environments::open(config(cache).await).unwrap()
}

pub(crate) async fn config(cache: &Path) -> EnvironmentsConfig {
    let mut config = EnvironmentsConfig::new(cache.to_owned(), node_env(&[]));
    config.uv = Some(uv().await);
    config
}

pub(crate) fn job(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

pub(crate) fn venv(requirements: &str) -> EnvironmentSpec {
    let path = requirements.to_owned();
    EnvironmentSpec::Venv {
        requirements: match requirements.ends_with(".toml") {
            true => Requirements::Project { path },
            false => Requirements::RequirementsTxt { path },
        },
        python: None,
    }
}

pub(crate) async fn ensure(
    environments: &Environments,
    job: &tempfile::TempDir,
    file: &str,
) -> Result<Ready, EnvironmentError> {
    let sink = Arc::new(Heard::default());
    environments
        .ensure(&venv(file), job.path(), sink, CancellationToken::new())
        .await
}

pub(crate) fn imports(ready: &Ready, module: &str) -> bool {
    std::process::Command::new(ready.python.as_ref().unwrap())
        .args(["-c", &format!("import {module}")])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

pub(crate) fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
