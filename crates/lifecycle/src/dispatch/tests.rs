//! Random histories against the invariants, and the stories that a history must not get wrong.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::task::Update;
use haul_types::{
    Admission, ArraySpec, ByteSize, Cpus, Enforcement, EnvironmentSpec, ExitStatus, Inventory, Labels,
    RetryOn, Scheduling, TargetName,
};

mod fault_stories;
mod histories;
mod placement_stories;

fn spec(array: Option<&str>) -> Arc<JobSpec> {
    scheduled(array, Scheduling::default())
}

fn scheduled(array: Option<&str>, scheduling: Scheduling) -> Arc<JobSpec> {
    Arc::new(JobSpec {
        scheduling,
        name: "t".into(),
        command: vec!["true".into()],
        snapshot: haul_types::Digest::of(b""),
        working_dir: String::new(),
        env: BTreeMap::new(),
        environment: EnvironmentSpec::Node,
        array: array.map(|text| text.parse::<ArraySpec>().unwrap()),
        timeout: None,
        grace: Duration::from_secs(1),
    })
}

fn node(number: u8) -> NodeName {
    NodeName::try_from(format!("n{number}")).unwrap()
}

fn id(number: u64) -> JobId {
    JobId::from_bits(number).unwrap()
}

fn update(attempt: AttemptId, state: TaskState) -> Update {
    let (reason, exit) = match state {
        TaskState::Succeeded => (Reason::Exited, Some(ExitStatus::Code(0))),
        TaskState::Failed => (Reason::Exited, Some(ExitStatus::Code(1))),
        TaskState::Canceled => (Reason::CanceledByUser, Some(ExitStatus::Signal(15))),
        TaskState::Running => (Reason::Started, None),
        _ => (Reason::Exited, None),
    };
    let detail = String::new();
    Update {
        attempt,
        state,
        reason,
        detail,
        exit,
        outputs: None,
        logs: None,
        stream_lengths: [0; 3],
        ago_ms: 0,
    }
}

fn needs(cpus: u32) -> Scheduling {
    Scheduling {
        resources: Resources {
            cpus: Cpus::whole(cpus),
            memory: ByteSize(0),
        },
        ..Scheduling::default()
    }
}

fn inventory(slots: u32, labels: &[(&str, &str)]) -> Inventory {
    let labels = labels
        .iter()
        .map(|&(key, value)| (key.to_owned(), value.to_owned()));
    Inventory {
        capacity: Resources {
            cpus: Cpus::whole(slots),
            memory: ByteSize(u64::from(slots) << 30),
        },
        labels: labels.collect::<Labels>(),
        gpus: Vec::new(),
        enforces: Enforcement::default(),
    }
}

/// A world around a [`Dispatch`]: what was stored, and agents that hold what they were told to run.
#[derive(Default)]
struct World {
    dispatch: Dispatch,
    jobs: BTreeMap<JobId, JobRecord>,
    order: Vec<JobId>,
    tasks: BTreeMap<TaskId, TaskRecord>,
    held: BTreeMap<u8, BTreeSet<AttemptId>>,
    connected: BTreeSet<u8>,
    slots: BTreeMap<u8, u32>,
    most_slots: BTreeMap<u8, u32>,
    nodes: BTreeMap<NodeName, NodeRecord>,
    targets: BTreeMap<String, TargetRecord>,
    ever_assigned: BTreeSet<AttemptId>,
    /// In the order of their assignment.
    assignments: Vec<(AttemptId, NodeName)>,
    session: u64,
    /// A controller that was restarted does not know which tasks were sent ahead.
    restarted: bool,
    now: u64,
    /// Milliseconds that each step takes; 1 makes every task a short one.
    pace: u64,
}

impl World {
    /// A world where time passes slowly enough that no task is a short one.
    fn unhurried() -> Self {
        Self {
            pace: 1000,
            ..Self::default()
        }
    }

    fn clock(&self) -> Now {
        Now {
            unix_ms: self.now,
            monotonic: Duration::from_millis(self.now),
        }
    }

