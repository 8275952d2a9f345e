//! `--array`: many tasks of one job.

use haul_tests::{Home, Signal};
use serde_json::Value;

#[test]
fn each_task_has_its_index_log_and_exit_code() {
    let home = Home::new();
    home.script(
        "task.sh",
        "echo out $HAUL_TASK_INDEX; echo err $HAUL_TASK_INDEX >&2; exit $((HAUL_TASK_INDEX % 3))",
    );
    // The first that failed decides: task 4, with 1.
    let ended = home.run(["run", "--array", "3-8", "task.sh"]).expect_code(1);
    assert_eq!(ended.out(), "", "an array's output is asked for task by task");
    let show = home.json(["show"]);
    assert_eq!(show["counts"]["succeeded"], 2);
    assert_eq!(show["counts"]["failed"], 4);
    assert_eq!(show["state"], "failed");
    let indices: Vec<_> = show["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| &task["index"])
        .collect();
    assert_eq!(indices, [3, 4, 5, 6, 7, 8]);
    for index in 3..=8 {
        let task = format!("last.{index}");
        let logs = home.run(["logs", "-q", &task]).ok();
        assert_eq!(logs.out(), format!("out {index}\n"));
        assert_eq!(logs.err(), format!("err {index}\n"));
        home.run(["wait", &task]).expect_code(index % 3);
        let task = home.json(["show", &task]);
        assert_eq!(task["tasks"][0]["exit"]["code"], index % 3);
    }
    home.run(["wait", "last"]).expect_code(1);
    for index in [2, 9] {
        let ended = home.run(["show", &format!("last.{index}")]).expect_code(2);
        assert!(ended.err().contains("3 to 8"), "{}", ended.err());
    }
}

#[test]
fn an_array_that_succeeds_is_zero() {
    let home = Home::new();
    let ended = home.run(["run", "--array", "1-40", "--", "true"]).ok();
    assert!(ended.err().contains("40 succeeded"), "{}", ended.err());
    assert_eq!(home.json(["show"])["state"], "succeeded");
}

/// The most that ran at the same moment, by the times that the tasks left in their outputs.
fn most_at_once(home: &Home, first: u32, last: u32) -> usize {
    let mut changes: Vec<(u128, i32)> = Vec::new();
    for index in first..=last {
        let to = home.path(format!("got-{index}"));
        let to_word = to.to_str().unwrap();
        home.run(["outputs", "get", &format!("last.{index}"), "--to", to_word])
            .ok();
        let read = |name: &str| -> u128 {
            let text = std::fs::read_to_string(to.join(name)).unwrap();
            text.trim().parse().unwrap()
        };
        changes.push((read("begin"), 1));
        changes.push((read("end"), -1));
    }
    changes.sort_unstable();
    let (mut now, mut most) = (0, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    usize::try_from(most).unwrap()
}

const TIMED: &str = "date +%s%N > outputs/begin; sleep 0.15; date +%s%N > outputs/end";

#[test]
fn a_limit_on_tasks_at_once_is_kept() {
    let home = Home::new().with("HAUL_SLOTS", "6");
    home.script("timed.sh", TIMED);
    home.run(["run", "--array", "1-10%2", "timed.sh"]).ok();
    assert_eq!(most_at_once(&home, 1, 10), 2);
}

#[test]
fn slots_bound_what_runs_and_are_all_used() {
    let home = Home::new().with("HAUL_SLOTS", "3");
    home.script("timed.sh", TIMED);
    home.run(["run", "--array", "0-8", "timed.sh"]).ok();
    assert_eq!(most_at_once(&home, 0, 8), 3);
}

#[test]
fn an_array_is_canceled_as_a_whole_or_by_task() {
    let home = Home::new();
    home.script("task.sh", "echo at $HAUL_TASK_INDEX; touch outputs/o; sleep 60");
    let running = home.haul(["run", "--array", "1-100", "task.sh"]).start();
    running.wait_for_stderr("2 running");
    home.run(["cancel", "last.1"]).ok();
    home.run(["wait", "last.1"]).expect_code(130);
    assert_eq!(home.json(["show"])["counts"]["canceled"], 1);
    running.signal(Signal::INT);
    let ended = running.end().expect_code(130);
    assert!(ended.err().contains("100 of 100 ended"), "{}", ended.err());
    let show = home.json(["show"]);
    assert_eq!(show["state"], "canceled");
    assert_eq!(show["counts"]["canceled"], 100);
    assert_eq!(home.processes_as(haul_tests::Role::Other), []);
}

#[test]
fn the_tasks_of_an_array_share_one_snapshot_and_none_sees_another() {
    let home = Home::new();
    home.write("data", "d\n");
    home.script(
        "task.sh",
        "ls -A; cat data; echo $HAUL_TASK_INDEX > data; touch left-$HAUL_TASK_INDEX outputs/$HAUL_TASK_INDEX",
    );
    home.run(["run", "--array", "1-12", "task.sh"]).ok();
    for index in 1..=12 {
        let logs = home.run(["logs", "-q", &format!("last.{index}")]).ok();
        assert_eq!(logs.out(), "data\nlogs\noutputs\ntask.sh\nd\n", "task {index}");
        let left = home.run(["outputs", "ls", "-q", &format!("last.{index}")]).ok();
        assert_eq!(left.out().trim(), index.to_string());
    }
}

#[test]
fn a_thousand_tasks_are_all_accounted_for() {
    let home = Home::new();
    let ended = home
        .haul([
            "run",
            "--json",
            "--array",
            "0-999",
            "--",
            "sh",
            "-c",
            "echo $HAUL_TASK_INDEX",
        ])
        .run()
        .ok();
    let last = ended.json_lines().pop().unwrap();
    assert_eq!(last["event"], "ended");
    assert_eq!(home.json(["show"])["counts"]["succeeded"], 1000);
    for index in [0, 1, 499, 998, 999] {
        let logs = home.run(["logs", "-q", &format!("last.{index}")]).ok();
        assert_eq!(logs.out(), format!("{index}\n"));
    }
    let again = home.json(["show", "last.777"]);
    let again: &Value = &again["tasks"][0];
    assert_eq!(
        (&again["state"], &again["stream_bytes"]["stdout"]),
        (&"succeeded".into(), &4.into())
    );
}
