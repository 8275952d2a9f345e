//! Between the messages of the contract and the types that the rest of Haul works with.
//!
//! Outward conversions cannot fail; inward ones check everything, and say which field is wrong.

use std::time::Duration;

use haul_types as t;

use crate::v1;

mod fleet;
mod scheduling;

pub use fleet::inventory;

/// A message that breaks the contract.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct BadMessage {
    /// The field, by its name in the contract.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl BadMessage {
    fn new(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            field,
            problem: problem.into(),
        }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "is missing")
    }
}

/// Digests one after the other, as they are sent.
#[must_use]
pub fn digests_to_bytes<'a>(digests: impl IntoIterator<Item = &'a t::Digest>) -> Vec<u8> {
    digests
        .into_iter()
        .flat_map(|digest| digest.as_bytes().iter().copied())
        .collect()
}

/// The digests sent one after the other.
pub fn digests_from_bytes(bytes: &[u8]) -> Result<Vec<t::Digest>, BadMessage> {
    const FIELD: &str = "digests";
    let (whole, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(BadMessage::new(FIELD, "the length is no multiple of 32"));
    }
    Ok(whole.iter().map(|bytes| t::Digest::from_bytes(*bytes)).collect())
}

impl From<t::StreamKind> for v1::StreamKind {
    fn from(kind: t::StreamKind) -> Self {
        match kind {
            t::StreamKind::Setup => Self::Setup,
            t::StreamKind::Stdout => Self::Stdout,
            t::StreamKind::Stderr => Self::Stderr,
        }
    }
}

/// The stream of a number of the contract.
fn stream(number: i32) -> Result<t::StreamKind, BadMessage> {
    u8::try_from(number)
        .ok()
        .and_then(|number| t::StreamKind::try_from(number).ok())
        .ok_or_else(|| BadMessage::new("stream", format!("unknown stream {number}")))
}

impl v1::LogFrame {
    /// Which stream the bytes belong to.
    pub fn kind(&self) -> Result<t::StreamKind, BadMessage> {
        stream(self.stream)
    }
}

impl v1::StreamPosition {
    /// Which stream is meant.
    pub fn kind(&self) -> Result<t::StreamKind, BadMessage> {
        stream(self.stream)
    }
}

impl v1::ReadLogRequest {
    /// Which stream is meant.
    pub fn kind(&self) -> Result<t::StreamKind, BadMessage> {
        stream(self.stream)
    }
}

impl v1::ShipLogsResponse {
    /// Which stream is meant.
    pub fn kind(&self) -> Result<t::StreamKind, BadMessage> {
        stream(self.stream)
    }
}

/// The state of a number of the contract.
pub fn task_state(number: i32) -> Result<t::TaskState, BadMessage> {
    t::TaskState::ALL
        .into_iter()
        .find(|&state| state as i32 == number)
        .ok_or_else(|| BadMessage::new("state", format!("unknown state {number}")))
}

/// The reason of a number of the contract.
pub fn reason(number: i32) -> Result<t::Reason, BadMessage> {
    t::Reason::ALL
        .into_iter()
        .find(|&reason| reason as i32 == number)
        .ok_or_else(|| BadMessage::new("reason", format!("unknown reason {number}")))
}

/// A job's id.
pub fn job_id(text: &str) -> Result<t::JobId, BadMessage> {
    text.parse()
        .map_err(|error| BadMessage::new("job_id", format!("{text:?} is {error}")))
}

/// A digest that may be absent, as empty bytes.
pub fn optional_digest(field: &'static str, bytes: &[u8]) -> Result<Option<t::Digest>, BadMessage> {
    if bytes.is_empty() {
        return Ok(None);
    }
    t::Digest::try_from(bytes)
        .map(Some)
        .map_err(|error| BadMessage::new(field, error.to_string()))
}

