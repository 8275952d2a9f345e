//! The private controller of this user on this machine: where it is, and starting it when nobody answers.
//!
//! ```text
//!   connect ──answered──────────────────────────────────────────> talk
//!      │ nobody
//!      ▼
//!   lock start.lock ──> connect again ──answered (another shell was first)──> unlock, talk
//!      │ nobody
//!      ▼
//!   start `haul __daemon controller`, wait for its word on a pipe ──"ready"──> connect, unlock, talk
//!      │ anything else
//!      ▼
//!   its own words are the error
//! ```
//!
//! None is started where the socket or its directory is a link: whoever made it means another controller than this one,
//! and that one's jobs are not here.
//!
//! Every directory is the user's own and closed to others; one that is not is refused. Peers are checked by uid on
//! both sides.

mod paths;
mod start;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use haul_client::{ByteStream, Client, Dial, DialError, Dialing, UnixSocket};
use tokio::net::UnixStream;

pub use paths::{Local, Whereabouts};

/// How often a controller is started that ends without a word.
const STARTS: u32 = 3;

/// Why there is no private controller to talk to.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Neither XDG variables nor a home directory.
    #[error("cannot tell where to keep Haul's state: {0} is not set and there is no home directory")]
    NoHome(&'static str),
    /// A path in a variable is relative.
    #[error("{variable} is {path:?}, which is not an absolute path")]
    Relative {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// A directory cannot be made or looked at.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory is somebody else's.
    #[error("{} belongs to user {owner}, not to you", path.display())]
    Foreign {
        /// Which.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The socket's path is longer than the system takes.
    #[error("the socket's path is too long: {} has {length} bytes, {limit} are possible", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// What the system takes.
        limit: usize,
    },
    /// Someone else's process answers.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The socket is somebody's choice: a link leads to it, and nobody answers.
    #[error("nobody answers at {}, to which {} is a link", leads_to.display(), link.display())]
    Elsewhere {
        /// The link.
        link: PathBuf,
        /// Where it leads.
        leads_to: PathBuf,
    },
    /// The controller could not be started.
    #[error("cannot start the controller")]
    Spawn(#[source] io::Error),
    /// The controller was started and gave up; these are its words.
    #[error("the controller could not start: {0}")]
    Failed(String),
    /// The controller was started and ended before it said anything, as one does that is killed.
    #[error("the controller ended before it served; see {}", log.display())]
    Silent {
        /// Where its last words are, if it had any.
        log: PathBuf,
    },
}

impl LocalError {
    /// Whether another setting or directory would mend it.
    #[must_use]
    pub const fn is_users_to_mend(&self) -> bool {
        !matches!(self, Self::Dial(_))
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NoHome(_) => Some("set HOME, or XDG_STATE_HOME and XDG_CACHE_HOME"),
            Self::Relative { .. } => Some("write an absolute path, or unset the variable"),
            Self::Directory { .. } | Self::Failed(_) | Self::Silent { .. } => Some(
                "make room there or make it writable, or name other places by XDG_STATE_HOME and XDG_CACHE_HOME",
            ),
            Self::Foreign { .. } => {
                Some("remove it, or name another place by XDG_RUNTIME_DIR or XDG_STATE_HOME")
            }
            Self::SocketPath { .. } => Some("name a shorter directory by XDG_RUNTIME_DIR or XDG_STATE_HOME"),
            Self::Elsewhere { .. } => Some(
                "start the controller that listens there, or remove the link: a controller of your own would take that \
                 one's place",
            ),
            Self::Dial(_) => Some("`haul local status` says what is there"),
            Self::Spawn(_) => None,
        }
    }
}

impl Local {
    /// A connection to the controller, which is started if nobody answers.
    pub async fn connect(&self) -> Result<Client, LocalError> {
        let first = self.ensure().await?;
        Ok(Client::over(first, Arc::new(LocalDial(self.clone()))))
    }

    /// A connection to the controller if it runs.
    pub async fn connect_if_running(&self) -> Result<Option<Client>, LocalError> {
        Ok(self
            .answered()
            .await?
            .map(|first| Client::over(first, Arc::new(UnixSocket::new(self.socket().to_owned())))))
    }

    /// An open connection; starts the controller if nobody answers.
    async fn ensure(&self) -> Result<UnixStream, LocalError> {
        if let Some(stream) = self.answered().await? {
            return Ok(stream);
        }
        self.must_be_here()?;
        self.make_directories()?;
        let start = self.clone();
        let _lock = tokio::task::spawn_blocking(move || start.lock_start())
            .await
            .map_err(|error| LocalError::Spawn(io::Error::other(error)))??;
        if let Some(stream) = self.answered().await? {
            return Ok(stream);
        }
        let mut tries = 1;
        loop {
            match self.start_controller().await {
                Ok(()) => return Ok(UnixSocket::open(self.socket()).await?),
                // Whatever it finds wrong it says: this one was killed, and the next need not be.
                Err(LocalError::Silent { .. }) if tries < STARTS => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A connection if somebody answers who is us.
    async fn answered(&self) -> Result<Option<UnixStream>, LocalError> {
        match UnixSocket::open(self.socket()).await {
            Ok(stream) => Ok(Some(stream)),
            Err(DialError::Connect { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Dials the private controller, and starts it again when it is gone.
struct LocalDial(Local);

impl Dial for LocalDial {
    fn dial(&self) -> Dialing {
        let local = self.0.clone();
        Box::pin(async move {
            match local.ensure().await {
                Ok(stream) => Ok(Box::new(stream) as ByteStream),
                Err(LocalError::Dial(error)) => Err(error),
                Err(error) => Err(DialError::Hopeless(Arc::new(error))),
            }
        })
    }
}
