//! Checks of the repository itself: one command for a developer and for CI.
//!
//! ```text
//! cargo xtask ci        every step, in order, until one fails
//! cargo xtask STEP      one of them
//! cargo xtask           the list
//! ```
//!
//! | part | what it is about |
//! |---|---|
//! | [`step`] | the steps, their order, running them |
//! | [`repository`], [`command`] | where the repository is; running programs in it |
//! | [`proto`] | the contract's lint, and what may not change in it |
//! | [`layers`] | which crate may know which; sizes and names of files |
//! | [`deny`] | licences, sources and known faults of dependencies |
//! | [`setup`] | what the tests need of a machine |
//! | [`mod@test`] | the tests |
//! | [`readme`] | README's commands |
//!
//! The steps only look; nothing but `proto --accept` and, in `test`, the setting up of the machine changes anything.

mod command;
mod deny;
mod layers;
mod proto;
mod readme;
mod repository;
mod setup;
mod step;
mod test;
mod units;

use std::process::ExitCode;

use crate::repository::Repository;
use crate::step::STEPS;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = Repository::find().and_then(|repository| match words.as_slice() {
        [] | ["help" | "-h" | "--help"] => {
            print!("{}", usage());
            Ok(())
        }
        ["ci"] => step::run_all(&repository, STEPS),
        ["setup"] => setup::ensure(),
        ["proto", "--accept"] => proto::accept(&repository, proto::Accept::Additions),
        ["proto", "--accept-breaking"] => proto::accept(&repository, proto::Accept::Everything),
        [name] if step::find(name).is_some() => {
            let chosen = step::find(name).into_iter().copied().collect::<Vec<_>>();
            step::run_all(&repository, &chosen)
        }
        _ => {
            eprint!("{}", usage());
            Err(anyhow::anyhow!(
                "`cargo xtask {}` is none of these",
                words.join(" ")
            ))
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let mut text =
        "cargo xtask ci: all of these, until one fails; cargo xtask STEP: one of them\n\n".to_owned();
    for step in STEPS {
        text += &format!("  {:<9} {}\n", step.name, step.what);
    }
    text + "\n  setup     install what the tests need, or say what is missing (part of `test`)\
        \n  proto --accept            take the contract's additions into proto/baseline.txt\
        \n  proto --accept-breaking   take whatever has changed in it\n"
}
