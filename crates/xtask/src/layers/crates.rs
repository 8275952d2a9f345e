//! What the manifests say, compared with the table.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::table::Table;
use crate::command::output;
use crate::repository::Repository;

/// A crate of the workspace, from `cargo metadata`.
#[derive(Debug, Deserialize)]
pub(super) struct Member {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// Absent for an ordinary one; `dev` or `build`.
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Member>,
}

/// Every crate of the workspace.
pub(super) fn members(repository: &Repository) -> Result<Vec<Member>> {
    let told = output(repository.cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    if !told.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&told.stderr).trim()
        );
    }
    let metadata: Metadata =
        serde_json::from_slice(&told.stdout).context("what cargo metadata says is not understood")?;
    Ok(metadata.packages)
}

/// What in the members' dependencies, of all kinds, is against the table.
pub(super) fn check(members: &[Member], table: &Table) -> Vec<String> {
    let layer_of = |name: &str| table.layers.iter().position(|layer| layer.contains(&name));
    let mut findings = Vec::new();
    for member in members {
        let Some(layer) = layer_of(&member.name) else {
            findings.push(format!("{} stands in no layer", member.name));
            continue;
        };
        for dependency in &member.dependencies {
            if layer_of(&dependency.name).is_some_and(|below| below >= layer) {
                let (name, other) = (&member.name, &dependency.name);
                findings.push(format!(
                    "{name} depends on {other}, which is not in a layer below it"
                ));
            }
            // What is not shipped shows nothing of what it knows to others; it must only stay in its layer.
            let shows = dependency.kind.as_deref() != Some("dev") && layer + 1 < table.layers.len();
            let rule = table.known_by.iter().find(|(name, _)| *name == dependency.name);
            if let Some((name, allowed)) = rule
                && shows
                && !allowed.contains(&member.name.as_str())
            {
                let who = match allowed {
                    [] => "nobody".to_owned(),
                    some => format!("only {}", some.join(", ")),
                };
                findings.push(format!("{} depends on {name}; {who} may", member.name));
            }
        }
    }
    let absent = |name: &&&str| !members.iter().any(|member| member.name == **name);
    for name in table.layers.iter().copied().flatten().filter(absent) {
        findings.push(format!("{name} is in the table, but not in the workspace"));
    }
    findings
}

/// The parts of a manifest that are about the workspace.
#[derive(Deserialize)]
struct Manifest {
    lints: Option<toml::Table>,
    package: toml::Table,
    #[serde(default)]
    dependencies: toml::Table,
    #[serde(default, rename = "dev-dependencies")]
    dev_dependencies: toml::Table,
    #[serde(default, rename = "build-dependencies")]
    build_dependencies: toml::Table,
    #[serde(default)]
    target: toml::Table,
}

/// Every crate takes its lints, edition and versions from the workspace, so that each is said once.
pub(super) fn check_manifests(repository: &Repository, members: &[Member]) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for member in members {
        let shown = repository.relative(&member.manifest_path).display();
        let text =
            std::fs::read_to_string(&member.manifest_path).with_context(|| format!("cannot read {shown}"))?;
        let manifest: Manifest =
            toml::from_str(&text).with_context(|| format!("{shown} is not understood"))?;
        findings.extend(
            manifest
                .findings()
                .into_iter()
                .map(|finding| format!("{shown}: {finding}")),
        );
    }
    Ok(findings)
}

impl Manifest {
    fn findings(&self) -> Vec<String> {
        let inherits = |value: Option<&toml::Value>| {
            value
                .and_then(|value| value.get("workspace"))
                .and_then(toml::Value::as_bool)
                == Some(true)
        };
        let mut findings = Vec::new();
        // `unsafe_code = "forbid"` stands there: nothing below can allow it again.
        if self
            .lints
            .as_ref()
            .and_then(|lints| lints.get("workspace"))
            .and_then(toml::Value::as_bool)
            != Some(true)
        {
            findings.push("[lints] is not the workspace's".to_owned());
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherits(self.package.get(key)) {
                findings.push(format!("package.{key} is not the workspace's"));
            }
        }
        let targets = self.target.values().filter_map(toml::Value::as_table);
        let in_targets = targets.flat_map(|target| target.values().filter_map(toml::Value::as_table));
        let tables = [
            &self.dependencies,
            &self.dev_dependencies,
            &self.build_dependencies,
        ];
        for (name, value) in tables.into_iter().chain(in_targets).flatten() {
            if !inherits(Some(value)) {
                findings.push(format!("{name}: its version is not the workspace's"));
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        layers: &[&["words"], &["left", "right"], &["top"], &["outside"]],
        known_by: &[("sql", &["left"]), ("any", &[])],
    };

    fn member(name: &str, dependencies: &[(&str, Option<&str>)]) -> Member {
        Member {
            name: name.to_owned(),
            manifest_path: PathBuf::new(),
            dependencies: dependencies
                .iter()
                .map(|&(name, kind)| Dependency {
                    name: name.to_owned(),
                    kind: kind.map(str::to_owned),
                })
                .collect(),
        }
    }

    fn findings(left: &[(&str, Option<&str>)], top: &[(&str, Option<&str>)]) -> Vec<String> {
        let members = [
            member("words", &[]),
            member("left", left),
            member("right", &[]),
            member("top", top),
            member("outside", &[("any", None)]),
        ];
        check(&members, &TABLE)
    }

    #[test]
    fn dependencies_that_point_down_are_fine() {
        assert!(
            findings(
                &[("words", None), ("sql", None)],
                &[("left", None), ("words", Some("dev"))]
            )
            .is_empty()
        );
    }

    #[test]
    fn sideways_upwards_and_unknown_are_found() {
        assert_eq!(
            findings(&[("right", None)], &[]),
            ["left depends on right, which is not in a layer below it"]
        );
        assert_eq!(
            findings(&[("top", Some("dev"))], &[]),
            ["left depends on top, which is not in a layer below it"]
        );
        let lone = check(&[member("lone", &[])], &TABLE);
        assert_eq!(lone[0], "lone stands in no layer");
        assert_eq!(lone[1], "words is in the table, but not in the workspace");
    }

    #[test]
    fn what_one_crate_knows_others_may_name_in_tests_only() {
        assert_eq!(
            findings(&[], &[("sql", None)]),
            ["top depends on sql; only left may"]
        );
        assert_eq!(
            findings(&[], &[("sql", Some("build"))]),
            ["top depends on sql; only left may"]
        );
        assert_eq!(
            findings(&[], &[("any", None)]),
            ["top depends on any; nobody may"]
        );
        assert!(findings(&[], &[("sql", Some("dev"))]).is_empty());
    }

    #[test]
    fn a_manifest_of_its_own_mind_is_found() {
        let good = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
            license.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n\
            [dependencies]\na = { workspace = true, features = [\"x\"] }\nb.workspace = true\n";
        let read = |text: &str| toml::from_str::<Manifest>(text).unwrap().findings();
        assert!(read(good).is_empty());
        assert_eq!(
            read(&good.replace("edition.workspace = true", "edition = \"2021\"")).len(),
            1
        );
        assert_eq!(
            read(&good.replace("b.workspace = true", "b = \"1\"")),
            ["b: its version is not the workspace's"]
        );
        assert_eq!(
            read(&good.replace("[lints]\nworkspace = true\n", "")),
            ["[lints] is not the workspace's"]
        );
        let target = format!("{good}[target.'cfg(unix)'.dependencies]\nc = \"1\"\n");
        assert_eq!(read(&target), ["c: its version is not the workspace's"]);
    }
}
