//! For programs: one document, or one a line where things go on. The shapes are in docs/json.md and stay.

use serde_json::json;

use super::{Event, Output, Report, print};
use crate::failure::Failure;

/// Prints JSON.
pub(super) struct Json;

impl Output for Json {
    fn report(&mut self, report: &dyn Report) {
        print(&format!("{:#}\n", report.json()));
    }

    fn event(&mut self, event: &Event<'_>) {
        print(&format!("{}\n", event.json()));
    }

    fn hint(&mut self, _: &str) {}

    /// To standard output: a program that reads JSON should find it where it reads.
    fn failure(&mut self, failure: &Failure) {
        let error = json!({
            "what": failure.what(),
            "where": failure.places(),
            "help": failure.advice(),
            "exit_code": failure.exit_code(),
        });
        print(&format!("{}\n", json!({ "error": error })));
    }
}
