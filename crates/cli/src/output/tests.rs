//! What is printed, to the letter.

use haul_client::{Environment, EnvironmentCache, Environments, Job, JobDetails, Removed, Task};
use haul_types::{
    ArraySpec, ByteSize, Digest, EnvironmentSpec, ExitStatus, JobId, JobSpec, Reason, TaskCounts, TaskState,
    Transition,
};
use jiff::tz::TimeZone;

use super::*;

const HOUR: u64 = 3_600_000;

fn plain() -> Drawing {
    Drawing {
        colored: false,
        now_unix_ms: 2 * HOUR,
        zone: TimeZone::UTC,
    }
}

fn job(name: &str, state: TaskState, counts: [u32; 7]) -> Job {
    Job {
        id: JobId::from_bits(1 << 40).unwrap(),
        name: name.to_owned(),
        owner: (name == "train.py").then(|| "ada \u{1b}[2J".to_owned()),
        state,
        created_unix_ms: HOUR,
        ended_unix_ms: state.is_terminal().then_some(HOUR + 61_000),
        counts: TaskCounts(counts),
    }
}

fn step(state: TaskState, reason: Reason, detail: &str, after_ms: u64) -> Transition {
    Transition {
        state,
        reason,
        detail: detail.to_owned(),
        attempt: 1,
        at_unix_ms: HOUR + after_ms,
    }
}

fn failed_task(index: u32) -> Task {
    Task {
        index,
        state: TaskState::Failed,
        attempt: 1,
        node: Some("box".to_owned()),
        exit: Some(ExitStatus::Code(3)),
        timeline: vec![
            step(TaskState::Queued, Reason::Submitted, "", 0),
            step(TaskState::Preparing, Reason::Assigned, "", 5),
            step(TaskState::Running, Reason::Started, "", 2_100),
            step(TaskState::Finalizing, Reason::Exited, "", 60_000),
            step(
                TaskState::Failed,
                Reason::Exited,
                "the script \u{1b}[31mended",
                61_000,
            ),
        ],
        outputs: Some(Digest::of(b"outputs")),
        logs: None,
        stream_lengths: [0, 2048, 7],
        unreachable: false,
    }
}

fn details(array: Option<ArraySpec>, job: Job, tasks: Vec<Task>) -> JobDetails {
    JobDetails {
        job,
        spec: JobSpec {
            name: "train.py".to_owned(),
            command: vec!["{python}".into(), "train.py".into(), "a b".into()],
            snapshot: Digest::of(b"snapshot"),
            working_dir: String::new(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            environment: EnvironmentSpec::Node,
            array,
            timeout: Some(std::time::Duration::from_secs(90)),
            grace: std::time::Duration::from_secs(10),
            scheduling: haul_types::Scheduling::default(),
        },
        tasks,
        waiting_for: String::new(),
    }
}

#[test]
fn a_list_of_jobs() {
    let jobs = [
        job("train.py", TaskState::Running, [0, 0, 1, 0, 0, 0, 0]),
        job("a\u{1b}[2Jb", TaskState::Failed, [0, 0, 0, 0, 98, 2, 0]),
    ];
    let report = JobsReport {
        jobs: &jobs,
        more: true,
    };
    insta::assert_snapshot!("jobs", report.people(&plain()));
    insta::assert_snapshot!("jobs_json", format!("{:#}", report.json()));
    insta::assert_snapshot!(
        "jobs_colored",
        report
            .people(&Drawing {
                colored: true,
                ..plain()
            })
            .escape_debug()
    );
    assert_eq!(report.quiet(), "00010000000 0\n00010000000 0\n".replace(' ', ""));
}

#[test]
fn one_job() {
    let details = details(
        None,
        job("train.py", TaskState::Failed, [0, 0, 0, 0, 0, 1, 0]),
        vec![failed_task(0)],
    );
    let report = JobReport {
        details: &details,
        task: None,
    };
    insta::assert_snapshot!("show", report.people(&plain()));
    insta::assert_snapshot!("show_json", format!("{:#}", report.json()));
    assert_eq!(report.quiet(), "failed\n");
}

#[test]
fn an_array() {
    let array = Some("1-100%8".parse().unwrap());
    let sums = job("sweep.py", TaskState::Running, [60, 0, 8, 0, 30, 2, 0]);
    let mut waiting = details(array, sums, vec![failed_task(17)]);
    waiting.waiting_for = "a free slot".to_owned();
    insta::assert_snapshot!(
        "show_array",
        JobReport {
            details: &waiting,
            task: None
        }
        .people(&plain())
    );
    let task = failed_task(17);
    insta::assert_snapshot!(
        "show_task",
        JobReport {
            details: &waiting,
            task: Some(&task)
        }
        .people(&plain())
    );
}

#[test]
fn environments() {
    let environments = vec![Environment {
        key: "0123456789abcdef".to_owned(),
        kind: "venv".to_owned(),
        description: "requirements.txt on Python 3.11.2".to_owned(),
        size: ByteSize(300 << 20),
        created_unix_ms: 0,
        last_used_unix_ms: HOUR,
        in_use: false,
        node: "box".to_owned(),
    }];
    let caches = vec![EnvironmentCache {
        node: "box".to_owned(),
        size: ByteSize(200 << 20),
    }];
    let environments = Environments { environments, caches };
    let report = EnvironmentsReport(&environments);
    insta::assert_snapshot!("environments", report.people(&plain()));
    insta::assert_snapshot!("environments_json", format!("{:#}", report.json()));
    let removed = Removed {
        keys: vec!["k".to_owned()],
        freed: ByteSize(1024),
        freed_in_caches: ByteSize(0),
    };
    insta::assert_snapshot!(RemovedReport(&removed).people(&plain()), @"removed 1 environment, 1.0 KiB");
    let emptied = Removed {
        freed_in_caches: ByteSize(2048),
        ..Removed::default()
    };
    insta::assert_snapshot!(RemovedReport(&emptied).people(&plain()), @"freed 2.0 KiB in uv's cache");
}

#[test]
fn errors_say_what_where_and_what_next() {
    let failure = Failure::usage("cannot open \u{7}x")
        .at("first\nsecond")
        .help("do this");
    insta::assert_snapshot!(people::describe(&failure, &plain()), @r"
    error: cannot open \u{7}x
      first
      second
      help: do this
    ");
}

#[test]
fn events_as_json_lines() {
    let id = JobId::from_bits(1).unwrap();
    let task = failed_task(0);
    let job = job("x", TaskState::Running, [0, 0, 1, 0, 0, 0, 0]);
    let stdout = haul_types::StreamKind::Stdout;
    let events = [
        Event::Submitted {
            id,
            name: "x",
            detached: false,
        },
        Event::Task(&task),
        Event::Sums(&job),
        Event::Log {
            stream: stdout,
            offset: 5,
            data: b"hi\n",
        },
        Event::Log {
            stream: stdout,
            offset: 8,
            data: b"\xff",
        },
        Event::Attempt(2),
        Event::Lost("reset"),
        Event::Resumed,
        Event::Detached(id),
        Event::Ended {
            id,
            state: TaskState::Failed,
            exit_code: 3,
        },
    ];
    let lines: Vec<String> = events.iter().map(|event| event.json().to_string()).collect();
    insta::assert_snapshot!("events_json", lines.join("\n"));
}
