//! Built once, reused, leased, removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use haul_environment::{EnvironmentError, Environments, PrunePolicy, RemoveError};
use haul_types::ByteSize;
use tokio_util::sync::CancellationToken;

use crate::support::{Heard, config, ensure, imports, job, node_env, open, uv, venv};

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
                .ensure(
                    &venv("requirements.txt"),
                    job.path(),
                    heard.clone(),
                    CancellationToken::new(),
                )
                .await
                .unwrap();
            (ready, heard.text())
        });
    }
    let all = asks.join_all().await;
    let built: Vec<&String> = all
        .iter()
        .filter(|(ready, _)| !ready.reused)
        .map(|(_, text)| text)
        .collect();
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
        let EnvironmentError::BuildFailed {
            step,
            exit_code,
            said,
            ..
        } = &error
        else {
            panic!("{error}")
        };
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
    let all = PrunePolicy {
        all: true,
        ..PrunePolicy::default()
    };
    let job = job(&[("requirements.txt", "six\n")]);
    let environments = open(cache.path()).await;
    let mut ready = ensure(&environments, &job, "requirements.txt").await.unwrap();
    let key = ready.key.unwrap();
    ready.lease.assign("job-7").unwrap();
    assert_eq!(environments.prune(all).await.unwrap().removed, []);
    ready.lease.leave();

    let after = open(cache.path()).await;
    let error = after.remove(&key.to_string()[..8]).await.unwrap_err();
    assert!(
        matches!(&error, RemoveError::InUse { holders, .. } if holders == &["job-7"]),
        "{error}"
    );
    let lease = after.retake(key, "job-7").await.unwrap();
    assert_eq!(after.forget_holders(|holder| holder == "job-7").await.unwrap(), 0);
    assert_eq!(after.prune(all).await.unwrap().removed, []);
    drop(lease);
    // The build that made it holds it too, until its task has been told that everybody has what they asked for.
    let mut removed = Vec::new();
    for _ in 0..100 {
        removed = after.prune(all).await.unwrap().removed;
        if !removed.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(removed, [key]);
    assert!(after.retake(key, "job-7").await.is_err());
    assert!(matches!(
        after.remove("ff").await,
        Err(RemoveError::NotFound { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_budget_takes_the_least_recently_used() {
    let cache = tempfile::tempdir().unwrap();
    let mut config = config(cache.path()).await;
    config.disk_budget = Some(ByteSize(1));
    let environments = Environments::open(config).unwrap();
    let (one, two) = (
        job(&[("requirements.txt", "six\n")]),
        job(&[("requirements.txt", "idna\n")]),
    );
    let first = ensure(&environments, &one, "requirements.txt").await.unwrap().key;
    let second = ensure(&environments, &two, "requirements.txt").await.unwrap();
    let left: Vec<_> = environments
        .list()
        .await
        .unwrap()
        .iter()
        .map(|info| info.key)
        .collect();
    assert_eq!(
        left,
        [second.key.unwrap()],
        "the first ({first:?}) had to go, the one just built stays"
    );
}
