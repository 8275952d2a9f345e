//! `kill -9` of controller and agent at any moment: the job goes on, nobody loses a byte, and it starts once.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use haul_tests::{Home, Role, Running, Signal};

/// Lines that the job writes.
const LINES: u32 = 150;

/// A job that notes each start outside of its directory, writes numbered lines, and ends with 7.
fn counting(home: &Home) -> Running {
    home.script(
        "count.sh",
        "echo start >> \"$STARTS\"\n\
         i=0; while [ $i -lt $LINES ]; do echo line $i; echo err $i >&2; i=$((i+1)); sleep 0.01; done\n\
         echo o > outputs/o; exit 7",
    );
    let starts = format!("STARTS={}", home.path("starts").display());
    let lines = format!("LINES={LINES}");
    home.haul(["run", "--env", &starts, "--env", &lines, "count.sh"])
        .start()
}

/// Insists that the job was untouched.
fn is_whole(home: &Home, running: Running) {
    let ended = running.end().expect_code(7);
    let lines: String = (0..LINES).map(|number| format!("line {number}\n")).collect();
    assert_eq!(ended.out(), lines, "live");
    let logs = home.run(["logs", "-q", "last"]).ok();
    assert_eq!(logs.out(), lines, "stored");
    let errors: String = (0..LINES).map(|number| format!("err {number}\n")).collect();
    assert_eq!(logs.err(), errors, "stored");
    let starts = std::fs::read_to_string(home.path("starts")).unwrap();
    assert_eq!(starts, "start\n", "it started once");
    let show = home.json(["show"]);
    assert_eq!(show["tasks"][0]["exit"]["code"], 7);
    home.run(["outputs", "get"]).ok();
}

/// A line of the job, anywhere in it, and told when a test fails.
fn some_line(what: &str) -> u32 {
    let line = u32::try_from(RandomState::new().hash_one(0) % u64::from(LINES)).unwrap();
    println!("{what} at line {line}");
    line
}

fn kill(home: &Home, roles: &[Role]) {
    for &role in roles {
        let found = home.processes_as(role);
        assert!(
            !found.is_empty() || role != Role::Controller,
            "no {role:?} to kill"
        );
        for process in found {
            process.kill();
        }
    }
}

/// Kills at some line, and again at a later one.
fn survives(roles: &[Role]) {
    let home = Home::new();
    let running = counting(&home);
    let mut moments = [some_line("killed"), some_line("killed")];
    moments.sort_unstable();
    for line in moments {
        running.wait_for_stdout(&format!("line {line}\n"));
        kill(&home, roles);
    }
    is_whole(&home, running);
}

#[test]
fn a_job_survives_the_controllers_death() {
    survives(&[Role::Controller]);
}

#[test]
fn a_job_survives_the_agents_death() {
    survives(&[Role::Agent]);
}

#[test]
fn a_job_survives_the_death_of_both() {
    survives(&[Role::Controller, Role::Agent]);
    survives(&[Role::Agent, Role::Controller]);
}

#[test]
fn a_job_survives_a_death_at_its_very_start() {
    for roles in [
        &[Role::Controller][..],
        &[Role::Agent],
        &[Role::Controller, Role::Agent],
    ] {
        let home = Home::new();
        let running = counting(&home);
        running.wait_for_stderr("job ");
        kill(&home, roles);
        is_whole(&home, running);
    }
}

#[test]
fn a_job_that_ends_while_nobody_is_there_is_known_afterwards() {
    let home = Home::new();
    home.script(
        "job.sh",
        "echo begun; until [ -e \"$GO\" ]; do sleep 0.02; done; echo late; echo o > outputs/o; exit 6",
    );
    let go = home.path("go");
    let id = home.detach(["--env", &format!("GO={}", go.display()), "job.sh"]);
    let following = home.haul(["logs", "-f", &id]).start();
    following.wait_for_stdout("begun");
    following.signal(Signal::KILL);
    let _ = following.end();
    let job = home.processes_as(Role::Other);
    assert!(!job.is_empty());
    kill(&home, &[Role::Controller, Role::Agent]);
    std::fs::write(go, "").unwrap();
    for process in job {
        assert!(process.is_gone_within(Duration::from_secs(10)), "{process:?}");
    }
    home.run(["wait", &id]).expect_code(6);
    assert_eq!(home.run(["logs", "-q", &id]).ok().out(), "begun\nlate\n");
    home.run(["outputs", "get", &id]).ok();
}

