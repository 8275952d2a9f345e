//! Uploads, reads, damage, crashes and garbage, with frames as a client makes them.

mod garbage;

use std::fs;
use std::os::unix::fs::FileExt;

use haul_snapshot::bundle::{Frame, FrameBuilder, FrameError, read_frame};
use proptest::prelude::*;

use super::*;

/// Content that does not compress, different for each number.
fn content(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(length)
    .collect()
}

/// Frames of these contents.
fn frames_of(contents: &[Vec<u8>]) -> Vec<Frame> {
    let mut builder = FrameBuilder::new(1);
    let mut frames: Vec<_> = contents
        .iter()
        .filter_map(|content| builder.push(Digest::of(content), content))
        .collect();
    frames.extend(builder.finish());
    frames
}

fn digests_of(contents: &[Vec<u8>]) -> Vec<Digest> {
    contents.iter().map(|content| Digest::of(content)).collect()
}

fn upload(packs: &Packs, contents: &[Vec<u8>]) -> PackStats {
    let mut writer = packs.writer();
    for frame in frames_of(contents) {
        let digests: Vec<_> = frame.chunks.iter().map(|chunk| chunk.digest).collect();
        assert_eq!(writer.append(&frame.bytes).unwrap(), digests);
    }
    writer.finish().unwrap()
}

fn open() -> (tempfile::TempDir, Packs) {
    let directory = tempfile::tempdir().unwrap();
    let packs = Packs::open(directory.path()).unwrap();
    (directory, packs)
}

fn pack_files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "zst"))
        .collect();
    files.sort();
    files
}

fn sent(packs: &Packs, wanted: &[Digest]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    packs
        .frames(wanted, Extras::Allowed, &mut |frame| {
            frames.push(frame);
            true
        })
        .unwrap();
    frames
}

#[test]
fn chunks_are_read_back_and_after_reopening() {
    let (directory, packs) = open();
    let contents: Vec<_> = (0..40).map(|n| content(n, (n as usize) * 7000)).collect();
    let digests = digests_of(&contents);
    assert_eq!(packs.missing(&digests).unwrap(), digests);
    let mut writer = packs.writer();
    for frame in frames_of(&contents) {
        writer.append(&frame.bytes).unwrap();
    }
    assert_eq!(
        packs.missing(&digests).unwrap(),
        digests,
        "nothing is visible before the end"
    );
    let stats = writer.finish().unwrap();
    assert_eq!((stats.packs, stats.new_chunks), (1, 40));
    let mut packs = packs;
    for _ in 0..2 {
        assert!(packs.missing(&digests).unwrap().is_empty());
        for (content, &digest) in contents.iter().zip(&digests) {
            assert_eq!(&packs.read_chunk(digest).unwrap(), content);
        }
        let usage = packs.usage().unwrap();
        assert_eq!(
            (usage.packs, usage.chunks, usage.stored_bytes),
            (1, 40, stats.stored_bytes)
        );
        assert!(packs.check().unwrap().is_sound());
        drop(packs);
        packs = Packs::open(directory.path()).unwrap();
    }
    let stored = fs::metadata(&pack_files(directory.path())[0]).unwrap().len();
    assert_eq!(stored, stats.stored_bytes);
}

#[test]
fn a_pack_is_the_frames_as_they_came_and_their_end() {
    let (directory, packs) = open();
    let frames = frames_of(&[content(1, 900_000), content(2, 900_000), content(3, 10)]);
    let mut writer = packs.writer();
    let mut expected = Vec::new();
    for frame in &frames {
        writer.append(&frame.bytes).unwrap();
        expected.extend_from_slice(&frame.bytes);
    }
    writer.finish().unwrap();
    expected.extend(haul_snapshot::bundle::end_frame());
    assert_eq!(fs::read(&pack_files(directory.path())[0]).unwrap(), expected);
}

#[test]
fn an_upload_of_nothing_makes_nothing() {
    let (directory, packs) = open();
    assert_eq!(packs.writer().finish().unwrap(), PackStats::default());
    assert!(pack_files(directory.path()).is_empty());
}

