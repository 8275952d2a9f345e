//! Who gets in, who does not, and what each is told.

use haul_identity::{HostKey, Secret, Token};
use haul_types::Role;
use tonic::Code;

use super::*;
use crate::principal::Principal;
use crate::status::IntoStatus;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

struct Site {
    directory: tempfile::TempDir,
    identity: Arc<Identity>,
    admin: Token,
}

fn site() -> Site {
    let directory = tempfile::tempdir().unwrap();
    let addresses = vec!["haul.example.org:7070".parse().unwrap()];
    let admin = init(directory.path(), &addresses, SystemTime::now()).unwrap();
    let identity = open(directory.path());
    Site {
        directory,
        identity,
        admin,
    }
}

fn open(state_dir: &std::path::Path) -> Arc<Identity> {
    let addresses = vec!["haul.example.org:7070".parse().unwrap()];
    let metadata = Metadata::open(&state_dir.join("metadata")).unwrap();
    let callers = Arc::new(Callers::new(metadata.clone()));
    Identity::open(IdentityConfig::new(state_dir, addresses), metadata, callers).unwrap()
}

fn join_token() -> TokenOrder {
    TokenOrder {
        role: Role::Agent,
        name: String::new(),
        target: Some("gpu".to_owned()),
        life: Life::Usual,
        labels: [("zone".to_owned(), "a".to_owned())].into(),
        replaces: None,
    }
}

fn name(name: &str) -> NodeName {
    NodeName::try_from(name.to_owned()).unwrap()
}

fn order(token: &Token, node: &str, key: &HostKey) -> JoinOrder {
    JoinOrder {
        token: token.secret().hash(),
        request: VerifiedRequest::verify(&key.request().unwrap()).unwrap(),
        name: name(node),
        labels: [
            ("zone".to_owned(), "b".to_owned()),
            ("gpu".to_owned(), "a100".to_owned()),
        ]
        .into(),
    }
}

impl Site {
    async fn token(&self, order: TokenOrder) -> Token {
        self.identity
            .create_token(order, SystemTime::now())
            .await
            .unwrap()
            .0
    }

    async fn join_at(&self, token: &Token, node: &str, now: SystemTime) -> Result<Granted, tonic::Status> {
        let order = order(token, node, &HostKey::generate().unwrap());
        self.identity
            .join(order, now)
            .await
            .map_err(IntoStatus::into_status)
    }

    async fn join(&self, token: &Token, node: &str) -> Result<Granted, tonic::Status> {
        self.join_at(token, node, SystemTime::now()).await
    }
}

/// Code and words of a refusal.
fn refused(outcome: Result<Granted, tonic::Status>, code: Code, words: &str) {
    let status = outcome.err().expect("it is refused");
    assert_eq!(status.code(), code, "{}", status.message());
    assert!(status.message().contains(words), "{}", status.message());
}

#[tokio::test]
async fn a_machine_joins_is_known_and_renews() {
    let site = site();
    let token = site.token(join_token()).await;
    let granted = site.join(&token, "box").await.unwrap();
    let certificate = &granted.credentials.certificate;
    assert_eq!(certificate.name, name("box"));
    let node = site
        .identity
        .metadata
        .enrolled_node(certificate.id)
        .unwrap()
        .unwrap();
    assert_eq!(node.target.as_deref(), Some("gpu"));
    // The token's word counts more than the machine's.
    let labels: Vec<_> = node
        .labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"))
        .collect();
    assert_eq!(labels, ["gpu=a100", "zone=a"]);

    let now = SystemTime::now();
    let (node, id) = (name("box"), certificate.id);
    let caller = site.identity.callers.node(&granted.credentials.chain[0]).unwrap();
    assert_eq!(
        caller,
        Principal::Node {
            name: node.clone(),
            id
        }
    );

    let request = VerifiedRequest::verify(&HostKey::generate().unwrap().request().unwrap()).unwrap();
    let renewed = site
        .identity
        .renew(&node, id, &request, now + MINUTE)
        .await
        .unwrap();
    let stored = site
        .identity
        .metadata
        .enrolled_node(id)
        .unwrap()
        .unwrap()
        .certificate
        .unwrap();
    assert_eq!(stored.serial, renewed.credentials.certificate.serial);
    assert_ne!(stored.serial, certificate.serial);
}

