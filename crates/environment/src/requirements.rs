//! pip's requirements files, as far as their meaning matters for the key.
//!
//! Order, blank lines, comments, spaces around version specifiers and the case of names are dropped, since no resolver
//! heeds them. The order of options is kept (the first index wins). Two texts of the same meaning may still have two
//! keys, which costs a build; two meanings never share one.
//!
//! Files are followed by `-r` and `-c`, relative to the file that includes them. Wheels and source archives of the job
//! are hashed; their paths are, as for pip, relative to where the command runs, that is the job's directory. A
//! directory as a requirement (`-e .`, `./package`) is refused: an editable install would point into a directory that
//! goes away with the job, and a copy would be built anew for every change of the script beside it.
//!
//! The syntax is <https://pip.pypa.io/en/stable/reference/requirements-file-format/>.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::error::RequirementsError;
use crate::inputs::{Inputs, Local, Origin};
use crate::redact::{Redactor, strip_user_info};

/// What a requirements file means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Meaning {
    /// What to install, and under which constraints; each with the digest of the archive that it names.
    pub(crate) wanted: BTreeSet<String>,
    /// Index and other options, in their order.
    pub(crate) options: Vec<String>,
}

impl Meaning {
    /// One text for the whole.
    pub(crate) fn canonical(&self) -> String {
        let lines: Vec<&str> = self
            .options
            .iter()
            .chain(&self.wanted)
            .map(String::as_str)
            .collect();
        lines.join("\n")
    }
}

/// Reads `path` and all that it includes.
pub(crate) fn read(
    inputs: &mut Inputs,
    path: &Path,
    var: &dyn Fn(&str) -> Option<String>,
    redactor: &mut Redactor,
) -> Result<Meaning, RequirementsError> {
    let here = Origin { path, line: 0 };
    let target = path.to_string_lossy();
    let path = match inputs.locate(Path::new(""), &target, here)? {
        Local::File(path) => path,
        Local::Directory(path) => return Err(RequirementsError::NotText { path }),
    };
    let mut reader = Reader {
        inputs,
        var,
        redactor,
        open: Vec::new(),
        meaning: Meaning::default(),
    };
    reader.file(&path, "requires")?;
    Ok(reader.meaning)
}

struct Reader<'a> {
    inputs: &'a mut Inputs,
    var: &'a dyn Fn(&str) -> Option<String>,
    redactor: &'a mut Redactor,
    /// The files that are being read, the outermost first.
    open: Vec<PathBuf>,
    meaning: Meaning,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, role: &'static str) -> Result<(), RequirementsError> {
        let text = self.inputs.text(path)?.to_owned();
        self.open.push(path.to_owned());
        for (line, text) in logical_lines(&text) {
            let text = self.expand(&text);
            self.redactor.learn(&text);
            self.line(&text, role, Origin { path, line })?;
        }
        self.open.pop();
        Ok(())
    }

    fn line(&mut self, text: &str, role: &'static str, at: Origin<'_>) -> Result<(), RequirementsError> {
        if !text.starts_with('-') {
            return self.requirement(text, role, at);
        }
        let (option, value) = split_option(text);
        let value = value.ok_or_else(|| RequirementsError::NoValue {
            path: at.path.to_owned(),
            line: at.line,
            option: option.to_owned(),
        });
        match option {
            "-r" | "--requirement" => self.include(value?, role, at),
            "-c" | "--constraint" => self.include(value?, "constrains", at),
            "-e" | "--editable" => {
                let value = value?;
                // Only a version control's URL can be edited and yet not be of the job.
                if is_local(value) || !value.contains("://") {
                    return Err(directory(value, at));
                }
                self.want(role, &format!("-e {value}"));
                Ok(())
            }
            "-f" | "--find-links" => self.find_links(value?, at),
            _ => {
                let text: Vec<&str> = text.split_whitespace().collect();
                self.meaning
                    .options
                    .push(strip_user_info(&text.join(" ")).into_owned());
                Ok(())
            }
        }
    }

    fn include(&mut self, target: &str, role: &'static str, at: Origin<'_>) -> Result<(), RequirementsError> {
        let place = || (at.path.to_owned(), at.line, target.to_owned());
        if target.contains("://") {
            let (path, line, _) = place();
            let target = strip_user_info(target).into_owned();
            return Err(RequirementsError::RemoteInclude { path, line, target });
        }
        let from = at.path.parent().unwrap_or(Path::new(""));
        match self.inputs.locate(from, target, at)? {
            Local::File(path) if self.open.contains(&path) => {
                let (path, line, target) = place();
                Err(RequirementsError::Cycle { path, line, target })
            }
            Local::File(path) => self.file(&path, role),
            Local::Directory(path) => Err(RequirementsError::NotText { path }),
        }
    }

    fn find_links(&mut self, target: &str, at: Origin<'_>) -> Result<(), RequirementsError> {
        if target.contains("://") {
            self.meaning
                .options
                .push(format!("--find-links {}", strip_user_info(target)));
            return Ok(());
        }
        let from = at.path.parent().unwrap_or(Path::new(""));
        let files = match self.inputs.locate(from, target, at)? {
            Local::File(path) => vec![path],
            Local::Directory(path) => self.inputs.files_of(&path)?,
        };
        for file in files {
            let digest = self.inputs.archive(&file)?;
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            self.meaning.options.push(format!("--find-links {name} {digest}"));
        }
        Ok(())
    }

    fn requirement(
        &mut self,
        text: &str,
        role: &'static str,
        at: Origin<'_>,
    ) -> Result<(), RequirementsError> {
        let (head, rest) = split_at_marker(text);
        let target = match head.split_once('@') {
            Some((name, target)) if is_name_with_extras(name) => target.trim(),
            _ => head,
        };
        if !is_local(target) {
            self.want(role, text);
            return Ok(());
        }
        let bare = target.split('[').next().unwrap_or(target);
        let bare = bare.strip_prefix("file:").unwrap_or(bare);
        // `file:///x` is absolute and so outside; `file:x` and `file:./x` are relative.
        let bare = bare.strip_prefix("//").unwrap_or(bare);
        match self.inputs.locate(Path::new(""), bare, at)? {
            Local::File(path) => {
                let digest = self.inputs.archive(&path)?;
                self.want(role, &format!("{head} {rest} {digest}"));
                Ok(())
            }
            Local::Directory(_) => Err(directory(target, at)),
        }
    }

    fn want(&mut self, role: &str, text: &str) {
        let normal = strip_user_info(&normalise(text)).into_owned();
        self.meaning.wanted.insert(format!("{role} {normal}"));
    }

    /// Puts in the variables, which pip writes `${NAME}` with capitals only; an unknown one stays as it is.
    fn expand(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let after = &rest[start + 2..];
            let name = &after[..after.find('}').unwrap_or(0)];
            let known = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            match known.then(|| (self.var)(name)).flatten() {
                Some(value) => {
                    out.push_str(&value);
                    rest = &after[name.len() + 1..];
                }
                None => {
                    out.push_str("${");
                    rest = after;
                }
            }
        }
        out + rest
    }
}

