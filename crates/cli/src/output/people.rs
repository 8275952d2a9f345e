//! For people.

use anstyle::{AnsiColor, Style as Ansi};
use jiff::tz::TimeZone;

use super::{Drawing, Event, Output, Report, Style, print, print_aside};
use crate::failure::Failure;
use crate::text::{now_unix_ms, printable_lines};

/// Prints for people.
pub(super) struct People {
    style: Style,
}

impl People {
    pub(super) const fn new(style: Style) -> Self {
        Self { style }
    }

    fn aside(&self) -> Drawing {
        Drawing {
            colored: self.style.stderr,
            now_unix_ms: 0,
            zone: TimeZone::UTC,
        }
    }
}

impl Output for People {
    fn report(&mut self, report: &dyn Report) {
        print(&report.people(&Drawing {
            colored: self.style.stdout,
            now_unix_ms: now_unix_ms(),
            zone: TimeZone::system(),
        }));
    }

    fn event(&mut self, event: &Event<'_>) {
        if let Some(line) = event.people(&self.aside()) {
            print_aside(&format!("{line}\n"));
        }
        if let Some(data) = event.data() {
            print(&format!("{data}\n"));
        }
    }

    fn hint(&mut self, text: &str) {
        let drawing = self.aside();
        print_aside(&format!("{}\n", drawing.dim(text)));
    }

    fn failure(&mut self, failure: &Failure) {
        print_aside(&describe(failure, &self.aside()));
    }
}

/// An error as people see it.
pub(super) fn describe(failure: &Failure, drawing: &Drawing) -> String {
    let error = drawing.paint(AnsiColor::Red.on_default().bold(), "error:");
    let mut text = format!("{error} {}\n", printable_lines(failure.what()));
    for place in failure.places() {
        for line in printable_lines(place).lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    if let Some(advice) = failure.advice() {
        let help = drawing.paint(Ansi::new().bold(), "help:");
        text.push_str(&format!("  {help} {advice}\n"));
    }
    text
}
