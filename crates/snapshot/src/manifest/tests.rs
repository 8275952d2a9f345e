use super::*;
use proptest::prelude::*;

fn file(path: &str, contents: &[u8]) -> Entry {
    let chunks = if contents.is_empty() {
        Vec::new()
    } else {
        vec![Chunk {
            digest: Digest::of(contents),
            len: contents.len() as u32,
        }]
    };
    Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::File {
            size: contents.len() as u64,
            mode: 0o644,
            chunks,
        },
    }
}

fn dir(path: &str) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::Dir { mode: 0o755 },
    }
}

fn link(path: &str, target: &str) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::Symlink {
            target: target.as_bytes().to_vec(),
        },
    }
}

/// Decodes what `manifest` encodes to.
fn reread(manifest: &Manifest) -> Result<Manifest, DecodeError> {
    Manifest::decode(manifest.root_object(), |digest| {
        let page = manifest
            .pages()
            .find(|page| page.digest() == digest)
            .ok_or(DecodeError::ExtraPage)?;
        Ok(page.encoded().to_vec())
    })
}

/// A root object and its only page, made of entries that nobody checked.
fn unchecked(entries: &[Entry]) -> Result<Manifest, DecodeError> {
    let page = wire::encode_page(entries);
    let mut totals = Totals::default();
    for entry in entries {
        totals.add(entry).ok_or(DecodeError::TotalsOverflow)?;
    }
    let root = Root {
        pages: vec![Digest::of(&page)],
        totals,
    };
    Manifest::decode(&root.encode()?, |_| Ok::<_, DecodeError>(page.clone()))
}

#[test]
fn a_directory_comes_right_before_what_is_in_it() {
    let manifest = Manifest::from_entries(vec![
        file("a/z", b"1"),
        file("a-b", b"2"),
        dir("a"),
        file("a.c", b"3"),
    ])
    .unwrap();
    let paths: Vec<_> = manifest
        .entries()
        .iter()
        .map(|e| String::from_utf8_lossy(&e.path).into_owned())
        .collect();
    assert_eq!(paths, ["a", "a/z", "a-b", "a.c"]);
    assert_eq!(
        manifest.totals(),
        Totals {
            files: 3,
            dirs: 1,
            bytes: 3
        }
    );
    assert_eq!(manifest.get(b"a-b"), Some(&file("a-b", b"2")));
    assert_eq!(manifest.get(b"b"), None);
}

#[test]
fn a_changed_file_changes_one_page() {
    let entries = |changed: usize| -> Vec<Entry> {
        (0..2000)
            .map(|i| file(&format!("f{i:05}"), if i == changed { b"new" } else { b"old" }))
            .collect()
    };
    let before = Manifest::from_entries(entries(usize::MAX)).unwrap();
    let after = Manifest::from_entries(entries(777)).unwrap();
    assert!(before.pages().len() > 8, "{} pages", before.pages().len());
    assert_ne!(before.id(), after.id());
    let old: Vec<_> = before.pages().map(|p| p.digest()).collect();
    let changed = after.pages().filter(|p| !old.contains(&p.digest())).count();
    assert_eq!(changed, 1);
}

#[test]
fn the_empty_tree_has_an_id() {
    let empty = Manifest::from_entries(Vec::new()).unwrap();
    assert_eq!(reread(&empty).unwrap(), empty);
    assert_eq!(empty.pages().len(), 0);
}

