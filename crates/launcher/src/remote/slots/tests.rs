//! Whatever is lost on the way, an attempt is started once, ends once, and is forgotten on both sides.

use std::path::PathBuf;
use std::time::Duration;

use haul_types::JobId;
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::*;
use crate::order::{AttemptOrder, Limits};
use crate::privileged::Table;

fn attempt() -> AttemptId {
    AttemptId::new(JobId::from_bits(7).unwrap(), 0, 1)
}

fn order() -> ToLauncher {
    ToLauncher::Start {
        order: Box::new(AttemptOrder {
            attempt: attempt(),
            program: "true".into(),
            args: Vec::new(),
            cwd: PathBuf::from("/"),
            env: Vec::new(),
            stdout: PathBuf::from("/o"),
            stderr: PathBuf::from("/e"),
            timeout: None,
            grace: Duration::ZERO,
            limits: Limits::default(),
        }),
        workdir: PathBuf::from("/w"),
    }
}

/// The launcher's side, without processes.
#[derive(Default)]
struct Launcher {
    table: Table,
    starts: u32,
    said: Vec<FromLauncher>,
}

impl Launcher {
    fn hear(&mut self, message: ToLauncher) {
        match message {
            ToLauncher::Start { order, workdir } if self.table.enter(order.attempt, workdir.clone()) => {
                self.starts += 1;
                self.table.running(order.attempt, Some(workdir), Box::new(|_| {}));
                self.said.push(FromLauncher::Started {
                    attempt: order.attempt,
                    refused: None,
                });
            }
            ToLauncher::Acknowledge { attempt } if self.table.has_ended(attempt) => {
                self.table.remove(attempt);
            }
            _ => {}
        }
    }

    fn end(&mut self) {
        let running = |it: &(AttemptId, Standing)| it.1 == Standing::Running;
        if self.table.standings().iter().any(running) {
            let record = ExitRecord::lost(attempt(), Boot::Same, 1);
            self.table.ended(record.clone());
            self.said.push(FromLauncher::Ended(record));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// The launcher hears the next word.
    ToLauncher,
    /// The agent hears the next word.
    FromLauncher,
    /// Whatever is on its way is lost; there is a new connection.
    Reconnect,
    End,
    Acknowledge,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::ToLauncher),
        Just(Step::FromLauncher),
        Just(Step::Reconnect),
        Just(Step::End),
        Just(Step::Acknowledge),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn nothing_is_started_twice_or_lost(mut steps in steps()) {
        let mut launcher = Launcher::default();
        let mut slots = Slots::default();
        let (sender, mut wire) = mpsc::unbounded_channel();
        slots.connected(sender, Vec::new());
        let progress = slots.start(attempt(), order());
        // In the end everything is heard.
        let calm = [Step::Reconnect, Step::ToLauncher, Step::FromLauncher, Step::End, Step::FromLauncher];
        steps.extend(calm);
        steps.extend([Step::Acknowledge, Step::ToLauncher, Step::Reconnect, Step::ToLauncher, Step::Reconnect]);
        let mut acknowledged = false;
        for step in steps {
            match step {
                Step::ToLauncher => {
                    while let Ok(message) = wire.try_recv() {
                        launcher.hear(message);
                    }
                }
                Step::FromLauncher => {
                    for message in launcher.said.drain(..) {
                        slots.heard(message);
                    }
                }
                Step::Reconnect => {
                    launcher.said.clear();
                    slots.disconnected();
                    let (sender, next) = mpsc::unbounded_channel();
                    wire = next;
                    slots.connected(sender, launcher.table.standings());
                }
                Step::End => launcher.end(),
                Step::Acknowledge if matches!(*progress.borrow(), Progress::Ended(_)) => {
                    acknowledged = true;
                    slots.acknowledge(attempt());
                }
                Step::Acknowledge => {}
            }
        }
        prop_assert_eq!(launcher.starts, 1);
        prop_assert!(acknowledged);
        // The record is the launcher's, not one made up here.
        let seen = progress.borrow().clone();
        prop_assert!(matches!(seen, Progress::Ended(record) if record.started_unix_ms == 1));
        prop_assert_eq!(launcher.table.standings(), []);
        prop_assert!(slots.slots.is_empty() && slots.acknowledged.is_empty());
    }
}
