//! Runs a tool to its end: in a process group of its own, nothing on stdin, its output line by line.
//!
//! The group is killed when the caller cancels, when the future is dropped, and when the leader has ended and left
//! others behind. A process that leaves the group on purpose (`setsid`) is not followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

/// A line longer than this is passed on in pieces.
const LONGEST_LINE: usize = 16 * 1024;
/// How much of a tool's last output is kept for an error.
const TAIL_LINES: usize = 20;
/// How long pipes may stay open once the whole group is gone.
const PIPE_GRACE: Duration = Duration::from_secs(2);

/// What to run.
pub(crate) struct Tool<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) args: &'a [OsString],
    /// Its whole environment.
    pub(crate) env: &'a [(OsString, OsString)],
    /// Where it starts.
    pub(crate) cwd: &'a Path,
    /// A lock that must outlive this process if this process is killed: it is given as stdin, which shares its open
    /// file and, being empty, reads as the end of input. So a new agent cannot take the lock while an orphaned uv
    /// still writes below it.
    pub(crate) hold: Option<&'a File>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// By itself.
    Exit {
        /// The code, unless a signal ended it.
        code: Option<i32>,
        /// Its last lines.
        tail: String,
    },
    /// By the caller's wish; its group is gone.
    Canceled,
}

/// Kills what is left of a group when dropped.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            // ESRCH: nobody is left, which is what is wanted.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs `tool`; every piece of output that it writes goes to `said`, with its line end.
pub(crate) async fn run(
    tool: &Tool<'_>,
    said: &(dyn Fn(&[u8]) + Sync),
    cancel: &CancellationToken,
) -> io::Result<Ended> {
    let stdin = match tool.hold {
        Some(file) => Stdio::from(file.try_clone()?),
        None => Stdio::null(),
    };
    let mut child = Command::new(tool.program)
        .args(tool.args)
        .env_clear()
        .envs(tool.env.iter().map(|(k, v)| (k, v)))
        .current_dir(tool.cwd)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let tail = Mutex::new(Tail::default());
    let each = |piece: &[u8]| {
        tail.lock().expect("nothing panics while it is held").push(piece);
        said(piece);
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let pumps = async { tokio::join!(pump(stdout, &each), pump(stderr, &each)) };
    tokio::pin!(pumps);
    let mut drained = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = &mut pumps, if !drained => drained = true,
            () = cancel.cancelled() => {
                group.kill();
                child.wait().await?;
                // The kernel ends the others in its own time; once the last of them has let go of the pipes, none
                // of them writes below the directory that the caller is about to remove.
                if !drained {
                    let _ = tokio::time::timeout(PIPE_GRACE, &mut pumps).await;
                }
                return Ok(Ended::Canceled);
            }
        }
    };
    group.kill();
    if !drained && tokio::time::timeout(PIPE_GRACE, &mut pumps).await.is_err() {
        tracing::debug!(program = %tool.program.display(), "left a process that keeps its output open");
    }
    let tail = tail.lock().expect("nothing panics while it is held").text();
    Ok(Ended::Exit {
        code: status.code(),
        tail,
    })
}

async fn pump(from: Option<impl AsyncRead + Unpin>, each: &(dyn Fn(&[u8]) + Sync)) {
    let Some(from) = from else { return };
    let mut from = BufReader::with_capacity(LONGEST_LINE, from);
    let mut line = Vec::new();
    loop {
        let (used, ended) = match from.fill_buf().await {
            // A pipe has no errors that a retry would mend.
            Err(_) | Ok([]) => break,
            Ok(bytes) => {
                let room = bytes.len().min(LONGEST_LINE - line.len());
                let (used, ended) = bytes[..room]
                    .iter()
                    .position(|b| *b == b'\n')
                    .map_or((room, false), |at| (at + 1, true));
                line.extend_from_slice(&bytes[..used]);
                (used, ended)
            }
        };
        from.consume(used);
        if ended || line.len() == LONGEST_LINE {
            each(&line);
            line.clear();
        }
    }
    if !line.is_empty() {
        line.push(b'\n');
        each(&line);
    }
}

#[derive(Default)]
struct Tail(std::collections::VecDeque<String>);

