//! The commands in a page of Markdown, and what it says that they print, for whoever tries them as a reader would.
//!
//! A block counts when the line that opens it says `checked` after its language, which readers do not see:
//!
//! ````text
//! ```console checked
//! $ haul run examples/digits/train.py
//! epoch  1/15  loss …  accuracy 0.…
//! …
//! accuracy 0.9…
//! laptop$ haul jobs
//! ```
//! ````
//!
//! A line after `$ ` is a command, and what is before the dollar the machine that it is for; the lines below it, to the
//! next one, must be among what it prints, in their order, where `…` stands for anything and white space is as wide as it
//! likes. Lines between them may be left out.
//!
//! It runs nothing and reads no file.

/// A command, and what it should print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Its line in the page, from 1.
    pub line: usize,
    /// The machine that it is for; empty where the page does not tell machines apart.
    pub machine: String,
    /// The command.
    pub text: String,
    /// Lines that it should print.
    pub output: Vec<String>,
}

/// A block that would check nothing, or not what its writer meant. The numbers are lines of the page, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// It has no command.
    #[error("line {0}: the block is to be checked, but has no line that begins with `$ `")]
    NoCommand(usize),
    /// It begins with output.
    #[error("line {0}: output without a command above it")]
    NobodysOutput(usize),
    /// It does not end.
    #[error("line {0}: the block is never closed")]
    Open(usize),
}

/// The commands of every block that counts, in order.
pub fn commands(page: &str) -> Result<Vec<Command>, PageError> {
    let mut commands: Vec<Command> = Vec::new();
    let mut opened: Option<Block> = None;
    for (line, text) in (1..).zip(page.lines()) {
        let fence = text.trim_start().strip_prefix("```");
        match (&mut opened, fence) {
            (None, Some(language)) => {
                opened = Some(Block {
                    line,
                    checked: language.split_whitespace().any(|word| word == "checked"),
                    first: commands.len(),
                });
            }
            (Some(block), Some(_)) => {
                if block.checked && commands.len() == block.first {
                    return Err(PageError::NoCommand(block.line));
                }
                opened = None;
            }
            (Some(block), None) if block.checked => {
                if let Some((machine, command)) = prompt(text) {
                    commands.push(Command {
                        line,
                        machine: machine.to_owned(),
                        text: command.to_owned(),
                        output: Vec::new(),
                    });
                } else if let Some(command) = commands.get_mut(block.first..).and_then(<[_]>::last_mut) {
                    command.output.push(text.to_owned());
                } else {
                    return Err(PageError::NobodysOutput(line));
                }
            }
            _ => {}
        }
    }
    match opened {
        Some(block) => Err(PageError::Open(block.line)),
        None => Ok(commands),
    }
}

struct Block {
    line: usize,
    checked: bool,
    /// How many commands there were before it.
    first: usize,
}

/// The machine and the command of a line that is one.
fn prompt(line: &str) -> Option<(&str, &str)> {
    let (machine, command) = line.split_once("$ ")?;
    let is_name = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    machine.chars().all(is_name).then_some((machine, command))
}

impl Command {
    /// The first line that should have been printed and was not, if any.
    #[must_use]
    pub fn first_unmet(&self, printed: &str) -> Option<&str> {
        let mut printed = printed.lines();
        let mut unmet = self
            .output
            .iter()
            .map(String::as_str)
            .filter(|line| !matches!(line.trim(), "" | "…"));
        unmet.find(|line| !printed.any(|said| matches(line, said)))
    }
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

    const PAGE: &str = "# Title\n\n```console checked\n$ one | two\nfirst …\n…\nlast\nbox-1$ three $ 4\n```\n\n```sh\n$ not this\n```\n";

    #[test]
    fn marked_blocks_count_and_others_do_not() {
        let commands = commands(PAGE).unwrap();
        let texts: Vec<_> = commands
            .iter()
            .map(|command| (command.line, command.machine.as_str(), command.text.as_str()))
            .collect();
        assert_eq!(texts, [(4, "", "one | two"), (8, "box-1", "three $ 4")]);
        assert_eq!(commands[0].output, ["first …", "…", "last"]);
        assert!(commands[1].output.is_empty());
    }

    #[test]
    fn blocks_that_would_check_nothing_are_errors() {
        assert!(commands("```sh checked\necho\n```\n").is_err());
        assert!(commands("```sh checked\n```\n").is_err());
        assert!(commands("```sh checked\n$ echo\n").is_err());
    }

    #[test]
    fn output_must_come_in_order() {
        let one = commands(PAGE).unwrap().swap_remove(0);
        assert_eq!(one.first_unmet("noise\nfirst 1\nmore\nlast\nend"), None);
        assert_eq!(one.first_unmet("last\nfirst 1\n"), Some("last"));
        assert_eq!(one.first_unmet("last\n"), Some("first …"));
        assert_eq!(
            Command {
                output: Vec::new(),
                ..one
            }
            .first_unmet(""),
            None
        );
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