    fn submit(&mut self, number: u64, spec: Arc<JobSpec>) {
        self.step(
            Event::Submit {
                id: id(number),
                owner: None,
                spec,
            },
            true,
        );
    }

    fn step(&mut self, event: Event, deliver: bool) {
        drop(self.try_step(event, deliver));
    }

    fn try_step(&mut self, event: Event, deliver: bool) -> Result<(), Refused> {
        self.now += self.pace.max(1);
        let effects = self.dispatch.step(event, self.clock())?;
        for change in effects.fleet {
            match change {
                FleetChange::PutNode(node) => drop(self.nodes.insert(node.name.clone(), node)),
                FleetChange::RemoveNode(name) => drop(self.nodes.remove(&name)),
                FleetChange::PutTarget(target) => drop(self.targets.insert(target.name.to_string(), target)),
                FleetChange::RemoveTarget(name) => drop(self.targets.remove(name.as_str())),
            }
        }
        for job in effects.jobs {
            if let Some(before) = self.jobs.get(&job.id) {
                assert!(
                    !before.state.is_terminal(),
                    "a job that ended changed: {before:?} -> {job:?}"
                );
                assert_eq!(before.counts.total(), job.counts.total());
            } else {
                self.order.push(job.id);
            }
            self.jobs.insert(job.id, job);
        }
        for task in effects.tasks {
            if let Some(before) = self.tasks.get(&task.id) {
                assert!(
                    !before.state.is_terminal(),
                    "a task that ended changed: {before:?} -> {task:?}"
                );
                assert!(task.attempt >= before.attempt && task.timeline.starts_with(&before.timeline));
            }
            assert!(task.timeline.is_sorted_by_key(|step| step.at_unix_ms));
            self.tasks.insert(task.id, task);
        }
        for message in effects.messages {
            match message {
                Message::Assign { node, job, tasks, .. } => {
                    for (index, attempt) in tasks {
                        let attempt = AttemptId::new(job, index, attempt);
                        assert!(self.ever_assigned.insert(attempt), "{attempt} was assigned twice");
                        assert_eq!(
                            self.nodes[&node].admission,
                            Admission::Open,
                            "{node} is not to be given work"
                        );
                        self.assignments.push((attempt, node.clone()));
                        assert_eq!(
                            self.tasks[&attempt.task].attempt, attempt.attempt,
                            "assigned before it was stored"
                        );
                        let replaceable = self.jobs[&job].spec.scheduling.on_disconnect != OnDisconnect::Wait;
                        let live = self.held.iter().filter(|(number, held)| {
                            // What was given up may go on where nobody can reach it, if the job's policy says so.
                            let lost = replaceable && !self.connected.contains(number);
                            !lost && held.iter().any(|held| held.task == attempt.task)
                        });
                        assert_eq!(live.count(), 0, "two live attempts at {}", attempt.task);
                        if deliver {
                            self.held.entry(number(&node)).or_default().insert(attempt);
                        }
                    }
                }
                Message::Acknowledge { node, attempts } => {
                    for attempt in attempts {
                        let task = &self.tasks[&attempt.task];
                        let over = task.state.is_terminal() || task.state == TaskState::Queued;
                        assert!(over || task.attempt > attempt.attempt, "{attempt} is not over");
                        self.held.entry(number(&node)).or_default().remove(&attempt);
                    }
                }
                Message::Welcome { node, unwanted } => {
                    for attempt in unwanted {
                        self.held.entry(number(&node)).or_default().remove(&attempt);
                    }
                }
                Message::Stop { .. } => {}
            }
        }
        self.check_counts();
        Ok(())
    }

