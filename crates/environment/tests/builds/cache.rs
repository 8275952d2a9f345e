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

/// The environments of a node that has left uv's cache to Haul.
async fn with_own_cache(cache: &std::path::Path) -> Environments {
    let mut config = config(cache).await;
    config.node_env.retain(|(name, _)| name != "UV_CACHE_DIR");
    Environments::open(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn uvs_cache_is_counted_and_emptied_and_no_environment_needs_it() {
    let cache = tempfile::tempdir().unwrap();
    let environments = with_own_cache(cache.path()).await;
    let job = job(&[("requirements.txt", "six\n")]);
    let ready = ensure(&environments, &job, "requirements.txt").await.unwrap();
    let size = environments.cache_size().await.unwrap().unwrap();
    assert!(
        size > ByteSize(0),
        "the index's answers at least are the cache's alone"
    );
    let stale = PrunePolicy {
        unused_for: Some(Duration::from_secs(3600)),
        ..PrunePolicy::default()
    };
    environments.prune(stale).await.unwrap();
    let kept = environments.cache_size().await.unwrap().unwrap();
    assert!(kept > ByteSize(0), "what a build can use again stays");
    let all = PrunePolicy {
        all: true,
        ..PrunePolicy::default()
    };
    let pruned = environments.prune(all).await.unwrap();
    let left = environments.cache_size().await.unwrap().unwrap();
    assert_eq!(pruned.cache_bytes, ByteSize(kept.0 - left.0));
    assert!(left < kept, "{left} of {kept}");
    assert!(pruned.removed.is_empty() && imports(&ready, "six"));

    // One that the node keeps elsewhere is not Haul's to empty.
    let elsewhere = open(cache.path()).await;
    assert_eq!(elsewhere.cache_size().await.unwrap(), None);
    assert_eq!(elsewhere.prune(all).await.unwrap().cache_bytes, ByteSize(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_gives_way_to_the_budget_before_an_environment_does() {
    let cache = tempfile::tempdir().unwrap();
    let job_of = |name: &str| job(&[("requirements.txt", name)]);
    let environments = with_own_cache(cache.path()).await;
    drop(
        ensure(&environments, &job_of("six\n"), "requirements.txt")
            .await
            .unwrap(),
    );
    let infos = environments.list().await.unwrap();
    let taken: u64 = infos.iter().map(|info| info.bytes.0).sum();
    let before = environments.cache_size().await.unwrap().unwrap();
    let keep = PrunePolicy {
        keep_bytes: Some(ByteSize(taken + before.0 / 2)),
        ..PrunePolicy::default()
    };
    let enough = PrunePolicy {
        keep_bytes: Some(ByteSize(taken + before.0)),
        ..PrunePolicy::default()
    };
    assert_eq!(environments.prune(enough).await.unwrap(), Default::default());

    // Not while a build may be running uv in it.
    let lock = std::fs::File::open(cache.path().join("locks/uv-cache")).unwrap();
    lock.lock_shared().unwrap();
    assert_eq!(environments.prune(keep).await.unwrap().cache_bytes, ByteSize(0));
    drop(lock);

    let pruned = environments.prune(keep).await.unwrap();
    assert!(pruned.cache_bytes > ByteSize(0));
    assert_eq!(pruned.removed, [], "the cache was enough");
    assert_eq!(environments.list().await.unwrap().len(), 1);
}
