//! The commands in a page of Markdown, and what it says that they print.
//!
//! A block counts when the line that opens it says `checked` after its language, which readers do not see:
//!
//! ````text
//! ```console checked
//! $ haul run examples/digits/train.py
//! epoch  1/15  loss …  accuracy 0.…
//! …
//! accuracy 0.9…
//! ```
//! ````
//!
//! A line after `$ ` is a command; the lines below it, to the next one, must be among what it prints, in their order,
//! where `…` stands for anything and white space is as wide as it likes. Lines between them may be left out.

use anyhow::{Result, bail};

/// A command, and what it should print.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Its line in the page, from 1.
    pub(super) line: usize,
    /// The command.
    pub(super) text: String,
    /// Lines that it should print.
    pub(super) output: Vec<String>,
}

/// The commands of every block that counts, in order.
pub(super) fn blocks(page: &str) -> Result<Vec<Checked>> {
    let mut commands: Vec<Checked> = Vec::new();
    let mut opened: Option<Block> = None;
    for (line, text) in (1..).zip(page.lines()) {
        let fence = text.trim_start().strip_prefix("```");
        match (&mut opened, fence) {
            (None, Some(language)) => {
                let checked = language.split_whitespace().any(|word| word == "checked");
                opened = Some(Block {
                    line,
                    checked,
                    first: commands.len(),
                });
            }
            (Some(block), Some(_)) => {
                if block.checked && commands.len() == block.first {
                    bail!(
                        "README.md:{}: the block is to be checked, but has no line that begins with `$ `",
                        block.line
                    );
                }
                opened = None;
            }
            (Some(block), None) if block.checked => {
                if let Some(command) = text.strip_prefix("$ ") {
                    commands.push(Checked {
                        line,
                        text: command.to_owned(),
                        output: Vec::new(),
                    });
                } else if let Some(command) = commands.get_mut(block.first..).and_then(<[_]>::last_mut) {
                    command.output.push(text.to_owned());
                } else {
                    bail!("README.md:{line}: output without a command above it");
                }
            }
            _ => {}
        }
    }
    if let Some(block) = opened {
        bail!("README.md:{}: the block is never closed", block.line);
    }
    Ok(commands)
}

struct Block {
    line: usize,
    checked: bool,
    /// How many commands there were before it.
    first: usize,
}

/// The first line that should have been printed and was not, if any.
pub(super) fn first_unmet<'a>(expected: &'a [String], printed: &str) -> Option<&'a str> {
    let mut printed = printed.lines();
    let mut unmet = expected
        .iter()
        .map(String::as_str)
        .filter(|line| !matches!(line.trim(), "" | "…"));
    unmet.find(|line| !printed.any(|said| matches(line, said)))
}

/// Whether a line is as expected; `…` stands for anything, and any white space for one space.
fn matches(expected: &str, line: &str) -> bool {
    let spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (&spaced(expected), &spaced(line));
    let mut parts = expected.split('…');
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Title\n\n```console checked\n$ one | two\nfirst …\n…\nlast\n$ three\n```\n\n```sh\n$ not this\n```\n";

    #[test]
    fn marked_blocks_count_and_others_do_not() {
        let commands = blocks(PAGE).unwrap();
        let texts: Vec<_> = commands
            .iter()
            .map(|command| (command.line, command.text.as_str()))
            .collect();
        assert_eq!(texts, [(4, "one | two"), (8, "three")]);
        assert_eq!(commands[0].output, ["first …", "…", "last"]);
        assert!(commands[1].output.is_empty());
    }

    #[test]
    fn blocks_that_would_check_nothing_are_errors() {
        assert!(blocks("```sh checked\necho\n```\n").is_err());
        assert!(blocks("```sh checked\n```\n").is_err());
        assert!(blocks("```sh checked\n$ echo\n").is_err());
    }

    #[test]
    fn output_must_come_in_order() {
        let expected = blocks(PAGE).unwrap().swap_remove(0).output;
        assert_eq!(first_unmet(&expected, "noise\nfirst 1\nmore\nlast\nend"), None);
        assert_eq!(first_unmet(&expected, "last\nfirst 1\n"), Some("last"));
        assert_eq!(first_unmet(&expected, "last\n"), Some("first …"));
        assert_eq!(first_unmet(&[], ""), None);
    }

    #[test]
    fn an_ellipsis_stands_for_anything() {
        assert!(matches("accuracy 0.9…", "accuracy 0.9733"));
        assert!(matches("epoch … loss … done", "epoch 1 loss 2 done  "));
        assert!(matches("same", "same"));
        assert!(matches("state:  done", "state:    done"));
        assert!(!matches("same", "same but longer"));
        assert!(!matches("accuracy 0.9…", "the accuracy 0.9733"));
        assert!(!matches("…a", "ab"));
    }
}
