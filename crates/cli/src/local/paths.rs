//! Where the private controller's things are.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::LocalError;

/// What `sun_path` holds, less its end.
const SOCKET_PATH_LIMIT: usize = 107;

/// Where the environment says that things go; read once, at the edge.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    /// `XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<OsString>,
    /// `XDG_STATE_HOME`.
    pub state_home: Option<OsString>,
    /// `XDG_CACHE_HOME`.
    pub cache_home: Option<OsString>,
    /// The home directory.
    pub home: Option<PathBuf>,
}

/// The private controller's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    socket: PathBuf,
    state: PathBuf,
    cache: PathBuf,
}

impl Local {
    /// As the process's environment says.
    pub fn from_environment() -> Result<Self, LocalError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::at(&Whereabouts {
            runtime_dir: set("XDG_RUNTIME_DIR"),
            state_home: set("XDG_STATE_HOME"),
            cache_home: set("XDG_CACHE_HOME"),
            home: etcetera::home_dir().ok(),
        })
    }

    /// As these settings say.
    pub fn at(settings: &Whereabouts) -> Result<Self, LocalError> {
        let below = |variable, value: &Option<OsString>, usual: &str| match (value, &settings.home) {
            (Some(path), _) if Path::new(path).is_absolute() => Ok(Path::new(path).join("haul")),
            (Some(path), _) => Err(LocalError::Relative {
                variable,
                path: path.into(),
            }),
            (None, Some(home)) => Ok(home.join(usual).join("haul")),
            (None, None) => Err(LocalError::NoHome(variable)),
        };
        let state = below("XDG_STATE_HOME", &settings.state_home, ".local/state")?;
        let cache = below("XDG_CACHE_HOME", &settings.cache_home, ".cache")?;
        let runtime = settings
            .runtime_dir
            .as_ref()
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && is_ours_to_write(path))
            .map(|path| path.join("haul/controller.sock"))
            .filter(|path| path.as_os_str().len() <= SOCKET_PATH_LIMIT);
        let socket = runtime.unwrap_or_else(|| state.join("run/controller.sock"));
        let length = socket.as_os_str().as_bytes().len();
        if length > SOCKET_PATH_LIMIT {
            return Err(LocalError::SocketPath {
                path: socket,
                length,
                limit: SOCKET_PATH_LIMIT,
            });
        }
        Ok(Self { socket, state, cache })
    }

    /// The controller's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The controller's state.
    #[must_use]
    pub fn controller_state(&self) -> PathBuf {
        self.state.join("controller")
    }

    /// The agent's state.
    #[must_use]
    pub fn agent_state(&self) -> PathBuf {
        self.state.join("agent")
    }

    /// What the controller and the agent say.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// Everything that outlives a session.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What can be made again: environments, digests of files.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The file that remembers the digests of a directory's files.
    #[must_use]
    pub fn stat_cache(&self, dir: &Path) -> PathBuf {
        let name = haul_types::Digest::of(dir.as_os_str().as_bytes()).to_string();
        self.cache.join("stat").join(&name[..32])
    }

    /// Makes the directories, closed to others, and refuses those of somebody else.
    pub fn make_directories(&self) -> Result<(), LocalError> {
        let run = self.socket.parent().unwrap_or(Path::new("/"));
        for path in [&self.state, &self.cache, run] {
            make_private(path)?;
        }
        Ok(())
    }

    /// Refuses where a link leads away to a socket of somebody's choice.
    pub(super) fn must_be_here(&self) -> Result<(), LocalError> {
        let led_away = [self.socket.parent().unwrap_or(Path::new("/")), &self.socket]
            .into_iter()
            .find_map(|path| Some((path, std::fs::read_link(path).ok()?)));
        match led_away {
            Some((link, leads_to)) => Err(LocalError::Elsewhere {
                link: link.to_owned(),
                leads_to,
            }),
            None => Ok(()),
        }
    }

    /// Takes the lock that lets one process at a time start the controller; waits for it.
    pub(super) fn lock_start(&self) -> Result<File, LocalError> {
        self.lock("start.lock", false)
            .map_err(|source| LocalError::Directory {
                path: self.state.join("start.lock"),
                source,
            })
    }

    /// Takes the lock of the controller's state, or says that another has it.
    pub fn lock_controller(&self) -> io::Result<File> {
        self.lock("controller.lock", true)
    }

    fn lock(&self, name: &str, at_once: bool) -> io::Result<File> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.state.join(name))?;
        if at_once {
            file.try_lock()?;
        } else {
            file.lock()?;
        }
        Ok(file)
    }
}

