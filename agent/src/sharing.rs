//! What changes when jobs run as users of their own, which a launcher has the rights for.
//!
//! Such a user may pass through the agent's directories to the one directory that is handed over to it, and read the
//! environments; it may not list, nor read anything else. Who runs as it finds a home of its own, and no variable of the
//! agent's that is not a matter of the machine.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::AgentConfig;

/// To be passed through, and not to be listed.
const PASSABLE: u32 = 0o711;
/// The agent's alone.
const CLOSED: u32 = 0o700;
/// To be read by all, and written by the agent.
const READABLE: u32 = 0o755;
/// The agent's variables that jobs get as well; what else it has may be a secret, or holds for the agent alone.
const PASSED_ON: [&str; 4] = ["PATH", "LANG", "LANGUAGE", "TZ"];
/// The start of names of which the same holds.
const PASSED_ON_GROUP: &str = "LC_";

/// Lets users of jobs pass where they have to, and nowhere else.
pub(crate) fn open_up(config: &AgentConfig) -> io::Result<()> {
    let state = &config.state_dir;
    let directories = [
        (state.clone(), PASSABLE),
        (state.join("work"), PASSABLE),
        (state.join("jobs"), CLOSED),
        (config.cache_dir.clone(), READABLE),
    ];
    for (directory, mode) in directories {
        std::fs::create_dir_all(&directory)?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Makes the home that goes with a working directory, empty.
pub(crate) fn make_home(workdir: &Path) -> io::Result<()> {
    std::fs::set_permissions(workdir, std::fs::Permissions::from_mode(PASSABLE))?;
    let home = workdir.join("home");
    std::fs::create_dir_all(home.join("tmp"))?;
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(CLOSED))
}

/// Whether a variable of the agent's is one for jobs too.
pub(crate) fn is_passed_on(name: &OsString) -> bool {
    PASSED_ON.iter().any(|it| name == it)
        || name
            .to_str()
            .is_some_and(|name| name.starts_with(PASSED_ON_GROUP))
}

/// What a job's user is told of itself. The kernel knows it by number only.
pub(crate) fn variables(workdir: &Path) -> [(OsString, OsString); 4] {
    let home = workdir.join("home");
    [
        ("HOME".into(), home.clone().into()),
        ("TMPDIR".into(), home.join("tmp").into()),
        ("USER".into(), "haul-job".into()),
        ("LOGNAME".into(), "haul-job".into()),
    ]
}
