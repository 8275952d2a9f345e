//! `haul logs`.

use std::time::Duration;

use haul_client::{Client, FollowEvent, FollowTask, LogRange, Task};
use haul_types::{StreamKind, TaskId, parse_duration};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{find, index_of, task_of};
use crate::args::LogsArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Event, Mode};
use crate::run::Sink;
use crate::text::now_unix_ms;

/// Bytes that are read at a time when looking backwards for lines.
const BACKWARDS: u64 = 64 << 10;

pub(crate) async fn logs(args: LogsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let since = args
        .since
        .as_deref()
        .map(|text| since(text, now_unix_ms()))
        .transpose()?;
    let client = context.client().await?;
    let details = find(&client, &args.job).await?;
    let index = index_of(&details, &args.job)?;
    let streams = if args.stream.is_empty() {
        vec![StreamKind::Stdout, StreamKind::Stderr]
    } else {
        args.stream.clone()
    };
    let task = task_of(&client, &details, index).await?;
    let ended_before = |since: u64| {
        task.as_ref()
            .filter(|task| task.state.is_terminal())
            .and_then(Task::last)
            .is_some_and(|last| last.at_unix_ms < since)
    };
    if since.is_some_and(ended_before) {
        context.output.hint("it ended before that time");
        return Ok(Exit::SUCCESS);
    }
    let attempt = args.attempt.or_else(|| {
        task.as_ref()
            .map(|task| task.attempt)
            .filter(|&attempt| attempt > 0)
    });
    let id = TaskId {
        job: details.job.id,
        index,
    };
    let mut ranges = Vec::new();
    for &stream in &streams {
        let range = LogRange {
            task: id,
            attempt,
            stream,
            start: 0,
            end: None,
        };
        let start = match args.tail {
            Some(lines) if attempt.is_some() => tail_start(&client, range, lines).await?,
            _ => 0,
        };
        ranges.push(LogRange { start, ..range });
    }
    let mut printer = Printer::new()?;
    if args.follow {
        return follow(&client, &ranges, &mut printer, context).await;
    }
    if attempt.is_none() {
        context.output.hint("it has not begun; -f waits for it");
        return Ok(Exit::SUCCESS);
    }
    for range in ranges {
        let mut reader = client.read_log(range);
        let mut offset = range.start;
        while let Some(data) = reader.next().await? {
            let length = data.len() as u64;
            if !printer.print(range.stream, offset, data, context).await {
                return Ok(Exit::SUCCESS);
            }
            offset += length;
        }
    }
    Ok(Exit::SUCCESS)
}

async fn follow(
    client: &Client,
    ranges: &[LogRange],
    printer: &mut Printer,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let Some(first) = ranges.first() else {
        return Ok(Exit::SUCCESS);
    };
    let mut follow = client.follow(FollowTask {
        job: first.task.job,
        task: Some(first.task.index),
        attempt: first.attempt,
        positions: ranges.iter().map(|range| (range.stream, range.start)).collect(),
    });
    while let Some(event) = follow.next().await? {
        match event {
            FollowEvent::Log { stream, offset, data } => {
                if !printer.print(stream, offset, data, context).await {
                    return Ok(Exit::SUCCESS);
                }
            }
            FollowEvent::Task(task) => context.output.event(&Event::Task(&task)),
            FollowEvent::Attempt(attempt) if attempt > 1 => context.output.event(&Event::Attempt(attempt)),
            FollowEvent::Attempt(_) | FollowEvent::Job(_) => {}
            FollowEvent::Lost { why } => context.output.event(&Event::Lost(&why)),
            FollowEvent::Resumed => context.output.event(&Event::Resumed),
        }
    }
    Ok(Exit::SUCCESS)
}

/// Passes bytes on to the stream that they came from.
struct Printer {
    stdout: Sink,
    stderr: Sink,
}

