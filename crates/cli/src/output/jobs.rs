//! A list of jobs.

use haul_client::Job;
use haul_types::{TaskCounts, TaskState};
use serde_json::{Map, Value, json};

use super::{Drawing, Report, table};
use crate::text::{between, duration, printable, rfc3339};

/// `haul jobs`.
#[derive(Debug)]
pub struct JobsReport<'a> {
    /// Newest first.
    pub jobs: &'a [Job],
    /// Whether there are more.
    pub more: bool,
}

impl Report for JobsReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        if self.jobs.is_empty() {
            return "no jobs\n".to_owned();
        }
        let mut table = table::new(["ID", "STATE", "AGE", "TOOK", "NAME"]);
        for job in self.jobs {
            let total = job.counts.total();
            let state = drawing.state(job.state);
            let ended = TaskState::ALL.into_iter().filter(|state| state.is_terminal());
            let state = match total {
                0 | 1 => state,
                _ => format!("{state} {}/{total}", ended.map(|s| job.counts.of(s)).sum::<u32>()),
            };
            let took = between(
                job.created_unix_ms,
                job.ended_unix_ms.unwrap_or(drawing.now_unix_ms),
            );
            table.add_row([
                job.id.to_string(),
                state,
                duration(between(job.created_unix_ms, drawing.now_unix_ms)),
                duration(took),
                printable(&job.name).into_owned(),
            ]);
        }
        table::text(&table)
    }

    fn json(&self) -> Value {
        let jobs: Vec<Value> = self.jobs.iter().map(|job| Value::Object(job_json(job))).collect();
        json!({ "jobs": jobs, "more": self.more })
    }

    fn quiet(&self) -> String {
        self.jobs.iter().map(|job| format!("{}\n", job.id)).collect()
    }
}

/// What every form of a job has.
pub(super) fn job_json(job: &Job) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("id".to_owned(), json!(job.id));
    map.insert("name".to_owned(), json!(job.name));
    map.insert("owner".to_owned(), json!(job.owner));
    map.insert("state".to_owned(), json!(job.state));
    map.insert("created".to_owned(), json!(rfc3339(job.created_unix_ms)));
    map.insert("ended".to_owned(), json!(job.ended_unix_ms.map(rfc3339)));
    map.insert("counts".to_owned(), counts_json(&job.counts));
    map
}

pub(super) fn counts_json(counts: &TaskCounts) -> Value {
    let of = |state: TaskState| (state.as_str().to_owned(), json!(counts.of(state)));
    Value::Object(TaskState::ALL.into_iter().map(of).collect())
}
