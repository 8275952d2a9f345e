//! Random trees survive the whole way: scan, bundle, manifest over the wire, materialise, scan again.

#![allow(
    clippy::unwrap_used,
    reason = "all of this is test code; clippy only knows the bodies of tests"
)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use haul_snapshot::bundle::read_frame;
use haul_snapshot::scan::IgnoreRules;
use haul_snapshot::{DecodeError, Manifest, Scan, ScanOptions, scan, tree};
use haul_types::Digest;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Node {
    File { size: usize, seed: u8, mode: u32 },
    Dir { mode: u32 },
    Link(Vec<u8>),
}

/// Names that break tools: newlines, spaces, dashes, what is no UTF-8, leading dots.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        prop::sample::select(vec![
            b"a".to_vec(),
            b"a-b".to_vec(),
            b"\xff\xfe".to_vec(),
            b"new\nline".to_vec(),
            b" ".to_vec(),
            b"-rf".to_vec(),
            b"...".to_vec(),
            "naïve 文".as_bytes().to_vec(),
        ]),
    ]
    .prop_map(|name| {
        let name: Vec<u8> = name
            .into_iter()
            .map(|byte| if byte == 0 || byte == b'/' { b'_' } else { byte })
            .collect();
        if name == b"." || name == b".." {
            b"dots".to_vec()
        } else {
            name
        }
    })
}

fn node() -> impl Strategy<Value = (Vec<Vec<u8>>, Node)> {
    let size = prop_oneof![8 => 0usize..5000, 1 => 500_000usize..3_000_000];
    let node = prop_oneof![
        4 => (size, any::<u8>(), 0u32..0o400).prop_map(|(size, seed, mode)| Node::File { size, seed, mode: mode | 0o400 }),
        1 => (0u32..0o100).prop_map(|mode| Node::Dir { mode: mode | 0o700 }),
        1 => prop::collection::vec(name(), 1..3).prop_map(|names| Node::Link(names.join(&b'/'))),
    ];
    (prop::collection::vec(name(), 1..5), node)
}

/// Makes the tree, leaving out what is in the way of something else.
fn make(root: &Path, nodes: &[(Vec<Vec<u8>>, Node)]) {
    for (names, node) in nodes {
        let path = root.join(OsStr::from_bytes(&names.join(&b'/')));
        let parent = path.parent().expect("it is within the root");
        // A parent that is a file or a link is in the way; so is a link that leads to one.
        let clear = parent
            .ancestors()
            .take_while(|above| *above != root)
            .all(|above| fs::symlink_metadata(above).map_or(true, |found| found.is_dir()));
        if !clear || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        fs::create_dir_all(parent).unwrap();
        match node {
            Node::File { size, seed, mode } => {
                let mut content = vec![0; *size];
                blake3::Hasher::new()
                    .update(&[*seed])
                    .finalize_xof()
                    .fill(&mut content);
                fs::write(&path, content).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Dir { mode } => {
                fs::create_dir(&path).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
            }
            Node::Link(target) => symlink(OsStr::from_bytes(target), &path).unwrap(),
        }
    }
}

fn read(root: &Path) -> Scan {
    let mut options = ScanOptions::new(root);
    options.rules = IgnoreRules::None;
    options.threads = 2;
    scan(&options, &()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_tree_that_travelled_is_the_same(nodes in prop::collection::vec(node(), 0..40)) {
        let base = tempfile::tempdir().unwrap();
        let (source, target) = (base.path().join("source"), base.path().join("target"));
        fs::create_dir(&source).unwrap();
        make(&source, &nodes);
        let scanned = read(&source);

        // All that travels are chunks: the root object and pages among them.
        let mut wanted: HashSet<Digest> = scanned.pages().flat_map(|page| page.chunks()).map(|chunk| chunk.digest).collect();
        wanted.extend(scanned.pages().map(|page| page.digest()));
        wanted.insert(scanned.id());
        let mut frames = Vec::new();
        scanned
            .write_bundle(&wanted, 2, &mut |frame| { frames.push(frame); Ok::<_, ()>(()) }, &())
            .unwrap();
        let decoded: Vec<_> = frames.iter().map(|frame| read_frame(&frame.bytes).unwrap()).collect();
        let chunks: HashMap<Digest, &[u8]> = decoded.iter().flat_map(haul_snapshot::bundle::DecodedFrame::iter).collect();
        prop_assert_eq!(chunks.len(), wanted.len());
        prop_assert_eq!(frames.iter().map(|frame| frame.chunks.len()).sum::<usize>(), wanted.len());
        let manifest = Manifest::decode(chunks[&scanned.id()], |page| Ok::<_, DecodeError>(chunks[&page].to_vec())).unwrap();
        prop_assert_eq!(&manifest, &scanned.manifest);

        let tree = tree::create(&target, &manifest).unwrap();
        std::thread::scope(|scope| {
            for half in decoded.chunks(decoded.len().div_ceil(2)) {
                let tree = &tree;
                scope.spawn(move || half.iter().for_each(|frame| tree.accept(frame).unwrap()));
            }
        });
        let state = tree.finish().unwrap();
        prop_assert_eq!(read(&target).id(), scanned.id());
        let plan = tree::reset(&target, &state, &manifest, &[]).unwrap();
        prop_assert_eq!(plan.removed, 0);
        prop_assert_eq!(plan.materializer.missing(), 0);
        plan.materializer.finish().unwrap();
        prop_assert_eq!(read(&target).id(), scanned.id());
        tree::remove_tree(&target).unwrap();
        prop_assert!(!target.exists());
    }
}
