//! What is printed. A [`Report`] knows its three forms; an [`Output`] knows which of them is wanted, and where the rest
//! goes: data to standard output, hints, notes and errors to standard error.

mod contexts;
mod environments;
mod events;
mod fleet;
mod job;
mod jobs;
mod json;
mod machine;
mod outputs;
mod people;
mod quiet;
mod table;
#[cfg(test)]
mod tests;

use std::io::{self, Write as _};

use anstyle::{AnsiColor, Style as Ansi};
use haul_types::TaskState;
use jiff::tz::TimeZone;

pub(crate) use contexts::{
    AuthoritiesReport, ContextLine, ContextsReport, LoggedInReport, NewTokenReport, TokensReport,
};
pub use environments::{EnvironmentsReport, RemovedReport};
pub use events::Event;
pub(crate) use events::sums;
pub use fleet::{NodeReport, NodesReport, TargetReport, TargetsReport};
pub use job::JobReport;
pub use jobs::JobsReport;
pub use machine::{DoctorReport, LocalReport, VersionReport};
pub use outputs::{FetchedReport, OutputsReport};

use crate::failure::Failure;

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Somebody at a terminal, or in front of a log.
    People,
    /// A program.
    Json,
    /// A script that wants nothing but data.
    Quiet,
}

/// Whether colours may be used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// On standard output.
    pub stdout: bool,
    /// On standard error.
    pub stderr: bool,
}

/// How a report for people is drawn: fixed, so that tests can fix it.
#[derive(Clone, Debug)]
pub struct Drawing {
    /// Whether to use colours.
    pub colored: bool,
    /// The time now, in milliseconds since 1970.
    pub now_unix_ms: u64,
    /// The zone that times are shown in.
    pub zone: TimeZone,
}

impl Drawing {
    fn paint(&self, ansi: Ansi, text: &str) -> String {
        if self.colored {
            format!("{ansi}{text}{ansi:#}")
        } else {
            text.to_owned()
        }
    }

    fn state(&self, state: TaskState) -> String {
        let color = match state {
            TaskState::Succeeded => AnsiColor::Green,
            TaskState::Failed => AnsiColor::Red,
            TaskState::Canceled => AnsiColor::Yellow,
            TaskState::Running | TaskState::Preparing | TaskState::Finalizing => AnsiColor::Cyan,
            TaskState::Queued => AnsiColor::White,
        };
        self.paint(color.on_default(), state.as_str())
    }

    fn dim(&self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    fn bold(&self, text: &str) -> String {
        self.paint(Ansi::new().bold(), text)
    }
}

/// Something to print, in each of its forms.
pub trait Report {
    /// For people; lines, with the last one ended.
    fn people(&self, drawing: &Drawing) -> String;
    /// For programs; documented in docs/json.md.
    fn json(&self) -> serde_json::Value;
    /// The bare data, a line for each thing.
    fn quiet(&self) -> String;
}

/// Where and how to print.
pub trait Output {
    /// Prints data.
    fn report(&mut self, report: &dyn Report);
    /// Tells of something that happened, while things go on.
    fn event(&mut self, event: &Event<'_>);
    /// Suggests what to do next.
    fn hint(&mut self, text: &str);
    /// Tells of an error.
    fn failure(&mut self, failure: &Failure);
}

/// The output for a mode.
#[must_use]
pub fn new(mode: Mode, style: Style) -> Box<dyn Output> {
    match mode {
        Mode::People => Box::new(people::People::new(style)),
        Mode::Json => Box::new(json::Json),
        Mode::Quiet => Box::new(quiet::Quiet),
    }
}

/// Prints to standard output. That nobody reads any more is no error; the shell knows what it wanted.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Prints to standard error.
fn print_aside(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
