//! What a job asks of the scheduler, between the contract and the types.

use std::time::Duration;

use haul_types as t;

use super::{BadMessage, millis};
use crate::v1;

impl From<&t::Scheduling> for v1::Scheduling {
    fn from(scheduling: &t::Scheduling) -> Self {
        Self {
            target: scheduling.target.clone().map(Into::into).unwrap_or_default(),
            cpus_milli: scheduling.resources.cpus.millis(),
            memory_bytes: scheduling.resources.memory.0,
            priority: scheduling.priority.into(),
            retries: scheduling.retries.limit,
            retry_on: match scheduling.retries.on {
                t::RetryOn::Infrastructure => v1::RetryOn::Infrastructure,
                t::RetryOn::Any => v1::RetryOn::Any,
            } as i32,
            queue_timeout_ms: scheduling.queue_timeout.map_or(0, |limit| millis(limit).max(1)),
            replace_after_ms: match scheduling.on_disconnect {
                t::OnDisconnect::Wait => None,
                t::OnDisconnect::Replace { after } => Some(millis(after)),
            },
        }
    }
}

/// What a spec says; the usual when it says nothing.
pub(super) fn from(message: Option<&v1::Scheduling>) -> Result<t::Scheduling, BadMessage> {
    let Some(message) = message else {
        return Ok(t::Scheduling::default());
    };
    let bad = |field, error: &dyn std::fmt::Display| BadMessage::new(field, error.to_string());
    let target = match message.target.as_str() {
        "" => None,
        name => Some(
            name.parse()
                .map_err(|error| bad("scheduling.target", &error as &dyn std::fmt::Display))?,
        ),
    };
    let on = match v1::RetryOn::try_from(message.retry_on) {
        Ok(v1::RetryOn::Unspecified | v1::RetryOn::Infrastructure) => t::RetryOn::Infrastructure,
        Ok(v1::RetryOn::Any) => t::RetryOn::Any,
        Err(error) => return Err(bad("scheduling.retry_on", &error)),
    };
    if message
        .retries
        .is_some_and(|retries| retries > t::RetryPolicy::MAX)
    {
        let problem = format!("at most {} are allowed", t::RetryPolicy::MAX);
        return Err(BadMessage::new("scheduling.retries", problem));
    }
    Ok(t::Scheduling {
        target,
        resources: t::Resources {
            cpus: match message.cpus_milli {
                0 => t::Cpus::ONE,
                millis => t::Cpus::from_millis(millis),
            },
            memory: t::ByteSize(message.memory_bytes),
        },
        priority: message
            .priority
            .try_into()
            .map_err(|error| bad("scheduling.priority", &error as &dyn std::fmt::Display))?,
        retries: t::RetryPolicy {
            limit: message.retries,
            on,
        },
        queue_timeout: Some(message.queue_timeout_ms)
            .filter(|&ms| ms > 0)
            .map(Duration::from_millis),
        on_disconnect: message.replace_after_ms.map_or(t::OnDisconnect::Wait, |ms| {
            t::OnDisconnect::Replace {
                after: Duration::from_millis(ms),
            }
        }),
    })
}
