//! Contexts: the shared controllers that a user has logged in to, by name, and which of them commands go to.
//!
//! ```text
//!   --context NAME ─► HAUL_CONTEXT ─► HAUL_TOKEN (a token by itself, for CI) ─► the current one ─► local
//! ```
//!
//! `local` is this user's private controller; it is always there and is the default. Everything is in
//! `$XDG_CONFIG_HOME/haul`: `contexts.toml` says where controllers are and how to know them, and what proves who asks lies
//! apart, a file for each context under `credentials/`, readable by the user alone.

mod file;
mod reach;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul_identity::{Bundle, NotAToken, Secret, Token, Trust};
use haul_types::Role;

pub(crate) use file::ContextFile;
pub use file::StoreError;
pub(crate) use reach::{authorities, connect, dialer, refresh};

/// How often a controller is asked whom to trust: a change of its authority takes more than a week, so whoever uses it
/// once in that time learns of the next one.
const ASK_AGAIN: Duration = Duration::from_secs(12 * 3600);

/// The name of the private controller among contexts.
pub(crate) const LOCAL: &str = "local";

/// A shared controller, as it is known here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SharedController {
    /// Where it is, best first: `HOST:PORT`, or `https://HOST[/PREFIX]` of a reverse proxy.
    pub(crate) addresses: Vec<String>,
    /// Its authorities: more than one while they change.
    pub(crate) authorities: Bundle,
    /// When it was last asked for them, in seconds since 1970.
    pub(crate) asked_unix: u64,
    /// Who the user is there, as the controller said.
    pub(crate) user: String,
    /// What the user may do there, as the controller said.
    pub(crate) role: Role,
    /// The only target that jobs may go to, if the token says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
}

/// Which controller a command is for.
pub(crate) enum Chosen {
    /// The private one.
    Local,
    /// A shared one, and what proves who asks.
    Shared {
        /// The name of the context, for people.
        name: String,
        /// Where it is and how it is known.
        addresses: Vec<String>,
        /// How it is known.
        trust: Trust,
        /// Whether it is time to ask whom to trust from now on.
        ask_again: bool,
        /// What proves who asks.
        secret: Secret,
    },
}

/// Why there is no such context, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// Nobody knows that name.
    #[error("there is no context {name}")]
    Unknown {
        /// The name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// The files could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is kept for the context is no token's secret any more.
    #[error("what {} holds is no token", path.display())]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why.
        source: NotAToken,
    },
    /// The variable holds something else.
    #[error("HAUL_TOKEN holds no token")]
    Variable(#[source] NotAToken),
}

/// What the environment says about contexts; read once, at the edge.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes {
    /// `--context`, or `HAUL_CONTEXT`.
    pub(crate) name: Option<String>,
    /// `HAUL_TOKEN`.
    pub(crate) token: Option<String>,
}

/// Decides which controller is meant.
pub(crate) fn choose(wishes: &Wishes, store: &ContextFile) -> Result<Chosen, ContextError> {
    if let Some(name) = &wishes.name {
        return named(name, store);
    }
    if let Some(text) = &wishes.token {
        let token: Token = text.parse().map_err(ContextError::Variable)?;
        return Ok(Chosen::Shared {
            name: "HAUL_TOKEN".to_owned(),
            addresses: token.addresses().iter().map(ToString::to_string).collect(),
            trust: Trust::Pin(token.pin()),
            ask_again: false,
            secret: token.secret().clone(),
        });
    }
    match store.read()?.current {
        Some(name) => named(&name, store),
        None => Ok(Chosen::Local),
    }
}

fn named(name: &str, store: &ContextFile) -> Result<Chosen, ContextError> {
    if name == LOCAL {
        return Ok(Chosen::Local);
    }
    let mut contexts = store.read()?.contexts;
    let Some(controller) = contexts.remove(name) else {
        let known = std::iter::once(LOCAL.to_owned())
            .chain(contexts.into_keys())
            .collect();
        return Err(ContextError::Unknown {
            name: name.to_owned(),
            known,
        });
    };
    let (path, text) = store.credential(name)?;
    let secret = text
        .trim()
        .parse()
        .map_err(|source| ContextError::Credential { path, source })?;
    Ok(Chosen::Shared {
        name: name.to_owned(),
        addresses: controller.addresses,
        ask_again: now_unix().saturating_sub(controller.asked_unix) > ASK_AGAIN.as_secs(),
        trust: Trust::Bundle(controller.authorities),
        secret,
    })
}

/// All contexts, and the current one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The current one; the private controller when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// By name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, SharedController>,
}

/// Where the files are, given the environment.
pub(crate) fn directory(config_home: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
    config_home
        .filter(|path| path.is_absolute())
        .map(Path::to_owned)
        .or_else(|| home.map(|home| home.join(".config")))
        .map(|path| path.join("haul"))
}

/// Seconds since 1970.
pub(crate) fn now_unix() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A name that a context can have: it becomes a file's.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.as_bytes()[0].is_ascii_alphanumeric()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests;
