//! Takes credentials out of text before anyone sees it.
//!
//! Two rules, because neither is enough alone: the user part of anything that looks like a URL goes, and so does every
//! secret that was read from a setting, wherever it turns up.

use std::borrow::Cow;

/// What stands where a secret stood.
const MASK: &str = "***";

/// Secrets shorter than this are not searched for: they would be found everywhere.
const SHORTEST: usize = 4;

/// A set of secrets to take out.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// One that also knows the credentials of the URLs in `text`.
    pub fn learn(&mut self, text: &str) {
        for user_info in user_infos(text) {
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
            // A lone user name is usually a token; beside a password it is just a name.
            let secret = if password.is_empty() { user } else { password };
            if secret.len() >= SHORTEST && !secret.contains("${") && !self.secrets.iter().any(|s| s == secret)
            {
                self.secrets.push(secret.to_owned());
            }
        }
        self.secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    }

    /// `text` without secrets.
    #[must_use]
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut out = strip_user_info(text);
        for secret in &self.secrets {
            if out.contains(secret.as_str()) {
                out = Cow::Owned(out.replace(secret.as_str(), MASK));
            }
        }
        out
    }
}

/// `text` with the user part of every URL in it removed, the `@` too.
#[must_use]
pub fn strip_user_info(text: &str) -> Cow<'_, str> {
    if user_infos(text).next().is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (before, after) = rest.split_at(scheme + 3);
        out.push_str(before);
        let authority = &after[..authority_len(after)];
        rest = authority.rfind('@').map_or(after, |at| &after[at + 1..]);
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// The user parts of the URLs in `text`.
fn user_infos(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("://").filter_map(move |(at, _)| {
        let after = &text[at + 3..];
        let authority = &after[..authority_len(after)];
        authority.rfind('@').map(|at| &authority[..at])
    })
}

fn authority_len(after_scheme: &str) -> usize {
    after_scheme
        .find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>') || c.is_whitespace())
        .unwrap_or(after_scheme.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_part_of_a_url_goes() {
        for (text, clean) in [
            ("https://me:pw@index.test/simple", "https://index.test/simple"),
            (
                "a https://tok@x.test b http://u:p@y.test/",
                "a https://x.test b http://y.test/",
            ),
            (
                "mail me@x.test at https://x.test/a@b",
                "mail me@x.test at https://x.test/a@b",
            ),
            ("https://u:p@ss@x.test/", "https://x.test/"),
        ] {
            assert_eq!(strip_user_info(text), clean);
        }
    }

    #[test]
    fn a_known_secret_goes_wherever_it_is() {
        let mut redactor = Redactor::default();
        redactor.learn("https://user:hunter22@index.test/simple");
        assert_eq!(
            redactor.redact("error: hunter22 was refused for user"),
            "error: *** was refused for user"
        );
    }
}