#[tokio::test]
async fn a_node_whose_certificate_is_over_is_known_as_that() {
    let site = site();
    let then = SystemTime::now() - 2 * DAY;
    let token = site.token(join_token()).await;
    let granted = site.join_at(&token, "box", then).await.unwrap();
    let caller = site.identity.callers.node(&granted.credentials.chain[0]).unwrap();
    let id = granted.credentials.certificate.id;
    assert_eq!(
        caller,
        Principal::ExpiredNode {
            name: name("box"),
            id
        }
    );
}

#[tokio::test]
async fn every_bad_token_has_its_own_words() {
    let (site, other) = (site(), site());
    let good = || site.token(join_token());
    let used = good().await;
    site.join(&used, "box").await.unwrap();
    refused(
        site.join(&used, "other").await,
        Code::Unauthenticated,
        "used already",
    );
    refused(
        site.join(&other.token(join_token()).await, "a").await,
        Code::Unauthenticated,
        "another controller",
    );
    let late = SystemTime::now() + 11 * MINUTE;
    refused(
        site.join_at(&good().await, "a", late).await,
        Code::Unauthenticated,
        "has expired at",
    );
    refused(
        site.join(&site.admin, "a").await,
        Code::PermissionDenied,
        "role admin",
    );
    let revoked = good().await;
    site.identity
        .revoke_token(revoked.secret().id(), SystemTime::now())
        .await
        .unwrap();
    refused(site.join(&revoked, "a").await, Code::Unauthenticated, "revoked");
    refused(
        site.join(&good().await, "box").await,
        Code::AlreadyExists,
        "--replace box",
    );
}

#[tokio::test]
async fn the_same_machine_may_ask_again_and_is_the_same_node() {
    let site = site();
    let token = site.token(join_token()).await;
    let key = HostKey::generate().unwrap();
    let first = site
        .identity
        .join(order(&token, "box", &key), SystemTime::now())
        .await
        .unwrap();
    let again = site
        .identity
        .join(order(&token, "box", &key), SystemTime::now())
        .await
        .unwrap();
    assert_eq!(first.credentials.certificate.id, again.credentials.certificate.id);
    refused(
        site.join(&token, "box").await,
        Code::Unauthenticated,
        "used already",
    );
}

