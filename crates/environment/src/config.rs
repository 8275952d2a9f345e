//! What an agent says once about where environments live and what builders may see.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use haul_types::ByteSize;

/// How environments are kept and built on one node. Read once, at the edge; nothing here is taken from the process.
#[derive(Clone, Debug)]
pub struct EnvironmentsConfig {
    /// Where everything is kept: environments, locks, uv and uv's cache. It must be on a local disk, since the
    /// locks are `flock`s.
    pub cache_dir: PathBuf,
    /// The most that environments may take together; the least recently used that nobody uses go first. None: no
    /// limit. uv's own cache counts with them, as far as its files are in no environment, and gives way first.
    pub disk_budget: Option<ByteSize>,
    /// The uv to use. None: `$HAUL_UV`, `PATH`, the usual places below `HOME`, and at last one fetched by pip.
    pub uv: Option<PathBuf>,
    /// The whole environment of every tool that is started: `PATH`, `HOME`, proxies, `PIP_*`, `UV_*`.
    pub node_env: Vec<(OsString, OsString)>,
    /// Compile every module when building. Off by default: for scipy it took 4.8 s, three times the build, where
    /// the first import compiles what it needs in 2.6 s and keeps it, environments being writable.
    pub compile_bytecode: bool,
    /// Files with pip's settings of the whole node, the first read first.
    pub pip_config_files: Vec<PathBuf>,
}

impl EnvironmentsConfig {
    /// The defaults below `cache_dir`, with the environment that builders get.
    #[must_use]
    pub fn new(cache_dir: PathBuf, node_env: Vec<(OsString, OsString)>) -> Self {
        Self {
            cache_dir,
            disk_budget: None,
            uv: None,
            node_env,
            compile_bytecode: false,
            pip_config_files: vec!["/etc/xdg/pip/pip.conf".into(), "/etc/pip.conf".into()],
        }
    }

    /// A variable of the node's environment, unless it is empty.
    pub(crate) fn var(&self, name: &str) -> Option<&OsStr> {
        self.node_env
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_os_str())
            .filter(|value| !value.is_empty())
    }

    /// The same, as text; a variable that is no UTF-8 counts as absent.
    pub(crate) fn text_var(&self, name: &str) -> Option<&str> {
        self.var(name).and_then(OsStr::to_str)
    }

    /// The first executable file called `name` on the node's `PATH`.
    pub(crate) fn on_path(&self, name: &str) -> Option<PathBuf> {
        std::env::split_paths(self.var("PATH")?)
            .filter(|dir| dir.is_absolute())
            .map(|dir| dir.join(name))
            .find(|path| is_executable(path))
    }
}

/// Whether it is a file that somebody may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Why environments could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cache directory, or one below it, cannot be made.
    #[error("the environments' directory {} cannot be made; choose another with `cache_dir`", path.display())]
    CreateDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cache directory has no absolute path.
    #[error("the environments' directory {} has no absolute path", path.display())]
    Resolve {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}