fn make_private(path: &Path) -> Result<(), LocalError> {
    let failed = |source| LocalError::Directory {
        path: path.to_owned(),
        source,
    };
    // Parents as usual; only our own directory is closed.
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(failed)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made.map_err(failed)?,
    }
    let found = path.symlink_metadata().map_err(failed)?;
    let found = if found.is_symlink() {
        // A link that the user made is fine when it leads to a directory of theirs.
        path.metadata().map_err(failed)?
    } else {
        found
    };
    if found.uid() != our_uid() {
        return Err(LocalError::Foreign {
            path: path.to_owned(),
            owner: found.uid(),
        });
    }
    if !found.is_dir() {
        return Err(failed(io::ErrorKind::NotADirectory.into()));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether a runtime directory can be trusted with a socket. With sudo or su it is often another user's.
fn is_ours_to_write(path: &Path) -> bool {
    let ours = |found: Metadata| found.is_dir() && found.uid() == our_uid() && found.mode() & 0o022 == 0;
    path.metadata().is_ok_and(ours) && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(root: &Path) -> Whereabouts {
        Whereabouts {
            home: Some(root.to_owned()),
            ..Whereabouts::default()
        }
    }

    #[test]
    fn everything_is_below_the_home_directory_by_default() {
        let local = Local::at(&settings(Path::new("/home/u"))).unwrap();
        assert_eq!(
            local.socket(),
            Path::new("/home/u/.local/state/haul/run/controller.sock")
        );
        assert_eq!(local.cache(), Path::new("/home/u/.cache/haul"));
    }

    #[test]
    fn a_runtime_directory_is_used_if_it_is_ours_and_short() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let mut settings = settings(Path::new("/home/u"));
        settings.runtime_dir = Some(dir.path().into());
        let used = Local::at(&settings).unwrap();
        assert_eq!(used.socket(), dir.path().join("haul/controller.sock"));
        settings.runtime_dir = Some("/nope".into());
        assert!(Local::at(&settings).unwrap().socket().starts_with("/home/u"));
        settings.runtime_dir = Some("relative".into());
        assert!(Local::at(&settings).unwrap().socket().starts_with("/home/u"));
        let deep = dir.path().join("d".repeat(90));
        std::fs::create_dir(&deep).unwrap();
        settings.runtime_dir = Some(deep.into());
        assert!(Local::at(&settings).unwrap().socket().starts_with("/home/u"));
    }

    #[test]
    fn a_socket_path_that_cannot_be_is_an_error() {
        let long = Path::new("/").join("d".repeat(100));
        assert!(matches!(
            Local::at(&settings(&long)),
            Err(LocalError::SocketPath { .. })
        ));
    }

    #[test]
    fn relative_and_missing_homes_are_errors() {
        let mut none = Whereabouts::default();
        assert!(matches!(
            Local::at(&none),
            Err(LocalError::NoHome("XDG_STATE_HOME"))
        ));
        none.state_home = Some("state".into());
        assert!(matches!(Local::at(&none), Err(LocalError::Relative { .. })));
    }

    #[test]
    fn directories_are_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::at(&settings(dir.path())).unwrap();
        std::fs::create_dir_all(local.state()).unwrap();
        std::fs::set_permissions(local.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
        local.make_directories().unwrap();
        for path in [local.state(), local.cache(), local.socket().parent().unwrap()] {
            assert_eq!(
                path.metadata().unwrap().mode() & 0o777,
                0o700,
                "{}",
                path.display()
            );
        }
    }

    #[test]
    fn one_process_at_a_time_has_the_controllers_lock() {
        let dir = tempfile::tempdir().unwrap();
        let local = Local::at(&settings(dir.path())).unwrap();
        local.make_directories().unwrap();
        let held = local.lock_controller().unwrap();
        assert!(local.lock_controller().is_err());
        drop(held);
        assert!(local.lock_controller().is_ok());
    }
}
