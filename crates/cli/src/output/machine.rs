//! The installation: controller, checks, version.

use anstyle::AnsiColor;
use haul_agent::Check;
use haul_client::Controller;
use serde_json::{Value, json};

use super::{Drawing, Report};
use crate::local::Local;
use crate::text::{duration, printable};

/// `haul local status`.
#[derive(Debug)]
pub struct LocalReport<'a> {
    /// The places.
    pub local: &'a Local,
    /// What the controller says, if it runs.
    pub controller: Option<&'a Controller>,
}

impl Report for LocalReport<'_> {
    fn people(&self, _: &Drawing) -> String {
        let mut text = match self.controller {
            None => "controller:  does not run; the next command that needs it starts it\n".to_owned(),
            Some(it) => format!(
                "controller:  runs for {}, process {}, version {}\njobs:        {} not ended\n",
                duration(it.uptime),
                it.pid,
                printable(&it.version),
                it.active_jobs
            ),
        };
        for (name, path) in [
            ("socket:", self.local.socket().to_owned()),
            ("state:", self.local.state().to_owned()),
            ("cache:", self.local.cache().to_owned()),
            ("log:", self.local.log()),
        ] {
            text.push_str(&format!("{name:<12} {}\n", printable(&path.to_string_lossy())));
        }
        text
    }

    fn json(&self) -> Value {
        let controller = self.controller.map(|it| {
            json!({
                "version": it.version,
                "build": it.build,
                "pid": it.pid,
                "uptime_seconds": it.uptime.as_secs_f64(),
                "active_jobs": it.active_jobs,
            })
        });
        json!({
            "running": controller.is_some(),
            "controller": controller,
            "socket": self.local.socket().to_string_lossy(),
            "state_dir": self.local.state().to_string_lossy(),
            "cache_dir": self.local.cache().to_string_lossy(),
            "log": self.local.log().to_string_lossy(),
        })
    }

    fn quiet(&self) -> String {
        let word = if self.controller.is_some() {
            "running"
        } else {
            "stopped"
        };
        format!("{word}\n")
    }
}

/// `haul doctor`.
#[derive(Debug)]
pub struct DoctorReport<'a>(pub &'a [Check]);

impl Report for DoctorReport<'_> {
    fn people(&self, drawing: &Drawing) -> String {
        let mut text = String::new();
        for check in self.0 {
            let (word, color, found) = match &check.found {
                Ok(found) => ("ok", AnsiColor::Green, found),
                Err(found) => ("bad", AnsiColor::Red, found),
            };
            let word = drawing.paint(color.on_default(), &format!("{word:<3}"));
            text.push_str(&format!("{word} {:<12} {}\n", check.name, printable(found)));
            if let Some(help) = &check.help {
                text.push_str(&format!("                 help: {help}\n"));
            }
        }
        text
    }

    fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .0
            .iter()
            .map(|check| {
                let (Ok(found) | Err(found)) = &check.found;
                json!({ "name": check.name, "ok": check.found.is_ok(), "found": found, "help": check.help })
            })
            .collect();
        json!({ "ok": self.0.iter().all(|check| check.found.is_ok()), "checks": checks })
    }

    fn quiet(&self) -> String {
        self.0
            .iter()
            .filter_map(|check| {
                check
                    .found
                    .as_ref()
                    .err()
                    .map(|found| format!("{}: {found}\n", check.name))
            })
            .collect()
    }
}

/// `haul version`.
#[derive(Clone, Copy, Debug)]
pub struct VersionReport {
    /// The version.
    pub version: &'static str,
    /// The build.
    pub build: &'static str,
}

impl Report for VersionReport {
    fn people(&self, _: &Drawing) -> String {
        format!("haul {} ({})\n", self.version, self.build)
    }

    fn json(&self) -> Value {
        json!({ "version": self.version, "build": self.build })
    }

    fn quiet(&self) -> String {
        format!("{}\n", self.version)
    }
}