    fn check_counts(&self) {
        for (id, job) in &self.jobs {
            let mut counts = [0u32; 7];
            for task in self.tasks.values().filter(|task| task.id.job == *id) {
                counts[task.state as usize - 1] += 1;
            }
            let touched: u32 = counts.iter().sum();
            let rest = match (job.given_up, job.cancel_requested) {
                (Some(_), _) => TaskState::Failed,
                (None, true) => TaskState::Canceled,
                (None, false) => TaskState::Queued,
            };
            counts[rest as usize - 1] += job.counts.total() - touched;
            assert_eq!(
                counts, job.counts.0,
                "the counts of {id} are not those of its tasks"
            );
            assert_eq!(job.state, job.counts.summary());
            if let Some(parallel) = job.spec.array.and_then(|array| array.parallel) {
                let running = counts[1] + counts[2] + counts[3];
                assert!(
                    running <= parallel,
                    "{running} tasks at a time, {parallel} are allowed"
                );
            }
        }
        for status in self.dispatch.nodes().filter(|_| !self.restarted) {
            let most = inventory(self.most_slots[&number(&status.record.name)], &[]).capacity;
            assert!(
                most.covers(status.used),
                "more is placed than there ever was: {status:?}"
            );
        }
        if self.pace > 1 {
            self.check_room();
        }
    }

    /// Where nothing is sent ahead, all that a node holds fits it, counted from outside.
    fn check_room(&self) {
        for status in self.dispatch.nodes() {
            let sum = |sum: Resources, attempt: &AttemptId| {
                sum.plus(self.jobs[&attempt.task.job].spec.scheduling.resources)
            };
            let held = self.dispatch.attempts_on(&status.record.name);
            let held = held.iter().fold(Resources::NONE, sum);
            // A node that came back with less may still have what it had.
            let most = inventory(self.most_slots[&number(&status.record.name)], &[]).capacity;
            assert!(
                most.covers(held),
                "{} holds {held:?}: {status:?}",
                status.record.name
            );
        }
    }

    fn connect(&mut self, number: u8, slots: u32) {
        self.connect_as(number, slots, "", &[]).unwrap();
    }

    fn connect_as(
        &mut self,
        number: u8,
        slots: u32,
        instance: &str,
        labels: &[(&str, &str)],
    ) -> Result<(), Refused> {
        self.session += 1;
        self.connected.insert(number);
        self.slots.insert(number, slots);
        let most = self.most_slots.entry(number).or_default();
        *most = slots.max(*most);
        let held = self.held.entry(number).or_default().iter().map(|&attempt| Held {
            attempt,
            stored_as_ended: self
                .tasks
                .get(&attempt.task)
                .is_some_and(|task| task.state.is_terminal() && task.attempt == attempt.attempt),
        });
        let hello = Hello {
            node: node(number),
            session: self.session,
            instance: instance.to_owned(),
            inventory: inventory(slots, labels),
            held: held.collect(),
        };
        self.try_step(Event::Connected(Box::new(hello)), true)
    }

    fn disconnect(&mut self, number: u8) {
        self.connected.remove(&number);
        let (node, session) = (node(number), self.session);
        // What is assigned at this very moment is lost with the connection.
        self.step(Event::Disconnected { node, session }, false);
    }

    /// A node says that its oldest attempt came into these states.
    fn says(&mut self, number: u8, states: &[TaskState]) {
        let attempt = *self.held[&number].first().expect("the node holds an attempt");
        self.says_of(number, attempt, states);
    }

    fn says_of(&mut self, number: u8, attempt: AttemptId, states: &[TaskState]) {
        for &state in states {
            let (node, updates) = (node(number), vec![update(attempt, state)]);
            self.step(Event::Updates { node, updates }, true);
        }
    }

    fn waits_for(&self, number: u64) -> String {
        let why = self.dispatch.waiting_for(id(number), self.clock());
        why.expect("the job waits")
    }

