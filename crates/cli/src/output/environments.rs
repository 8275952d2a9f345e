//! Environments.

use haul_client::{Environments, Removed};
use serde_json::{Value, json};

use super::{Drawing, Report, table};
use crate::text::{between, duration, printable, rfc3339};

/// Digits of a key that are shown: enough to tell a few thousand apart.
const KEY_SHOWN: usize = 12;

/// `haul env ls`.
#[derive(Debug)]
pub struct EnvironmentsReport<'a>(pub &'a Environments);

impl Report for EnvironmentsReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        // An empty cache is nothing to look at.
        let caches: String = self
            .0
            .caches
            .iter()
            .filter(|cache| cache.size.0 > 0)
            .map(|cache| format!("uv's cache on {}: {}\n", printable(&cache.node), cache.size))
            .collect();
        if self.0.environments.is_empty() {
            return format!("no environments\n{caches}");
        }
        let mut table = table::new(["KEY", "SIZE", "LAST USED", "NODE", "MADE FROM"]);
        for environment in &self.0.environments {
            let used = if environment.in_use {
                "now".to_owned()
            } else {
                let idle = between(environment.last_used_unix_ms, drawing.now_unix_ms);
                format!("{} ago", duration(idle))
            };
            let key = environment.key.get(..KEY_SHOWN).unwrap_or(&environment.key);
            table.add_row([
                printable(key).into_owned(),
                environment.size.to_string(),
                used,
                printable(&environment.node).into_owned(),
                printable(&environment.description).into_owned(),
            ]);
        }
        table::text(&table) + &caches
    }

    fn json(&self) -> Value {
        let environments: Vec<Value> = self
            .0
            .environments
            .iter()
            .map(|environment| {
                json!({
                    "key": environment.key,
                    "kind": environment.kind,
                    "description": environment.description,
                    "bytes": environment.size,
                    "created": rfc3339(environment.created_unix_ms),
                    "last_used": rfc3339(environment.last_used_unix_ms),
                    "in_use": environment.in_use,
                    "node": environment.node,
                })
            })
            .collect();
        let caches: Vec<Value> = self
            .0
            .caches
            .iter()
            .map(|cache| json!({ "node": cache.node, "bytes": cache.size }))
            .collect();
        json!({ "environments": environments, "caches": caches })
    }

    fn quiet(&self) -> String {
        self.0
            .environments
            .iter()
            .map(|environment| format!("{}\n", environment.key))
            .collect()
    }
}

/// `haul env rm`, `haul env prune`.
#[derive(Debug)]
pub struct RemovedReport<'a>(pub &'a Removed);

impl Report for RemovedReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        let cache = match self.0.freed_in_caches.0 {
            0 => String::new(),
            _ => format!("freed {} in uv's cache\n", self.0.freed_in_caches),
        };
        let environments = match self.0.keys.len() {
            0 if !cache.is_empty() => String::new(),
            0 => "nothing to remove\n".to_owned(),
            1 => format!("removed 1 environment, {}\n", self.0.freed),
            many => format!("removed {many} environments, {}\n", self.0.freed),
        };
        environments + &cache
    }

    fn json(&self) -> Value {
        json!({ "removed": self.0.keys, "bytes": self.0.freed, "cache_bytes": self.0.freed_in_caches })
    }

    fn quiet(&self) -> String {
        self.0.keys.iter().map(|key| format!("{key}\n")).collect()
    }
}
