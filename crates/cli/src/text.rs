//! Words for people: names that cannot play tricks on a terminal, times, lengths of time.

use std::borrow::Cow;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Text from somebody else, made safe to print: control characters and what turns the direction of writing are
/// escaped.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let bad = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if bad(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Makes each line of somebody else's text safe, and keeps the lines.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(|line| printable(line).into_owned()).collect();
    lines.join("\n")
}

/// A length of time, two units at most: `1h 2m`, `3.4s`, `12ms`.
#[must_use]
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 => format!("{}ms", length.as_millis()),
        1..=9 => format!("{:.1}s", length.as_secs_f64().min(9.9)),
        10..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// The length of time between two times in milliseconds since 1970.
#[must_use]
pub fn between(from_unix_ms: u64, to_unix_ms: u64) -> Duration {
    Duration::from_millis(to_unix_ms.saturating_sub(from_unix_ms))
}

/// The time now, in milliseconds since 1970; for display only.
#[must_use]
pub fn now_unix_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

/// A time in a time zone, to the second: `2026-01-31 12:00:05`.
#[must_use]
pub fn time(unix_ms: u64, zone: &TimeZone) -> String {
    stamp(unix_ms).map_or_else(
        || "?".to_owned(),
        |stamp| {
            stamp
                .to_zoned_datetime(zone.clone())
                .strftime("%Y-%m-%d %H:%M:%S")
                .to_string()
        },
    )
}

/// A time for programs: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn rfc3339(unix_ms: u64) -> String {
    stamp(unix_ms).map_or_else(String::new, |stamp| format!("{stamp:.3}"))
}

fn stamp(unix_ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(unix_ms).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_play_tricks() {
        assert_eq!(printable("train.py"), "train.py");
        assert_eq!(printable("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb\\nc");
        assert_eq!(printable("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(printable("żółw 🐢"), "żółw 🐢");
    }

    #[test]
    fn lengths_have_two_units_at_most() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (3_400, "3.4s"),
            (9_999, "9.9s"),
            (59_000, "59s"),
            (61_000, "1m 1s"),
            (3_660_000, "1h 1m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn times_for_programs_and_for_people() {
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.500Z");
        assert_eq!(time(1_500, &TimeZone::UTC), "1970-01-01 00:00:01");
    }
}
