//! Where and when jobs run: targets, requests, nodes that take no work, limits of waiting, retries.

use std::time::Duration;

use haul_tests::{Home, Role};

/// The name of the home's one node.
fn node(home: &Home) -> String {
    home.run(["run", "-q", "--", "true"]).ok();
    home.run(["node", "ls", "--quiet"]).ok().out().trim().to_owned()
}

#[test]
fn a_target_is_declared_used_and_taken_back() {
    let home = Home::new();
    let node = node(&home);
    let refused = home.run(["run", "--target", "lap", "--", "true"]).expect_code(2);
    assert!(
        refused.err().contains("there is no target or node lap"),
        "{}",
        refused.err()
    );
    assert!(refused.err().contains(&node), "{}", refused.err());
    home.run(["target", "create", "lab", "--node", &node]).ok();
    let near = home.run(["run", "--target", "lap", "--", "true"]).expect_code(2);
    assert!(near.err().contains("did you mean lab?"), "{}", near.err());
    for target in ["lab", node.as_str()] {
        let ended = home
            .run(["run", "-q", "--target", target, "--", "echo", "here"])
            .ok();
        assert_eq!(ended.out(), "here\n");
    }
    assert_eq!(home.json(["target", "show", "lab"])["members"][0], node.as_str());
    assert_eq!(
        home.json(["show", "last"])["spec"]["scheduling"]["target"],
        node.as_str()
    );
    home.run(["target", "rm", "lab"]).ok();
    home.run(["run", "--target", "lab", "--", "true"]).expect_code(2);
}

#[test]
fn a_job_that_fits_nowhere_says_so_at_once_and_waits() {
    let home = Home::new();
    node(&home);
    let ended = home.run(["run", "-d", "--cpus", "64", "--", "true"]).ok();
    assert!(ended.err().contains("needs 64 CPUs"), "{}", ended.err());
    let shown = home.json(["show", "last"]);
    assert_eq!(shown["state"], "queued");
    assert!(
        shown["waiting_for"].as_str().unwrap().contains("needs 64 CPUs"),
        "{shown}"
    );
    // It holds up nobody who fits.
    home.run(["run", "-q", "--", "true"]).ok();
}

#[test]
fn a_cordoned_node_takes_no_work_through_a_restart_and_a_job_waits_no_longer_than_its_limit() {
    let home = Home::new();
    let node = node(&home);
    home.run(["node", "drain", &node]).ok();
    assert_eq!(
        home.json(["node", "show", &node])["state"],
        "cordoned",
        "it had nothing to do"
    );
    let job = home.detach(["--queue-timeout", "1s", "--", "true"]);
    let why = home.json(["show", &job])["waiting_for"].to_string();
    assert!(why.contains(&format!("haul node uncordon {node}")), "{why}");
    home.run(["wait", &job]).expect_code(124);
    let controllers = home.processes_as(Role::Controller);
    home.run(["local", "stop"]).ok();
    for controller in controllers {
        assert!(controller.is_gone_within(Duration::from_secs(20)));
    }
    let job = home.detach(["--", "true"]);
    assert_eq!(home.json(["show", &job])["state"], "queued");
    home.run(["node", "uncordon", &node]).ok();
    home.run(["wait", &job]).ok();
}

#[test]
fn a_script_that_fails_is_tried_again_if_its_owner_says_so() {
    let home = Home::new();
    let script = "test \"$HAUL_ATTEMPT\" = 3 || exit 7";
    let words = [
        "run",
        "-q",
        "--retries",
        "2",
        "--retry-on",
        "any",
        "--",
        "sh",
        "-c",
        script,
    ];
    home.run(words).ok();
    assert_eq!(home.json(["show", "last"])["tasks"][0]["attempt"], 3);
    home.run(["run", "-q", "--retries", "2", "--", "sh", "-c", script])
        .expect_code(7);
    assert_eq!(home.json(["show", "last"])["tasks"][0]["attempt"], 1);
}

#[test]
fn a_connected_node_is_not_removed() {
    let home = Home::new();
    let node = node(&home);
    let refused = home.run(["node", "rm", &node]).expect_code(2);
    assert!(refused.err().contains("is connected"), "{}", refused.err());
    home.run(["node", "rm", "nobody"]).expect_code(2);
}