#[test]
fn hostile_lists_are_refused() {
    for path in [
        "",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "./a",
        "a//b",
        "a/",
        "a\0b",
        ".",
        "..",
    ] {
        assert!(
            matches!(unchecked(&[file(path, b"x")]), Err(DecodeError::Path { .. })),
            "{path:?}"
        );
    }
    let long = "x".repeat(256);
    assert!(matches!(
        unchecked(&[file(&long, b"x")]),
        Err(DecodeError::Path { .. })
    ));
    let lists: [&[Entry]; 5] = [
        &[file("b", b""), file("a", b"")],
        &[file("a", b""), file("a", b"")],
        &[file("a", b""), dir("a")],
        &[dir("a"), file("a-b", b""), file("a/z", b"")],
        &[file("b", b""), dir("b"), file("b/c", b"")],
    ];
    for list in lists {
        assert!(
            matches!(unchecked(list), Err(DecodeError::Order { .. })),
            "{list:?}"
        );
    }
    let orphans: [&[Entry]; 4] = [
        &[file("a/b", b"")],
        &[file("a", b""), file("a/b", b"")],
        &[link("a", "b"), file("a/b", b"")],
        &[dir("a"), file("a/b/c", b"")],
    ];
    for list in orphans {
        assert!(
            matches!(unchecked(list), Err(DecodeError::Orphan { .. })),
            "{list:?}"
        );
    }
}

#[test]
fn hostile_files_are_refused() {
    let chunk = |len| Chunk {
        digest: Digest::of(b""),
        len,
    };
    let with = |size, mode, chunks| Entry {
        path: b"f".to_vec(),
        kind: EntryKind::File { size, mode, chunks },
    };
    for bad in [
        with(1, 0o4755, vec![chunk(1)]),
        with(2, 0o755, vec![chunk(1)]),
        with(2, 0o755, vec![chunk(1), chunk(1)]),
        with(0, 0o755, vec![chunk(0)]),
        with(1, 0o755, vec![]),
        with(u64::MAX, 0o755, vec![chunk(5 << 20)]),
        with(5 << 20, 0o755, vec![chunk(5 << 20)]),
    ] {
        assert!(
            matches!(
                unchecked(std::slice::from_ref(&bad)),
                Err(DecodeError::Entry { .. })
            ),
            "{bad:?}"
        );
    }
}

#[test]
fn links_stay_inside() {
    let deep = || vec![dir("d"), dir("d/e"), link("d/e/up", "../..")];
    let with = |extra: Entry| {
        let mut entries = deep();
        entries.push(extra);
        Manifest::from_entries(entries)
    };
    for good in ["d", "./d/../d", "nothing", "d/e/up/d", "d/e/up/.", "l"] {
        assert!(with(link("l", good)).is_ok(), "{good}");
    }
    for (bad, problem) in [
        ("/", LinkProblem::Absolute),
        ("..", LinkProblem::Outside),
        ("d/../../x", LinkProblem::Outside),
        ("d/e/up/..", LinkProblem::OutsideThroughLink),
        ("d/e/up/d/../../x", LinkProblem::OutsideThroughLink),
        ("", LinkProblem::NotAPath),
    ] {
        match with(link("l", bad)) {
            Err(DecodeError::Link { problem: found, .. }) => assert_eq!(found, problem, "{bad}"),
            other => panic!("{bad}: {other:?}"),
        }
    }
}

#[test]
fn a_list_cut_elsewhere_is_refused() {
    let entries = [file("a", b"1"), file("b", b"2")];
    let pages = [wire::encode_page(&entries[..1]), wire::encode_page(&entries[1..])];
    let root = Root {
        pages: pages.iter().map(|p| Digest::of(p)).collect(),
        totals: Totals {
            files: 2,
            dirs: 0,
            bytes: 2,
        },
    };
    let mut next = pages.iter();
    let result = Manifest::decode(&root.encode().unwrap(), |_| {
        Ok::<_, DecodeError>(next.next().unwrap().clone())
    });
    assert!(
        matches!(result, Err(DecodeError::NotCanonical { .. })),
        "{result:?}"
    );
}

