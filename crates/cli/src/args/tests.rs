//! The command line as users meet it.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser as _};

use super::{Cli, Command, JobTask};

fn run_words(words: &[&str]) -> Vec<OsString> {
    let words = ["haul", "run"].iter().chain(words);
    match Cli::try_parse_from(words).unwrap().command {
        Command::Run(args) => args.command,
        other => panic!("{other:?}"),
    }
}

#[test]
fn clap_finds_no_contradiction() {
    Cli::command().debug_assert();
}

#[test]
fn what_follows_the_script_is_the_scripts() {
    assert_eq!(
        run_words(&["train.py", "--json", "-q", "--dir=x"]),
        ["train.py", "--json", "-q", "--dir=x"]
    );
    assert_eq!(run_words(&["--json", "train.py"]), ["train.py"]);
    assert_eq!(run_words(&["train.py", "--", "-x"]), ["train.py", "--", "-x"]);
    assert_eq!(run_words(&["--", "make", "-j8"]), ["make", "-j8"]);
    assert_eq!(
        run_words(&["-o", "train.py"]),
        ["train.py"],
        "-o takes its directory only by ="
    );
}

#[test]
fn a_job_is_named_by_id_prefix_or_last() {
    let name = |text: &str| text.parse::<JobTask>();
    assert_eq!(
        name("last").unwrap(),
        JobTask {
            job: "last".into(),
            task: None
        }
    );
    assert_eq!(
        name("4F.17").unwrap(),
        JobTask {
            job: "4f".into(),
            task: Some(17)
        }
    );
    for bad in ["", ".1", "4f.", "4f.x", "a/b", "0123456789abc", "é"] {
        assert!(name(bad).is_err(), "{bad:?}");
    }
}

/// Help texts are what users learn Haul from: every change of them is meant.
#[test]
fn help_texts() {
    let mut command = Cli::command().term_width(100);
    command.build();
    insta::assert_snapshot!("help", command.render_help());
    let run = command.find_subcommand_mut("run").unwrap();
    insta::assert_snapshot!("help_run", run.render_long_help());
    let logs = command.find_subcommand_mut("logs").unwrap();
    insta::assert_snapshot!("help_logs", logs.render_help());
}

#[test]
fn every_command_that_takes_options_shows_examples() {
    let command = Cli::command();
    for command in command
        .get_subcommands()
        .filter(|command| command.get_positionals().count() > 0)
    {
        let shown = [command.get_after_help(), command.get_after_long_help()];
        let examples = |text: &clap::builder::StyledStr| text.to_string().contains("Examples:");
        assert!(
            shown.into_iter().flatten().any(examples),
            "{}",
            command.get_name()
        );
    }
}
