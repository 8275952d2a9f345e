//! What was acknowledged outlives the process: a child commits and says so, and is killed in the middle.
//!
//! This shows that nothing waits in memory after an acknowledgement; that the disk has it is what SQLite's
//! `synchronous=FULL` is for, and no test without a power switch shows that.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// Names the directory to the child; its presence makes the test below the child.
const DIRECTORY: &str = "HAUL_STORE_CRASH_DIRECTORY";
const CHILD: &str = "metadata::tests::crash::child_commits_until_it_is_killed";

#[test]
fn child_commits_until_it_is_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let store = Metadata::open(Path::new(&directory)).unwrap();
    let last = store.last_job().unwrap().map_or(0, JobId::to_bits);
    // Two submissions are always in the queue, so that the kill finds a group being committed.
    let (told, acknowledged) = mpsc::sync_channel(2);
    for bits in last + 1.. {
        let told = told.clone();
        let ops = vec![
            Op::InsertJob(job(bits)),
            Op::PutTask(task(bits, 0, TaskState::Running)),
        ];
        store.commit(ops, move |result| {
            told.send(result.map(|()| bits).unwrap()).unwrap();
        });
        if bits > last + 2 {
            println!("acknowledged {}", acknowledged.recv().unwrap());
        }
    }
}

#[test]
fn every_acknowledged_commit_is_there_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let mut last = 0;
    for round in 1..=5u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", CHILD, "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.by_ref() {
            if let Some((_, number)) = line.unwrap().split_once("acknowledged ") {
                last = number.parse().unwrap();
                seen += 1;
                if seen == 40 * round {
                    child.kill().unwrap();
                    break;
                }
            }
        }
        // What it had written into the pipe before it died was acknowledged as well; the last line may be cut.
        let complete = lines.map_while(Result::ok).filter_map(|line| {
            let number = line.split_once("acknowledged ")?.1.to_owned();
            number.parse::<u64>().ok()
        });
        last = complete.fold(last, u64::max);
        child.wait().unwrap();
        assert_eq!(seen, 40 * round, "the child ended by itself");

        let store = Metadata::open(directory.path()).unwrap();
        for bits in 1..=last {
            assert_eq!(
                store.job(id(bits)).unwrap(),
                Some(job(bits)),
                "job {bits} of {last}"
            );
            let index = TaskId {
                job: id(bits),
                index: 0,
            };
            assert!(
                store.task(index).unwrap().is_some(),
                "the task of job {bits} of {last}"
            );
        }
        // The submission that was under way is there whole or not at all.
        for job in store.jobs(&all_jobs()).unwrap() {
            assert!(
                store
                    .task(TaskId {
                        job: job.id,
                        index: 0
                    })
                    .unwrap()
                    .is_some(),
                "half of {}",
                job.id
            );
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
    }
}
