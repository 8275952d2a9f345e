//! Builds that do not end by themselves: canceled, killed, raced by another process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_environment::{EnvironmentError, Environments, EnvironmentsConfig};
use tokio_util::sync::CancellationToken;

use crate::support::{Heard, config, ensure, imports, job, make_executable, node_env, open, uv, venv};

/// A uv that does what the true one does, but first says its process id and then takes its time.
fn slow_uv(dir: &Path, uv: &Path) -> PathBuf {
    let path = dir.join("slow-uv");
    let uv = uv.display();
    let script =
        format!("#!/bin/sh\ncase \"$1\" in pip) sleep 60 & echo pid $! $$; wait;; esac\nexec {uv} \"$@\"\n");
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
    assert!(matches!(
        results,
        (Err(EnvironmentError::Canceled), Err(EnvironmentError::Canceled))
    ));
    // The build cleans up after the last waiter went; its lock says when.
    let lock = std::fs::read_dir(cache.path().join("locks"))
        .unwrap()
        .map(|lock| lock.unwrap())
        .find(|lock| lock.file_name() != "uv-cache")
        .unwrap();
    std::fs::File::open(lock.path()).unwrap().lock().unwrap();
    let started = Instant::now();
    while !pids.iter().all(|pid| is_gone(*pid)) {
        assert!(started.elapsed() < Duration::from_secs(2), "{pids:?} live on");
        tokio::task::yield_now().await;
    }
    assert_eq!(std::fs::read_dir(cache.path().join("envs")).unwrap().count(), 0);
}

/// Not a test of its own: what the next ones run as another process, told by variables.
#[tokio::test]
async fn as_another_process() {
    let Some(cache) = std::env::var_os("HAUL_TEST_CACHE") else {
        return;
    };
    let mut config = EnvironmentsConfig::new(cache.into(), node_env(&[]));
    config.uv = std::env::var_os("HAUL_TEST_UV").map(PathBuf::from);
    let environments = Environments::open(config).unwrap();
    let job = job(&[("requirements.txt", "six\n")]);
    let ready = ensure(&environments, &job, "requirements.txt").await.unwrap();
    println!("reused={}", ready.reused);
}

fn another_process(cache: &Path, uv: &Path) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::as_another_process", "--nocapture"])
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
    let children = [
        another_process(cache.path(), &uv),
        another_process(cache.path(), &uv),
    ];
    let said = children.map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    let count = |what: &str| said.iter().filter(|text| text.contains(what)).count();
    assert_eq!((count("reused=false"), count("reused=true")), (1, 1), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_was_killed_is_made_anew() {
    let cache = tempfile::tempdir().unwrap();
    let uv = uv().await;
    let slow = slow_uv(cache.path(), &uv);
    let text = std::fs::read_to_string(&slow)
        .unwrap()
        .replace("echo pid", "echo pid > \"$0.pid\"");
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
    assert!(
        !infos[0].complete && infos[0].in_use,
        "the orphaned uv still has the lock"
    );
    let ready = ensure(
        &environments,
        &job(&[("requirements.txt", "six\n")]),
        "requirements.txt",
    )
    .await
    .unwrap();
    assert!(!ready.reused && imports(&ready, "six"));
    assert!(!half.join("building").exists());
}
