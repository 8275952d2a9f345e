//! Environments: an interpreter that is there, and virtual environments that are built once.

use std::path::PathBuf;
use std::time::Duration;

use haul_tests::{Home, Running};

/// A home whose packages come from one cache, so that the network is asked once for all tests.
fn home() -> Home {
    let shared = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("uv-cache");
    std::fs::create_dir_all(&shared).expect("the target directory can be written");
    let home = Home::new().with("UV_CACHE_DIR", shared);
    match std::env::var_os("HAUL_UV") {
        Some(uv) => home.with("HAUL_UV", uv),
        None => home,
    }
}

/// `haul run` with time to fetch.
fn building<'a>(home: &Home, words: impl IntoIterator<Item = &'a str>) -> Running {
    home.haul(words).within(Duration::from_secs(180)).start()
}

const USES_SIX: &str = "import six, sys\nprint(six.__version__, sys.prefix != sys.base_prefix)\n";

#[test]
fn requirements_are_built_once_and_used_again() {
    let home = home();
    home.write("requirements.txt", "six==1.16.0\n");
    home.write("job.py", USES_SIX);
    let many: Vec<_> = (0..5).map(|_| building(&home, ["run", "job.py"])).collect();
    let ended: Vec<_> = many.into_iter().map(|running| running.end().ok()).collect();
    for ended in &ended {
        assert_eq!(ended.out(), "1.16.0 True\n", "{}", ended.err());
    }
    let list = home.json(["env", "ls"]);
    assert!(list["caches"].is_array(), "{list}");
    let list = list["environments"].as_array().unwrap();
    assert_eq!(list.len(), 1, "{list:?}");
    assert!(list[0]["bytes"].as_u64().unwrap() > 10_000);
    let key = list[0]["key"].as_str().unwrap().to_owned();
    // Another job, another directory, the same content.
    home.write("other/requirements.txt", "six==1.16.0\n");
    home.write("other/job.py", USES_SIX);
    let again = building(&home, ["run", "other/job.py"]).end().ok();
    assert!(
        !again.err().contains("six==1.16.0"),
        "nothing is built: {}",
        again.err()
    );
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        1
    );
    // Removed, and built again when it is needed.
    home.run(["env", "rm", &key[..10]]).ok();
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        0
    );
    home.run(["env", "rm", &key]).expect_code(2);
    building(&home, ["run", "job.py"]).end().ok();
    home.run(["env", "prune", "--unused-for", "1h"]).ok();
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        1
    );
    home.run(["env", "prune"]).ok();
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        0
    );
}

#[test]
fn an_environment_in_use_is_not_removed() {
    let home = home();
    home.write("requirements.txt", "six\n");
    home.write("job.py", "import time\nprint('ready')\ntime.sleep(60)\n");
    let running = building(&home, ["run", "job.py"]);
    running.wait_for_stdout("ready");
    let list = home.json(["env", "ls"]);
    assert_eq!(list["environments"][0]["in_use"], true);
    home.run(["env", "prune"]).ok();
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        1
    );
    home.run(["cancel", "last"]).ok();
    running.end().expect_code(130);
}

#[test]
fn a_requirement_that_does_not_resolve_is_named_and_not_kept() {
    let home = home();
    home.write("requirements.txt", "six==999.0\n");
    home.write("job.py", "print('never')\n");
    for _ in 0..2 {
        let ended = building(&home, ["run", "job.py"]).end().expect_code(125);
        assert_eq!(ended.out(), "");
        assert!(ended.err().contains("six==999.0"), "{}", ended.err());
    }
    let setup = home.run(["logs", "--stream", "setup", "last"]).ok();
    let said = setup.out() + &setup.err();
    assert!(said.contains("six==999.0"), "{said}");
    assert_eq!(
        home.json(["show"])["tasks"][0]["timeline"]
            .as_array()
            .unwrap()
            .last()
            .unwrap()["reason"],
        "environment_failed"
    );
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        0
    );
    // Mended, it works.
    home.write("requirements.txt", "six\n");
    home.write("job.py", "import six\nprint('works')\n");
    assert_eq!(building(&home, ["run", "job.py"]).end().ok().out(), "works\n");
}

#[test]
fn a_build_can_be_canceled() {
    // An index that takes calls and never answers.
    let index = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = index.local_addr().unwrap();
    let home = home()
        .with("UV_DEFAULT_INDEX", format!("http://{address}/simple"))
        .with("UV_NO_CACHE", "1");
    home.write("requirements.txt", "haul-never-there\n");
    home.write("job.py", "print('never')\n");
    let running = building(&home, ["run", "job.py"]);
    let (_call, _) = index.accept().unwrap();
    running.signal(haul_tests::Signal::INT);
    let ended = running.end().expect_code(130);
    assert!(ended.took < Duration::from_secs(20), "{:?}", ended.took);
    assert_eq!(home.processes_as(haul_tests::Role::Other), []);
}

#[test]
fn a_named_interpreter_runs_as_it_is() {
    let home = home();
    let found = std::process::Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    let python = String::from_utf8(found.stdout).unwrap().trim().to_owned();
    // What would otherwise be built is not.
    home.write("requirements.txt", "six==999.0\n");
    home.write("job.py", "import sys\nprint(sys.executable)\n");
    let ended = home.run(["run", "-q", "--python", &python, "job.py"]).ok();
    assert_eq!(ended.out().trim(), python);
    let ended = home.run(["run", "-q", "--no-env", "job.py"]).ok();
    assert!(!ended.out().is_empty());
    assert_eq!(
        home.json(["env", "ls"])["environments"].as_array().unwrap().len(),
        0
    );
}

#[test]
fn a_project_with_a_lock_is_built_as_locked() {
    let home = home();
    home.write(
        "pyproject.toml",
        "[project]\nname = 'demo'\nversion = '0'\nrequires-python = '>=3.9'\ndependencies = ['six==1.16.0']\n",
    );
    home.write("job.py", USES_SIX);
    assert_eq!(
        building(&home, ["run", "job.py"]).end().ok().out(),
        "1.16.0 True\n"
    );
}
