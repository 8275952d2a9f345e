use std::os::unix::fs::PermissionsExt as _;

use haul_identity::{Address, Authorities, Pin};

use super::*;

fn store() -> (tempfile::TempDir, ContextFile) {
    let directory = tempfile::tempdir().unwrap();
    let store = ContextFile::at(directory.path().join("haul"));
    (directory, store)
}

fn token() -> Token {
    let address: Address = "controller.example:7443".parse().unwrap();
    Token::new(Role::Submitter, vec![address], Pin::from_bytes([7; 32])).unwrap()
}

fn add(store: &ContextFile, name: &str, token: &Token) {
    let directory = tempfile::tempdir().unwrap();
    let authorities = Authorities::create(&directory.path().join("ca"), SystemTime::now()).unwrap();
    let controller = SharedController {
        addresses: token.addresses().iter().map(ToString::to_string).collect(),
        authorities: authorities.bundle(),
        asked_unix: now_unix(),
        user: "ada".to_owned(),
        role: Role::Submitter,
        target: None,
    };
    store.keep_credential(name, token.secret()).unwrap();
    store
        .change(|contexts| {
            contexts.contexts.insert(name.to_owned(), controller);
            contexts.current = Some(name.to_owned());
        })
        .unwrap();
}

fn name_of(chosen: &Chosen) -> &str {
    match chosen {
        Chosen::Local => LOCAL,
        Chosen::Shared { name, .. } => name,
    }
}

#[test]
fn what_is_said_wins_over_what_is_kept() {
    let (_directory, store) = store();
    let choice = |name: Option<&str>, token: Option<String>| {
        let wishes = Wishes {
            name: name.map(str::to_owned),
            token,
        };
        choose(&wishes, &store).map(|chosen| name_of(&chosen).to_owned())
    };
    assert_eq!(choice(None, None).unwrap(), LOCAL);
    add(&store, "lab", &token());
    assert_eq!(choice(None, None).unwrap(), "lab");
    assert_eq!(choice(None, Some(token().reveal())).unwrap(), "HAUL_TOKEN");
    assert_eq!(choice(Some("lab"), Some(token().reveal())).unwrap(), "lab");
    assert_eq!(choice(Some(LOCAL), None).unwrap(), LOCAL);
    assert!(matches!(
        choice(Some("lap"), None),
        Err(ContextError::Unknown { known, .. }) if known == [LOCAL, "lab"]
    ));
    assert!(matches!(
        choice(None, Some("secret".to_owned())),
        Err(ContextError::Variable(_))
    ));
}

#[test]
fn secrets_lie_apart_and_are_the_users_alone() {
    let (directory, store) = store();
    let token = token();
    add(&store, "lab", &token);
    let secret = token.secret().reveal();
    let list = std::fs::read_to_string(directory.path().join("haul/contexts.toml")).unwrap();
    assert!(!list.contains(&secret));
    for path in ["haul/credentials/lab", "haul/contexts.toml"] {
        let mode = std::fs::metadata(directory.path().join(path))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    }
    let Chosen::Shared { secret: kept, .. } = choose(&Wishes::default(), &store).unwrap() else {
        panic!("the context is current");
    };
    assert_eq!(kept.reveal(), secret);
    store.forget_credential("lab").unwrap();
    store.forget_credential("lab").unwrap();
    assert!(matches!(
        choose(&Wishes::default(), &store),
        Err(ContextError::Store(StoreError::Io { .. }))
    ));
}

#[test]
fn a_list_with_a_typo_is_refused_with_its_place() {
    let (directory, store) = store();
    add(&store, "lab", &token());
    let path = directory.path().join("haul/contexts.toml");
    let text = std::fs::read_to_string(&path)
        .unwrap()
        .replace("current", "curent");
    std::fs::write(&path, text).unwrap();
    let error = store.read().unwrap_err();
    let StoreError::Malformed { source, .. } = error else {
        panic!("{error}");
    };
    assert!(source.to_string().contains("curent"), "{source}");
}

#[test]
fn names_are_names_of_files() {
    for good in ["lab", "gpu-1.x", "A"] {
        assert!(is_name(good), "{good}");
    }
    for bad in ["", "..", "a/b", "-x", "a b", &"x".repeat(64)] {
        assert!(!is_name(bad), "{bad:?}");
    }
}