#[test]
fn a_supervisors_death_ends_the_job_openly() {
    let home = Home::new();
    let running = home
        .haul(["run", "--", "sh", "-c", "echo ready; sleep 60"])
        .start();
    running.wait_for_stdout("ready");
    kill(&home, &[Role::Supervisor]);
    let ended = running.end().expect_code(125);
    assert!(ended.err().contains("supervisor was killed"), "{}", ended.err());
    assert_eq!(home.processes_as(Role::Other), [], "and its processes are gone");
    home.run(["run", "--", "true"]).ok();
}

#[test]
fn an_array_survives_the_death_of_both() {
    let home = Home::new();
    home.script(
        "task.sh",
        "echo $HAUL_TASK_INDEX >> \"$STARTS\"; sleep 0.05; echo did $HAUL_TASK_INDEX",
    );
    let starts = format!("STARTS={}", home.path("starts").display());
    let running = home
        .haul(["run", "--env", &starts, "--array", "1-60", "task.sh"])
        .start();
    for _ in 0..3 {
        let before = std::fs::read(home.path("starts")).unwrap_or_default().len();
        // Told by the job's own file: arrays print sums only once a second.
        while std::fs::read(home.path("starts")).unwrap_or_default().len() < before + 8 {
            std::thread::sleep(Duration::from_millis(10));
        }
        kill(&home, &[Role::Controller, Role::Agent]);
    }
    running.end().ok();
    let mut starts: Vec<u32> = std::fs::read_to_string(home.path("starts"))
        .unwrap()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    starts.sort_unstable();
    assert_eq!(starts, (1..=60).collect::<Vec<_>>(), "each started once");
    for index in [1, 30, 60] {
        let logs = home.run(["logs", "-q", &format!("last.{index}")]).ok();
        assert_eq!(logs.out(), format!("did {index}\n"));
    }
}

#[test]
fn a_cancel_while_the_agent_is_dead_is_carried_out() {
    let home = Home::new();
    let running = home
        .haul(["run", "--", "sh", "-c", "echo ready; sleep 60"])
        .start();
    running.wait_for_stdout("ready");
    kill(&home, &[Role::Agent]);
    home.run(["cancel", "last"]).ok();
    running.end().expect_code(130);
    assert_eq!(home.processes_as(Role::Other), []);
}

#[test]
fn a_death_while_a_directory_is_sent_leaves_nothing_half_made() {
    let home = Home::new();
    home.script("job.sh", "cat *.bin | wc -c");
    for file in 0..24_u8 {
        let bytes: Vec<u8> = (0..1_u32 << 20)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ file)
            .collect();
        home.write(format!("{file}.bin"), bytes);
    }
    // So that it is there, and no start is cut short.
    assert_eq!(home.jobs(), 0);
    for pause in [5, 20, 60, 120] {
        let running = home.haul(["run", "-q", "job.sh"]).start();
        std::thread::sleep(Duration::from_millis(pause));
        for process in home.processes_as(Role::Controller) {
            process.kill();
        }
        assert_eq!(
            running.end().ok().out().trim(),
            (24 << 20).to_string(),
            "killed after {pause} ms"
        );
    }
    assert_eq!(home.jobs(), 4, "each was taken once");
    // The one who sends dies: whoever comes next is not hindered.
    home.write("more.bin", vec![1; 8 << 20]);
    let running = home.haul(["run", "-q", "job.sh"]).start();
    running.signal(Signal::KILL);
    let _ = running.end();
    assert_eq!(
        home.run(["run", "-q", "job.sh"]).ok().out().trim(),
        (32 << 20).to_string()
    );
}

#[test]
fn a_controller_that_is_killed_while_it_starts_is_started_again() {
    for pause in [1, 3, 6, 10, 15] {
        let home = Home::new();
        let running = home.haul(["run", "-q", "--", "echo", "ran"]).start();
        let controller = std::iter::repeat_with(|| home.processes_as(Role::Controller).pop())
            .find_map(std::convert::identity)
            .unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        controller.kill();
        assert_eq!(running.end().ok().out(), "ran\n", "killed after {pause} ms");
        assert_eq!(home.jobs(), 1);
    }
}
