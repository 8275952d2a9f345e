//! Thousands of stalled handshakes and a flood of calls that are taken back at once, against a port on this machine:
//! how long somebody honest waits, and how much memory the port takes. Run it released:
//!
//! ```text
//! cargo run --release -p haul-transport --features client,server --example flood
//! ```
//!
//! The port is a process of its own (this program once more), everything is on 127.0.0.1, and everybody comes from the
//! one address, which is the hardest for the honest. With arguments it is a controller's that is there already:
//! `flood ADDRESS ROOT PID`, with the certificate of its authority in hexadecimal.

#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared with tests, which need more of it and may panic"
)]
#[path = "../tests/network/support.rs"]
mod support;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use haul_transport::{Dialer, Limits, Proxy};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use support::{Identity, NAME, call, channel, open_and_take_back, serve};

/// The name that every controller proves.
const CONTROLLER: &str = "haul-controller";
const STALLED: usize = 5_000;
const RESETTERS: usize = 8;
const HONEST: usize = 300;

#[tokio::main(worker_threads = 2)]
async fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["serve"] => return port().await,
        [address, root, pid] => {
            assert!(
                address.starts_with("127."),
                "floods are for this machine alone, and {address} may not be"
            );
            let pid = pid.parse().expect("a process id");
            return measure(address, root, CONTROLLER, pid).await;
        }
        _ => panic!("give nothing, or ADDRESS ROOT PID"),
    }
    let mut child = Command::new(std::env::current_exe().expect("a program"))
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the port starts");
    let pid = child.id();
    let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
    let mut line = || lines.next().expect("a line").expect("it is text");
    let (address, root) = (line(), line());
    measure(&address, &root, NAME, pid).await;
    let _ = child.kill();
    let _ = child.wait();
}

/// Says where it is and whom to believe; ends with its standard input.
async fn port() {
    let identity = Identity::new();
    let mut server = serve(&identity, Limits::default()).await;
    let root: String = identity.root().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("{}\n{root}", server.address);
    let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    let calls = async { while server.calls.recv().await.is_some() {} };
    let cut = async { while server.cut.recv().await.is_some() {} };
    tokio::select! {
        _ = ended => {}
        ((), ()) = async { tokio::join!(calls, cut) } => {}
    }
}

/// Measures the port that is there, of the process `pid`, which proves `name` by the authority `root`.
async fn measure(address: &str, root: &str, name: &'static str, pid: u32) {
    let address: SocketAddr = address.parse().expect("an address");
    let root: Vec<u8> = (0..root.len() / 2)
        .map(|place| u8::from_str_radix(&root[2 * place..2 * place + 2], 16).expect("hexadecimal digits"))
        .collect();
    let dialer = Dialer::new(
        vec![address.to_string().parse().expect("an address")],
        support::anonymous(CertificateDer::from(root)),
        ServerName::try_from(name).expect("a name"),
        Proxy::none(),
    );
    report("nobody else", &honest(&dialer).await, pid);

    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    for number in 0..STALLED {
        tasks.spawn(stop.clone().run_until_cancelled_owned(stall(address, number)));
    }
    // Until they have all been there once.
    tokio::time::sleep(Duration::from_secs(2)).await;
    report(
        &format!("{STALLED} stalled handshakes"),
        &honest(&dialer).await,
        pid,
    );

    for _ in 0..RESETTERS {
        let dialer = dialer.clone();
        let flood = async move {
            loop {
                if let Ok(dialed) = dialer.dial().await {
                    open_and_take_back(dialed.stream, 1_000_000).await;
                }
            }
        };
        tasks.spawn(stop.clone().run_until_cancelled_owned(flood));
    }
    report(
        &format!("and {RESETTERS} who open calls and take them back"),
        &honest(&dialer).await,
        pid,
    );
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    report("nobody else again", &honest(&dialer).await, pid);
}

/// Never says more than the beginning of a handshake, and comes again when it is cut off.
async fn stall(address: SocketAddr, number: usize) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            // Half of them say nothing at all.
            if number.is_multiple_of(2) {
                let _ = stream.write_all(b"\x16\x03\x01\x02\x00\x01").await;
            }
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0]).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// How long each of some honest calls took, from dialling to its answer, one after the other; and how many tries were
/// in vain, which count into the time.
async fn honest(dialer: &Dialer) -> (Vec<Duration>, usize) {
    let (mut took, mut in_vain) = (Vec::new(), 0);
    for _ in 0..HONEST {
        let began = Instant::now();
        while !once(dialer).await {
            in_vain += 1;
        }
        took.push(began.elapsed());
    }
    took.sort_unstable();
    (took, in_vain)
}

async fn once(dialer: &Dialer) -> bool {
    match dialer.dial().await {
        Ok(dialed) => call(channel(dialed.stream), "/").await.is_ok(),
        Err(_) => false,
    }
}

fn report(with: &str, (took, in_vain): &(Vec<Duration>, usize), pid: u32) {
    let at = |hundredths: usize| took[(took.len() - 1) * hundredths / 100].as_secs_f64() * 1e3;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    let memory = |name: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(1)
            .and_then(|kib| kib.parse::<u64>().ok())
            .unwrap_or(0)
            / 1024
    };
    println!(
        "{with}: {in_vain} tries in vain, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; the port has {} MiB, at most {} MiB",
        at(50),
        at(99),
        at(100),
        memory("VmRSS:"),
        memory("VmHWM:"),
    );
}
