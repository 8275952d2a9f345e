//! `docs/several-machines.md`: every command of a block that is marked `checked` is run on the machine of its prompt.
//!
//! What the page leaves to its reader is done here: a token is carried from where it was printed (`haul1.…` in a
//! command is the last one), the user has a directory with a script, and boxes get packages without an index.

use haul_page::Command;
use haul_tests::{Machine, Network, Side};

use crate::wheels;

/// How a command ends that starts a daemon, but for the file that its words go to.
const INTO: (&str, &str) = (" > ", " 2>&1 &");

#[test]
fn the_page_works_as_written() {
    let machines = [
        ("hub", Side::Outer),
        ("gpu-box", Side::Outer),
        ("laptop", Side::Outer),
        ("proxy", Side::Both),
        ("far-box", Side::Inner),
    ];
    let Some(mut network) = crate::network(&machines) else {
        return;
    };
    let wheels = wheels::directory();
    for machine in ["gpu-box", "far-box"] {
        network.set(machine, "PIP_NO_INDEX", "1");
        network.set(machine, "PIP_FIND_LINKS", &wheels);
    }
    let laptop = network.machine("laptop");
    std::fs::create_dir(laptop.path("digits")).unwrap();
    for file in ["train.py", "requirements.txt"] {
        let copy = laptop.path("digits").join(file);
        std::fs::copy(wheels::digits().join(file), copy).unwrap();
    }
    let passing = network
        .machine("proxy")
        .command([
            "python3",
            concat!(env!("CARGO_MANIFEST_DIR"), "/machines/proxy.py"),
        ])
        .start();
    passing.wait_for_stdout("serving");
    let direct = crate::shell(network.machine("far-box"), "exec 3<>/dev/tcp/10.77.0.1/7070");
    assert_ne!(direct.code(), 0, "nothing but the proxy leads out of there");

    let page = include_str!("../../docs/several-machines.md");
    let mut token = String::new();
    for command in haul_page::commands(page).unwrap() {
        follow(&network, &command, &mut token);
    }
    passing.wait_for_stdout("CONNECT hub.example.org:7070");
    passing.wait_for_stdout("GET http://hub.example.org:7070/");
}

fn follow(network: &Network, command: &Command, token: &mut String) {
    let machine = network.machine(&command.machine);
    let text = command.text.replace("haul1.…", token);
    let ended = crate::shell(machine, &format!("exec 2>&1; {text}"));
    let said = ended.out();
    let place = format!("line {}: `{}`", command.line, command.text);
    assert_eq!(ended.code(), 0, "{place} said:\n{said}");
    if let Some(line) = command.first_unmet(&said) {
        panic!("{place} should have printed {line:?}; it said:\n{said}");
    }
    if let Some(printed) = said.lines().find(|line| line.starts_with("haul1.")) {
        printed.clone_into(token);
    }
    if let Some((_, file)) = text.strip_suffix(INTO.1).and_then(|text| text.split_once(INTO.0)) {
        wait_for_daemon(machine, file);
    }
}

/// A reader is slower than a daemon; this one waits for it.
fn wait_for_daemon(machine: &Machine, file: &str) {
    let line = format!("grep -qm1 -E 'serving|connected' <(timeout 30 tail -n +1 -F {file} 2>/dev/null)");
    crate::shell(machine, &line).ok();
}
