//! How things in a contract are called.

/// `lower_snake_case`: what protobuf's JSON names are made from.
pub(super) fn is_lower_snake(name: &str) -> bool {
    is_snake(name, u8::is_ascii_lowercase)
}

/// `UPPER_SNAKE_CASE`.
pub(super) fn is_upper_snake(name: &str) -> bool {
    is_snake(name, u8::is_ascii_uppercase)
}

/// Words of letters and digits, each begun by a letter or a digit, joined by single underscores.
fn is_snake(name: &str, letter: fn(&u8) -> bool) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|byte| letter(&byte) || byte.is_ascii_digit());
    name.bytes().next().is_some_and(|first| letter(&first)) && name.split('_').all(word)
}

/// `PascalCase`.
pub(super) fn is_pascal(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// `PascalCase` as `UPPER_SNAKE_CASE`: a word begins at a capital after a small letter or a digit, and at the last
/// capital of several when a small letter follows.
pub(super) fn upper_snake(pascal: &str) -> String {
    let letters: Vec<char> = pascal.chars().collect();
    let mut text = String::new();
    for (place, letter) in letters.iter().enumerate() {
        let begins_word = place > 0
            && letter.is_ascii_uppercase()
            && (!letters[place - 1].is_ascii_uppercase()
                || letters.get(place + 1).is_some_and(char::is_ascii_lowercase));
        if begins_word {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

/// Whether a package ends in its version: `v1`, `v2beta1`, `v1alpha`.
pub(super) fn has_version(package: &str) -> bool {
    let Some(version) = package.rsplit('.').next().and_then(|last| last.strip_prefix('v')) else {
        return false;
    };
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    let (major, rest) = version.split_at(digits);
    let rest = rest
        .strip_prefix("alpha")
        .or_else(|| rest.strip_prefix("beta"))
        .unwrap_or(rest);
    !major.is_empty() && !major.starts_with('0') && rest.bytes().all(|byte| byte.is_ascii_digit())
}
