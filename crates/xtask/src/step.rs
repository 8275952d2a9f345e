//! The steps, their order, and running them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::repository::Repository;
use crate::{deny, layers, proto, readme, test, units};

/// One check.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it checks, in a few words.
    pub(crate) what: &'static str,
    /// Does it, and says what it could not look at.
    run: fn(&Repository) -> Result<Skipped>,
}

/// What a step could not look at, each with the reason; empty when it did all.
pub(crate) type Skipped = Vec<String>;

/// Everything that is checked: the quick ones first, and the tests at the end, so that a run closes with their sum.
pub(crate) const STEPS: &[Step] = &[
    Step {
        name: "fmt",
        what: "the code is formatted",
        run: fmt,
    },
    Step {
        name: "layers",
        what: "crates know only what they may; sizes and names of files",
        run: layers::check,
    },
    Step {
        name: "proto",
        what: "the contract follows the rules, and nothing in it has changed",
        run: proto::check,
    },
    Step {
        name: "deny",
        what: "licences, sources and known faults of dependencies",
        run: deny::check,
    },
    Step {
        name: "clippy",
        what: "the compiler's and clippy's lints",
        run: clippy,
    },
    Step {
        name: "doc",
        what: "the documentation builds, and its links lead somewhere",
        run: doc,
    },
    Step {
        name: "units",
        what: "the services of deploy/systemd are no more exposed than they may be",
        run: units::check,
    },
    Step {
        name: "readme",
        what: "README's commands do what it says",
        run: readme::check,
    },
    Step {
        name: "test",
        what: "the tests, on a machine set up for them",
        run: test::check,
    },
];

/// The step of that name.
pub(crate) fn find(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

/// Runs the steps in order until one fails, then says how long each took.
pub(crate) fn run_all(repository: &Repository, steps: &[Step]) -> Result<()> {
    let mut done: Vec<(&str, Duration, Skipped)> = Vec::new();
    for step in steps {
        eprintln!("==> {}: {}", step.name, step.what);
        let start = Instant::now();
        let skipped = (step.run)(repository).with_context(|| {
            let seconds = start.elapsed().as_secs_f64();
            format!(
                "{} failed after {seconds:.1} s (alone: `cargo xtask {}`)",
                step.name, step.name
            )
        })?;
        done.push((step.name, start.elapsed(), skipped));
    }
    eprintln!();
    for (name, took, skipped) in &done {
        eprintln!("  {name:<8} {:>7.1} s  ok", took.as_secs_f64());
        for what in skipped {
            eprintln!("           skipped: {what}");
        }
    }
    Ok(())
}

fn fmt(repository: &Repository) -> Result<Skipped> {
    run(repository.cargo(&["fmt", "--all", "--check"])).context("`cargo fmt --all` mends it")?;
    Ok(Skipped::new())
}

fn clippy(repository: &Repository) -> Result<Skipped> {
    run(repository.cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Skipped::new())
}

/// Private items too: the pages are for those who work on Haul, and most modules are private. So links to them lead
/// somewhere, which rustdoc would warn of.
fn doc(repository: &Repository) -> Result<Skipped> {
    let mut doc = repository.cargo(&[
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--locked",
        "--keep-going",
    ]);
    doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    run(doc)?;
    Ok(Skipped::new())
}
