//! Nothing is missed, one line is seen at once, and who writes is not held up.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Follower, REST, WatchError};
use crate::StreamFile;

/// Long enough for any machine; a test that comes near has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn appender(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

#[test]
fn a_heavy_writer_is_followed_to_its_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("stdout"), dir.path().join("stderr")];
    let lines = 100_000_u64;
    let mut follower = Follower::new().unwrap();
    let mut files = Vec::new();
    for (token, path) in paths.iter().enumerate() {
        appender(path);
        follower.watch(path, token).unwrap();
        files.push((StreamFile::open(path).unwrap(), Vec::new()));
    }
    let writers = paths.map(|path| {
        thread::spawn(move || {
            let mut file = appender(&path);
            for line in 0..lines {
                file.write_all(&line.to_le_bytes()).unwrap();
            }
        })
    });
    let mut wakes = 0;
    let start = Instant::now();
    while files.iter().any(|(_, seen)| seen.len() < 8 * lines as usize) {
        assert!(start.elapsed() < PATIENCE, "bytes were missed");
        for token in follower.wait(Some(PATIENCE)).unwrap() {
            wakes += 1;
            let (file, seen) = &mut files[token];
            while file.read(seen.len() as u64, 64 << 10, seen).unwrap() > 0 {}
        }
    }
    let most = 2 * 2 * (start.elapsed().as_millis() / REST.as_millis() + 2);
    assert!(wakes <= most, "{wakes} wakes, {most} would do");
    for writer in writers {
        writer.join().unwrap();
    }
    let expected: Vec<u8> = (0..lines).flat_map(u64::to_le_bytes).collect();
    for (_, seen) in files {
        assert!(seen == expected);
    }
    // All are armed again in the end, and then it is quiet.
    while !follower.wait(Some(5 * REST)).unwrap().is_empty() {}
    assert_eq!(follower.due(), None);
}

#[test]
fn lone_lines_are_seen_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stdout");
    let mut file = appender(&path);
    let mut follower = Follower::new().unwrap();
    follower.watch(&path, ()).unwrap();
    let (say, said) = std::sync::mpsc::channel();
    let (go, went) = std::sync::mpsc::channel();
    let writer = thread::spawn(move || {
        while went.recv().is_ok() {
            say.send(Instant::now()).unwrap();
            file.write_all(b"line\n").unwrap();
        }
    });
    let mut delays: Vec<_> = (0..200)
        .map(|_| {
            go.send(()).unwrap();
            assert_eq!(follower.wait(Some(PATIENCE)).unwrap(), [()]);
            let delay = said.recv().unwrap().elapsed();
            // Let it come to rest, so that the next line is a lone one.
            while follower.due().is_some() {
                follower.wait(Some(2 * REST)).unwrap();
            }
            delay
        })
        .collect();
    drop(go);
    writer.join().unwrap();
    delays.sort_unstable();
    eprintln!(
        "lone lines: median {:?}, p95 {:?}, worst {:?}",
        delays[100], delays[190], delays[199]
    );
    // Far above what it takes, far below what a poll would.
    assert!(delays[100] < Duration::from_millis(5), "{:?}", delays[100]);
}

#[test]
fn a_file_is_watched_once_and_forgotten_when_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stdout");
    let mut follower = Follower::new().unwrap();
    let error = follower.watch(&path, 1).unwrap_err();
    assert!(matches!(error, WatchError::File { .. }), "{error}");
    appender(&path);
    follower.watch(&path, 1).unwrap();
    follower.watch(&path, 1).unwrap();
    let error = follower.watch(&path, 2).unwrap_err();
    assert!(matches!(error, WatchError::Twice { .. }), "{error}");

    appender(&path).write_all(b"last words").unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(follower.wait(Some(PATIENCE)).unwrap(), [1]);
    while follower.is_watched(1) {
        follower.wait(Some(PATIENCE)).unwrap();
    }
    assert!(follower.wait(Some(2 * REST)).unwrap().is_empty());
}

#[test]
fn an_unwatched_file_is_silent_even_if_it_had_fired() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("stdout");
    let mut file = appender(&path);
    let mut follower = Follower::new().unwrap();
    follower.watch(&path, 1).unwrap();
    file.write_all(b"fired").unwrap();
    follower.unwatch(1);
    assert!(follower.wait(Some(3 * REST)).unwrap().is_empty());
    follower.watch(&path, 2).unwrap();
    file.write_all(b"again").unwrap();
    assert_eq!(follower.wait(Some(PATIENCE)).unwrap(), [2]);
}