#[test]
fn sums_and_pages_are_checked() {
    let manifest = Manifest::from_entries(vec![file("a", b"1")]).unwrap();
    let page = manifest.pages().next().unwrap().encoded().to_vec();
    let mut root = Root::decode(manifest.root_object()).unwrap();
    root.totals.bytes += 1;
    let wrong_sum = Manifest::decode(&root.encode().unwrap(), |_| Ok::<_, DecodeError>(page.clone()));
    assert!(matches!(wrong_sum, Err(DecodeError::Totals { .. })));
    let wrong_page = Manifest::decode(manifest.root_object(), |_| Ok::<_, DecodeError>(vec![1, 0]));
    assert!(matches!(wrong_page, Err(DecodeError::WrongPage { .. })));
    let reader = ManifestReader::new(manifest.root_object()).unwrap();
    assert!(matches!(reader.finish(), Err(DecodeError::MissingPage { .. })));
    // A number written with more bytes than it needs.
    let mut padded = manifest.root_object().to_vec();
    let last = padded.pop().unwrap();
    padded.extend([last | 0x80, 0]);
    assert!(Root::decode(&padded).is_err());
    assert!(matches!(
        Root::decode(&[9]),
        Err(DecodeError::Version { found: 9 })
    ));
}

/// A list of entries with odd names that keeps the rules.
fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let name = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..6),
        Just(b"a".to_vec()),
        Just(b"a-".to_vec()),
        Just(b"\xff\n".to_vec()),
    ]
    .prop_map(|name| -> Vec<u8> {
        let safe: Vec<u8> = name
            .into_iter()
            .map(|b| if b == 0 || b == b'/' { b'_' } else { b })
            .collect();
        if safe == b"." || safe == b".." {
            b"dots".to_vec()
        } else {
            safe
        }
    });
    let node = (
        prop::collection::vec(name, 1..4),
        0u8..3,
        0u16..0o1000,
        0u64..3_000_000,
    );
    prop::collection::vec(node, 0..60).prop_map(|nodes| {
        let mut tree = std::collections::BTreeMap::<Vec<u8>, EntryKind>::new();
        for (names, kind, mode, size) in nodes {
            let path = names.join(&b'/');
            let ancestors: Vec<Vec<u8>> = (1..names.len()).map(|n| names[..n].join(&b'/')).collect();
            let blocked = ancestors
                .iter()
                .any(|a| tree.get(a).is_some_and(|k| !matches!(k, EntryKind::Dir { .. })));
            if blocked || tree.contains_key(&path) {
                continue;
            }
            for ancestor in ancestors {
                tree.entry(ancestor).or_insert(EntryKind::Dir { mode: 0o755 });
            }
            let kind = match kind {
                0 => EntryKind::Dir { mode },
                1 => EntryKind::Symlink {
                    target: b"a/b".to_vec(),
                },
                _ => {
                    let step = if size <= WHOLE_FILE { size.max(1) } else { 1 << 20 };
                    let chunks = (0..size.div_ceil(step))
                        .map(|i| Chunk {
                            digest: Digest::of(&i.to_le_bytes()),
                            len: step.min(size - i * step) as u32,
                        })
                        .collect();
                    EntryKind::File { size, mode, chunks }
                }
            };
            tree.insert(path, kind);
        }
        tree.into_iter()
            .map(|(path, kind)| Entry { path, kind })
            .collect()
    })
}

proptest! {
    #[test]
    fn manifests_survive_encoding(entries in entries()) {
        let manifest = Manifest::from_entries(entries).unwrap();
        prop_assert_eq!(reread(&manifest).unwrap(), manifest);
    }

    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>, entries in entries(), at: usize, value: u8) {
        let _ = decode_page(&bytes);
        let _ = Root::decode(&bytes);
        bytes.insert(0, 1);
        let _ = decode_page(&bytes);
        let _ = Root::decode(&bytes);
        let mut page = wire::encode_page(&entries);
        let len = page.len();
        page[at % len] = value;
        if let Ok(entries) = decode_page(&page) {
            prop_assert_eq!(wire::encode_page(&entries), page);
        }
    }
}
