//! Answers what the controller asks about this node's environments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use haul_environment::{Environments, PrunePolicy};
use haul_proto::v1;
use haul_types::ByteSize;
use v1::environment_answer::Answer;
use v1::environment_query::Query;

/// The answer to a query; an error is an answer too.
pub(crate) async fn answer(
    environments: &Environments,
    query: v1::EnvironmentQuery,
) -> v1::EnvironmentAnswer {
    let answer = match query.query {
        Some(Query::List(_)) => list(environments).await,
        Some(Query::Remove(request)) => remove(environments, &request.key).await,
        Some(Query::Prune(request)) => prune(environments, &request).await,
        None => Err("this agent does not know what is asked".to_owned()),
    };
    v1::EnvironmentAnswer {
        id: query.id,
        answer: Some(answer.unwrap_or_else(Answer::Error)),
    }
}

/// An error with its causes, in one line.
fn words(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(
        || error.to_string(),
        |source| format!("{error}: {}", words(source)),
    )
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

async fn list(kept: &Environments) -> Result<Answer, String> {
    let found = kept.list().await.map_err(|error| words(&error))?;
    let cache = kept.cache_size().await.map_err(|error| words(&error))?;
    let caches = cache
        .map(|bytes| v1::EnvironmentCache {
            node: String::new(),
            bytes: bytes.0,
        })
        .into_iter()
        .collect();
    let environments = found
        .into_iter()
        .map(|it| v1::Environment {
            key: it.key.to_string(),
            kind: it.kind,
            description: it.description,
            bytes: it.bytes.0,
            created_unix_ms: unix_ms(it.created),
            last_used_unix_ms: unix_ms(it.last_used),
            in_use: it.in_use,
            node: String::new(),
        })
        .collect();
    Ok(Answer::List(v1::ListEnvironmentsResponse {
        environments,
        caches,
    }))
}

async fn remove(environments: &Environments, key: &str) -> Result<Answer, String> {
    let removed = environments.remove(key).await.map_err(|error| words(&error))?;
    let response = v1::RemoveEnvironmentResponse {
        removed: vec![removed.key.to_string()],
        bytes: removed.bytes.0,
    };
    Ok(Answer::Remove(response))
}

async fn prune(
    environments: &Environments,
    request: &v1::PruneEnvironmentsRequest,
) -> Result<Answer, String> {
    let unused_for = (request.unused_for_ms > 0).then(|| Duration::from_millis(request.unused_for_ms));
    let keep_bytes = (request.keep_bytes > 0).then_some(ByteSize(request.keep_bytes));
    let policy = PrunePolicy {
        unused_for,
        keep_bytes,
        all: unused_for.is_none() && keep_bytes.is_none(),
    };
    let pruned = environments.prune(policy).await.map_err(|error| words(&error))?;
    Ok(Answer::Prune(v1::PruneEnvironmentsResponse {
        removed: pruned.removed.iter().map(ToString::to_string).collect(),
        bytes: pruned.bytes.0,
        cache_bytes: pruned.cache_bytes.0,
    }))
}
