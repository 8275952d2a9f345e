//! Join tokens are used once, names are had once, and every refusal says which.

use std::sync::{Arc, Barrier};

use haul_types::{NodeId, NodeName, Role};

use super::*;

pub(super) const NOW: u64 = 1_790_000_000_000;

pub(super) fn token(secret: &str, role: Role) -> TokenRecord {
    TokenRecord {
        hash: Digest::of(secret.as_bytes()),
        name: format!("token {secret}"),
        role,
        target: Some("gpu".to_owned()),
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        replaces: None,
        created_unix_ms: NOW - 1000,
        expires_unix_ms: Some(NOW + 600_000),
        used: None,
        revoked_unix_ms: None,
    }
}

pub(super) fn node(name: &str, number: u8) -> EnrolledNode {
    EnrolledNode {
        id: NodeId::from_bytes([number; 16]),
        name: NodeName::try_from(name.to_owned()).unwrap(),
        target: None,
        labels: [("gpu".to_owned(), "a100".to_owned())].into(),
        key: [number; 32],
        enrolled_unix_ms: NOW,
        revoked_unix_ms: None,
        certificate: None,
    }
}

fn apply(store: &Metadata, op: IdentityOp) -> Result<(), IdentityRefusal> {
    match commit(store, vec![Op::Identity(op)]) {
        Ok(()) => Ok(()),
        Err(CommitError::Identity(refusal)) => Err(refusal),
        Err(other) => panic!("{other}"),
    }
}

fn enrol(store: &Metadata, secret: &str, node: EnrolledNode) -> Result<(), IdentityRefusal> {
    let token = Digest::of(secret.as_bytes());
    apply(store, IdentityOp::Enrol { token, node })
}

fn put(store: &Metadata, token: TokenRecord) {
    apply(store, IdentityOp::PutToken(token)).unwrap();
}

#[test]
fn what_was_put_is_read_back_and_after_reopening() {
    let (directory, store) = open();
    put(&store, token("a", Role::Agent));
    put(&store, token("b", Role::Viewer));
    enrol(&store, "a", node("box", 1)).unwrap();
    let certificate = CertificateRow {
        serial: "0a".to_owned(),
        expires_unix_ms: NOW + 5,
    };
    let id = node("box", 1).id;
    apply(
        &store,
        IdentityOp::PutCertificate {
            node: id,
            certificate: certificate.clone(),
        },
    )
    .unwrap();
    let used = TokenRecord {
        used: Some(TokenUse {
            at_unix_ms: NOW,
            by: id,
        }),
        ..token("a", Role::Agent)
    };
    let enrolled = EnrolledNode {
        certificate: Some(certificate),
        ..node("box", 1)
    };
    drop(store);
    let store = Metadata::open(directory.path()).unwrap();
    assert_eq!(store.token(&used.hash).unwrap(), Some(used));
    assert_eq!(store.tokens().unwrap().len(), 2);
    assert_eq!(store.enrolled_nodes().unwrap(), std::slice::from_ref(&enrolled));
    assert_eq!(store.enrolled_node(id).unwrap(), Some(enrolled));
    assert_eq!(store.check().unwrap(), Vec::<String>::new());
}

#[test]
fn of_a_thousand_that_use_one_token_at_once_one_is_enrolled() {
    const EACH: u16 = 125;
    let (_directory, store) = open();
    put(&store, token("a", Role::Agent));
    let begin = Arc::new(Barrier::new(8));
    let threads: Vec<_> = (0..8u16)
        .map(|thread| {
            let (store, begin) = (store.clone(), Arc::clone(&begin));
            std::thread::spawn(move || {
                begin.wait();
                // All of a thread are in the queue before the first is answered.
                let (told, results) = mpsc::channel();
                for number in thread * EACH..(thread + 1) * EACH {
                    let mut node = node(&format!("box-{number}"), 0);
                    node.id = NodeId::random();
                    node.key[..2].copy_from_slice(&number.to_be_bytes());
                    let (told, token) = (told.clone(), Digest::of(b"a"));
                    let op = Op::Identity(IdentityOp::Enrol { token, node });
                    store.commit(vec![op], move |result| told.send(result).unwrap());
                }
                drop(told);
                results.into_iter().collect::<Vec<_>>()
            })
        })
        .collect();
    let results: Vec<_> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(results.len(), 1000);
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let used = |result: &&Result<(), CommitError>| {
        matches!(result, Err(CommitError::Identity(IdentityRefusal::TokenUsed(_))))
    };
    assert_eq!(results.iter().filter(used).count(), 999);
    let enrolled = store.enrolled_nodes().unwrap();
    assert_eq!(enrolled.len(), 1);
    let by = store.token(&Digest::of(b"a")).unwrap().unwrap().used.unwrap().by;
    assert_eq!(by, enrolled[0].id);
}