#[test]
fn a_bad_frame_is_refused_and_the_upload_goes_on() {
    let (_directory, packs) = open();
    let frames = frames_of(&[content(1, 1_100_000), content(2, 1_100_000)]);
    let mut writer = packs.writer();
    let mut bent = frames[0].bytes.clone();
    let middle = bent.len() / 2;
    bent[middle] ^= 1;
    let error = writer.append(&bent).unwrap_err();
    assert!(matches!(error, AppendError::Frame(_)), "{error:?}");
    let error = writer.append(&haul_snapshot::bundle::end_frame()).unwrap_err();
    assert!(
        matches!(error, AppendError::Frame(FrameError::EndOfBundle)),
        "{error:?}"
    );
    writer.append(&frames[1].bytes).unwrap();
    assert_eq!(writer.finish().unwrap().frames, 1);
    let (first, second) = (frames[0].chunks[0].digest, frames[1].chunks[0].digest);
    assert_eq!(packs.missing(&[first, second]).unwrap(), [first]);
    assert!(packs.check().unwrap().is_sound());
}

#[test]
fn frames_can_be_verified_by_several_threads() {
    let (_directory, packs) = open();
    let contents: Vec<_> = (0..8).map(|n| content(n, 1 << 20)).collect();
    let frames = frames_of(&contents);
    let verified: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = frames
            .iter()
            .map(|frame| scope.spawn(|| VerifiedFrame::verify(&frame.bytes[..]).unwrap()))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut writer = packs.writer();
    for frame in verified {
        writer.append_verified(frame).unwrap();
    }
    writer.finish().unwrap();
    assert!(packs.missing(&digests_of(&contents)).unwrap().is_empty());
}

#[test]
fn an_unfinished_upload_leaves_nothing() {
    let (directory, packs) = open();
    let contents = [content(1, 1000)];
    let mut writer = packs.writer();
    writer.append(&frames_of(&contents)[0].bytes).unwrap();
    assert_eq!(pack_files(directory.path()).len(), 1);
    drop(writer);
    assert!(pack_files(directory.path()).is_empty());

    // A crash: the file stays, and nothing removes it but the next opening.
    let mut writer = packs.writer();
    writer.append(&frames_of(&contents)[0].bytes).unwrap();
    writer.keep();
    drop(writer);
    assert_eq!(pack_files(directory.path()).len(), 1);
    drop(packs);
    let stranger = directory.path().join("notes.txt");
    fs::write(&stranger, "not ours").unwrap();
    let packs = Packs::open(directory.path()).unwrap();
    assert!(pack_files(directory.path()).is_empty());
    assert!(stranger.exists());
    upload(&packs, &contents);
    assert_eq!(packs.read_chunk(Digest::of(&contents[0])).unwrap(), contents[0]);
}

#[test]
fn a_damaged_pack_is_named_and_never_given_out() {
    let (directory, packs) = open();
    let contents = [content(1, 900_000), content(2, 900_000), content(3, 900_000)];
    let digests = digests_of(&contents);
    upload(&packs, &contents);
    let pack = &pack_files(directory.path())[0];
    let file = fs::OpenOptions::new().read(true).write(true).open(pack).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], 1000).unwrap();

    let error = packs.read_chunk(digests[0]).unwrap_err();
    assert!(
        matches!(&error, LoadError::Damaged { chunk, .. } if *chunk == digests[0]),
        "{error:?}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&pack.display().to_string()) && text.contains(&digests[0].to_string()),
        "{text}"
    );
    let mut frames = 0;
    let error = packs
        .frames(&digests, Extras::Allowed, &mut |_| {
            frames += 1;
            true
        })
        .unwrap_err();
    assert!(matches!(error, LoadError::Damaged { .. }));
    assert_eq!(frames, 0);
    let report = packs.check().unwrap();
    assert!(
        report
            .damaged
            .iter()
            .any(|damage| damage.chunk == digests[0] && damage.pack == *pack)
    );
    assert_eq!(report.sound_chunks + report.damaged.len() as u64, 3);
    assert_eq!(
        packs.read_chunk(digests[2]).unwrap(),
        contents[2],
        "the rest of the pack is sound"
    );

    fs::remove_file(pack).unwrap();
    let report = packs.check().unwrap();
    assert_eq!(report.damaged.len(), 3);
    assert!(
        report.damaged[0].problem.contains("No such file"),
        "{:?}",
        report.damaged[0]
    );
}

