//! One job, or one task of it: what was asked for and what happened.

use haul_client::{JobDetails, Task};
use haul_types::{
    EnvironmentSpec, ExitStatus, JobSpec, OnDisconnect, Requirements, Resources, Scheduling, StreamKind,
    Transition,
};
use serde_json::{Value, json};

use super::events::sums;
use super::{Drawing, Report, jobs, table};
use crate::text::{between, duration, printable, rfc3339, time};

/// Tasks of an array that are listed one by one.
const TASKS_SHOWN: usize = 10;

/// `haul show`.
#[derive(Debug)]
pub struct JobReport<'a> {
    /// The job.
    pub details: &'a JobDetails,
    /// The one task to show; the whole job when absent.
    pub task: Option<&'a Task>,
}

impl Report for JobReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        let JobDetails { job, spec, .. } = self.details;
        let mut lines = Vec::new();
        let mut line =
            |name: &str, value: String| lines.push(format!("{:<12} {value}\n", format!("{name}:")));
        let id = self
            .task
            .map_or_else(|| job.id.to_string(), |task| format!("{}.{}", job.id, task.index));
        line("job", drawing.bold(&id));
        line("name", printable(&job.name).into_owned());
        if let Some(owner) = &job.owner {
            line("owner", printable(owner).into_owned());
        }
        let (state, exit) = match self.task {
            Some(task) => (task.state, task.exit),
            None => (job.state, self.only_task().and_then(|task| task.exit)),
        };
        let exit = exit.map(|exit| format!(" ({exit})")).unwrap_or_default();
        let away = self
            .task
            .or(self.only_task())
            .is_some_and(|task| task.unreachable);
        let away = if away { ", unreachable" } else { "" };
        line("state", format!("{}{away}{exit}", drawing.state(state)));
        if self.task.is_none() && spec.array.is_some() {
            line("tasks", sums(&job.counts));
        }
        if !self.details.waiting_for.is_empty() {
            line("waits for", printable(&self.details.waiting_for).into_owned());
        }
        line("command", printable(&command(spec)).into_owned());
        line(
            "environment",
            printable(&environment(&spec.environment)).into_owned(),
        );
        if let Some(array) = spec.array {
            line("array", array.to_string());
        }
        if let Some(limit) = spec.timeout {
            line("timeout", duration(limit));
        }
        for (name, value) in scheduling(&spec.scheduling) {
            line(name, value);
        }
        if let Some(task) = self.task.or(self.only_task()) {
            if let Some(node) = &task.node {
                let away = if task.unreachable { " (unreachable)" } else { "" };
                line("node", format!("{}{away}", printable(node)));
            }
            let streams: Vec<String> = StreamKind::ALL
                .into_iter()
                .filter(|&stream| task.stream_length(stream) > 0)
                .map(|stream| format!("{stream} {}", haul_types::ByteSize(task.stream_length(stream))))
                .collect();
            if !streams.is_empty() {
                line("wrote", streams.join(", "));
            }
            if task.outputs.is_some() {
                line("outputs", "yes".to_owned());
            }
        }
        let mut text: String = lines.concat();
        match self.task.or(self.only_task()) {
            Some(task) => text.push_str(&timeline(task, drawing)),
            None => text.push_str(&self.tasks(drawing)),
        }
        text
    }

    fn json(&self) -> Value {
        let mut map = jobs::job_json(&self.details.job);
        map.insert("waiting_for".to_owned(), json!(self.details.waiting_for));
        map.insert("spec".to_owned(), spec_json(&self.details.spec));
        let tasks: Vec<Value> = match self.task {
            Some(task) => vec![task_json(task)],
            None => self.details.tasks.iter().map(task_json).collect(),
        };
        map.insert("tasks".to_owned(), Value::Array(tasks));
        Value::Object(map)
    }

    fn quiet(&self) -> String {
        let state = self.task.map_or(self.details.job.state, |task| task.state);
        format!("{state}\n")
    }
}

impl JobReport<'_> {
    /// The task of a job that is no array.
    fn only_task(&self) -> Option<&Task> {
        let is_one = self.details.spec.array.is_none();
        self.details.tasks.first().filter(|_| is_one)
    }

    /// The first tasks of an array, those that failed before the others.
    fn tasks(&self, drawing: &Drawing) -> String {
        if self.details.tasks.is_empty() {
            return String::new();
        }
        let mut tasks: Vec<&Task> = self.details.tasks.iter().collect();
        tasks.sort_by_key(|task| (task.state != haul_types::TaskState::Failed, task.index));
        let mut table = table::new(["TASK", "STATE", "EXIT", "TOOK", "WHY"]);
        for task in tasks.iter().take(TASKS_SHOWN) {
            let took = match (task.timeline.first(), task.last()) {
                (Some(first), Some(last)) => {
                    let until = if task.state.is_terminal() {
                        last.at_unix_ms
                    } else {
                        drawing.now_unix_ms
                    };
                    duration(between(first.at_unix_ms, until))
                }
                _ => String::new(),
            };
            table.add_row([
                task.index.to_string(),
                drawing.state(task.state),
                task.exit
                    .map(|exit| exit.shell_code().to_string())
                    .unwrap_or_default(),
                took,
                task.last().map(why).unwrap_or_default(),
            ]);
        }
        format!("\n{}", table::text(&table))
    }
}

