use super::*;
use std::io::Read;

/// Compresses raw bytes as a frame.
fn frame_of(raw: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(raw, 1).unwrap()
}

/// A tar entry with this header and content.
fn entry(header: &tar::Header, content: &[u8]) -> Vec<u8> {
    let mut raw = header.as_bytes().to_vec();
    raw.extend_from_slice(content);
    raw.resize(raw.len().next_multiple_of(BLOCK), 0);
    raw
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[test]
fn frames_hold_what_was_pushed_and_stand_alone() {
    let contents: Vec<Vec<u8>> = [1, 511, 512, 513, 300_000, 900_000, MAX_CHUNK, 7]
        .into_iter()
        .enumerate()
        .map(|(seed, len)| noise(len, seed as u64))
        .collect();
    let mut builder = FrameBuilder::new(DEFAULT_LEVEL);
    let mut frames = Vec::new();
    for content in &contents {
        frames.extend(builder.push(Digest::of(content), content));
    }
    frames.extend(builder.finish());
    assert_eq!(builder.finish(), None);
    assert!(frames.len() >= 3);
    let mut found = Vec::new();
    for frame in &frames {
        let decoded = read_frame(&frame.bytes).unwrap();
        assert_eq!(decoded.chunks, frame.chunks);
        assert_eq!(decoded.raw.len(), frame.raw_len as usize);
        found.extend(decoded.iter().map(|(_, content)| content.to_vec()));
    }
    assert_eq!(found, contents);
}

#[test]
fn a_whole_bundle_is_a_tar_file() {
    let mut builder = FrameBuilder::new(DEFAULT_LEVEL);
    let mut file = Vec::new();
    let contents: Vec<_> = (0..5).map(|seed| noise(400_000, seed)).collect();
    for content in &contents {
        file.extend(
            builder
                .push(Digest::of(content), content)
                .map_or(Vec::new(), |f| f.bytes),
        );
    }
    file.extend(builder.finish().map_or(Vec::new(), |f| f.bytes));
    file.extend(end_frame());
    let mut tar = Vec::new();
    zstd::Decoder::new(&file[..])
        .unwrap()
        .read_to_end(&mut tar)
        .unwrap();
    let mut archive = tar::Archive::new(&tar[..]);
    for (entry, content) in archive.entries().unwrap().zip(&contents) {
        let mut entry = entry.unwrap();
        assert_eq!(
            entry.path_bytes().as_ref(),
            Digest::of(content).to_string().as_bytes()
        );
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        assert_eq!(&bytes, content);
    }
    assert!(matches!(read_frame(&end_frame()), Err(FrameError::EndOfBundle)));
}

#[test]
fn a_chunk_pushed_twice_is_in_the_frame_once() {
    let mut builder = FrameBuilder::new(DEFAULT_LEVEL);
    for _ in 0..2 {
        assert!(builder.push(Digest::of(b"x"), b"x").is_none());
    }
    assert_eq!(builder.finish().unwrap().chunks.len(), 1);
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    let bomb = frame_of(&vec![0; 512 << 20]);
    assert!(bomb.len() < 100_000);
    assert!(matches!(read_frame(&bomb), Err(FrameError::TooLarge { claimed }) if claimed == 512 << 20));
    // The same without the size in the header, as a stream writes it.
    let silent = zstd::stream::encode_all(&vec![0; 64 << 20][..], 1).unwrap();
    assert!(matches!(read_frame(&silent), Err(FrameError::NotAFrame)));
}

#[test]
fn a_bomb_behind_a_lying_header_is_cut_off() {
    // A frame of 16 MiB whose header is patched to claim 1 KiB.
    let honest = frame_of(&vec![0; 16 << 20]);
    let descriptor = honest[4];
    assert_eq!(descriptor >> 6, 2, "a four-byte content size is expected here");
    let at = if descriptor & 0x20 == 0 { 6 } else { 5 };
    let mut lying = honest.clone();
    lying[at..at + 4].copy_from_slice(&1024u32.to_le_bytes());
    assert!(matches!(
        read_frame(&lying),
        Err(FrameError::Zstd(_) | FrameError::NotAFrame)
    ));
}

#[test]
fn hostile_frames_are_refused() {
    let good = entry(&header(Digest::of(b"x"), 1), b"x");
    assert!(read_frame(&frame_of(&good)).is_ok());

    let mut twice = good.clone();
    twice.extend_from_slice(&good);
    assert!(matches!(
        read_frame(&frame_of(&twice)),
        Err(FrameError::Duplicate { .. })
    ));
    let mut trailing = frame_of(&good);
    trailing.extend_from_slice(&frame_of(&good));
    assert!(matches!(read_frame(&trailing), Err(FrameError::Trailing { .. })));
    let mut padded = good.clone();
    *padded.last_mut().unwrap() = 1;
    assert!(matches!(
        read_frame(&frame_of(&padded)),
        Err(FrameError::Padding { .. })
    ));
    assert!(matches!(
        read_frame(&frame_of(&good[..BLOCK + 1])),
        Err(FrameError::Short { .. })
    ));
    assert!(matches!(
        read_frame(&frame_of(&entry(&header(Digest::of(b"y"), 1), b"x"))),
        Err(FrameError::Corrupt { .. })
    ));
    assert!(matches!(read_frame(&frame_of(b"")), Err(FrameError::Empty)));
    assert!(matches!(read_frame(b""), Err(FrameError::NotAFrame)));

    let change = |edit: &dyn Fn(&mut tar::Header)| {
        let mut header = header(Digest::of(b"x"), 1);
        edit(&mut header);
        header.set_cksum();
        read_frame(&frame_of(&entry(&header, b"x")))
    };
    let edits: [&dyn Fn(&mut tar::Header); 6] = [
        &|h| h.set_entry_type(tar::EntryType::Symlink),
        &|h| h.set_entry_type(tar::EntryType::Char),
        &|h| h.set_mode(0o4755),
        &|h| h.set_mtime(1),
        &|h| h.as_old_mut().name[..8].copy_from_slice(b"../../x\0"),
        &|h| {
            h.set_path(Digest::of(b"x").to_string().to_uppercase()).unwrap();
        },
    ];
    for edit in edits {
        assert!(matches!(change(edit), Err(FrameError::NotAChunk { offset: 0 })));
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, flips in proptest::collection::vec((0usize..2000, 0u8..), 0..4)) {
        let _ = read_frame(&bytes);
        let mut raw = entry(&header(Digest::of(b"abc"), 3), b"abc");
        for &(at, value) in &flips {
            let len = raw.len();
            raw[at % len] = value;
        }
        let _ = read_frame(&frame_of(&raw));
        let mut frame = frame_of(&raw);
        for (at, value) in flips {
            let len = frame.len();
            frame[at % len] = value;
        }
        let _ = read_frame(&frame);
    }
}
