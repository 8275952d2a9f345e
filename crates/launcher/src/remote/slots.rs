//! What is known of each attempt, and what was said and not answered. Plain bookkeeping, no I/O.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use haul_types::AttemptId;
use tokio::sync::{oneshot, watch};

use super::Outgoing;
use crate::order::{Boot, ExitRecord, StopReason};
use crate::protocol::{FromLauncher, Standing, ToLauncher};

/// How far an attempt is known to have got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Ordered, and not answered.
    Ordered,
    Running,
    Ended(Box<ExitRecord>),
    /// It was not started, and never will be.
    Refused(String),
}

#[derive(Debug)]
struct Slot {
    progress: watch::Sender<Progress>,
    /// Until it is answered.
    order: Option<ToLauncher>,
    /// To be said again to a launcher that was started since.
    stop: Option<StopReason>,
}

#[derive(Debug)]
struct TakingBack {
    workdir: PathBuf,
    answer: oneshot::Sender<Option<String>>,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: HashMap<AttemptId, Slot>,
    taking_back: HashMap<u64, TakingBack>,
    next_request: u64,
    /// Said, and perhaps not heard.
    acknowledged: BTreeSet<AttemptId>,
    /// Absent while there is no connection. As much waits in it as there are attempts and directories, which the
    /// agent's slots bound.
    outgoing: Option<Outgoing>,
}

impl Slots {
    /// Says something if there is a connection; all that matters is said again with the next.
    fn say(&self, message: ToLauncher) {
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.send(message);
        }
    }

    pub(super) fn found(&mut self, attempt: AttemptId, progress: Progress) -> watch::Receiver<Progress> {
        self.enter(attempt, progress, None)
    }

    fn enter(
        &mut self,
        attempt: AttemptId,
        progress: Progress,
        order: Option<ToLauncher>,
    ) -> watch::Receiver<Progress> {
        let (progress, watching) = watch::channel(progress);
        let slot = Slot {
            progress,
            order,
            stop: None,
        };
        self.slots.insert(attempt, slot);
        watching
    }

    pub(super) fn start(&mut self, attempt: AttemptId, order: ToLauncher) -> watch::Receiver<Progress> {
        self.say(order.clone());
        self.enter(attempt, Progress::Ordered, Some(order))
    }

    pub(super) fn stop(&mut self, attempt: AttemptId, why: StopReason) {
        if let Some(slot) = self.slots.get_mut(&attempt) {
            slot.stop = Some(why);
            self.say(ToLauncher::Stop { attempt, why });
        }
    }

    pub(super) fn forget(&mut self, attempt: AttemptId) {
        self.slots.remove(&attempt);
    }

    pub(super) fn acknowledge(&mut self, attempt: AttemptId) {
        self.slots.remove(&attempt);
        self.acknowledged.insert(attempt);
        self.say(ToLauncher::Acknowledge { attempt });
    }

    pub(super) fn take_back(&mut self, workdir: PathBuf) -> oneshot::Receiver<Option<String>> {
        let (answer, waiting) = oneshot::channel();
        self.next_request += 1;
        let request = self.next_request;
        self.say(ToLauncher::TakeBack {
            request,
            workdir: workdir.clone(),
        });
        self.taking_back.insert(request, TakingBack { workdir, answer });
        waiting
    }

    /// The connection is lost.
    pub(super) fn disconnected(&mut self) {
        self.outgoing = None;
    }

    /// There is the first connection, and its welcome is taken in already; what was said meanwhile is said now.
    pub(super) fn begin(&mut self, outgoing: Outgoing) {
        let orders = self.slots.values().filter_map(|slot| slot.order.as_ref());
        for order in orders {
            let _ = outgoing.send(order.clone());
        }
        self.outgoing = Some(outgoing);
        let acknowledged = self.acknowledged.iter();
        for message in acknowledged.map(|&attempt| ToLauncher::Acknowledge { attempt }) {
            self.say(message);
        }
        for (&request, taking) in &self.taking_back {
            let workdir = taking.workdir.clone();
            self.say(ToLauncher::TakeBack { request, workdir });
        }
    }

    /// There is a connection to a launcher where attempts stand so.
    pub(super) fn connected(&mut self, outgoing: Outgoing, attempts: Vec<(AttemptId, Standing)>) {
        self.outgoing = Some(outgoing);
        let mut standings: HashMap<AttemptId, Standing> = attempts.into_iter().collect();
        // What it does not list any more, it has heard of.
        self.acknowledged
            .retain(|attempt| standings.contains_key(attempt));
        for &attempt in &self.acknowledged {
            self.say(ToLauncher::Acknowledge { attempt });
        }
        for (&attempt, slot) in &mut self.slots {
            match (standings.remove(&attempt), &slot.order) {
                (Some(standing), _) => slot.stands(standing),
                (None, Some(order)) => {
                    if let Some(outgoing) = &self.outgoing {
                        let _ = outgoing.send(order.clone());
                    }
                }
                // It knew of it, and its directory is gone or another one.
                (None, None) => slot.lose(attempt),
            }
            if let (Some(why), Some(outgoing)) = (slot.stop, &self.outgoing) {
                let _ = outgoing.send(ToLauncher::Stop { attempt, why });
            }
        }
        for (&request, taking) in &self.taking_back {
            let workdir = taking.workdir.clone();
            self.say(ToLauncher::TakeBack { request, workdir });
        }
    }

    /// The launcher has said something.
    pub(super) fn heard(&mut self, message: FromLauncher) {
        match message {
            FromLauncher::Started { attempt, refused } => {
                if let Some(slot) = self.slots.get_mut(&attempt) {
                    match refused {
                        None => slot.stands(Standing::Running),
                        Some(why) => slot.advance(Progress::Refused(why)),
                    }
                }
            }
            FromLauncher::Ended(record) => match self.slots.get_mut(&record.attempt) {
                Some(slot) => slot.stands(Standing::Ended(record)),
                None => self.say(ToLauncher::Acknowledge {
                    attempt: record.attempt,
                }),
            },
            FromLauncher::TakenBack { request, refused } => {
                if let Some(taking) = self.taking_back.remove(&request) {
                    // Whoever asked may have gone.
                    let _ = taking.answer.send(refused);
                }
            }
            // Of a session that has begun already.
            FromLauncher::Welcome { .. } | FromLauncher::Refused { .. } => {}
        }
    }
}

impl Slot {
    fn stands(&mut self, standing: Standing) {
        self.advance(match standing {
            Standing::Running => Progress::Running,
            Standing::Ended(record) => Progress::Ended(Box::new(record)),
        });
    }

    fn lose(&mut self, attempt: AttemptId) {
        self.advance(Progress::Ended(Box::new(ExitRecord::lost(
            attempt,
            Boot::Same,
            0,
        ))));
    }

    /// Nothing comes after an end.
    fn advance(&mut self, to: Progress) {
        self.order = None;
        self.progress.send_if_modified(|now| {
            let goes_on = matches!(now, Progress::Ordered | Progress::Running) && *now != to;
            if goes_on {
                *now = to;
            }
            goes_on
        });
    }
}

#[cfg(test)]
mod tests;
