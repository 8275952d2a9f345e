//! What the tests need of a machine beyond what building Haul needs.
//!
//! [`NEEDS`] is the one place for it. What is missing is installed where that can be done without asking (Debian's
//! packages, as root); elsewhere the error names the command. Nothing is skipped because of something that is missing.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{run, works};

/// Something that must be there.
struct Need {
    /// What, as in an error.
    what: &'static str,
    /// What for.
    why: &'static str,
    /// Whether it is there.
    met: fn() -> bool,
    /// The Debian packages that bring it.
    debian: &'static [&'static str],
}

const NEEDS: &[Need] = &[
    Need {
        what: "Python 3.9 or newer, as `python3`",
        why: "jobs of the tests are Python scripts",
        met: has_python,
        debian: &["python3"],
    },
    Need {
        what: "pip, as `python3 -m pip`",
        why: "it fetches uv where there is none, and packages for machines of the tests that have no network",
        met: || works(command("python3", &["-m", "pip", "--version"])),
        debian: &["python3-pip"],
    },
    Need {
        what: "`ip`, of iproute2",
        why: "the tests of several machines make networks",
        met: || works(command("ip", &["-V"])),
        debian: &["iproute2"],
    },
    Need {
        what: "`nsenter` and `unshare`, of util-linux",
        why: "the machines in those networks are namespaces",
        met: || works(command("nsenter", &["--version"])) && works(command("unshare", &["--version"])),
        debian: &["util-linux"],
    },
    Need {
        what: "`timeout` and `flock`, of coreutils and util-linux",
        why: "README's commands run under them",
        met: has_timeout_and_flock,
        debian: &["coreutils", "util-linux"],
    },
    Need {
        what: "`systemd-analyze`, of systemd",
        why: "it measures how exposed the services of deploy/systemd are",
        met: || works(command("systemd-analyze", &["--version"])),
        debian: &["systemd"],
    },
    Need {
        what: "`dockerd` and `docker`",
        why: "the tests of the services run a machine with systemd in a container",
        met: || works(command("dockerd", &["--version"])) && works(command("docker", &["--version"])),
        debian: &["docker.io"],
    },
    Need {
        what: "`debootstrap`",
        why: "it makes that machine",
        met: || works(command("debootstrap", &["--version"])),
        debian: &["debootstrap"],
    },
];

/// Sees to it that everything is there.
pub(crate) fn ensure() -> Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| !(need.met)()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.debian).copied().collect();
    if is_root() && works(command("apt-get", &["--version"])) {
        let mut update = command("apt-get", &["update", "--quiet"]);
        update.env("DEBIAN_FRONTEND", "noninteractive");
        run(update)?;
        let mut install = command(
            "apt-get",
            &["install", "--quiet", "--yes", "--no-install-recommends"],
        );
        install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive");
        run(install)?;
    }
    let missing: Vec<String> = missing
        .into_iter()
        .filter(|need| !(need.met)())
        .map(|need| format!("\n  {}: {}", need.what, need.why))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "the tests need{}\nOn Debian and Ubuntu: sudo apt-get install {}",
        missing.concat(),
        packages.join(" ")
    )
}

fn has_python() -> bool {
    works(command(
        "python3",
        &["-c", "import sys; sys.exit(sys.version_info < (3, 9))"],
    ))
}

fn has_timeout_and_flock() -> bool {
    works(command("timeout", &["--version"])) && works(command("flock", &["--version"]))
}

fn is_root() -> bool {
    crate::command::output(command("id", &["-u"])).is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}