impl Tail {
    fn push(&mut self, piece: &[u8]) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0
            .push_back(String::from_utf8_lossy(piece).trim_end().to_owned());
    }

    fn text(&self) -> String {
        let lines: Vec<&str> = self.0.iter().map(String::as_str).collect();
        lines.join("\n").trim().to_owned()
    }
}

/// The last lines of a tool that had a short time to answer, or why there are none.
pub(crate) async fn ask(
    program: &Path,
    args: &[&OsStr],
    env: &[(OsString, OsString)],
    limit: Duration,
) -> io::Result<Answer> {
    let args: Vec<OsString> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let output = Mutex::new(Vec::new());
    let tool = Tool {
        program,
        args: &args,
        env,
        // Not the caller's directory: a `.python-version` or a module there must not change the answer.
        cwd: Path::new("/"),
        hold: None,
    };
    let keep = |piece: &[u8]| {
        let mut output = output.lock().expect("nothing panics while it is held");
        if output.len() < 64 * 1024 {
            output.extend_from_slice(piece);
        }
    };
    let never = CancellationToken::new();
    let ended = tokio::time::timeout(limit, run(&tool, &keep, &never)).await;
    let said = String::from_utf8_lossy(&output.lock().expect("nothing panics while it is held")).into_owned();
    Ok(match ended {
        Err(_) => Answer::Silent,
        Ok(ended) => match ended? {
            Ended::Exit { code, .. } => Answer::Said { code, said },
            Ended::Canceled => Answer::Silent,
        },
    })
}

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It ended in time.
    Said {
        /// Its exit code.
        code: Option<i32>,
        /// Its output, the first 64 KiB.
        said: String,
    },
    /// It did not, and was killed.
    Silent,
}

/// The environment with `changes` made: a value sets, none removes.
pub(crate) fn changed(
    env: &[(OsString, OsString)],
    changes: impl IntoIterator<Item = (&'static str, Option<OsString>)>,
) -> Vec<(OsString, OsString)> {
    let mut env = env.to_vec();
    for (name, value) in changes {
        env.retain(|(key, _)| key != name);
        if let Some(value) = value {
            env.push((name.into(), value));
        }
    }
    env
}

/// `path` as an argument.
pub(crate) fn arg(path: &Path) -> OsString {
    PathBuf::from(path).into_os_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str, cancel: &CancellationToken, said: &(dyn Fn(&[u8]) + Sync)) -> Ended {
        let args = ["-c".into(), script.into()];
        let tool = Tool {
            program: Path::new("/bin/sh"),
            args: &args,
            env: &[("PATH".into(), "/usr/bin:/bin".into())],
            cwd: Path::new("/"),
            hold: None,
        };
        run(&tool, said, cancel).await.unwrap()
    }

    #[tokio::test]
    async fn a_child_left_behind_holds_nobody_up() {
        let started = std::time::Instant::now();
        let ended = sh("sleep 60 & echo out; exit 3", &CancellationToken::new(), &|_| {}).await;
        assert!(matches!(ended, Ended::Exit { code: Some(3), tail } if tail == "out"));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn cancel_kills_the_whole_group() {
        let cancel = CancellationToken::new();
        let pids = Mutex::new(String::new());
        let said = |piece: &[u8]| {
            pids.lock().unwrap().push_str(&String::from_utf8_lossy(piece));
            cancel.cancel();
        };
        let ended = sh("sleep 60 & echo $!; wait", &cancel, &said).await;
        assert!(matches!(ended, Ended::Canceled));
        let pid: i32 = pids.lock().unwrap().trim().parse().unwrap();
        // The orphan is init's to reap; a zombie counts as gone, and so does one on its way out of the kernel.
        let started = std::time::Instant::now();
        let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while !(stat().is_empty() || stat().contains(") Z ")) {
            assert!(started.elapsed() < Duration::from_secs(2), "{}", stat());
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn output_comes_by_lines_and_a_long_one_in_pieces() {
        let pieces = Mutex::new(Vec::new());
        let said = |piece: &[u8]| pieces.lock().unwrap().push(piece.len());
        let script = "printf 'a\\nbc\\n'; head -c 40000 /dev/zero";
        sh(script, &CancellationToken::new(), &said).await;
        let expected = [2, 3, LONGEST_LINE, LONGEST_LINE, 40_000 - 2 * LONGEST_LINE + 1];
        assert_eq!(*pieces.lock().unwrap(), expected);
    }
}
