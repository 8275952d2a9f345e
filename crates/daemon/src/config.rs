//! Configuration files: TOML, one struct for each daemon, unknown keys refused. What a flag says goes over it.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It makes no sense.
    #[error("the configuration {} is wrong: {problem}", path.display())]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

/// Reads the file that was named. It must be there.
pub fn read_config<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    toml::from_str(&text).map_err(|error| ConfigError::Wrong {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}

/// Reads the file that is looked for when none was named; without it everything has its default.
pub fn read_config_if_there<T: DeserializeOwned + Default>(path: &Path) -> Result<T, ConfigError> {
    match read_config(path) {
        Err(ConfigError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        other => other,
    }
}
