//! What a step costs: a short array on one node, a hundred thousand jobs in line, a thousand nodes.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use haul_lifecycle::{Dispatch, Event, Hello, Message, Now, Update};
use haul_types::{
    AttemptId, ByteSize, Cpus, Digest, Enforcement, EnvironmentSpec, Inventory, JobId, JobSpec, Labels,
    NodeName, Reason, Resources, Scheduling, TaskState,
};

fn spec(array: Option<&str>) -> Arc<JobSpec> {
    Arc::new(JobSpec {
        name: "bench".to_owned(),
        command: vec!["true".to_owned()],
        snapshot: Digest::of(b""),
        working_dir: String::new(),
        env: Default::default(),
        environment: EnvironmentSpec::Node,
        array: array.map(|text| text.parse().expect("an array")),
        timeout: None,
        grace: Duration::from_secs(10),
        scheduling: Scheduling::default(),
    })
}

fn id(number: u64) -> JobId {
    JobId::from_bits(number).expect("a small number is an id")
}

fn node(number: u32) -> NodeName {
    NodeName::try_from(format!("node-{number}")).expect("a name")
}

/// A dispatcher and what its nodes hold.
struct World {
    dispatch: Dispatch,
    held: Vec<(NodeName, AttemptId)>,
    arrays: u64,
    now: u64,
    /// Milliseconds that a step takes; 1 makes every task a short one, 1000 none.
    pace: u64,
}

impl World {
    fn new(nodes: u32, slots: u32, pace: u64) -> Self {
        let mut world = Self {
            dispatch: Dispatch::default(),
            held: Vec::new(),
            arrays: 0,
            now: 0,
            pace,
        };
        for number in 0..nodes {
            let hello = Hello {
                node: node(number),
                session: u64::from(number),
                instance: String::new(),
                inventory: Inventory {
                    capacity: Resources {
                        cpus: Cpus::whole(slots),
                        memory: ByteSize(1 << 36),
                    },
                    labels: Labels::new(),
                    gpus: Vec::new(),
                    enforces: Enforcement::default(),
                },
                held: Vec::new(),
            };
            world.step(Event::Connected(Box::new(hello)));
        }
        world
    }

    fn step(&mut self, event: Event) {
        self.now += self.pace;
        let now = Now {
            unix_ms: self.now,
            monotonic: Duration::from_millis(self.now),
        };
        let effects = self.dispatch.step(event, now).expect("the event is taken");
        for message in effects.messages {
            if let Message::Assign { node, job, tasks, .. } = message {
                let attempts = tasks
                    .into_iter()
                    .map(|(index, attempt)| AttemptId::new(job, index, attempt));
                self.held.extend(attempts.map(|attempt| (node.clone(), attempt)));
            }
        }
    }

    fn submit(&mut self, number: u64, array: Option<&str>) {
        self.step(Event::Submit {
            id: id(number),
            owner: None,
            spec: spec(array),
        });
    }

    /// One attempt runs and ends, and whatever follows from that is handed out.
    fn turn_over(&mut self) {
        if self.held.is_empty() {
            // The array has come to its end.
            self.arrays += 1;
            self.submit(self.arrays, Some("0-999999"));
        }
        let (node, attempt) = self.held.swap_remove(0);
        for state in [TaskState::Running, TaskState::Succeeded] {
            let update = Update {
                attempt,
                state,
                reason: Reason::Started,
                detail: String::new(),
                exit: None,
                outputs: None,
                logs: None,
                stream_lengths: [0; 3],
                ago_ms: 0,
            };
            self.step(Event::Updates {
                node: node.clone(),
                updates: vec![update],
            });
        }
    }
}

fn steps(criterion: &mut Criterion) {
    let mut world = World::new(1, 2, 1);
    criterion.bench_function("a short task of an array", |bench| {
        bench.iter(|| world.turn_over());
    });

    for nodes in [1, 1000] {
        let mut world = World::new(nodes, 8, 1000);
        (0..100_000 + 8 * u64::from(nodes)).for_each(|number| world.submit(number, None));
        let name = format!("the next of 100,000 jobs on {nodes} nodes");
        // Each that ends is followed by a new one, so that the line stays as long as it is.
        let mut next = 1 << 40;
        criterion.bench_function(&name, |bench| {
            bench.iter(|| {
                world.turn_over();
                world.submit(next, None);
                next += 1;
            });
        });
        let now = Now::default();
        criterion.bench_function(&format!("why the last of them waits, {nodes} nodes"), |bench| {
            bench.iter(|| world.dispatch.waiting_for(id(next - 1), now));
        });
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
