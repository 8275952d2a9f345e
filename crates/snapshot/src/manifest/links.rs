//! Where symbolic links lead.
//!
//! A link in a snapshot stays within the root, both as its text reads and as the kernel would follow it through other
//! links of the same snapshot. What it names need not exist.

use std::collections::HashMap;

use super::{DecodeError, Entry, EntryKind};

/// Links followed before giving up, as Linux does.
const MAX_HOPS: usize = 40;

/// Why a link is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkProblem {
    /// It begins with `/`.
    #[error("its target is absolute")]
    Absolute,
    /// It leads above the root by itself.
    #[error("its target is outside the directory")]
    Outside,
    /// It leads above the root through another link.
    #[error("its target is outside the directory, by way of another link")]
    OutsideThroughLink,
    /// Its text is empty, holds NUL or is longer than a path can be.
    #[error("its target is no path")]
    NotAPath,
}

/// What is at a path, as far as following links goes.
pub enum LinkTarget<'a> {
    /// A link to this target.
    Link(&'a [u8]),
    /// Anything else, or nothing.
    Other,
}

/// Follows the link at `path` with `target`, through the links that `lookup` knows; `Ok` if it never leaves the root.
pub fn resolve_link<'a>(
    path: &[u8],
    target: &'a [u8],
    lookup: impl Fn(&[u8]) -> LinkTarget<'a>,
) -> Result<(), LinkProblem> {
    check_alone(path, target)?;
    let mut at: Vec<u8> = super::check::parent(path).to_vec();
    // What is still to be walked, last component first.
    let mut todo: Vec<&'a [u8]> = components(target).rev().collect();
    let mut hops = 0;
    while let Some(component) = todo.pop() {
        if component == b".." {
            if at.is_empty() {
                return Err(LinkProblem::OutsideThroughLink);
            }
            at.truncate(super::check::parent(&at).len());
            continue;
        }
        let base = at.len();
        if !at.is_empty() {
            at.push(b'/');
        }
        at.extend_from_slice(component);
        if let LinkTarget::Link(next) = lookup(&at) {
            hops += 1;
            if hops > MAX_HOPS {
                // The kernel gives up as well (ELOOP): it leads nowhere.
                return Ok(());
            }
            at.truncate(base);
            todo.extend(components(next).rev());
        }
    }
    Ok(())
}

/// Checks the link by its text alone.
pub(super) fn check_alone(path: &[u8], target: &[u8]) -> Result<(), LinkProblem> {
    if target.is_empty() || target.len() >= super::MAX_PATH || target.contains(&0) {
        return Err(LinkProblem::NotAPath);
    }
    if target[0] == b'/' {
        return Err(LinkProblem::Absolute);
    }
    let mut depth = path.iter().filter(|&&byte| byte == b'/').count();
    for component in components(target) {
        if component == b".." {
            depth = depth.checked_sub(1).ok_or(LinkProblem::Outside)?;
        } else {
            depth += 1;
        }
    }
    Ok(())
}

/// Checks every link of a sorted list.
pub(super) fn check_all(entries: &[Entry]) -> Result<(), DecodeError> {
    let links: HashMap<&[u8], &[u8]> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::Symlink { target } => Some((entry.path.as_slice(), target.as_slice())),
            _ => None,
        })
        .collect();
    for (path, target) in &links {
        let lookup = |at: &[u8]| {
            links
                .get(at)
                .map_or(LinkTarget::Other, |next| LinkTarget::Link(next))
        };
        resolve_link(path, target, lookup).map_err(|problem| DecodeError::Link {
            path: path.to_vec().into(),
            target: target.to_vec().into(),
            problem,
        })?;
    }
    Ok(())
}

/// The components of a target that move anywhere.
fn components(target: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    target
        .split(|&byte| byte == b'/')
        .filter(|component| !component.is_empty() && *component != b".")
}