fn timeline(task: &Task, drawing: &Drawing) -> String {
    let mut table = table::new(["WHEN", "STATE", "FOR", "WHY"]);
    for (place, entered) in task.timeline.iter().enumerate() {
        let next = task.timeline.get(place + 1).map(|next| next.at_unix_ms);
        let length = match next {
            Some(next) => duration(between(entered.at_unix_ms, next)),
            None if entered.state.is_terminal() => String::new(),
            None => format!(
                "{} so far",
                duration(between(entered.at_unix_ms, drawing.now_unix_ms))
            ),
        };
        table.add_row([
            time(entered.at_unix_ms, &drawing.zone),
            drawing.state(entered.state),
            length,
            why(entered),
        ]);
    }
    if task.timeline.is_empty() {
        return String::new();
    }
    format!("\n{}", table::text(&table))
}

/// Why, in a sentence if there is one.
fn why(transition: &Transition) -> String {
    if transition.detail.is_empty() {
        transition.reason.as_str().replace('_', " ")
    } else {
        printable(&transition.detail).into_owned()
    }
}

/// The command as one would type it.
fn command(spec: &JobSpec) -> String {
    let words: Vec<String> = spec
        .command
        .iter()
        .map(|word| {
            if word == JobSpec::PYTHON {
                "python".to_owned()
            } else {
                quoted(word)
            }
        })
        .collect();
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

fn environment(spec: &EnvironmentSpec) -> String {
    match spec {
        EnvironmentSpec::Node => "the machine's own".to_owned(),
        EnvironmentSpec::Python { interpreter } => interpreter.clone(),
        EnvironmentSpec::Venv { requirements, python } => {
            let (Requirements::RequirementsTxt { path } | Requirements::Project { path }) = requirements;
            let python = python.as_ref().map(|python| format!(" on Python {python}"));
            format!("built from {path}{}", python.unwrap_or_default())
        }
    }
}

/// What was asked of the scheduler, as far as it is not the usual.
fn scheduling(scheduling: &Scheduling) -> Vec<(&'static str, String)> {
    let usual = Scheduling::default();
    let mut lines = Vec::new();
    if let Some(target) = &scheduling.target {
        lines.push(("target", target.to_string()));
    }
    if scheduling.resources != usual.resources {
        let Resources { cpus, memory } = scheduling.resources;
        let memory = if memory.0 > 0 {
            format!(", {memory} of memory")
        } else {
            String::new()
        };
        let plural = if cpus.millis() == 1000 { "" } else { "s" };
        lines.push(("needs", format!("{cpus} CPU{plural}{memory}")));
    }
    if scheduling.priority != usual.priority {
        lines.push(("priority", scheduling.priority.to_string()));
    }
    if let Some(limit) = scheduling.retries.limit {
        lines.push((
            "retries",
            format!("{limit}, on {}", scheduling.retries.on.as_str()),
        ));
    }
    if let Some(limit) = scheduling.queue_timeout {
        lines.push(("queue limit", duration(limit)));
    }
    if let OnDisconnect::Replace { after } = scheduling.on_disconnect {
        lines.push(("if cut off", format!("replaced after {}", duration(after))));
    }
    lines
}

fn scheduling_json(scheduling: &Scheduling) -> Value {
    let replace_after = match scheduling.on_disconnect {
        OnDisconnect::Wait => None,
        OnDisconnect::Replace { after } => Some(after.as_secs_f64()),
    };
    json!({
        "target": scheduling.target,
        "cpus": f64::from(scheduling.resources.cpus.millis()) / 1000.0,
        "memory_bytes": scheduling.resources.memory.0,
        "priority": scheduling.priority,
        "retries": scheduling.retries.limit,
        "retry_on": scheduling.retries.on,
        "queue_timeout_seconds": scheduling.queue_timeout.map(|limit| limit.as_secs_f64()),
        "replace_after_seconds": replace_after,
    })
}

fn spec_json(spec: &JobSpec) -> Value {
    json!({
        "command": spec.command,
        "working_dir": spec.working_dir,
        "snapshot": spec.snapshot,
        "env": spec.env,
        "environment": spec.environment,
        "array": spec.array.map(|array| array.to_string()),
        "timeout_seconds": spec.timeout.map(|timeout| timeout.as_secs_f64()),
        "grace_seconds": spec.grace.as_secs_f64(),
        "scheduling": scheduling_json(&spec.scheduling),
    })
}

fn task_json(task: &Task) -> Value {
    let streams: serde_json::Map<String, Value> = StreamKind::ALL
        .into_iter()
        .map(|stream| (stream.to_string(), json!(task.stream_length(stream))))
        .collect();
    json!({
        "index": task.index,
        "state": task.state,
        "attempt": task.attempt,
        "node": task.node,
        "unreachable": task.unreachable,
        "exit": exit_json(task.exit),
        "timeline": task.timeline.iter().map(transition_json).collect::<Vec<_>>(),
        "outputs": task.outputs,
        "logs": task.logs,
        "stream_bytes": streams,
    })
}

pub(super) fn transition_json(transition: &Transition) -> Value {
    json!({
        "state": transition.state,
        "reason": transition.reason,
        "detail": transition.detail,
        "attempt": transition.attempt,
        "at": rfc3339(transition.at_unix_ms),
    })
}

pub(super) fn exit_json(exit: Option<ExitStatus>) -> Value {
    match exit {
        None => Value::Null,
        Some(ExitStatus::Code(code)) => json!({ "code": code }),
        Some(ExitStatus::Signal(signal)) => json!({ "signal": signal }),
    }
}
