//! Who gets what, told as stories; and that nobody waits for ever.

use super::*;

/// Ends the oldest attempt of a node with success.
fn finish(world: &mut World, number: u8) {
    world.says(number, &[TaskState::Running, TaskState::Succeeded]);
}

fn jobs_on(world: &World, number: u8) -> Vec<u64> {
    let held = world.held.get(&number).into_iter().flatten();
    held.map(|attempt| attempt.task.job.to_bits()).collect()
}

fn label_target(name: &str, labels: &[(&str, &str)], placement: haul_types::Placement) -> Event {
    Event::PutTarget(TargetRecord {
        name: name.parse().unwrap(),
        nodes: BTreeSet::new(),
        labels: inventory(1, labels).labels,
        placement,
    })
}

fn at(target: &str, mut scheduling: Scheduling) -> Scheduling {
    scheduling.target = Some(target.parse().unwrap());
    scheduling
}

#[test]
fn a_waiting_job_says_what_would_have_to_change() {
    let mut world = World::unhurried();
    world.submit(1, spec(None));
    insta::assert_snapshot!(world.waits_for(1), @"no agent is connected: start one, or see why the one there is cannot connect");
    world.connect(0, 1);
    assert_eq!(world.dispatch.waiting_for(id(1), world.clock()), None);
    world.submit(2, spec(Some("1-3%1")));
    insta::assert_snapshot!(world.waits_for(2), @"waits for 1 CPU on n0, taken by job 000000000001");
    world.submit(3, scheduled(None, needs(8)));
    insta::assert_snapshot!(world.waits_for(3), @"needs 8 CPUs; the largest node n0 has 1");
    let much = Resources {
        cpus: Cpus::ONE,
        memory: ByteSize(64 << 30),
    };
    world.submit(
        4,
        scheduled(
            None,
            Scheduling {
                resources: much,
                ..Scheduling::default()
            },
        ),
    );
    insta::assert_snapshot!(world.waits_for(4), @"needs 64.0 GiB of memory; the largest node n0 has 1.0 GiB");
    world.step(
        Event::Admit {
            node: node(0),
            admission: Admission::Cordoned,
        },
        true,
    );
    insta::assert_snapshot!(world.waits_for(2), @"no node that is large enough takes work: n0 is cordoned: `haul node uncordon n0`");
    world.step(
        label_target("gpu", &[("gpu", "a100")], haul_types::Placement::Spread),
        true,
    );
    world.submit(5, scheduled(None, at("gpu", needs(1))));
    insta::assert_snapshot!(world.waits_for(5), @"target gpu has no node yet: enroll one with its labels, or declare it with one");
    assert!(world.dispatch.why_never(id(5)).is_some());
    world.connect_as(1, 4, "", &[("gpu", "a100")]).unwrap();
    world.disconnect(1);
    world.submit(6, scheduled(None, at("gpu", needs(4))));
    world.now += 300_000;
    insta::assert_snapshot!(world.waits_for(6), @"target gpu has no connected node that takes work: n1 was last seen 5m ago");
    assert_eq!(world.dispatch.why_never(id(6)), None);
    world.submit(7, scheduled(None, at("n1", needs(9))));
    insta::assert_snapshot!(world.waits_for(7), @"needs 9 CPUs; node n1 has 4");
}

#[test]
fn a_limit_of_ones_own_is_named() {
    let mut world = World::unhurried();
    world.connect(0, 4);
    world.submit(1, spec(Some("1-9%2")));
    insta::assert_snapshot!(world.waits_for(1), @"the job's own limit of 2 tasks at a time is reached");
}

#[test]
fn a_target_that_nobody_knows_is_refused_with_what_there_is() {
    let mut world = World::unhurried();
    world.connect(3, 1);
    world.step(
        label_target("gpu", &[("gpu", "1")], haul_types::Placement::Spread),
        true,
    );
    let spec = scheduled(None, at("gpus", needs(1)));
    let refused = world
        .try_step(
            Event::Submit {
                id: id(1),
                owner: None,
                spec,
            },
            true,
        )
        .unwrap_err();
    insta::assert_snapshot!(refused, @"there is no target or node gpus; there are gpu, n3");
    assert!(world.jobs.is_empty());
}

