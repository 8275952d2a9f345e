//! Tokens survive being copied, and say what is wrong when they do not.

use proptest::prelude::*;

use super::*;

fn token(addresses: &[&str]) -> Token {
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    Token::new(Role::Agent, addresses, Pin::from_bytes([7; 32])).unwrap()
}

proptest! {
    #[test]
    fn a_token_survives_its_text(role in 0usize..4, ports in proptest::collection::vec(1u16.., 0..4)) {
        let addresses = ports.iter().map(|port| format!("haul.example.org:{port}").parse().unwrap());
        let token = Token::new(Role::ALL[role], addresses.collect(), Pin::from_bytes([9; 32])).unwrap();
        prop_assert_eq!(&token.reveal().parse::<Token>().unwrap(), &token);
        prop_assert_eq!(&format!("  {}\n", token.reveal()).parse::<Token>().unwrap(), &token);
    }

    #[test]
    fn a_mistyped_letter_is_noticed(place in 6usize..100, letter in "[A-Za-z0-9_-]") {
        let text = token(&["haul.example.org:7070"]).reveal();
        let mut wrong = text.clone();
        wrong.replace_range(place..=place, &letter);
        prop_assume!(wrong != text);
        prop_assert!(matches!(wrong.parse::<Token>(), Err(NotAToken::Damaged)));
    }

    #[test]
    fn no_text_breaks_the_parser(text in "(haul1\\.)?[ -~]{0,200}") {
        prop_assert!(text.parse::<Token>().is_err());
    }
}

#[test]
fn a_token_that_was_cut_off_is_damaged() {
    let text = token(&["10.0.0.1:7070"]).reveal();
    for length in PREFIX.len()..text.len() {
        assert!(
            matches!(text[..length].parse::<Token>(), Err(NotAToken::Damaged)),
            "{length}"
        );
    }
}

#[test]
fn other_words_are_told_apart() {
    for (text, newer) in [
        ("hunter2", false),
        ("haul2.AAAA", true),
        ("haulx.AAAA", false),
        ("", false),
    ] {
        let error = text.parse::<Token>().unwrap_err();
        assert_eq!(matches!(error, NotAToken::Newer), newer, "{text}: {error}");
    }
    // A whole token of a role that is not known yet.
    let mut bytes = vec![99];
    bytes.extend([0; 65]);
    bytes.extend(checksum(&bytes));
    let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
    assert!(matches!(text.parse::<Token>(), Err(NotAToken::Newer)));
}

#[test]
fn nothing_prints_the_secret() {
    let token = token(&["10.0.0.1:7070"]);
    let shown = format!("{token:?} {:?} {:#?}", token.secret(), token);
    let secret = token.secret().reveal();
    assert!(
        !shown.contains(&secret) && !shown.contains(&token.reveal()),
        "{shown}"
    );
    let bytes = format!("{:?}", token.secret().0);
    assert!(!shown.contains(&bytes[1..20]), "{shown}");
    assert!(shown.contains(&token.secret().id().to_string()));
}

#[test]
fn secrets_survive_their_text_and_differ() {
    let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
    assert_eq!(one.reveal().parse::<Secret>().unwrap(), one);
    assert_ne!(one.hash(), other.hash());
    assert!("short".parse::<Secret>().is_err());
}