#[tokio::test]
async fn a_revoked_node_is_out_at_once_and_stays_out() {
    let site = site();
    let granted = site.join(&site.token(join_token()).await, "box").await.unwrap();
    let der = granted.credentials.chain[0].clone();
    let now = SystemTime::now();
    let caller = site.identity.callers.node(&der).unwrap();
    let under_way = site
        .identity
        .callers
        .revocation(caller.clone(), site.identity.callers.hear());
    let heard = site.identity.callers.hear();
    let id = site.identity.revoke_node(&name("box"), now).await.unwrap();
    assert_eq!(
        under_way.await.code(),
        Code::PermissionDenied,
        "what is under way ends"
    );
    let late = site.identity.callers.revocation(caller, heard).await;
    assert_eq!(
        late.code(),
        Code::PermissionDenied,
        "what was let in just before ends too"
    );
    let status = site.identity.callers.node(&der).unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let request = VerifiedRequest::verify(&HostKey::generate().unwrap().request().unwrap()).unwrap();
    refused(
        site.identity
            .renew(&name("box"), id, &request, now)
            .await
            .map_err(IntoStatus::into_status),
        Code::PermissionDenied,
        "haul-agent join",
    );
    let again = site
        .identity
        .revoke_node(&name("box"), now)
        .await
        .unwrap_err()
        .into_status();
    assert_eq!(again.code(), Code::NotFound);

    // After a restart too. The name is free for another.
    let Site {
        directory, identity, ..
    } = site;
    drop(identity);
    let identity = open(directory.path());
    assert!(identity.callers.node(&der).is_err());
    let (token, _) = identity.create_token(join_token(), now).await.unwrap();
    identity
        .join(order(&token, "box", &HostKey::generate().unwrap()), now)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_that_says_so_takes_a_nodes_place() {
    let site = site();
    let first = site.join(&site.token(join_token()).await, "box").await.unwrap();
    let replacing = TokenOrder {
        replaces: Some(name("box")),
        ..join_token()
    };
    let token = site.token(replacing).await;
    refused(
        site.join(&token, "other").await,
        Code::InvalidArgument,
        "--name box",
    );
    let second = site.join(&token, "box").await.unwrap();
    assert!(site.identity.callers.node(&first.credentials.chain[0]).is_err());
    assert!(site.identity.callers.node(&second.credentials.chain[0]).is_ok());
}

#[tokio::test]
async fn users_are_known_by_their_tokens() {
    let site = site();
    let now = SystemTime::now();
    let user = |token: &Token| site.identity.callers.user(&token.secret().hash());
    let admin = user(&site.admin).unwrap();
    assert!(matches!(&admin, Principal::User { role: Role::Admin, name, .. } if name == "admin"));
    assert!(
        site.identity
            .callers
            .user(&Secret::random().unwrap().hash())
            .is_err()
    );

    let viewer = TokenOrder {
        role: Role::Viewer,
        name: "ci".to_owned(),
        target: Some("gpu".to_owned()),
        life: Life::Ever,
        labels: std::collections::BTreeMap::new(),
        replaces: None,
    };
    let token = site.token(viewer.clone()).await;
    let caller = user(&token).unwrap();
    assert!(matches!(&caller, Principal::User { target: Some(target), .. } if target == "gpu"));
    let under_way = site
        .identity
        .callers
        .revocation(caller.clone(), site.identity.callers.hear());
    let heard = site.identity.callers.hear();
    site.identity
        .revoke_token(token.secret().id(), now)
        .await
        .unwrap();
    assert_eq!(
        under_way.await.code(),
        Code::Unauthenticated,
        "what is under way ends"
    );
    let late = site.identity.callers.revocation(caller, heard).await;
    assert_eq!(
        late.code(),
        Code::Unauthenticated,
        "what was let in just before ends too"
    );
    assert!(user(&token).unwrap_err().message().contains("revoked"));
    let short = TokenOrder {
        life: Life::For(Duration::ZERO),
        ..viewer.clone()
    };
    let expired = user(&site.token(short).await).unwrap_err();
    assert!(expired.message().contains("expired"), "{expired}");

    for bad in [
        TokenOrder {
            life: Life::Ever,
            ..join_token()
        },
        TokenOrder {
            replaces: Some(name("box")),
            ..viewer.clone()
        },
        TokenOrder {
            name: "a\nb".to_owned(),
            ..viewer
        },
    ] {
        let error = site.identity.create_token(bad, now).await.unwrap_err();
        assert!(matches!(error, IdentityError::BadOrder(_)), "{error}");
    }
}

#[tokio::test]
async fn of_a_thousand_joins_with_one_token_one_succeeds() {
    let site = site();
    let token = site.token(join_token()).await;
    // Making keys takes longest: a few are shared, each by one name.
    let keys: Vec<_> = (0..10).map(|_| HostKey::generate().unwrap()).collect();
    let joins = (0..1000).map(|number| {
        let order = order(&token, &format!("box-{number}"), &keys[number % keys.len()]);
        site.identity.join(order, SystemTime::now())
    });
    let outcomes = futures::future::join_all(joins).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(site.identity.metadata.enrolled_nodes().unwrap().len(), 1);
}

#[tokio::test]
async fn a_rotation_is_served_at_once_and_survives_a_restart() {
    let Site {
        directory,
        identity,
        admin,
    } = site();
    let now = SystemTime::now();
    let before = identity.server().get();
    let begun = identity.rotate(Step::Begin, false, now).unwrap();
    assert_eq!((begun.phase, begun.authorities.len()), (Phase::Begun, 2));
    assert!(!Arc::ptr_eq(&before, &identity.server().get()));
    let activated = identity.rotate(Step::Activate, false, now).unwrap();
    assert_ne!(activated.authorities[0].pin, admin.pin());
    let error = identity
        .rotate(Step::Finish, false, now)
        .err()
        .unwrap()
        .into_status();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("locked out"), "{}", error.message());
    drop(identity);
    let identity = open(directory.path());
    assert_eq!(identity.authorities().phase, Phase::Activated);
    let late = now + 9 * DAY;
    assert_eq!(
        identity.rotate(Step::Finish, false, late).unwrap().phase,
        Phase::Steady
    );
}

#[tokio::test]
async fn the_controllers_own_certificate_is_renewed_at_half_life() {
    let site = site();
    let before = site.identity.server().get();
    site.identity.renew_own(SystemTime::now()).unwrap();
    assert!(Arc::ptr_eq(&before, &site.identity.server().get()));
    site.identity.renew_own(SystemTime::now() + DAY / 2).unwrap();
    assert!(!Arc::ptr_eq(&before, &site.identity.server().get()));
}

#[test]
fn an_authority_is_made_once() {
    let site = site();
    let addresses = ["other:1".parse().unwrap()];
    let error = init(site.directory.path(), &addresses, SystemTime::now()).unwrap_err();
    assert!(matches!(error, InitError::Authority(_)), "{error}");
}
