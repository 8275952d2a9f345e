//! How files are cut and named.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::repository::Repository;

/// Past this a file is two files.
const MAX_LINES: usize = 600;
/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "manager", "util", "utils"];

/// What is wrong with the workspace's Rust files.
pub(super) fn check(repository: &Repository) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in repository.rust_files()? {
        let shown = repository.relative(&path);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        findings.extend(
            of_file(shown, &text)
                .into_iter()
                .map(|finding| format!("{}: {finding}", shown.display())),
        );
    }
    Ok(findings)
}

fn of_file(path: &Path, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    if stem == "mod" {
        findings.push("foo.rs stands beside foo/, not in it as mod.rs".to_owned());
    }
    let words = path.iter().filter_map(|part| part.to_str()).chain([stem]);
    if let Some(name) = words.into_iter().find(|word| EMPTY_NAMES.contains(word)) {
        findings.push(format!("{name:?} does not say what is inside"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        findings.push(format!("{lines} lines; past {MAX_LINES} it is two files"));
    }
    // The tests of a module are about that module.
    if stem != "tests" && !text.starts_with("//!") {
        findings.push("does not begin with `//!`: what it is for".to_owned());
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        of_file(Path::new(path), text).len()
    }

    #[test]
    fn names_lengths_and_beginnings_are_looked_at() {
        let text = "//! Words.\n";
        assert_eq!(count("crates/a/src/word.rs", text), 0);
        assert_eq!(count("crates/a/src/word/mod.rs", text), 1);
        assert_eq!(count("crates/a/src/utils.rs", text), 1);
        assert_eq!(count("crates/common/src/lib.rs", text), 1);
        assert_eq!(count("crates/a/src/word.rs", "use a::b;\n"), 1);
        assert_eq!(count("crates/a/src/word/tests.rs", "use super::*;\n"), 0);
        assert_eq!(count("crates/a/src/word.rs", &text.repeat(MAX_LINES)), 0);
        assert_eq!(count("crates/a/src/word.rs", &text.repeat(MAX_LINES + 1)), 1);
    }
}