#[test]
fn a_target_chooses_by_name_or_label_and_a_nodes_name_means_that_node() {
    let mut world = World::unhurried();
    world.connect_as(0, 2, "", &[]).unwrap();
    world.connect_as(1, 2, "", &[("gpu", "a100")]).unwrap();
    world.step(
        label_target("gpu", &[("gpu", "a100")], haul_types::Placement::Spread),
        true,
    );
    world.submit(1, scheduled(None, at("gpu", needs(1))));
    world.submit(2, scheduled(None, at("n0", needs(1))));
    assert_eq!((jobs_on(&world, 1), jobs_on(&world, 0)), (vec![1], vec![2]));
}

#[test]
fn spread_takes_the_emptiest_node_and_pack_the_fullest() {
    for (placement, expected) in [
        (haul_types::Placement::Spread, [1, 2]),
        (haul_types::Placement::Pack, [3, 0]),
    ] {
        let mut world = World::unhurried();
        let zone = [("zone", "x")];
        world.step(label_target("x", &zone, placement), true);
        world.connect_as(0, 4, "", &zone).unwrap();
        world.connect_as(1, 3, "", &zone).unwrap();
        for number in 1..=3 {
            world.submit(number, scheduled(None, at("x", needs(1))));
        }
        let placed = [1, 0].map(|number| jobs_on(&world, number).len());
        assert_eq!(placed, expected, "{placement:?}");
    }
}

#[test]
fn a_higher_priority_goes_first_and_then_the_older() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.submit(1, spec(None));
    let urgent = Scheduling {
        priority: 10.try_into().unwrap(),
        ..Scheduling::default()
    };
    world.submit(2, spec(None));
    world.submit(3, scheduled(None, urgent.clone()));
    world.submit(4, scheduled(None, urgent));
    for expected in [1, 3, 4, 2] {
        assert_eq!(jobs_on(&world, 0), [expected]);
        finish(&mut world, 0);
    }
}

#[test]
fn a_cordoned_node_is_given_nothing_and_a_drained_one_ends_cordoned() {
    let mut world = World::unhurried();
    world.connect(0, 2);
    world.submit(1, spec(None));
    world.step(
        Event::Admit {
            node: node(0),
            admission: Admission::Draining,
        },
        true,
    );
    world.submit(2, spec(None));
    assert_eq!(jobs_on(&world, 0), [1]);
    let state = |world: &World| world.dispatch.nodes().next().unwrap().state;
    assert_eq!(state(&world), NodeState::Draining);
    finish(&mut world, 0);
    assert_eq!(state(&world), NodeState::Cordoned);
    assert_eq!(
        world.nodes[&node(0)].admission,
        Admission::Cordoned,
        "it is stored"
    );
    world.restart();
    assert_eq!(jobs_on(&world, 0), [0u64; 0]);
    world.step(
        Event::Admit {
            node: node(0),
            admission: Admission::Open,
        },
        true,
    );
    assert_eq!(jobs_on(&world, 0), [2]);
}

#[test]
fn short_tasks_are_sent_ahead_only_to_places_of_their_own() {
    let mut world = World::default();
    world.connect(0, 2);
    world.submit(1, spec(None));
    world.submit(2, spec(Some("1-500")));
    let long = *world.held[&0]
        .iter()
        .find(|attempt| attempt.task.job == id(1))
        .unwrap();
    for _ in 0..20 {
        let attempt = *world.held[&0]
            .iter()
            .find(|attempt| attempt.task.job == id(2))
            .unwrap();
        world.says_of(0, attempt, &[TaskState::Running, TaskState::Succeeded]);
    }
    // One place, and what follows on it; the other place is taken by a task of unknown length.
    let ahead = world.held[&0].len() - 1;
    assert!((2..=33).contains(&ahead), "{ahead}");
    let status = world.dispatch.nodes().next().unwrap();
    assert_eq!(status.used.cpus, Cpus::whole(2));
    world.says_of(0, long, &[TaskState::Running, TaskState::Succeeded]);
    assert_eq!(world.dispatch.nodes().next().unwrap().used.cpus, Cpus::whole(2));
}