#[test]
fn whole_frames_are_sent_as_stored_and_of_others_just_what_is_wanted() {
    let (_directory, packs) = open();
    let contents: Vec<_> = (0..30).map(|n| content(n, 100_000)).collect();
    let frames = frames_of(&contents);
    assert_eq!(frames.len(), 3);
    upload(&packs, &contents);
    // All of the third and most of the first, in any order and twice; little of the second.
    let little = frames[1].chunks[3].digest;
    let mut wanted: Vec<_> = frames[2]
        .chunks
        .iter()
        .chain(&frames[0].chunks[2..])
        .map(|chunk| chunk.digest)
        .collect();
    wanted.extend_from_within(..3);
    wanted.insert(2, little);
    let sent = sent(&packs, &wanted);
    assert_eq!(sent[..2], [frames[0].bytes.clone(), frames[2].bytes.clone()]);
    assert_eq!(sent.len(), 3);
    let rebuilt = read_frame(&sent[2]).unwrap();
    assert_eq!(
        rebuilt
            .chunks
            .iter()
            .map(|chunk| chunk.digest)
            .collect::<Vec<_>>(),
        [little]
    );

    let mut seen = 0;
    packs
        .frames(&wanted, Extras::Allowed, &mut |_| {
            seen += 1;
            false
        })
        .unwrap();
    assert_eq!(seen, 1, "the sink has had enough");
    let stranger = Digest::of(b"never stored");
    let error = packs
        .frames(&[wanted[0], stranger], Extras::Allowed, &mut |_| {
            panic!("nothing is sent")
        })
        .unwrap_err();
    assert!(matches!(error, LoadError::Unknown(digest) if digest == stranger));
}

#[test]
fn two_stores_cannot_share_a_directory() {
    let (directory, _packs) = open();
    assert!(matches!(
        Packs::open(directory.path()),
        Err(OpenError::Locked { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    /// Any uploads, any wish: what is sent is verified by the receiver's own reader and is all that was wanted.
    #[test]
    fn what_is_wanted_arrives(
        uploads in proptest::collection::vec(proptest::collection::vec((0..60u64, 0..200_000usize), 1..20), 1..5),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (_directory, packs) = open();
        let mut all = std::collections::BTreeMap::new();
        for chunks in uploads {
            let contents: Vec<_> = chunks.into_iter().map(|(number, length)| content(number, length)).collect();
            upload(&packs, &contents);
            all.extend(contents.into_iter().map(|content| (Digest::of(&content), content)));
        }
        let digests: Vec<_> = all.keys().copied().collect();
        prop_assert!(packs.missing(&digests).unwrap().is_empty());
        let wanted: Vec<_> = picks.iter().map(|pick| *pick.get(&digests)).collect();
        let mut arrived = std::collections::HashMap::new();
        for frame in sent(&packs, &wanted) {
            for (digest, content) in read_frame(&frame).unwrap().iter() {
                arrived.insert(digest, content.to_vec());
            }
        }
        for digest in wanted {
            prop_assert_eq!(&arrived[&digest], &all[&digest]);
        }
        prop_assert!(packs.check().unwrap().is_sound());
    }
}

#[test]
fn who_may_see_nothing_else_gets_just_what_was_asked_for() {
    let (_directory, packs) = open();
    let contents: Vec<_> = (0..30).map(|n| content(n, 100_000)).collect();
    let frames = frames_of(&contents);
    upload(&packs, &contents);
    // The whole first frame, and nearly all of the second.
    let wanted: Vec<_> = frames[0]
        .chunks
        .iter()
        .chain(&frames[1].chunks[1..])
        .map(|chunk| chunk.digest)
        .collect();
    let mut sent = Vec::new();
    packs
        .frames(&wanted, Extras::Never, &mut |frame| {
            sent.push(frame);
            true
        })
        .unwrap();
    assert!(
        sent[0] == frames[0].bytes,
        "a frame of which all is wanted leaves as it is stored"
    );
    let mut got: Vec<_> = sent
        .iter()
        .flat_map(|frame| read_frame(frame).unwrap().chunks)
        .map(|chunk| chunk.digest)
        .collect();
    let mut wanted = wanted;
    got.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(got, wanted);
}
