//! What Ctrl-C on a terminal asks.

use std::io::{self, BufRead as _, Write as _};

/// What is wanted of the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Stop it.
    Stop,
    /// Leave it running.
    Detach,
    /// Nothing: go on watching.
    GoOn,
}

/// Asks on standard error, and waits for a line on standard input, which no job reads.
pub(super) async fn ask() -> Answer {
    let question = "\nStop the job (s), leave it running (d), or go on watching (Enter)? Ctrl-C again leaves it running. ";
    let _ = io::stderr().write_all(question.as_bytes());
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .map(|length| (length, line))
    });
    match read.await {
        Ok(Ok((length, line))) => answer(length, &line),
        // Nobody can answer: nothing was asked for.
        Ok(Err(_)) | Err(_) => Answer::Detach,
    }
}

fn answer(length: usize, line: &str) -> Answer {
    match line.trim().to_ascii_lowercase().as_str() {
        _ if length == 0 => Answer::Detach,
        "s" | "stop" => Answer::Stop,
        "d" | "detach" => Answer::Detach,
        _ => Answer::GoOn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_answer_stops_the_job() {
        for (line, expected) in [
            ("s\n", Answer::Stop),
            (" Stop \n", Answer::Stop),
            ("d\n", Answer::Detach),
            ("\n", Answer::GoOn),
            ("sure\n", Answer::GoOn),
            ("", Answer::Detach),
        ] {
            assert_eq!(answer(line.len(), line), expected, "{line:?}");
        }
    }
}
