//! Contexts, tokens and authorities.

use haul_client::{Authorities, RotationPhase, TokenInfo};
use haul_types::Role;
use serde_json::{Value, json};

use super::{Drawing, Report, table};
use crate::contexts::SharedController;
use crate::text::{between, duration, printable, rfc3339};

/// `haul login`.
pub(crate) struct LoggedInReport<'a> {
    /// The context.
    pub(crate) name: &'a str,
    /// What is known of it.
    pub(crate) controller: &'a SharedController,
    /// Whether commands go there now.
    pub(crate) is_current: bool,
}

impl Report for LoggedInReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        let it = self.controller;
        let (user, role) = (printable(&it.user), it.role);
        let only = it.target.as_deref().map(printable);
        let only = only
            .map(|target| format!(", for target {target} only"))
            .unwrap_or_default();
        let now = if self.is_current {
            "; commands go there now"
        } else {
            ""
        };
        format!("logged in to {} as {user}, {role}{only}{now}\n", self.name)
    }

    fn json(&self) -> Value {
        let it = self.controller;
        json!({
            "name": self.name,
            "addresses": it.addresses,
            "user": it.user,
            "role": it.role,
            "target": it.target,
            "current": self.is_current,
        })
    }

    fn quiet(&self) -> String {
        format!("{}\n", self.name)
    }
}

/// One context of `haul context ls`.
pub(crate) struct ContextLine {
    pub(crate) name: String,
    /// Empty for the private controller.
    pub(crate) address: String,
    pub(crate) user: String,
    pub(crate) role: Role,
    pub(crate) is_current: bool,
}

/// `haul context ls`.
pub(crate) struct ContextsReport<'a>(pub(crate) &'a [ContextLine]);

impl Report for ContextsReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        let mut table = table::new(["", "CONTEXT", "CONTROLLER", "USER", "ROLE"]);
        for line in self.0 {
            let local = line.address.is_empty();
            table.add_row([
                if line.is_current { "*" } else { "" }.to_owned(),
                line.name.clone(),
                if local {
                    "this machine".to_owned()
                } else {
                    printable(&line.address).into_owned()
                },
                printable(&line.user).into_owned(),
                if local {
                    String::new()
                } else {
                    line.role.to_string()
                },
            ]);
        }
        table::text(&table)
    }

    fn json(&self) -> Value {
        let contexts: Vec<Value> = self
            .0
            .iter()
            .map(|line| {
                let local = line.address.is_empty();
                json!({
                    "name": line.name,
                    "address": (!local).then_some(&line.address),
                    "user": (!local).then_some(&line.user),
                    "role": (!local).then_some(line.role),
                    "current": line.is_current,
                })
            })
            .collect();
        json!({ "contexts": contexts })
    }

    fn quiet(&self) -> String {
        self.0.iter().map(|line| format!("{}\n", line.name)).collect()
    }
}

fn token_json(info: &TokenInfo) -> Value {
    json!({
        "id": info.id,
        "name": info.name,
        "role": info.role,
        "target": info.target,
        "created": rfc3339(info.created_unix_ms),
        "expires": info.expires_unix_ms.map(rfc3339),
        "used": info.used.as_ref().map(|(at, _)| rfc3339(*at)),
        "used_by": info.used.as_ref().map(|(_, node)| node),
        "revoked": info.revoked_unix_ms.map(rfc3339),
    })
}

/// `haul token create`.
pub(crate) struct NewTokenReport<'a> {
    /// The token itself.
    pub(crate) text: &'a str,
    /// What is kept of it.
    pub(crate) info: &'a TokenInfo,
}

impl Report for NewTokenReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        format!("{}\n", self.text)
    }

    fn json(&self) -> Value {
        let mut value = token_json(self.info);
        value["token"] = self.text.into();
        value
    }

    fn quiet(&self) -> String {
        format!("{}\n", self.text)
    }
}

/// `haul token ls`.
pub(crate) struct TokensReport<'a>(pub(crate) &'a [TokenInfo]);

impl Report for TokensReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        if self.0.is_empty() {
            return "no tokens\n".to_owned();
        }
        let mut table = table::new(["ID", "NAME", "ROLE", "TARGET", "STANDING"]);
        for info in self.0 {
            table.add_row([
                info.id.clone(),
                printable(&info.name).into_owned(),
                info.role.to_string(),
                info.target
                    .as_deref()
                    .map(printable)
                    .unwrap_or_default()
                    .into_owned(),
                standing(info, drawing.now_unix_ms),
            ]);
        }
        table::text(&table)
    }

    fn json(&self) -> Value {
        json!({ "tokens": self.0.iter().map(token_json).collect::<Vec<_>>() })
    }

    fn quiet(&self) -> String {
        self.0.iter().map(|info| format!("{}\n", info.id)).collect()
    }
}

fn standing(info: &TokenInfo, now: u64) -> String {
    let ago = |at| duration(between(at, now));
    if let Some(at) = info.revoked_unix_ms {
        return format!("revoked {} ago", ago(at));
    }
    if let Some((at, node)) = &info.used {
        return format!("used {} ago by {}", ago(*at), printable(node));
    }
    match info.expires_unix_ms {
        None => "good for ever".to_owned(),
        Some(at) if at <= now => format!("expired {} ago", ago(at)),
        Some(at) => format!("good for {}", duration(between(now, at))),
    }
}

/// `haul authority`.
pub(crate) struct AuthoritiesReport<'a>(pub(crate) &'a Authorities);

impl Report for AuthoritiesReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        let mut table = table::new(["AUTHORITY", "SIGNS", "GOOD FOR"]);
        for authority in &self.0.list {
            table.add_row([
                authority.pin.clone(),
                if authority.signs { "yes" } else { "" }.to_owned(),
                duration(between(drawing.now_unix_ms, authority.expires_unix_ms)),
            ]);
        }
        let next = match self.0.phase {
            RotationPhase::Steady => "",
            RotationPhase::Begun => "a change has begun; next: haul authority activate, or roll-back\n",
            RotationPhase::Activated => "the next one signs; next: haul authority finish, or roll-back\n",
        };
        format!("{}{next}", table::text(&table))
    }

    fn json(&self) -> Value {
        let phase = match self.0.phase {
            RotationPhase::Steady => "steady",
            RotationPhase::Begun => "begun",
            RotationPhase::Activated => "activated",
        };
        let list: Vec<Value> = self
            .0
            .list
            .iter()
            .map(|authority| {
                json!({
                    "pin": authority.pin,
                    "expires": rfc3339(authority.expires_unix_ms),
                    "signs": authority.signs,
                })
            })
            .collect();
        json!({ "phase": phase, "authorities": list })
    }

    fn quiet(&self) -> String {
        self.0.list.iter().map(|it| format!("{}\n", it.pin)).collect()
    }
}
