//! What a job writes arrives byte by byte, each stream by itself.

use std::time::Duration;

use haul_tests::Home;
use sha2::{Digest as _, Sha256};

/// Writes to standard output or error, and keeps the SHA-256 of what it wrote in `outputs/`.
const WRITER: &str = r#"
import hashlib, sys
def write(stream, name, blocks):
    sha = hashlib.sha256()
    for block in blocks:
        sha.update(block)
        stream.buffer.write(block)
    stream.flush()
    with open("outputs/" + name, "w") as file:
        file.write(sha.hexdigest())
"#;

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Runs a writer; insists that both streams are what the job says that it wrote, live and from the store.
fn is_carried(home: &Home, lines: &str) -> haul_tests::Ended {
    home.write("writer.py", format!("{WRITER}\n{lines}\n"));
    let ran = home
        .haul(["run", "--quiet", "--fetch-outputs", "writer.py"])
        .within(Duration::from_secs(120))
        .run()
        .ok();
    let again = home
        .haul(["logs", "--quiet", "last"])
        .within(Duration::from_secs(120))
        .run()
        .ok();
    for (name, live, stored) in [
        ("stdout", &ran.stdout, &again.stdout),
        ("stderr", &ran.stderr, &again.stderr),
    ] {
        let said = std::fs::read_to_string(home.project().join("outputs").join(name)).unwrap_or_default();
        if !said.is_empty() {
            assert_eq!(sha256(live), said, "{name}, {} bytes live", live.len());
            assert_eq!(sha256(stored), said, "{name}, {} bytes stored", stored.len());
        }
    }
    ran
}

#[test]
fn every_byte_value_arrives_on_its_own_stream() {
    let home = Home::new();
    let ran = is_carried(
        &home,
        r#"
write(sys.stdout, "stdout", [bytes(range(256)) * 3, b"\xff\xfe\x00\r\rhalf \xe2\x82"])
write(sys.stderr, "stderr", [b"\r10%\r20%\r\n", bytes(reversed(range(256))), b"\x1b[31mred"])
"#,
    );
    assert_eq!(ran.stdout[..256], (0..=255).collect::<Vec<u8>>());
    assert!(ran.stdout.ends_with(b"half \xe2\x82"));
    assert!(ran.stderr.ends_with(b"\x1b[31mred"));
}

#[test]
fn a_line_of_64_mib_without_an_end_arrives() {
    let home = Home::new();
    let ran = is_carried(
        &home,
        r#"
import random
block = random.Random(7).randbytes(1 << 20).replace(b"\n", b"n")
write(sys.stdout, "stdout", [block] * 64)
"#,
    );
    assert_eq!(ran.stdout.len(), 64 << 20);
}

#[test]
fn a_million_lines_arrive_in_order() {
    let home = Home::new();
    let ran = is_carried(
        &home,
        r#"
write(sys.stdout, "stdout", (b"".join(b"%d\n" % n for n in range(k, k + 1000)) for k in range(0, 1000000, 1000)))
"#,
    );
    let mut lines = ran.stdout.split(|&byte| byte == b'\n');
    for number in 0..1_000_000 {
        let line = lines.next().unwrap_or_default();
        assert!(line == number.to_string().as_bytes(), "line {number} is {line:?}");
    }
    assert_eq!(lines.collect::<Vec<_>>(), [b""], "and nothing after them");
}

#[test]
fn a_line_is_seen_while_the_job_goes_on() {
    let home = Home::new();
    home.script(
        "talk.sh",
        "echo one; echo two >&2; while ! [ -e outputs/go ]; do sleep 0.02; done; echo three",
    );
    let running = home.haul(["run", "talk.sh"]).start();
    running.wait_for_stdout("one\n");
    running.wait_for_stderr("two\n");
    running.signal(haul_tests::Signal::TERM);
    let ended = running.end().expect_code(130);
    assert_eq!(ended.out(), "one\n");
}

#[test]
fn a_reader_that_goes_away_leaves_the_job_running() {
    let home = Home::new();
    home.script(
        "yes.sh",
        "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; echo end > outputs/end",
    );
    let (reader, writer) = std::io::pipe().unwrap();
    let running = home.haul(["run", "yes.sh"]).into_stdout(writer).start();
    running.wait_for_stderr("job ");
    drop(reader);
    running.end().expect_code(141);
    home.run(["wait", "last"]).ok();
    let logs = home.run(["logs", "last"]).ok();
    assert_eq!(logs.out().lines().count(), 20000);
}
