//! Starting the private controller in the background.

use std::fs::File;
use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::{Local, LocalError};
use crate::daemon::{CONTROLLER, DAEMON, READY};

/// A controller that has said nothing for so long has hung. Opening a large state on a slow disk takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most of its last words that is read.
const LAST_WORDS: u64 = 16 << 10;
/// A log larger than this is begun anew when a controller starts; one old log is kept.
const LOG_LIMIT: u64 = 8 << 20;

impl Local {
    /// Starts the controller and waits until it serves. It says so in a line on its standard output, which is a pipe
    /// for that purpose; whatever else it says there is why it could not.
    pub(super) async fn start_controller(&self) -> Result<(), LocalError> {
        let log = self.open_log().map_err(|source| LocalError::Directory {
            path: self.log(),
            source,
        })?;
        let program = std::env::current_exe().map_err(LocalError::Spawn)?;
        let mut child = Command::new(program)
            .args([DAEMON, CONTROLLER])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // It outlives us: not to be waited for, not to be killed with us.
            .kill_on_drop(false)
            .spawn()
            .map_err(LocalError::Spawn)?;
        let said = child.stdout.take().expect("its standard output is a pipe");
        let mut said = BufReader::new(said.take(LAST_WORDS));
        let mut words = String::new();
        let listening = async {
            said.read_line(&mut words).await?;
            if words.trim_end() != READY {
                said.read_to_string(&mut words).await?;
            }
            Ok::<_, io::Error>(())
        };
        match tokio::time::timeout(PATIENCE, listening).await {
            Ok(Ok(())) if words.trim_end() == READY => Ok(()),
            Ok(Ok(())) if words.trim().is_empty() => Err(LocalError::Silent { log: self.log() }),
            Ok(Ok(())) => Err(LocalError::Failed(words.trim().to_owned())),
            Ok(Err(error)) => Err(LocalError::Spawn(error)),
            Err(_) => Err(LocalError::Failed(format!(
                "it did not say within {} seconds that it is ready; see {}",
                PATIENCE.as_secs(),
                self.log().display()
            ))),
        }
    }

    fn open_log(&self) -> io::Result<File> {
        let path = self.log();
        if path.metadata().is_ok_and(|found| found.len() > LOG_LIMIT) {
            std::fs::rename(&path, path.with_extension("log.old"))?;
        }
        File::options().create(true).append(true).open(path)
    }
}
