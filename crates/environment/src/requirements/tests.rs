use super::*;
use proptest::prelude::*;

fn meaning(files: &[(&str, &str)]) -> Result<Meaning, RequirementsError> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut inputs = Inputs::new(dir.path()).unwrap();
    let var = |name: &str| (name == "TOKEN").then(|| "hunter22".to_owned());
    read(&mut inputs, Path::new(files[0].0), &var, &mut Redactor::default())
}

fn key(text: &str) -> String {
    meaning(&[("requirements.txt", text)]).unwrap().canonical()
}

#[test]
fn what_no_resolver_heeds_changes_nothing() {
    let base = key("six>=1.16\nidna==3.4 ; python_version < '4'\n");
    for same in [
        "idna == 3.4;python_version < '4'\n# a comment\n\n  SIX >=1.16   # another\n",
        "six>=1.16\nsix>=1.16\r\nidna==3.4 ; python_version   < '4'",
        "\u{feff}six\\\n>=1.16\nidna==3.4 ; python_version < '4'\n",
    ] {
        assert_eq!(key(same), base, "{same:?}");
    }
    for other in [
        "six>=1.17\nidna==3.4 ; python_version < '4'\n",
        "six>=1.16\nidna==3.4\n",
        "six>=1.16\n",
        "--pre\nsix>=1.16\nidna==3.4 ; python_version < '4'\n",
    ] {
        assert_ne!(key(other), base, "{other:?}");
    }
}

#[test]
fn the_order_of_indexes_and_a_fragment_count() {
    let (a, b) = (
        "--extra-index-url https://a.test",
        "--extra-index-url https://b.test",
    );
    assert_ne!(key(&format!("{a}\n{b}\nsix\n")), key(&format!("{b}\n{a}\nsix\n")));
    assert_ne!(
        key("x @ https://a.test/x.zip#sha256=1\n"),
        key("x @ https://a.test/x.zip#sha256=2\n")
    );
    assert_ne!(key("six==1 --hash=sha256:1\n"), key("six==1 --hash=sha256:2\n"));
}

#[test]
fn credentials_are_in_no_key() {
    let text = "--index-url https://me:${TOKEN}@a.test/simple\nx @ https://tok22@b.test/x.whl\nsix\n";
    let key = key(text);
    assert!(
        !key.contains("hunter22") && !key.contains("tok22") && key.contains("a.test/simple"),
        "{key}"
    );
}

#[test]
fn includes_are_followed_from_where_they_are() {
    let files = |nested: &'static str| {
        [
            (
                "requirements.txt",
                "-r deps/base.txt\n--constraint=deps/limits.txt\n",
            ),
            ("deps/base.txt", "-rmore.txt\nsix\n"),
            ("deps/more.txt", nested),
            ("deps/limits.txt", "idna<4\n"),
        ]
    };
    let found = meaning(&files("idna\n")).unwrap();
    let wanted: Vec<&str> = found.wanted.iter().map(String::as_str).collect();
    assert_eq!(wanted, ["constrains idna<4", "requires idna", "requires six"]);
    assert_ne!(meaning(&files("attrs\n")).unwrap(), found);
}

#[test]
fn what_cannot_be_known_is_refused_with_its_line() {
    let refused = |text: &str| meaning(&[("requirements.txt", text), ("pkg/setup.py", "")]).expect_err(text);
    let said = refused("six\n-r ../secret.txt\n").to_string();
    assert!(
        said.starts_with("requirements.txt:2: \"../secret.txt\" is outside"),
        "{said}"
    );
    assert!(matches!(
        refused("-r /etc/passwd\n"),
        RequirementsError::Outside { .. }
    ));
    assert!(matches!(
        refused("-r requirements.txt\n"),
        RequirementsError::Cycle { line: 1, .. }
    ));
    assert!(matches!(
        refused("-r https://a.test/r.txt\n"),
        RequirementsError::RemoteInclude { .. }
    ));
    assert!(matches!(
        refused("-r nosuch.txt\n"),
        RequirementsError::Read { .. }
    ));
    assert!(matches!(refused("-r\n"), RequirementsError::NoValue { .. }));
    for local in [
        "-e .",
        "--editable ./pkg",
        "-e pkg",
        "./pkg",
        ".",
        "x @ ./pkg",
        "pkg @ file:./pkg",
        "./pkg[a,b]",
    ] {
        assert!(
            matches!(refused(local), RequirementsError::LocalDirectory { .. }),
            "{local}"
        );
    }
    assert!(matches!(
        refused("file:///etc/x.whl\n"),
        RequirementsError::Outside { .. } | RequirementsError::Read { .. }
    ));
}

#[test]
fn a_symbolic_link_does_not_lead_out() {
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("r.txt")).unwrap();
    let mut inputs = Inputs::new(dir.path()).unwrap();
    let error = read(
        &mut inputs,
        Path::new("r.txt"),
        &|_| None,
        &mut Redactor::default(),
    )
    .unwrap_err();
    assert!(matches!(error, RequirementsError::Outside { .. }), "{error}");
}

#[test]
fn an_archive_of_the_job_counts_by_content() {
    let with = |wheel: &'static str| {
        meaning(&[
            ("requirements.txt", "./w/x-1-py3-none-any.whl\n"),
            ("w/x-1-py3-none-any.whl", wheel),
        ])
        .unwrap()
    };
    assert_ne!(with("a"), with("b"));
    assert_eq!(with("a"), with("a"));
    let links = |wheel: &'static str| {
        meaning(&[
            ("requirements.txt", "--find-links w\nx\n"),
            ("w/x-1-py3-none-any.whl", wheel),
        ])
        .unwrap()
    };
    assert_ne!(links("a"), links("b"));
}

fn requirement() -> impl Strategy<Value = (String, String)> {
    ("[a-z][a-z0-9]{0,6}", prop::option::of("(==|>=|~=)[1-9]\\.[0-9]"))
        .prop_map(|(name, version)| (name, version.unwrap_or_default()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_comments_and_spaces_do_not_count(
        lines in prop::collection::vec(requirement(), 1..8),
        noise in prop::collection::vec((0usize..4, any::<bool>()), 8),
        turn in 0usize..8,
    ) {
        let plain: String = lines.iter().map(|(name, version)| format!("{name}{version}\n")).collect();
        let mut noisy: Vec<String> = lines
            .iter()
            .zip(&noise)
            .map(|((name, version), (spaces, comment))| {
                let gap = " ".repeat(*spaces);
                let comment = if *comment { " # why\n\n" } else { "" };
                format!("{gap}{}{gap}{version}{gap}{comment}\n", name.to_uppercase())
            })
            .collect();
        let by = turn % noisy.len();
        noisy.rotate_left(by);
        prop_assert_eq!(key(&plain), key(&noisy.concat()));
    }

    #[test]
    fn another_content_is_another_key(
        lines in prop::collection::btree_map("[a-z][a-z0-9]{0,6}", "==[1-9]\\.[0-9]", 1..8),
        victim in 0usize..8,
    ) {
        let text = |skip: usize, instead: &str| -> String {
            let one = |(at, (name, version)): (usize, (&String, &String))| {
                if at == skip { format!("{name}{instead}\n") } else { format!("{name}{version}\n") }
            };
            lines.iter().enumerate().map(one).collect()
        };
        let victim = victim % lines.len();
        prop_assert_ne!(key(&text(usize::MAX, "")), key(&text(victim, "==99.1")));
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[-a-z@#;\\[\\]=./:$ {}\\\\\"'\n]{0,120}") {
        let _ = meaning(&[("requirements.txt", &text)]);
    }
}
