//! The commands about jobs that are there.

use haul_tests::Home;
use serde_json::Value;

#[test]
fn detach_prints_the_id_alone_and_the_job_goes_on() {
    let home = Home::new();
    home.script("job.sh", "sleep 0.3; echo done; exit 9");
    let ended = home.run(["run", "--detach", "job.sh"]).ok();
    let id = ended.out();
    let id = id.strip_suffix('\n').unwrap();
    assert!(
        id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()),
        "{id:?}"
    );
    home.run(["wait", id]).expect_code(9);
    assert_eq!(home.run(["logs", "-q", id]).ok().out(), "done\n");
    assert_eq!(home.run(["run", "-q", "-d", "job.sh"]).ok().err(), "");
}

#[test]
fn jobs_are_named_by_id_by_its_beginning_and_by_last() {
    let home = Home::new();
    let ids: Vec<String> = (0..3)
        .map(|code| {
            let id = home.detach([
                "--name",
                &format!("job-{code}"),
                "--",
                "sh",
                "-c",
                &format!("exit {code}"),
            ]);
            home.run(["wait", &id]).expect_code(code);
            id
        })
        .collect();
    for (code, id) in ids.iter().enumerate() {
        for name in [id.clone(), id.to_uppercase(), id[..6].to_owned()] {
            assert_eq!(
                home.json(["show", &name])["name"],
                format!("job-{code}"),
                "{name}"
            );
        }
    }
    assert_eq!(home.json(["show", "last"])["id"], ids[2].as_str());
    let jobs = home.json(["jobs"]);
    let listed: Vec<&str> = jobs["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap())
        .collect();
    assert_eq!(listed, [&ids[2], &ids[1], &ids[0]], "newest first");
    let failed = home.json(["jobs", "--state", "failed", "-n", "1"]);
    assert_eq!(failed["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(failed["more"], true);
}

#[test]
fn logs_are_read_whole_in_part_and_live() {
    let home = Home::new();
    home.script(
        "job.sh",
        "echo a; echo b; echo x >&2; until [ -e \"$GO\" ]; do sleep 0.02; done; printf c",
    );
    let go = home.path("go");
    let id = home.detach(["--env", &format!("GO={}", go.display()), "job.sh"]);
    let following = home.haul(["logs", "-f", &id]).start();
    following.wait_for_stdout("a\nb\n");
    following.wait_for_stderr("x\n");
    std::fs::write(go, "").unwrap();
    let followed = following.end().ok();
    assert_eq!(followed.out(), "a\nb\nc");
    assert_eq!(followed.err(), "x\n");
    assert_eq!(home.run(["logs", &id]).ok().out(), "a\nb\nc");
    assert_eq!(home.run(["logs", "--tail", "2", &id]).ok().out(), "b\nc");
    let only = home.run(["logs", "--stream", "stderr", &id]).ok();
    assert_eq!((only.out().as_str(), only.err().as_str()), ("", "x\n"));
    assert_eq!(home.run(["logs", "-q", "--since", "0s", &id]).ok().out(), "");
    assert_eq!(home.run(["logs", "--since", "1h", &id]).ok().out(), "a\nb\nc");
}

#[test]
fn show_prints_the_timeline_with_reasons() {
    let home = Home::new();
    home.run(["run", "--", "sh", "-c", "exit 5"]).expect_code(5);
    let show = home.json(["show"]);
    let timeline = show["tasks"][0]["timeline"].as_array().unwrap();
    let states: Vec<&str> = timeline
        .iter()
        .map(|entry| entry["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["queued", "preparing", "running", "finalizing", "failed"]);
    let times: Vec<&str> = timeline
        .iter()
        .map(|entry| entry["at"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let text = home.run(["show", "last"]).ok().out();
    for word in [
        "failed",
        "exit code 5",
        "submitted",
        "assigned",
        "running",
        "sh -c 'exit 5'",
    ] {
        assert!(text.contains(word), "no {word:?} in\n{text}");
    }
}

#[test]
fn rerun_runs_what_was_sent_then() {
    let home = Home::new();
    home.script("job.sh", "cat data; exit 4");
    home.write("data", "then\n");
    home.run(["run", "job.sh"]).expect_code(4);
    home.write("data", "now\n");
    let again = home.run(["rerun", "-q", "last"]).expect_code(4);
    assert_eq!(again.out(), "then\n");
    let id = home.run(["rerun", "-d", "last"]).ok().out();
    home.run(["wait", id.trim()]).expect_code(4);
    assert_eq!(home.jobs(), 3);
}

#[test]
fn rm_forgets_jobs_that_have_ended() {
    let home = Home::new();
    home.run(["run", "--", "true"]).ok();
    let id = home.json(["show"])["id"].as_str().unwrap().to_owned();
    let going = home.detach(["--", "sleep", "60"]);
    let refused = home.run(["rm", &id, &going]).expect_code(2);
    assert!(refused.err().contains("nothing was removed"), "{}", refused.err());
    assert_eq!(home.jobs(), 2);
    home.run(["rm", &id]).ok();
    home.run(["show", &id]).expect_code(2);
    home.run(["logs", &id]).expect_code(2);
    home.run(["cancel", &going]).ok();
    home.run(["wait", &going]).expect_code(130);
    home.run(["rm", &going]).ok();
    assert_eq!(home.jobs(), 0);
}

#[test]
fn json_is_json_everywhere() {
    let home = Home::new();
    home.write("job.py", "import sys\nprint('out')\nsys.stdout.flush()\nsys.stdout.buffer.write(b'\\xff')\nopen('outputs/o','w').write('o')\n");
    let run = home.run(["--json", "run", "job.py"]).ok();
    let events = run.json_lines();
    let names: Vec<&str> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        (names[0], names[names.len() - 1]),
        ("submitted", "ended"),
        "{names:?}"
    );
    assert!(names.contains(&"state") && names.contains(&"log"), "{names:?}");
    let bytes: Vec<u8> = events
        .iter()
        .filter(|event| event["event"] == "log" && event["stream"] == "stdout")
        .flat_map(|event| match (&event["text"], &event["bytes"]) {
            (Value::String(text), _) => text.clone().into_bytes(),
            (_, Value::Array(bytes)) => bytes
                .iter()
                .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap())
                .collect(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(bytes, b"out\n\xff");
    for words in [
        &["jobs"][..],
        &["show"],
        &["outputs", "ls"],
        &["outputs", "get"],
        &["env", "ls"],
        &["env", "prune"],
        &["node", "ls"],
        &["local", "status"],
        &["version"],
        &["doctor"],
    ] {
        let document = home.json(words);
        assert!(document.is_object(), "{words:?}: {document}");
    }
    for words in [
        &["logs"][..],
        &["wait"],
        &["rerun"],
        &["run", "-d", "job.py"],
        &["run", "--array", "1-2", "job.py"],
    ] {
        let ended = home.run(["--json"].iter().chain(words)).ok();
        assert!(!ended.json_lines().is_empty(), "{words:?}");
    }
    let failed = home.run(["show", "--json", "zzzz"]).expect_code(2);
    let text = if failed.out().is_empty() {
        failed.err()
    } else {
        failed.out()
    };
    let error: Value = serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(error.to_string().contains("zzzz"), "{error}");
}

#[test]
fn quiet_says_nothing_of_its_own_and_nothing_is_coloured_in_a_pipe() {
    let home = Home::new();
    let ended = home.run(["run", "-q", "--", "sh", "-c", "exit 1"]).expect_code(1);
    assert_eq!((ended.out().as_str(), ended.err().as_str()), ("", ""));
    for words in [
        &["show"][..],
        &["jobs"],
        &["node", "ls"],
        &["doctor"],
        &["local", "status"],
    ] {
        let ended = home.run(words.iter());
        assert!(
            !ended.stdout.contains(&0x1b) && !ended.stderr.contains(&0x1b),
            "{words:?}"
        );
        assert!(!ended.stdout.is_empty(), "{words:?}");
    }
    let colored = home.run(["show", "--color", "always"]).ok();
    assert!(colored.stdout.contains(&0x1b));
}

#[test]
fn commands_without_a_controller_need_none() {
    let home = Home::new();
    for words in [
        &["version"][..],
        &["completions", "bash"],
        &["local", "status"],
        &["--help"],
        &["run", "--help"],
    ] {
        assert!(!home.run(words.iter()).ok().stdout.is_empty(), "{words:?}");
    }
    assert_eq!(home.processes(), []);
    assert!(!home.path("state/haul").exists(), "nothing was made either");
}