#[test]
fn a_kept_node_goes_to_others_when_the_job_it_was_kept_for_is_canceled() {
    let mut world = World::unhurried();
    world.connect(0, 2);
    world.submit(1, spec(None));
    world.submit(2, scheduled(None, needs(2)));
    world.submit(3, spec(None));
    assert_eq!(jobs_on(&world, 0), [1], "one CPU is kept free");
    insta::assert_snapshot!(world.waits_for(3), @"n0 is kept free for job 000000000002, which goes first");
    world.step(
        Event::Cancel {
            job: id(2),
            task: None,
        },
        true,
    );
    assert_eq!(jobs_on(&world, 0), [1, 3]);
}

#[test]
fn a_job_that_fits_nowhere_holds_nobody_up() {
    let mut world = World::unhurried();
    world.connect(0, 2);
    world.submit(1, scheduled(None, needs(64)));
    world.submit(2, spec(None));
    assert_eq!(jobs_on(&world, 0), [2]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    /// Small jobs come without end, and whenever a task ends another one is there already. The large one is placed
    /// all the same, once each of those that were placed before it, or on other nodes, has ended once.
    #[test]
    fn a_large_job_is_not_overtaken_for_ever(
        sizes in proptest::collection::vec(1u32..5, 1..4),
        ends in proptest::collection::vec(any::<usize>(), 400),
        queue in 1u64..6,
        with_target in any::<bool>(),
    ) {
        let mut world = World::unhurried();
        let zone = [("zone", "x")];
        world.step(label_target("x", &zone, haul_types::Placement::Spread), true);
        for (number, &size) in sizes.iter().enumerate() {
            world.connect_as(number as u8, size + 1, "", &zone).unwrap();
        }
        let mut next = 10;
        for _ in 0..40 {
            world.submit(next, spec(None));
            next += 1;
        }
        let largest = sizes.iter().max().unwrap() + 1;
        let large = if with_target { at("x", needs(largest)) } else { needs(largest) };
        world.submit(1, scheduled(None, large));
        // Those before it in line may go first.
        let before = world.dispatch.active_jobs();
        for end in ends.iter().take(400) {
            if world.ever_assigned.contains(&AttemptId::new(id(1), 0, 1)) {
                return Ok(());
            }
            let held: Vec<(u8, AttemptId)> = world
                .held
                .iter()
                .flat_map(|(&number, held)| held.iter().map(move |&attempt| (number, attempt)))
                .collect();
            let (number, attempt) = held[end % held.len()];
            world.says_of(number, attempt, &[TaskState::Running, TaskState::Succeeded]);
            while world.dispatch.active_jobs() < before + queue as usize {
                world.submit(next, spec(None));
                next += 1;
            }
        }
        // Chance may spare one task of the kept node for long; it may not let another one in beside it.
        let kept = world.dispatch.fleet.keeping().next();
        prop_assert!(kept.is_some(), "no node is kept for the large job");
        let (_, key) = kept.unwrap();
        let old = |attempt: &AttemptId| attempt.task.job.to_bits() < 10 + before as u64;
        let node = world.dispatch.fleet.node(key).unwrap();
        prop_assert!(node.attempts.iter().all(old), "overtaken on {:?}", node);
    }
}

#[test]
fn a_node_that_joins_into_a_target_is_found_by_its_name() {
    let mut world = World::unhurried();
    for number in [0, 1] {
        let enlist = Event::Enlist {
            target: "gpu".parse().unwrap(),
            node: node(number),
        };
        // Said twice when the answer was lost.
        world.step(enlist.clone(), true);
        world.step(enlist, true);
    }
    world.connect(0, 1);
    world.connect(2, 1);
    world.submit(1, scheduled(None, at("gpu", Scheduling::default())));
    world.submit(2, scheduled(None, at("gpu", Scheduling::default())));
    assert_eq!((jobs_on(&world, 0), jobs_on(&world, 2)), (vec![1], Vec::new()));
    world.connect(1, 1);
    assert_eq!(jobs_on(&world, 1), [2]);
}
