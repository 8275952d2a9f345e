//! `node`, `target`: the machines that run jobs, and what they are called together.

pub(crate) mod nodes;
pub(crate) mod targets;

use haul_client::{CallError, Client};
use haul_types::TargetName;

use crate::failure::Failure;

/// How alike two names are, from 0 to 1, for one to be meant by the other.
const ALIKE: f64 = 0.6;

/// Refuses a target that nobody knows, before anything is sent.
pub(crate) async fn ensure_known(client: &Client, target: &TargetName) -> Result<(), Failure> {
    let targets = client.targets().await?;
    let nodes = client.nodes().await?;
    let mut names: Vec<String> = targets
        .iter()
        .map(|target| target.record.name.to_string())
        .collect();
    names.extend(nodes.into_iter().map(|node| node.name));
    names.sort_unstable();
    names.dedup();
    if names.iter().any(|name| name == target.as_str()) {
        Ok(())
    } else {
        Err(unknown("target or node", target.as_str(), &names))
    }
}

/// Nobody knows this name; these are known.
fn unknown(what: &str, name: &str, known: &[String]) -> Failure {
    let failure = Failure::usage(format!("there is no {what} {name}"));
    let failure = if known.is_empty() {
        failure.at("there is none yet")
    } else {
        failure.at(format!("there are {}", known.join(", ")))
    };
    match meant(name, known) {
        Some(known) => failure.help(format!("did you mean {known}?")),
        None => failure.help("`haul target ls` and `haul node ls` list what there is"),
    }
}

/// The name that was probably meant.
fn meant<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let alike = |known: &&String| strsim::jaro_winkler(name, known);
    let best = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= ALIKE).then_some(best)
}

/// Something about a node or a target is not there: what was said is wrong, and these commands list what is.
fn named(error: CallError, help: &str) -> Failure {
    match error {
        CallError::NotFound(what) | CallError::Precondition(what) | CallError::Invalid(what) => {
            Failure::usage(what).help(help)
        }
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_understood() {
        let known = ["gpu".to_owned(), "box1".to_owned()];
        assert_eq!(meant("gpus", &known), Some("gpu"));
        assert_eq!(meant("box2", &known), Some("box1"));
        assert_eq!(meant("zzz", &known), None);
        assert_eq!(meant("x", &[]), None);
    }
}
