//! What the tests of this crate run as supervisor, as agent and as launcher to be killed, and as unruly job. Not shipped.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use haul_launcher::privileged::{JobUsers, PrivilegedConfig, Service};
use haul_launcher::{AttemptOrder, Launcher, LauncherConfig, Limits, SupervisorProgram, supervisor};
use haul_types::{AttemptId, JobId};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    if let Some(code) = supervisor::main_if_asked() {
        return code;
    }
    let mut args = std::env::args().skip(1);
    let job = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    match (job.as_str(), rest.as_slice()) {
        ("agent", [state, job, attempts, command @ ..]) => agent(Path::new(state), job, attempts, command),
        ("serve", [state, socket, agent_uid, agent_dir]) => {
            serve(state.into(), socket.into(), number(agent_uid), agent_dir.into())
        }
        ("tree", [depth]) => tree(number(depth)),
        ("hop", [hops]) => hop(number(hops)),
        _ => ExitCode::FAILURE,
    }
}

fn number(text: &str) -> u32 {
    text.parse().expect("the tests give numbers")
}

/// Starts attempts, says the id of each main process, and waits for ever: to be killed.
fn agent(state: &Path, job: &str, attempts: &str, command: &[String]) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let config = LauncherConfig::new(SupervisorProgram::this_one());
        let (launcher, _) = Launcher::open(state, config).expect("the state directory is free");
        let job = JobId::from_bits(u64::from(number(job))).expect("32 bits are few enough");
        let mut running = Vec::new();
        for index in 0..number(attempts) {
            let order = AttemptOrder {
                attempt: AttemptId::new(job, index, 1),
                program: OsString::from(&command[0]),
                args: command[1..].iter().map(OsString::from).collect(),
                cwd: PathBuf::from("/"),
                env: vec![("PATH".into(), "/usr/bin:/bin".into())],
                stdout: state.join(format!("{index}.out")),
                stderr: state.join(format!("{index}.err")),
                timeout: None,
                grace: Duration::from_secs(1),
                limits: Limits::default(),
            };
            let mut attempt = launcher.start(order).await.expect("the attempt is started");
            let pid = attempt.started().await.expect("it has a process");
            println!("{pid}");
            running.push(attempt);
        }
        std::io::stdout().flush().expect("the test listens");
        std::future::pending::<ExitCode>().await
    })
}

/// Is a launcher of its own, says that it listens, and serves for ever: to be killed.
fn serve(state_dir: PathBuf, socket: PathBuf, agent_uid: u32, agent_dir: PathBuf) -> ExitCode {
    let users = JobUsers::new(60_900..=60_901, 60_899, agent_uid).expect("ids of nobody");
    let config = PrivilegedConfig {
        state_dir,
        socket,
        agent_uid,
        agent_gid: 0,
        agent_dir,
        users,
        pids_limit: 200,
        launcher: LauncherConfig::new(SupervisorProgram::this_one()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    runtime.block_on(async {
        let service = Service::open(config).expect("the state directory is free");
        println!("ready");
        service.serve(CancellationToken::new()).await;
    });
    ExitCode::SUCCESS
}

fn this_program() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.stdin(Stdio::null());
    command
}

/// Makes two processes, each of which makes two, and so on `depth` deep; each in a group of its own. Nobody ends.
fn tree(depth: u32) -> ExitCode {
    if depth > 0 {
        for _ in 0..2 {
            let _ = this_program()
                .args(["tree", &(depth - 1).to_string()])
                .process_group(0)
                .spawn();
        }
    }
    std::thread::sleep(Duration::from_secs(600));
    ExitCode::SUCCESS
}

/// Makes one process that does the same with one less, and ends at once: a target that never stands still.
fn hop(hops: u32) -> ExitCode {
    if hops > 0 {
        let _ = this_program()
            .args(["hop", &(hops - 1).to_string()])
            .process_group(0)
            .spawn();
    }
    ExitCode::SUCCESS
}
