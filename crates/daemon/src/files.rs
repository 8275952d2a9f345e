//! How many files a daemon may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit on open files to the most that this process may have; what it is then. The usual soft limit of
/// 1,024 is for programs that `select` on descriptors; a daemon that has a connection for each agent needs more.
///
/// Not for a daemon that starts jobs: they would inherit it, and some of them do `select`.
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(error) => {
            tracing::warn!(%error, limit = limit.current, "cannot raise the limit on open files");
            limit.current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_becomes_the_most_that_is_allowed() {
        let before = getrlimit(Resource::Nofile);
        let lowered = Rlimit {
            current: Some(64),
            ..before
        };
        setrlimit(Resource::Nofile, lowered).unwrap();
        assert_eq!(raise_open_files(), before.maximum);
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
