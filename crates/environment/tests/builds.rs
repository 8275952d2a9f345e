//! Builds with a real uv and real packages, from whatever index this machine is set up for.
//!
//! uv is fetched once by the crate itself (that is a test too) and shared by the rest, as is uv's cache.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use haul_environment::{
    EnvironmentError, Environments, EnvironmentsConfig, InterpreterError, PrunePolicy, Ready, RemoveError, SetupSink,
    UvOrigin,
};
use haul_types::{ByteSize, EnvironmentSpec, Requirements};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Heard(Mutex<Vec<u8>>, tokio::sync::Notify);

impl SetupSink for Heard {
    fn write(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
        self.1.notify_one();
    }
}

impl Heard {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// What all tests of one run share: uv's cache, so that packages are fetched once.
fn shared_cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("environments");
        std::fs::create_dir_all(&path).unwrap();
        path
    })
}

fn node_env(extra: &[(&str, OsString)]) -> Vec<(OsString, OsString)> {
    let mut env: Vec<_> = std::env::vars_os().collect();
    env.push(("UV_CACHE_DIR".into(), shared_cache().join("uv").into()));
    for (name, value) in extra {
        env.retain(|(key, _)| key != name);
        env.push(((*name).into(), value.clone()));
    }
    env
}

/// A uv for the tests that are not about finding one; fetched into the shared cache by the first that wants it.
async fn uv() -> PathBuf {
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

async fn open(cache: &Path) -> Environments {
    Environments::open(config(cache).await).unwrap()
}

async fn config(cache: &Path) -> EnvironmentsConfig {
    let mut config = EnvironmentsConfig::new(cache.to_owned(), node_env(&[]));
    config.uv = Some(uv().await);
    config
}

fn job(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn venv(requirements: &str) -> EnvironmentSpec {
    let path = requirements.to_owned();
    EnvironmentSpec::Venv {
        requirements: match requirements.ends_with(".toml") {
            true => Requirements::Project { path },
            false => Requirements::RequirementsTxt { path },
        },
        python: None,
    }
}

async fn ensure(environments: &Environments, job: &tempfile::TempDir, file: &str) -> Result<Ready, EnvironmentError> {
    let sink = Arc::new(Heard::default());
    environments
        .ensure(&venv(file), job.path(), sink, CancellationToken::new())
        .await
}

fn imports(ready: &Ready, module: &str) -> bool {
    std::process::Command::new(ready.python.as_ref().unwrap())
        .args(["-c", &format!("import {module}")])
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
        .success()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_reused_in_no_time() {
    let cache = tempfile::tempdir().unwrap();
    let environments = open(cache.path()).await;
    let one = job(&[("requirements.txt", "six\nidna>=3\n")]);
    let first = ensure(&environments, &one, "requirements.txt").await.unwrap();
    assert!(!first.reused && imports(&first, "six, idna"));
    let path = &first.env.iter().find(|(name, _)| name == "PATH").unwrap().1;
    let bin = first.python.as_ref().unwrap().parent().unwrap();
    assert_eq!(std::env::split_paths(path).next().unwrap(), bin);

    // Another job, the same meaning.
    let two = job(&[("requirements.txt", "# the same\nIdna >= 3\nsix\n")]);
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let again = ensure(&environments, &two, "requirements.txt").await.unwrap();
        times.push(started.elapsed());
        assert!(again.reused && again.key == first.key);
    }
    times.sort();
    println!("reuse: median {:?}, worst {:?}", times[25], times[49]);
    assert!(times[25] < Duration::from_millis(5), "{:?}", times[25]);

    let infos = environments.list().await.unwrap();
    assert_eq!(infos.len(), 1);
    assert!(infos[0].complete && infos[0].in_use && infos[0].bytes > ByteSize(10_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_build_once_and_all_hear_it() {
    let cache = tempfile::tempdir().unwrap();
    let environments = open(cache.path()).await;
    let job = Arc::new(job(&[("requirements.txt", "idna\n")]));
    let mut asks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (environments, job) = (environments.clone(), Arc::clone(&job));
        asks.spawn(async move {
            let heard = Arc::new(Heard::default());
            let ready = environments
                .ensure(&venv("requirements.txt"), job.path(), heard.clone(), CancellationToken::new())
                .await
                .unwrap();
            (ready, heard.text())
        });
    }
    let all = asks.join_all().await;
    let built: Vec<&String> = all.iter().filter(|(ready, _)| !ready.reused).map(|(_, text)| text).collect();
    assert!(!built.is_empty());
    for text in built {
        assert_eq!(text.matches("building an environment").count(), 1, "{text}");
        assert_eq!(text, &all.iter().find(|(ready, _)| !ready.reused).unwrap().1);
        assert!(text.contains("idna=="), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_resolve_is_told_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let environments = open(cache.path()).await;
    let bad = job(&[("requirements.txt", "six==999.1\n")]);
    for _ in 0..2 {
        let error = ensure(&environments, &bad, "requirements.txt").await.unwrap_err();
        let EnvironmentError::BuildFailed { step, exit_code, said, .. } = &error else { panic!("{error}") };
        assert_eq!((step.as_str(), *exit_code), ("uv pip install", Some(1)));
        assert!(said.contains("six==999.1"), "{said}");
    }
    assert_eq!(std::fs::read_dir(cache.path().join("envs")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_is_installed_by_its_lock() {
    let cache = tempfile::tempdir().unwrap();
    let environments = open(cache.path()).await;
    let text = "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.8'\ndependencies = ['six']\n";
    let job = job(&[("pyproject.toml", text)]);
    let unlocked = ensure(&environments, &job, "pyproject.toml").await.unwrap();
    assert!(imports(&unlocked, "six"));
    let locked = std::process::Command::new(uv().await)
        .args(["lock", "--quiet"])
        .envs(node_env(&[]))
        .current_dir(job.path())
        .status()
        .unwrap();
    assert!(locked.success());
    let locked = ensure(&environments, &job, "pyproject.toml").await.unwrap();
    assert_ne!(unlocked.key, locked.key);
    assert!(!locked.reused && imports(&locked, "six"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_it_keeps_it_even_past_a_restart() {
    let cache = tempfile::tempdir().unwrap();
    let all = PrunePolicy { all: true, ..PrunePolicy::default() };
    let job = job(&[("requirements.txt", "six\n")]);
    let environments = open(cache.path()).await;
    let mut ready = ensure(&environments, &job, "requirements.txt").await.unwrap();
    let key = ready.key.unwrap();
    ready.lease.assign("job-7").unwrap();
    assert_eq!(environments.prune(all).await.unwrap().removed, []);
    ready.lease.leave();

    let after = open(cache.path()).await;
    let error = after.remove(&key.to_string()[..8]).await.unwrap_err();
    assert!(matches!(&error, RemoveError::InUse { holders, .. } if holders == &["job-7"]), "{error}");
    let lease = after.retake(key, "job-7").await.unwrap();
    assert_eq!(after.forget_holders(|holder| holder == "job-7").await.unwrap(), 0);
    assert_eq!(after.prune(all).await.unwrap().removed, []);
    drop(lease);
    assert_eq!(after.prune(all).await.unwrap().removed, [key]);
    assert!(after.retake(key, "job-7").await.is_err());
    assert!(matches!(after.remove("ff").await, Err(RemoveError::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_takes_the_least_recently_used() {
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(cache.path()).await;
    config.disk_budget = Some(ByteSize(1));
    let environments = Environments::open(config).unwrap();
    let (one, two) = (job(&[("requirements.txt", "six\n")]), job(&[("requirements.txt", "idna\n")]));
    let first = ensure(&environments, &one, "requirements.txt").await.unwrap().key;
    let second = ensure(&environments, &two, "requirements.txt").await.unwrap();
    let left: Vec<_> = environments.list().await.unwrap().iter().map(|info| info.key).collect();
    assert_eq!(left, [second.key.unwrap()], "the first ({first:?}) had to go, the one just built stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn interpreters_are_checked() {
    let cache = tempfile::tempdir().unwrap();
    let environments = open(cache.path()).await;
    let dir = job(&[("plain", "text"), ("echo", "#!/bin/sh\necho hello \"$@\"\n")]);
    make_executable(&dir.path().join("echo"));
    let ask = async |interpreter: String| {
        let spec = EnvironmentSpec::Python { interpreter };
        environments
            .ensure(&spec, dir.path(), Arc::new(Heard::default()), CancellationToken::new())
            .await
    };
    let at = |name: &str| dir.path().join(name).display().to_string();
    let error = |result: Result<Ready, EnvironmentError>| match result {
        Err(EnvironmentError::Interpreter(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(error(ask(at("none")).await), InterpreterError::NotFound { .. }));
    assert!(matches!(error(ask("no-such-python".into()).await), InterpreterError::NotFound { .. }));
    assert!(matches!(error(ask(at("plain")).await), InterpreterError::NotExecutable { .. }));
    let said = error(ask(at("echo")).await).to_string();
    assert!(said.contains("does not behave as a Python") && said.contains("hello"), "{said}");
    let found = ask("python3".into()).await.unwrap();
    assert!(found.env.is_empty() && found.key.is_none());
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A uv that does what the true one does, but first says its process id and then takes its time.
fn slow_uv(dir: &Path, uv: &Path) -> PathBuf {
    let path = dir.join("slow-uv");
    let uv = uv.display();
    let script = format!("#!/bin/sh\ncase \"$1\" in pip) sleep 60 & echo pid $! $$; wait;; esac\nexec {uv} \"$@\"\n");
    std::fs::write(&path, script).unwrap();
    make_executable(&path);
    path
}

fn pids(text: &str) -> Vec<u32> {
    let line = text.lines().find(|line| line.starts_with("pid ")).unwrap();
    line.split(' ').skip(1).map(|pid| pid.parse().unwrap()).collect()
}

fn is_gone(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_cancel_leaves_no_process_and_no_directory() {
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(cache.path()).await;
    config.uv = Some(slow_uv(cache.path(), &uv().await));
    let environments = Environments::open(config).unwrap();
    let job = Arc::new(job(&[("requirements.txt", "six\n")]));
    let start = || {
        let (environments, job) = (environments.clone(), Arc::clone(&job));
        let (heard, cancel) = (Arc::new(Heard::default()), CancellationToken::new());
        let (sink, token) = (heard.clone(), cancel.clone());
        let spec = venv("requirements.txt");
        let asked = async move { environments.ensure(&spec, job.path(), sink, token).await };
        (asked, heard, cancel)
    };
    let ((one, heard, cancel_one), (two, other, cancel_two)) = (start(), start());
    let both = async { tokio::join!(one, two) };
    let canceler = async {
        for heard in [&heard, &other] {
            while !heard.text().contains("pid ") {
                heard.1.notified().await;
            }
        }
        cancel_one.cancel();
        tokio::task::yield_now().await;
        let pids = pids(&heard.text());
        assert!(pids.iter().all(|pid| !is_gone(*pid)), "the other still waits");
        cancel_two.cancel();
        pids
    };
    let (results, pids) = tokio::join!(both, canceler);
    assert!(matches!(results, (Err(EnvironmentError::Canceled), Err(EnvironmentError::Canceled))));
    // The build cleans up after the last waiter went; its lock says when.
    let lock = std::fs::read_dir(cache.path().join("locks")).unwrap().next().unwrap().unwrap();
    std::fs::File::open(lock.path()).unwrap().lock().unwrap();
    assert!(pids.iter().all(|pid| is_gone(*pid)));
    assert_eq!(std::fs::read_dir(cache.path().join("envs")).unwrap().count(), 0);
}

/// Not a test of its own: what the next ones run as another process, told by variables.
#[tokio::test]
async fn as_another_process() {
    let Some(cache) = std::env::var_os("HAUL_TEST_CACHE") else { return };
    let mut config = EnvironmentsConfig::new(cache.into(), node_env(&[]));
    config.uv = std::env::var_os("HAUL_TEST_UV").map(PathBuf::from);
    let environments = Environments::open(config).unwrap();
    let job = job(&[("requirements.txt", "six\n")]);
    let ready = ensure(&environments, &job, "requirements.txt").await.unwrap();
    println!("reused={}", ready.reused);
}

fn another_process(cache: &Path, uv: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "as_another_process", "--nocapture"])
        .env("HAUL_TEST_CACHE", cache)
        .env("HAUL_TEST_UV", uv)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_build_once() {
    let cache = tempfile::tempdir().unwrap();
    let uv = uv().await;
    let children = [another_process(cache.path(), &uv), another_process(cache.path(), &uv)];
    let said = children.map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    let count = |what: &str| said.iter().filter(|text| text.contains(what)).count();
    assert_eq!((count("reused=false"), count("reused=true")), (1, 1), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_was_killed_is_made_anew() {
    let cache = tempfile::tempdir().unwrap();
    let uv = uv().await;
    let slow = slow_uv(cache.path(), &uv);
    let text = std::fs::read_to_string(&slow).unwrap().replace("echo pid", "echo pid > \"$0.pid\"");
    // Short enough to wait for: the orphan holds the lock until it ends, and nobody may build meanwhile.
    std::fs::write(&slow, text.replace("sleep 60", "sleep 1")).unwrap();
    let mut child = another_process(cache.path(), &slow);
    let started = Instant::now();
    while !slow.with_extension("pid").exists() {
        assert!(started.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let envs = cache.path().join("envs");
    let half = std::fs::read_dir(&envs).unwrap().next().unwrap().unwrap().path();
    assert!(half.join("building").exists() && !half.join("ready.json").exists());

    let environments = open(cache.path()).await;
    let infos = environments.list().await.unwrap();
    assert!(!infos[0].complete && infos[0].in_use, "the orphaned uv still has the lock");
    let ready = ensure(&environments, &job(&[("requirements.txt", "six\n")]), "requirements.txt").await.unwrap();
    assert!(!ready.reused && imports(&ready, "six"));
    assert!(!half.join("building").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn uv_is_fetched_when_there_is_none() {
    let cache = tempfile::tempdir().unwrap();
    let bin = tempfile::tempdir().unwrap();
    let search = std::env::var_os("PATH").unwrap();
    let python = std::env::split_paths(&search)
        .map(|dir| dir.join("python3"))
        .find(|path| path.is_file() && !path.to_string_lossy().contains("shims"))
        .expect("these tests need python3");
    std::os::unix::fs::symlink(python, bin.path().join("python3")).unwrap();
    let env = node_env(&[("PATH", bin.path().into()), ("HOME", cache.path().into())]);
    let environments = Environments::open(EnvironmentsConfig::new(cache.path().to_owned(), env)).unwrap();
    assert!(environments.doctor().await.unwrap().uv.unwrap().is_none());
    let heard = Arc::new(Heard::default());
    let job = job(&[("requirements.txt", "six\n")]);
    let ready = environments
        .ensure(&venv("requirements.txt"), job.path(), heard.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert!(imports(&ready, "six"));
    assert!(heard.text().contains("fetching it with pip"), "{}", heard.text());
    let uv = environments.doctor().await.unwrap().uv.unwrap().unwrap();
    assert_eq!(uv.origin, UvOrigin::Fetched);
    assert!(uv.path.starts_with(cache.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_pip_and_without_python_it_is_said_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let env = vec![("PATH".into(), cache.path().into()), ("HOME".into(), cache.path().into())];
    let environments = Environments::open(EnvironmentsConfig::new(cache.path().to_owned(), env)).unwrap();
    let spec = EnvironmentSpec::Venv {
        requirements: Requirements::RequirementsTxt { path: "requirements.txt".into() },
        python: Some("3.11".into()),
    };
    let job = job(&[("requirements.txt", "six\n")]);
    let error = environments
        .ensure(&spec, job.path(), Arc::new(Heard::default()), CancellationToken::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("HAUL_UV=/path/to/uv") && error.contains("neither python3 nor pip"), "{error}");
}