fn directory(target: &str, at: Origin<'_>) -> RequirementsError {
    RequirementsError::LocalDirectory {
        path: at.path.to_owned(),
        line: at.line,
        target: target.to_owned(),
    }
}

/// Lines as pip joins them: a backslash at the end continues, unless the line is a comment; comments and blank lines
/// are gone. With the number of the first line of each.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut out = Vec::new();
    let mut pending: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let comment = line.trim_start().starts_with('#');
        let (first, mut joined) = pending.take().unwrap_or((number, String::new()));
        match line.strip_suffix('\\') {
            Some(start) if !comment => {
                joined.push_str(start);
                pending = Some((first, joined));
                continue;
            }
            _ if comment => {
                joined.push(' ');
                joined.push_str(line);
            }
            _ => joined.push_str(line),
        }
        out.push((first, joined));
    }
    out.extend(pending);
    out.into_iter()
        .map(|(number, line)| (number, without_comment(&line).trim().to_owned()))
        .filter(|(_, line)| !line.is_empty())
        .collect()
}

/// A `#` starts a comment at the start and after a space; elsewhere it belongs to a URL.
fn without_comment(line: &str) -> &str {
    let starts = |at: usize| line[..at].chars().next_back().is_none_or(char::is_whitespace);
    line.match_indices('#')
        .find(|(at, _)| starts(*at))
        .map_or(line, |(at, _)| &line[..at])
}

fn split_option(text: &str) -> (&str, Option<&str>) {
    let end = match text.strip_prefix("--") {
        Some(_) => text
            .find(|c: char| c == '=' || c.is_whitespace())
            .unwrap_or(text.len()),
        None => text.char_indices().nth(2).map_or(text.len(), |(at, _)| at),
    };
    let (option, rest) = text.split_at(end);
    let value = rest
        .trim_start_matches(|c: char| c == '=' || c.is_whitespace())
        .trim_end()
        .trim_matches(['"', '\'']);
    (option, Some(value).filter(|value| !value.is_empty()))
}

/// Splits before the environment marker or the per-requirement options.
fn split_at_marker(text: &str) -> (&str, &str) {
    let marker = if text.contains("://") || text.contains(" @ ") {
        text.find(" ;")
    } else {
        text.find(';')
    };
    let options = text.find(" --");
    let at = marker.into_iter().chain(options).min().unwrap_or(text.len());
    let (head, rest) = text.split_at(at);
    (head.trim(), rest.trim_start_matches(';').trim())
}

/// Whether it is a path of the job, not a name and not a URL of somewhere else.
fn is_local(target: &str) -> bool {
    let target = target.trim();
    if let Some((scheme, _)) = target.split_once("://") {
        return scheme == "file";
    }
    let archive = [".whl", ".tar.gz", ".zip", ".tar.bz2"];
    let named = target.split(['<', '>', '=', '!', '~', ' ']).next().unwrap_or("");
    target.starts_with("file:")
        || target.starts_with('.')
        || named.contains('/')
        || archive.iter().any(|end| target.ends_with(end))
}

fn is_name_with_extras(text: &str) -> bool {
    let text = text.trim();
    let name = text.split('[').next().unwrap_or("").trim();
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Drops what has no meaning: the case and the separators of the name, spaces before the marker, runs of spaces after.
fn normalise(text: &str) -> String {
    let (head, rest) = split_at_marker(text);
    let rest: Vec<&str> = rest.split_whitespace().collect();
    let head = if head.contains("://") || head.contains('/') {
        let words: Vec<&str> = head.split_whitespace().collect();
        words.join(" ")
    } else {
        let mut head: String = head.split_whitespace().collect();
        let end = head
            .find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)))
            .unwrap_or(head.len());
        let name = head[..end].to_ascii_lowercase().replace(['_', '.'], "-");
        head.replace_range(..end, &name);
        head
    };
    format!("{head} {}", rest.join(" ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests;