impl Printer {
    fn new() -> Result<Self, Failure> {
        let closed = |error| Failure::usage("standard output or standard error is closed").because(&error);
        Ok(Self {
            stdout: Sink::stdout().map_err(closed)?,
            stderr: Sink::stderr().map_err(closed)?,
        })
    }

    /// Whether somebody still reads.
    async fn print(
        &mut self,
        stream: StreamKind,
        offset: u64,
        data: bytes::Bytes,
        context: &mut Context,
    ) -> bool {
        if context.mode == Mode::Json {
            context.output.event(&Event::Log {
                stream,
                offset,
                data: &data,
            });
            return true;
        }
        let sink = match stream {
            StreamKind::Stdout => &mut self.stdout,
            StreamKind::Stderr | StreamKind::Setup => &mut self.stderr,
        };
        sink.begin(data).is_ok() && sink.settle().await.is_ok()
    }
}

/// The place where the last lines of a stream begin, found from its end backwards.
async fn tail_start(client: &Client, range: LogRange, lines: u64) -> Result<u64, Failure> {
    let mut end = client.log_length(range).await?;
    if lines == 0 {
        return Ok(end);
    }
    let (whole, mut ends) = (end, 0);
    while end > 0 {
        let start = end.saturating_sub(BACKWARDS);
        let mut block = Vec::new();
        let mut reader = client.read_log(LogRange {
            start,
            end: Some(end),
            ..range
        });
        while let Some(data) = reader.next().await? {
            block.extend_from_slice(&data);
        }
        if let Some(place) = line_start(&block, start, whole, lines, &mut ends) {
            return Ok(place);
        }
        end = start;
    }
    Ok(0)
}

/// Where the last `lines` lines begin, if that is in this block. `ends` counts the line ends met in later blocks; the
/// one at the very end of the stream ends the last line and begins none.
fn line_start(block: &[u8], offset: u64, whole: u64, lines: u64, ends: &mut u64) -> Option<u64> {
    for (place, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
        let after = offset + place as u64 + 1;
        if after == whole {
            continue;
        }
        *ends += 1;
        if *ends == lines {
            return Some(after);
        }
    }
    None
}

/// A time, or so long ago, in milliseconds since 1970.
fn since(text: &str, now_unix_ms: u64) -> Result<u64, Failure> {
    if let Ok(ago) = parse_duration(text) {
        let ago: Duration = ago;
        return Ok(now_unix_ms.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX)));
    }
    let zoned = |time: DateTime| TimeZone::system().to_timestamp(time).ok();
    let stamp = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| text.parse::<DateTime>().ok().and_then(zoned));
    stamp
        .and_then(|stamp| u64::try_from(stamp.as_millisecond()).ok())
        .ok_or_else(|| {
            Failure::usage(format!("--since: {text:?} is neither a time nor a duration"))
                .help("write a time as in 2026-01-31T12:00:00, or how long ago as in 90s, 2h")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_across_blocks() {
        let text = b"one\ntwo\nthree\n";
        let whole = text.len() as u64;
        for (lines, expected) in [(1, Some(8)), (2, Some(4)), (3, None)] {
            assert_eq!(line_start(text, 0, whole, lines, &mut 0), expected, "{lines}");
        }
        let mut ends = 0;
        assert_eq!(line_start(&text[6..], 6, whole, 2, &mut ends), None);
        assert_eq!(ends, 1);
        assert_eq!(line_start(&text[..6], 0, whole, 2, &mut ends), Some(4));
        let open = b"one\ntwo";
        assert_eq!(
            line_start(open, 0, 7, 1, &mut 0),
            Some(4),
            "a last line without an end is one"
        );
    }

    #[test]
    fn since_takes_times_and_durations() {
        assert_eq!(since("2h", 10_000_000).unwrap(), 2_800_000);
        assert_eq!(since("1970-01-01T00:00:05Z", 0).unwrap(), 5000);
        assert!(since("yesterday", 0).is_err());
    }
}
