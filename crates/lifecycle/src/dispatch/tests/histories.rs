//! Random histories against the invariants: jobs of every kind, nodes that come, go and are taken away, restarts.

use super::*;

#[derive(Clone, Debug)]
enum Act {
    Submit(u8),
    Cancel(u8, Option<u32>),
    Connect(u8, u32),
    Disconnect(u8),
    Progress(u8, usize, u8),
    Forget(u8),
    Restart,
    Admit(u8, u8),
    Remove(u8),
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0u8..9).prop_map(Act::Submit),
        1 => (0u8..12, proptest::option::of(0u32..8)).prop_map(|(job, task)| Act::Cancel(job, task)),
        2 => (0u8..3, 1u32..4).prop_map(|(node, slots)| Act::Connect(node, slots)),
        1 => (0u8..3).prop_map(Act::Disconnect),
        12 => (0u8..3, any::<usize>(), 2u8..8).prop_map(|(node, which, state)| Act::Progress(node, which, state)),
        1 => (0u8..3).prop_map(Act::Forget),
        1 => Just(Act::Restart),
        1 => (0u8..3, 0u8..3).prop_map(|(node, admission)| Act::Admit(node, admission)),
        1 => (0u8..3).prop_map(Act::Remove),
        1 => (1u64..40_000).prop_map(Act::Wait),
    ]
}

/// Jobs of every kind: of one task or many, small and large, patient and not, sure of themselves and not.
fn kind(kind: u8) -> Arc<JobSpec> {
    let waits = Some(Duration::from_secs(20));
    let after = Duration::from_secs(5);
    let scheduling = match kind {
        4 => needs(2),
        5 => needs(3),
        6 => Scheduling {
            queue_timeout: waits,
            priority: 5.try_into().unwrap(),
            ..needs(1)
        },
        7 => Scheduling {
            on_disconnect: OnDisconnect::Replace { after },
            retries: haul_types::RetryPolicy {
                limit: Some(2),
                on: RetryOn::Any,
            },
            ..needs(1)
        },
        8 => Scheduling {
            target: Some("t".parse::<TargetName>().unwrap()),
            queue_timeout: waits,
            ..needs(2)
        },
        _ => Scheduling::default(),
    };
    let array = match kind {
        1 | 6 => Some("1-5"),
        2 | 7 => Some("3-9%2"),
        3 => Some("0-2%1"),
        _ => None,
    };
    scheduled(array, scheduling)
}

fn run(acts: Vec<Act>, mut world: World) -> World {
    let mut submitted = 0;
    world.step(
        Event::PutTarget(TargetRecord {
            name: "t".parse().unwrap(),
            nodes: [node(0), node(2)].into(),
            labels: Labels::new(),
            placement: haul_types::Placement::Pack,
        }),
        true,
    );
    for act in acts {
        match act {
            Act::Submit(number) => {
                world.submit(submitted, kind(number));
                submitted += 1;
            }
            Act::Cancel(job, task) => world.step(
                Event::Cancel {
                    job: id(job.into()),
                    task,
                },
                true,
            ),
            Act::Connect(number, slots) => world.connect(number, slots),
            Act::Disconnect(number) => world.disconnect(number),
            Act::Admit(number, admission) => world.step(
                Event::Admit {
                    node: node(number),
                    admission: Admission::ALL[admission as usize],
                },
                true,
            ),
            Act::Remove(number) => {
                let connected = false;
                let node = node(number);
                world.step(Event::RemoveNode { node, connected }, true);
            }
            Act::Wait(ms) => {
                world.now += ms;
                world.step(Event::Tick, true);
            }
            Act::Progress(number, which, state) if world.connected.contains(&number) => {
                let held: Vec<AttemptId> = world.held.entry(number).or_default().iter().copied().collect();
                if !held.is_empty() {
                    let state = TaskState::ALL[state as usize - 1];
                    let updates = vec![update(held[which % held.len()], state)];
                    world.step(
                        Event::Updates {
                            node: node(number),
                            updates,
                        },
                        true,
                    );
                }
            }
            Act::Forget(number) => {
                // A machine whose disk was lost: it comes back with nothing.
                world.held.insert(number, BTreeSet::new());
                world.connect(number, 2);
            }
            Act::Restart => world.restart(),
            Act::Progress(..) => {}
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_invariants_and_every_job_ends(
        acts in proptest::collection::vec(act(), 1..120),
        pace in prop_oneof![Just(1u64), Just(1000)],
    ) {
        let mut world = run(acts, World { pace, ..World::default() });
        // Now the world turns kind: every node comes back, takes work, has room, and every attempt succeeds.
        for number in 0..3 {
            world.connect(number, 3);
            world.step(Event::Admit { node: node(number), admission: Admission::Open }, true);
        }
        for _ in 0..2000 {
            let next = world.held.iter().find_map(|(&number, held)| held.first().map(|&attempt| (number, attempt)));
            let Some((number, attempt)) = next else { break };
            world.says_of(number, attempt, &[TaskState::Running, TaskState::Succeeded]);
        }
        for job in world.jobs.values() {
            prop_assert!(job.state.is_terminal(), "{:?} never ended", job);
        }
        prop_assert_eq!(world.dispatch.active_jobs(), 0);
    }
}