    fn restart(&mut self) {
        self.restarted = true;
        let mut dispatch = Dispatch::default();
        let (nodes, targets) = (self.nodes.values().cloned(), self.targets.values().cloned());
        dispatch.restore_fleet(nodes.collect(), targets.collect(), self.clock());
        for id in self.order.iter().filter(|id| !self.jobs[id].state.is_terminal()) {
            let job = &self.jobs[id];
            let records: Vec<TaskRecord> = self
                .tasks
                .values()
                .filter(|task| task.id.job == *id)
                .cloned()
                .collect();
            let (first, many) = job.spec.array.map_or((0, 1), |array| (array.first, array.len()));
            let untouched = (first..first + many)
                .filter(|index| {
                    !job.cancel_requested
                        && job.given_up.is_none()
                        && records.iter().all(|task| task.id.index != *index)
                })
                .map(|index| index..index + 1);
            let untouched = untouched.collect();
            let active = records
                .into_iter()
                .filter(|task| !task.state.is_terminal())
                .collect();
            dispatch.restore(job.clone(), active, untouched, self.clock());
        }
        self.dispatch = dispatch;
        for number in std::mem::take(&mut self.connected) {
            self.connect(number, self.slots[&number]);
        }
    }
}

fn number(node: &NodeName) -> u8 {
    node.as_str()[1..].parse().unwrap()
}

#[test]
fn a_new_job_gets_the_next_slot_although_an_array_waits() {
    let mut world = World::default();
    world.connect(0, 2);
    world.step(
        Event::Submit {
            id: id(1),
            owner: None,
            spec: spec(Some("1-500")),
        },
        true,
    );
    // The array's tasks prove short, so some are sent ahead.
    for _ in 0..20 {
        let attempt = *world.held[&0].first().unwrap();
        let updates = vec![
            update(attempt, TaskState::Running),
            update(attempt, TaskState::Succeeded),
        ];
        world.step(
            Event::Updates {
                node: node(0),
                updates,
            },
            true,
        );
    }
    assert!(world.held[&0].len() > 2, "nothing was sent ahead");
    world.step(
        Event::Submit {
            id: id(2),
            owner: None,
            spec: spec(None),
        },
        true,
    );
    for _ in 0..world.held[&0].len() {
        if world.held[&0].iter().any(|attempt| attempt.task.job == id(2)) {
            return;
        }
        let attempt = *world.held[&0].first().unwrap();
        world.step(
            Event::Updates {
                node: node(0),
                updates: vec![update(attempt, TaskState::Succeeded)],
            },
            true,
        );
    }
    panic!("the new job waits behind the array");
}

#[test]
fn a_lost_assignment_is_made_again_with_another_number_and_a_lost_run_is_said_to_be_lost() {
    let mut world = World::default();
    world.connect(0, 2);
    world.step(
        Event::Submit {
            id: id(1),
            owner: None,
            spec: spec(None),
        },
        false,
    );
    world.connect(0, 2);
    let attempt = *world.held[&0].first().unwrap();
    assert_eq!(attempt.attempt, 2);
    world.step(
        Event::Updates {
            node: node(0),
            updates: vec![update(attempt, TaskState::Running)],
        },
        true,
    );
    world.held.clear();
    world.connect(0, 2);
    let task = &world.tasks[&attempt.task];
    assert_eq!(
        (task.state, task.timeline.last().unwrap().reason),
        (TaskState::Failed, Reason::Lost)
    );
}

#[test]
fn an_update_of_a_stale_attempt_changes_nothing_and_is_acknowledged() {
    let mut world = World::default();
    world.connect(0, 1);
    world.step(
        Event::Submit {
            id: id(1),
            owner: None,
            spec: spec(None),
        },
        true,
    );
    let current = *world.held[&0].first().unwrap();
    let stale = AttemptId {
        attempt: current.attempt + 7,
        ..current
    };
    let event = Event::Updates {
        node: node(0),
        updates: vec![update(stale, TaskState::Succeeded)],
    };
    let effects = world.dispatch.step(event, world.clock()).unwrap();
    assert!(effects.tasks.is_empty() && effects.jobs.is_empty());
    assert_eq!(
        effects.messages,
        [Message::Acknowledge {
            node: node(0),
            attempts: vec![stale]
        }]
    );
}