impl From<t::AttemptId> for v1::AttemptRef {
    fn from(id: t::AttemptId) -> Self {
        Self {
            job_id: id.task.job.to_string(),
            task_index: id.task.index,
            attempt: id.attempt,
        }
    }
}

impl TryFrom<&v1::AttemptRef> for t::AttemptId {
    type Error = BadMessage;

    fn try_from(message: &v1::AttemptRef) -> Result<Self, BadMessage> {
        if message.attempt == 0 {
            return Err(BadMessage::new("attempt", "attempts are counted from 1"));
        }
        Ok(Self::new(
            job_id(&message.job_id)?,
            message.task_index,
            message.attempt,
        ))
    }
}

/// The attempt of a field that must be there.
pub fn attempt(message: Option<&v1::AttemptRef>) -> Result<t::AttemptId, BadMessage> {
    message.ok_or(BadMessage::missing("attempt"))?.try_into()
}

impl From<t::ExitStatus> for v1::ExitStatus {
    fn from(exit: t::ExitStatus) -> Self {
        let how = match exit {
            t::ExitStatus::Code(code) => v1::exit_status::How::Code(code.into()),
            t::ExitStatus::Signal(signal) => v1::exit_status::How::Signal(signal.into()),
        };
        Self { how: Some(how) }
    }
}

impl TryFrom<&v1::ExitStatus> for t::ExitStatus {
    type Error = BadMessage;

    fn try_from(message: &v1::ExitStatus) -> Result<Self, BadMessage> {
        let small = |n: u32| u8::try_from(n).map_err(|_| BadMessage::new("exit", format!("{n} is over 255")));
        match message.how.as_ref().ok_or(BadMessage::missing("exit.how"))? {
            v1::exit_status::How::Code(code) => small(*code).map(Self::Code),
            v1::exit_status::How::Signal(signal) => small(*signal).map(Self::Signal),
        }
    }
}

impl From<&t::Transition> for v1::Transition {
    fn from(transition: &t::Transition) -> Self {
        Self {
            state: transition.state as i32,
            reason: transition.reason as i32,
            detail: transition.detail.clone(),
            attempt: transition.attempt,
            at_unix_ms: transition.at_unix_ms,
        }
    }
}

impl TryFrom<&v1::Transition> for t::Transition {
    type Error = BadMessage;

    fn try_from(message: &v1::Transition) -> Result<Self, BadMessage> {
        Ok(Self {
            state: task_state(message.state)?,
            reason: reason(message.reason)?,
            detail: message.detail.clone(),
            attempt: message.attempt,
            at_unix_ms: message.at_unix_ms,
        })
    }
}