#[test]
fn the_machine_that_used_a_token_may_say_so_again_and_nobody_else() {
    let (_directory, store) = open();
    put(&store, token("a", Role::Agent));
    enrol(&store, "a", node("box", 1)).unwrap();
    // The answer was lost: another id, the same key and name.
    let again = EnrolledNode {
        id: NodeId::random(),
        ..node("box", 1)
    };
    enrol(&store, "a", again.clone()).unwrap();
    assert_eq!(store.enrolled_nodes().unwrap(), [node("box", 1)]);
    for other in [node("box", 2), node("other", 1)] {
        let refusal = enrol(&store, "a", other).unwrap_err();
        assert!(matches!(refusal, IdentityRefusal::TokenUsed(_)), "{refusal}");
    }
    let late = EnrolledNode {
        enrolled_unix_ms: NOW + 600_000,
        ..again.clone()
    };
    assert!(matches!(
        enrol(&store, "a", late),
        Err(IdentityRefusal::TokenExpired { .. })
    ));
    let name = again.name.clone();
    apply(
        &store,
        IdentityOp::RevokeNode {
            name,
            at_unix_ms: NOW,
        },
    )
    .unwrap();
    assert!(matches!(
        enrol(&store, "a", again),
        Err(IdentityRefusal::TokenUsed(_))
    ));
}

#[test]
fn every_refusal_leaves_the_token_unused_and_says_which() {
    let (_directory, store) = open();
    put(&store, token("a", Role::Agent));
    put(&store, token("first", Role::Agent));
    put(&store, token("user", Role::Admin));
    put(
        &store,
        TokenRecord {
            expires_unix_ms: Some(NOW),
            ..token("late", Role::Agent)
        },
    );
    put(&store, token("revoked", Role::Agent));
    let id = token("revoked", Role::Agent).id();
    apply(&store, IdentityOp::RevokeToken { id, at_unix_ms: NOW }).unwrap();
    enrol(&store, "first", node("box", 1)).unwrap();

    let box_name = node("box", 1).name;
    assert_eq!(
        enrol(&store, "a", node("box", 2)),
        Err(IdentityRefusal::NameTaken(box_name.clone()))
    );
    assert_eq!(
        enrol(&store, "foreign", node("b", 2)),
        Err(IdentityRefusal::UnknownToken)
    );
    assert_eq!(
        enrol(&store, "user", node("b", 2)),
        Err(IdentityRefusal::NotAJoinToken(Role::Admin))
    );
    assert_eq!(
        enrol(&store, "late", node("b", 2)),
        Err(IdentityRefusal::TokenExpired { expired_unix_ms: NOW })
    );
    assert_eq!(
        enrol(&store, "revoked", node("b", 2)),
        Err(IdentityRefusal::TokenRevoked)
    );
    assert!(matches!(
        enrol(&store, "first", node("b", 2)),
        Err(IdentityRefusal::TokenUsed(_))
    ));
    let unknown = IdentityOp::RevokeToken {
        id: TokenRecord::id(&token("foreign", Role::Agent)),
        at_unix_ms: 1,
    };
    assert_eq!(apply(&store, unknown), Err(IdentityRefusal::UnknownToken));
    enrol(&store, "a", node("b", 2)).unwrap();
}

#[test]
fn a_name_is_free_again_when_its_node_is_revoked_or_replaced() {
    let (_directory, store) = open();
    for secret in ["a", "b", "c"] {
        put(&store, token(secret, Role::Agent));
    }
    let name = node("box", 1).name;
    put(
        &store,
        TokenRecord {
            replaces: Some(name.clone()),
            ..token("replace", Role::Agent)
        },
    );
    enrol(&store, "a", node("box", 1)).unwrap();
    apply(
        &store,
        IdentityOp::RevokeNode {
            name: name.clone(),
            at_unix_ms: NOW,
        },
    )
    .unwrap();
    let again = apply(
        &store,
        IdentityOp::RevokeNode {
            name: name.clone(),
            at_unix_ms: NOW,
        },
    );
    assert_eq!(again, Err(IdentityRefusal::UnknownNode("box".to_owned())));
    enrol(&store, "b", node("box", 2)).unwrap();
    assert_eq!(
        enrol(&store, "replace", node("other", 3)),
        Err(IdentityRefusal::OtherName(name))
    );
    enrol(&store, "replace", node("box", 3)).unwrap();
    let standing: Vec<_> = store.enrolled_nodes().unwrap();
    let standing: Vec<_> = standing
        .iter()
        .filter(|node| node.revoked_unix_ms.is_none())
        .collect();
    assert_eq!(standing, [&node("box", 3)]);
    // What was revoked gets no certificate.
    let certificate = CertificateRow {
        serial: "1".to_owned(),
        expires_unix_ms: 1,
    };
    let op = IdentityOp::PutCertificate {
        node: node("box", 2).id,
        certificate,
    };
    assert!(matches!(apply(&store, op), Err(IdentityRefusal::UnknownNode(_))));
}

#[test]
fn tokens_that_are_over_are_forgotten() {
    let (_directory, store) = open();
    put(&store, token("used", Role::Agent));
    put(&store, token("good", Role::Agent));
    put(
        &store,
        TokenRecord {
            expires_unix_ms: None,
            ..token("for ever", Role::Admin)
        },
    );
    put(
        &store,
        TokenRecord {
            expires_unix_ms: Some(5),
            ..token("late", Role::Viewer)
        },
    );
    enrol(&store, "used", node("box", 1)).unwrap();
    apply(
        &store,
        IdentityOp::RemoveTokens {
            before_unix_ms: NOW + 1,
        },
    )
    .unwrap();
    let mut left: Vec<_> = store
        .tokens()
        .unwrap()
        .into_iter()
        .map(|token| token.name)
        .collect();
    left.sort();
    assert_eq!(left, ["token for ever", "token good"]);
}
