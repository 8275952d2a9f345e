//! What a collection frees, and what it must not.

use std::collections::HashSet;

use super::*;

/// Nothing is remembered of what was asked: the second collection forgets what the first has aged.
fn collect(packs: &Packs, live: &[Digest]) -> CollectStats {
    locked(&packs.inner.promises).forget(Instant::now(), Duration::ZERO);
    let live: HashSet<_> = live.iter().copied().collect();
    packs
        .collect(&|digest| live.contains(&digest), Duration::ZERO)
        .unwrap()
}

fn assert_readable(packs: &Packs, contents: &[Vec<u8>]) {
    for content in contents {
        assert_eq!(&packs.read_chunk(Digest::of(content)).unwrap(), content);
    }
    assert!(packs.check().unwrap().is_sound());
}

#[test]
fn dead_packs_go_and_live_ones_stay_as_they_are() {
    let (directory, packs) = open();
    let (live, dead) = ([content(1, 500_000)], [content(2, 500_000)]);
    upload(&packs, &live);
    upload(&packs, &dead);
    let files = pack_files(directory.path());
    let stats = collect(&packs, &digests_of(&live));
    assert_eq!(
        (stats.removed_packs, stats.dropped_chunks, stats.rewritten_bytes),
        (1, 1, 0)
    );
    assert_eq!(pack_files(directory.path()), files[..1]);
    assert_eq!(packs.missing(&digests_of(&dead)).unwrap(), digests_of(&dead));
    assert_readable(&packs, &live);
    // What was dropped can come again.
    upload(&packs, &dead);
    assert_readable(&packs, &dead);
}

#[test]
fn a_pack_less_than_half_live_is_rewritten() {
    let (directory, packs) = open();
    let contents: Vec<_> = (0..60).map(|n| content(n, 100_000)).collect();
    upload(&packs, &contents);
    let before = packs.usage().unwrap();
    // All of the first frame, one chunk of each of the others.
    let live: Vec<_> = contents[..11]
        .iter()
        .chain(contents[11..].iter().step_by(11))
        .cloned()
        .collect();
    let stats = collect(&packs, &digests_of(&live));
    assert_eq!(
        (stats.removed_packs, stats.dropped_chunks),
        (1, 60 - live.len() as u64)
    );
    let after = packs.usage().unwrap();
    assert_eq!((after.packs, after.chunks), (1, live.len() as u64));
    assert!(after.stored_bytes < before.stored_bytes / 3, "{after:?}");
    assert_eq!(pack_files(directory.path()).len(), 1);
    assert_readable(&packs, &live);
    drop(packs);
    assert_readable(&Packs::open(directory.path()).unwrap(), &live);
}

#[test]
fn small_packs_are_put_together() {
    let (directory, packs) = open();
    let uploads: Vec<_> = (0..10)
        .map(|n| [content(n, 30_000), content(100 + n, 30_000)])
        .collect();
    for contents in &uploads {
        upload(&packs, contents);
    }
    let all = uploads.concat();
    assert_eq!(pack_files(directory.path()).len(), 10);
    let stats = collect(&packs, &digests_of(&all));
    assert_eq!((stats.removed_packs, stats.dropped_chunks), (10, 0));
    assert_eq!(pack_files(directory.path()).len(), 1);
    assert_readable(&packs, &all);
    assert_eq!(
        collect(&packs, &digests_of(&all)).removed_packs,
        0,
        "once is enough"
    );
}

#[test]
fn what_a_client_was_told_is_here_stays_here() {
    let (_directory, packs) = open();
    let contents = [content(1, 50_000)];
    let digests = digests_of(&contents);
    upload(&packs, &contents);
    let hour = Duration::from_secs(3600);
    // The end of the upload is such a promise itself.
    assert_eq!(packs.collect(&|_| false, hour).unwrap().removed_packs, 0);
    locked(&packs.inner.promises).forget(Instant::now(), Duration::ZERO);
    assert!(packs.missing(&digests).unwrap().is_empty());
    locked(&packs.inner.promises).forget(Instant::now(), Duration::ZERO);
    assert_eq!(packs.collect(&|_| false, hour).unwrap().removed_packs, 0);
    assert_eq!(collect(&packs, &[]).removed_packs, 1);
    assert_eq!(packs.missing(&digests).unwrap(), digests);
}

