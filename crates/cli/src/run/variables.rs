//! `--env`: variables that are set, and variables that are passed on.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::failure::Failure;

/// Reads `NAME=VALUE` and `NAME`, whose value `lookup` knows. A later one wins.
pub(super) fn read(
    said: &[OsString],
    lookup: impl Fn(&OsStr) -> Option<OsString>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for word in said {
        let text = word
            .to_str()
            .ok_or_else(|| Failure::usage(format!("--env {word:?} is not UTF-8")))?;
        if text.is_empty() {
            return Err(Failure::usage("--env: the name is empty").help("write NAME=VALUE, or NAME"));
        }
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let value = lookup(OsStr::new(text)).ok_or_else(|| {
                    Failure::usage(format!("--env {text}: that variable is not set here"))
                        .help(format!("set it, or give it a value: --env {text}=VALUE"))
                })?;
                let value = value
                    .into_string()
                    .map_err(|_| Failure::usage(format!("--env {text}: its value is not UTF-8")))?;
                (text, value)
            }
        };
        let good = !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good {
            return Err(
                Failure::usage(format!("--env {text:?}: {name:?} cannot name a variable"))
                    .help("write NAME=VALUE, with letters, digits and _ in the name"),
            );
        }
        if name.starts_with("HAUL_") {
            return Err(Failure::usage(format!(
                "--env {name}: names that begin with HAUL_ are Haul's own"
            )));
        }
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}
