//! A printed id's first letters as a range of ids: the ids print with a fixed number of letters, most significant
//! first, so those that begin alike are neighbours.

use std::ops::RangeInclusive;

use haul_types::JobId;

/// The ids that print with `prefix` in front; `None` if none can.
pub(super) fn range(prefix: &str) -> Option<RangeInclusive<JobId>> {
    // Filled up with the lowest and with the highest letter of the alphabet.
    let first = format!("{prefix:0<12}").parse().ok()?;
    let last = format!("{prefix:z<12}").parse().ok()?;
    Some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range_of_ids() {
        let id = |text: &str| text.parse::<JobId>().unwrap();
        assert_eq!(range("ab"), Some(id("ab0000000000")..=id("abzzzzzzzzzz")));
        assert_eq!(range("AB"), range("ab"));
        assert_eq!(range(""), Some(id("000000000000")..=id("zzzzzzzzzzzz")));
        assert_eq!(
            range("zzzzzzzzzzzz"),
            Some(id("zzzzzzzzzzzz")..=id("zzzzzzzzzzzz"))
        );
        for bad in ["abcdefghjkmnp", "u", "a-", " ", "é", "ééééééé", "a\0"] {
            assert_eq!(range(bad), None, "{bad:?}");
        }
    }
}
