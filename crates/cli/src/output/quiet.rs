//! Data and errors, nothing else.

use jiff::tz::TimeZone;

use super::{Drawing, Event, Output, Report, people, print, print_aside};
use crate::failure::Failure;

/// Prints data and errors.
pub(super) struct Quiet;

impl Output for Quiet {
    fn report(&mut self, report: &dyn Report) {
        print(&report.quiet());
    }

    fn event(&mut self, event: &Event<'_>) {
        if let Some(data) = event.data() {
            print(&format!("{data}\n"));
        }
    }

    fn hint(&mut self, _: &str) {}

    fn failure(&mut self, failure: &Failure) {
        let plain = Drawing {
            colored: false,
            now_unix_ms: 0,
            zone: TimeZone::UTC,
        };
        print_aside(&people::describe(failure, &plain));
    }
}