#[test]
fn a_promise_made_during_a_collection_spares_the_pack() {
    let (_directory, packs) = open();
    let contents = [content(1, 50_000), content(2, 50_000), content(3, 50_000)];
    let digests = digests_of(&contents);
    upload(&packs, &contents);
    let forget = || locked(&packs.inner.promises).forget(Instant::now(), Duration::ZERO);
    forget();
    forget();
    // The mark is asked while the plan is made; a client asks in the middle of it, for one already found dead.
    let asked = std::cell::Cell::new(0);
    let stats = packs
        .collect(
            &|digest| {
                asked.set(asked.get() + 1);
                if asked.get() == 6 {
                    assert!(packs.missing(&digests).unwrap().is_empty());
                }
                digest == digests[0]
            },
            Duration::from_secs(3600),
        )
        .unwrap();
    assert_eq!((stats.removed_packs, stats.spared_packs), (0, 1));
    assert_readable(&packs, &contents);
    // The copies made in vain go at the next collection.
    collect(&packs, &digests);
    assert_eq!(packs.usage().unwrap().packs, 1);
    assert_readable(&packs, &contents);
}

#[test]
fn a_reader_keeps_the_files_it_was_told_of() {
    let (directory, packs) = open();
    let contents: Vec<_> = (0..24).map(|n| content(n, 500_000)).collect();
    upload(&packs, &contents[..12]);
    upload(&packs, &contents[12..]);
    let digests = digests_of(&contents);
    let mut arrived = 0;
    packs
        .frames(&digests, Extras::Allowed, &mut |frame| {
            if arrived == 0 {
                // Two epochs end while this one is read.
                assert_eq!(collect(&packs, &digests[..12]).removed_packs, 1);
                assert_eq!(collect(&packs, &[]).removed_packs, 1);
                assert_eq!(pack_files(directory.path()).len(), 2);
            }
            arrived += read_frame(&frame).unwrap().chunks.len();
            true
        })
        .unwrap();
    assert_eq!(arrived, 24);
    assert!(
        pack_files(directory.path()).is_empty(),
        "gone with the last reader"
    );
}

#[test]
fn a_damaged_pack_is_left_alone_and_told() {
    let (directory, packs) = open();
    let contents = [
        content(1, 900_000),
        content(2, 900_000),
        content(3, 900_000),
        content(4, 900_000),
    ];
    upload(&packs, &contents);
    let pack = &pack_files(directory.path())[0];
    fs::OpenOptions::new()
        .write(true)
        .open(pack)
        .unwrap()
        .write_all_at(b"damage", 1000)
        .unwrap();
    let stats = collect(&packs, &digests_of(&contents[..1]));
    assert_eq!((stats.removed_packs, stats.damaged.len()), (0, 1));
    assert!(pack.exists());
    assert_eq!(packs.read_chunk(Digest::of(&contents[3])).unwrap(), contents[3]);
}

/// Uploads, readers and collections at once: whoever was told that a chunk is here finds it.
#[test]
fn collections_and_uploads_do_not_disturb_each_other() {
    let (_directory, packs) = open();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let uploads: Vec<_> = (0..2u64)
            .map(|thread| {
                let packs = packs.clone();
                scope.spawn(move || {
                    for round in 0..25u64 {
                        // Half of what each upload needs, the other thread or an earlier round may have sent.
                        let wanted: Vec<_> =
                            (round..round + 6).chain([1000 * (thread + 1) + round]).collect();
                        let contents: Vec<_> = wanted.iter().map(|&n| content(n, 20_000)).collect();
                        let missing = packs.missing(&digests_of(&contents)).unwrap();
                        let sent: Vec<_> = contents
                            .iter()
                            .filter(|content| missing.contains(&Digest::of(content)))
                            .cloned()
                            .collect();
                        upload(&packs, &sent);
                        assert_eq!(
                            packs.missing(&digests_of(&contents)).unwrap(),
                            [],
                            "round {round}"
                        );
                        assert!(!super::sent(&packs, &digests_of(&contents)).is_empty());
                    }
                })
            })
            .collect();
        let collector = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Everything is garbage but what was promised in the last tenth of a second.
                packs.collect(&|_| false, Duration::from_millis(100)).unwrap();
            }
        });
        let ended: Vec<_> = uploads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        collector.join().unwrap();
        ended.into_iter().for_each(|upload| upload.unwrap());
    });
    assert!(packs.check().unwrap().is_sound());
}
