//! Clocks that are wrong, and machines that slept past the end of their certificates.

use std::path::{Path, PathBuf};

use haul_tests::{Command, Machine, Running, Side, Signal};

const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

/// What gives a program another clock. Compiled once for each process of tests.
fn clock() -> PathBuf {
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("clock-{}.so", std::process::id()));
    let compiled = std::process::Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("machines/clock.c"))
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    library
}

/// The same command, by a clock that is wrong by so many seconds.
fn off(command: Command, clock: &Path, by: i64) -> Command {
    command
        .with("LD_PRELOAD", clock)
        .with("CLOCK_IS_OFF_BY", by.to_string())
}

fn serve(hub: &Machine, clock: &Path, by: i64) -> Running {
    let words = ["haul-controller", "--state-dir", "haul"];
    let serving = off(hub.command(words), clock, by).start();
    serving.wait_for_stderr("serving");
    serving
}

fn end(running: Running) {
    running.signal(Signal::TERM);
    running.end().ok();
}

#[test]
fn wrong_clocks_are_named_and_long_sleep_is_forgiven_for_a_week() {
    let machines = [
        ("hub", Side::Outer),
        ("box", Side::Outer),
        ("laptop", Side::Outer),
    ];
    let Some(network) = crate::network(&machines) else {
        return;
    };
    let [hub, box_, laptop] = ["hub", "box", "laptop"].map(|name| network.machine(name));
    let clock = clock();
    let (serving, admin) = crate::controller(hub);
    crate::log_in(laptop, &admin);
    let join = crate::token(laptop, "haul token create --role agent");

    for (by, word) in [(-HOUR, "holds from"), (2 * DAY, "expired at")] {
        let joining = off(box_.command(["haul-agent", "join", &join]), &clock, by).run();
        let asking = off(laptop.command(["haul", "jobs"]), &clock, by).run();
        for ended in [joining, asking] {
            let said = ended.err();
            assert_ne!(ended.code(), 0);
            assert!(
                said.contains(word) && said.contains("clock is wrong, set it"),
                "{said}"
            );
        }
    }
    // Ahead by an hour is within what a new certificate holds, and the token is good by the controller's clock.
    off(box_.command(["haul-agent", "join", &join]), &clock, HOUR)
        .run()
        .ok();
    end(serving);

    // The box sleeps for two days.
    let serving = serve(hub, &clock, 2 * DAY);
    let agent = off(box_.command(["haul-agent"]), &clock, 2 * DAY).start();
    agent.wait_for_stderr("connected");
    end(agent);
    end(serving);

    // And for twenty more.
    let _serving = serve(hub, &clock, 22 * DAY);
    let agent = off(box_.command(["haul-agent"]), &clock, 22 * DAY).start();
    agent.wait_for_stderr("join again");
    std::fs::remove_file(clock).unwrap();
}
