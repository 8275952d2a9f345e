//! Making a controller that others can reach: its authority, its configuration and the first admin's token.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::SystemTime;

use haul_identity::{Address, Authorities, AuthorityError, Token};
use haul_store::{CommitError, IdentityOp, Metadata, Op, OpenError};
use haul_types::Role;

use super::tokens::{Life, TokenOrder};
use super::{IdentityConfig, IdentityError};
use crate::file::{CONFIG_FILE, ControllerFile};

/// Why a controller was not made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one, or its authority cannot be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Its metadata cannot be opened.
    #[error("cannot open the controller's metadata")]
    Metadata(#[from] OpenError),
    /// The first token cannot be stored.
    #[error("cannot store the first token")]
    Commit(#[from] CommitError),
    /// The first token cannot be made.
    #[error("cannot make the first token: {0}")]
    Token(String),
    /// The configuration cannot be written.
    #[error("cannot write {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes an authority in `state_dir` and the first admin's token. Refuses where there is an authority. A configuration
/// file that is there stays as it is.
pub fn init(state_dir: &Path, addresses: &[Address], now: SystemTime) -> Result<Token, InitError> {
    let authorities = Authorities::create(&IdentityConfig::directory_of(state_dir), now)?;
    let path = state_dir.join(CONFIG_FILE);
    if !path.exists() {
        let text = ControllerFile::with_addresses(addresses);
        std::fs::write(&path, text).map_err(|source| InitError::Config { path, source })?;
    }
    let order = TokenOrder {
        role: Role::Admin,
        name: "admin".to_owned(),
        target: None,
        life: Life::Usual,
        labels: std::collections::BTreeMap::new(),
        replaces: None,
    };
    let (token, record) = order
        .make(addresses, authorities.pin(), now)
        .map_err(|error: IdentityError| InitError::Token(error.to_string()))?;
    let metadata = Metadata::open(&state_dir.join("metadata"))?;
    let (told, outcome) = mpsc::channel();
    let op = Op::Identity(IdentityOp::PutToken(record));
    metadata.commit(vec![op], move |outcome| drop(told.send(outcome)));
    outcome.recv().unwrap_or(Err(CommitError::Closed))?;
    Ok(token)
}
