//! What is found on a node: Pythons, and uv.

use std::sync::Arc;

use haul_environment::{
    EnvironmentError, Environments, EnvironmentsConfig, InterpreterError, Ready, UvOrigin,
};
use haul_types::{EnvironmentSpec, Requirements};
use tokio_util::sync::CancellationToken;

use crate::support::{Heard, imports, job, make_executable, node_env, open, venv};

#[tokio::test(flavor = "multi_thread")]
async fn interpreters_are_checked() {
    let cache = tempfile::tempdir().unwrap();
    let environments = open(cache.path()).await;
    let dir = job(&[("plain", "text"), ("echo", "#!/bin/sh\necho hello \"$@\"\n")]);
    make_executable(&dir.path().join("echo"));
    let ask = async |interpreter: String| {
        let spec = EnvironmentSpec::Python { interpreter };
        environments
            .ensure(
                &spec,
                dir.path(),
                Arc::new(Heard::default()),
                CancellationToken::new(),
            )
            .await
    };
    let at = |name: &str| dir.path().join(name).display().to_string();
    let error = |result: Result<Ready, EnvironmentError>| match result {
        Err(EnvironmentError::Interpreter(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(
        error(ask(at("none")).await),
        InterpreterError::NotFound { .. }
    ));
    assert!(matches!(
        error(ask("no-such-python".into()).await),
        InterpreterError::NotFound { .. }
    ));
    assert!(matches!(
        error(ask(at("plain")).await),
        InterpreterError::NotExecutable { .. }
    ));
    let said = error(ask(at("echo")).await).to_string();
    assert!(
        said.contains("does not behave as a Python") && said.contains("hello"),
        "{said}"
    );
    let found = ask("python3".into()).await.unwrap();
    assert!(found.env.is_empty() && found.key.is_none());
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
        .ensure(
            &venv("requirements.txt"),
            job.path(),
            heard.clone(),
            CancellationToken::new(),
        )
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
    let env = vec![
        ("PATH".into(), cache.path().into()),
        ("HOME".into(), cache.path().into()),
    ];
    let environments = Environments::open(EnvironmentsConfig::new(cache.path().to_owned(), env)).unwrap();
    let spec = EnvironmentSpec::Venv {
        requirements: Requirements::RequirementsTxt {
            path: "requirements.txt".into(),
        },
        python: Some("3.11".into()),
    };
    let job = job(&[("requirements.txt", "six\n")]);
    let error = environments
        .ensure(
            &spec,
            job.path(),
            Arc::new(Heard::default()),
            CancellationToken::new(),
        )
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("HAUL_UV=/path/to/uv") && error.contains("neither python3 nor pip"),
        "{error}"
    );
}
