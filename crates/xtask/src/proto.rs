//! The contract in `proto/`: it follows the rules, and what is in it does not change.
//!
//! The rules are those of buf's categories STANDARD and COMMENTS, under buf's names ([`lint`]), as far as they can
//! apply to proto3 files without options. What was once said to the world is kept in `proto/baseline.txt`, a line for
//! each thing that a program may rely on ([`surface`]); a line that vanishes is a change that breaks programs.

mod lint;
mod names;
mod surface;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, Result, bail};
use protox::Compiler;
use protox::prost_reflect::prost_types::FileDescriptorSet;

use crate::repository::Repository;
use crate::step::Skipped;

const ROOT: &str = "proto";
const BASELINE: &str = "proto/baseline.txt";

/// Which differences to the baseline are taken into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accept {
    /// What is new.
    Additions,
    /// What has gone or changed as well: programs written for the contract before will fail.
    Everything,
}

/// Lints the contract and compares it with the baseline.
pub(crate) fn check(repository: &Repository) -> Result<Skipped> {
    let compiled = compile(repository)?;
    let findings = lint::lint(&compiled);
    for finding in &findings {
        eprintln!("    {ROOT}/{finding}");
    }
    if !findings.is_empty() {
        bail!("{} findings in the contract", findings.len());
    }
    let difference = compare(repository, &compiled)?;
    difference.print();
    if !difference.gone.is_empty() {
        bail!(
            "the contract has changed in a way that breaks programs: keep what was there, and add beside it \
             (or, while nobody relies on it: `cargo xtask proto --accept-breaking`)"
        );
    }
    if !difference.new.is_empty() {
        bail!("the contract has grown: `cargo xtask proto --accept` keeps it from changing again");
    }
    Ok(Skipped::new())
}

/// Writes the contract as it is into the baseline.
pub(crate) fn accept(repository: &Repository, what: Accept) -> Result<()> {
    let compiled = compile(repository)?;
    let difference = compare(repository, &compiled)?;
    difference.print();
    if what == Accept::Additions && !difference.gone.is_empty() {
        bail!("what is marked `-` would break programs; `--accept-breaking` takes it all the same");
    }
    let lines: Vec<String> = surface::surface(&compiled)
        .into_iter()
        .map(|line| line + "\n")
        .collect();
    let path = repository.path(BASELINE);
    fs::write(&path, lines.concat()).with_context(|| format!("cannot write {}", path.display()))
}

fn compile(repository: &Repository) -> Result<FileDescriptorSet> {
    let root = repository.path(ROOT);
    let files = repository.files(ROOT, "proto")?;
    if files.is_empty() {
        bail!("there is no contract in {}", root.display());
    }
    let mut compiler = Compiler::new([&root])?;
    compiler.include_source_info(true).include_imports(false);
    // What protox has to say names the file and the line.
    compiler
        .open_files(files)
        .map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(compiler.file_descriptor_set())
}

/// How the contract differs from the baseline.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    gone: Vec<String>,
    new: Vec<String>,
}

impl Difference {
    fn between(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Self {
        Self {
            gone: before.difference(now).cloned().collect(),
            new: now.difference(before).cloned().collect(),
        }
    }

    fn print(&self) {
        for line in &self.gone {
            eprintln!("  - {line}");
        }
        for line in &self.new {
            eprintln!("  + {line}");
        }
    }
}

fn compare(repository: &Repository, compiled: &FileDescriptorSet) -> Result<Difference> {
    let baseline = if repository.path(BASELINE).exists() {
        repository.read(BASELINE)?
    } else {
        String::new()
    };
    let before = baseline.lines().map(str::to_owned).collect();
    Ok(Difference::between(&before, &surface::surface(compiled)))
}