impl From<&t::JobSpec> for v1::JobSpec {
    fn from(spec: &t::JobSpec) -> Self {
        Self {
            name: spec.name.clone(),
            command: spec.command.clone(),
            snapshot: spec.snapshot.as_bytes().to_vec(),
            working_dir: spec.working_dir.clone(),
            env: spec.env.clone().into_iter().collect(),
            environment: Some(environment_to(&spec.environment)),
            array: spec.array.map(|array| v1::ArraySpec {
                first: array.first,
                last: array.last,
                parallel: array.parallel.unwrap_or(0),
            }),
            timeout_ms: spec.timeout.map_or(0, |timeout| millis(timeout).max(1)),
            grace_ms: millis(spec.grace),
            scheduling: Some((&spec.scheduling).into()),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn environment_to(spec: &t::EnvironmentSpec) -> v1::EnvironmentSpec {
    use v1::environment_spec::Kind;
    use v1::venv_environment::Requirements;
    let kind = match spec {
        t::EnvironmentSpec::Node => None,
        t::EnvironmentSpec::Python { interpreter } => Some(Kind::Python(v1::PythonEnvironment {
            interpreter: interpreter.clone(),
        })),
        t::EnvironmentSpec::Venv { requirements, python } => Some(Kind::Venv(v1::VenvEnvironment {
            requirements: Some(match requirements {
                t::Requirements::RequirementsTxt { path } => Requirements::RequirementsTxt(path.clone()),
                t::Requirements::Project { path } => Requirements::Project(path.clone()),
            }),
            python: python.clone().unwrap_or_default(),
        })),
    };
    v1::EnvironmentSpec { kind }
}

/// A path inside a snapshot, as users may name it: relative, without `..`.
fn inner_path(field: &'static str, path: &str) -> Result<String, BadMessage> {
    let bad = path.starts_with('/') || path.contains('\0') || path.split('/').any(|part| part == "..");
    if bad {
        Err(BadMessage::new(
            field,
            format!("{path:?} is not a path inside the snapshot"),
        ))
    } else {
        Ok(path.to_owned())
    }
}

fn environment_from(message: Option<&v1::EnvironmentSpec>) -> Result<t::EnvironmentSpec, BadMessage> {
    use v1::environment_spec::Kind;
    use v1::venv_environment::Requirements;
    Ok(match message.and_then(|message| message.kind.as_ref()) {
        None => t::EnvironmentSpec::Node,
        Some(Kind::Python(python)) if python.interpreter.is_empty() => {
            return Err(BadMessage::missing("environment.python.interpreter"));
        }
        Some(Kind::Python(python)) => t::EnvironmentSpec::Python {
            interpreter: python.interpreter.clone(),
        },
        Some(Kind::Venv(venv)) => t::EnvironmentSpec::Venv {
            requirements: match venv.requirements.as_ref() {
                None => return Err(BadMessage::missing("environment.venv.requirements")),
                Some(Requirements::RequirementsTxt(path)) => t::Requirements::RequirementsTxt {
                    path: inner_path("environment.venv.requirements_txt", path)?,
                },
                Some(Requirements::Project(path)) => t::Requirements::Project {
                    path: inner_path("environment.venv.project", path)?,
                },
            },
            python: Some(venv.python.clone()).filter(|python| !python.is_empty()),
        },
    })
}

fn array_from(message: v1::ArraySpec) -> Result<t::ArraySpec, BadMessage> {
    let v1::ArraySpec {
        first,
        last,
        parallel,
    } = message;
    if first > last || last - first >= t::ArraySpec::MAX_TASKS {
        let problem = format!(
            "{first}-{last} is not a range of at most {} tasks",
            t::ArraySpec::MAX_TASKS
        );
        return Err(BadMessage::new("array", problem));
    }
    Ok(t::ArraySpec {
        first,
        last,
        parallel: Some(parallel).filter(|&parallel| parallel > 0),
    })
}

/// The longest name of a job, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// The most bytes of arguments and variables together; Linux itself refuses more than about this.
const MAX_ARGUMENT_BYTES: usize = 2 << 20;

impl TryFrom<&v1::JobSpec> for t::JobSpec {
    type Error = BadMessage;

    fn try_from(message: &v1::JobSpec) -> Result<Self, BadMessage> {
        if message.name.len() > MAX_NAME_BYTES {
            return Err(BadMessage::new(
                "name",
                format!("is longer than {MAX_NAME_BYTES} bytes"),
            ));
        }
        if message.command.first().is_none_or(String::is_empty) {
            return Err(BadMessage::new("command", "names no program"));
        }
        if message.command.iter().any(|word| word.contains('\0')) {
            return Err(BadMessage::new("command", "holds a NUL byte"));
        }
        for (name, value) in &message.env {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                return Err(BadMessage::new(
                    "env",
                    format!("{name:?} cannot be an environment variable"),
                ));
            }
        }
        let bytes = message.command.iter().map(String::len).sum::<usize>()
            + message
                .env
                .iter()
                .map(|(name, value)| name.len() + value.len() + 2)
                .sum::<usize>();
        if bytes > MAX_ARGUMENT_BYTES {
            let problem = format!(
                "arguments and variables take {bytes} bytes; at most {MAX_ARGUMENT_BYTES} can be passed"
            );
            return Err(BadMessage::new("command", problem));
        }
        Ok(Self {
            name: message.name.clone(),
            command: message.command.clone(),
            snapshot: t::Digest::try_from(message.snapshot.as_slice())
                .map_err(|error| BadMessage::new("snapshot", error.to_string()))?,
            working_dir: inner_path("working_dir", &message.working_dir)?,
            env: message.env.clone().into_iter().collect(),
            environment: environment_from(message.environment.as_ref())?,
            array: message.array.map(array_from).transpose()?,
            timeout: Some(message.timeout_ms)
                .filter(|&ms| ms > 0)
                .map(Duration::from_millis),
            grace: Duration::from_millis(message.grace_ms),
            scheduling: scheduling::from(message.scheduling.as_ref())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> t::JobSpec {
        t::JobSpec {
            name: "train.py".into(),
            command: vec!["{python}".into(), "train.py".into(), "--lr=0.1".into()],
            snapshot: t::Digest::of(b"x"),
            working_dir: "sub/dir".into(),
            env: [("A".to_owned(), "1".to_owned())].into(),
            environment: t::EnvironmentSpec::Venv {
                requirements: t::Requirements::RequirementsTxt {
                    path: "requirements.txt".into(),
                },
                python: Some("3.11".into()),
            },
            array: Some(t::ArraySpec {
                first: 1,
                last: 1000,
                parallel: Some(50),
            }),
            timeout: Some(Duration::from_millis(1500)),
            grace: Duration::from_secs(10),
            scheduling: t::Scheduling {
                target: Some("gpu".parse().unwrap()),
                resources: t::Resources {
                    cpus: t::Cpus::from_millis(2500),
                    memory: t::ByteSize(1 << 30),
                },
                priority: (-7).try_into().unwrap(),
                retries: t::RetryPolicy {
                    limit: Some(0),
                    on: t::RetryOn::Any,
                },
                queue_timeout: Some(Duration::from_secs(60)),
                on_disconnect: t::OnDisconnect::Replace {
                    after: Duration::ZERO,
                },
            },
        }
    }

    #[test]
    fn a_spec_of_an_older_client_asks_for_the_usual() {
        let message = v1::JobSpec {
            scheduling: None,
            ..v1::JobSpec::from(&spec())
        };
        let read = t::JobSpec::try_from(&message).unwrap();
        assert_eq!(read.scheduling, t::Scheduling::default());
    }

    #[test]
    fn a_spec_survives_the_wire() {
        assert_eq!(t::JobSpec::try_from(&v1::JobSpec::from(&spec())).unwrap(), spec());
    }

    #[test]
    fn a_bad_spec_names_the_field() {
        type Spoil = fn(&mut v1::JobSpec);
        let good = v1::JobSpec::from(&spec());
        let cases: [(&str, Spoil); 10] = [
            ("scheduling.target", |s| {
                s.scheduling.as_mut().unwrap().target = "a b".into();
            }),
            ("scheduling.priority", |s| {
                s.scheduling.as_mut().unwrap().priority = 101;
            }),
            ("scheduling.retries", |s| {
                s.scheduling.as_mut().unwrap().retries = Some(1001);
            }),
            ("name", |s| s.name = "x".repeat(256)),
            ("command", |s| s.command.clear()),
            ("command", |s| s.command.push("a\0b".into())),
            ("snapshot", |s| s.snapshot.truncate(31)),
            ("working_dir", |s| s.working_dir = "../up".into()),
            ("env", |s| drop(s.env.insert("A=B".into(), String::new()))),
            ("array", |s| {
                s.array = Some(v1::ArraySpec {
                    first: 2,
                    last: 1,
                    parallel: 0,
                });
            }),
        ];
        for (field, spoil) in cases {
            let mut message = good.clone();
            spoil(&mut message);
            assert_eq!(t::JobSpec::try_from(&message).unwrap_err().field, field);
        }
    }
}
