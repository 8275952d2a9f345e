//! Retries, quarantine, limits of waiting, and nodes that go away.

use super::*;
use haul_types::RetryPolicy;

fn retries(limit: Option<u32>, on: RetryOn) -> Scheduling {
    Scheduling {
        retries: RetryPolicy { limit, on },
        ..Scheduling::default()
    }
}

fn last(world: &World, number: u64, index: u32) -> (TaskState, Reason, u32) {
    let task = &world.tasks[&TaskId {
        job: id(number),
        index,
    }];
    (task.state, task.timeline.last().unwrap().reason, task.attempt)
}

/// The node's first attempt is lost with its supervisor, as its agent says.
fn lost(world: &mut World, number: u8) {
    let attempt = *world.held[&number].first().unwrap();
    let ended = Update {
        reason: Reason::Lost,
        exit: None,
        detail: "its supervisor was killed".to_owned(),
        ..update(attempt, TaskState::Failed)
    };
    world.says_of(number, attempt, &[TaskState::Running]);
    let (node, updates) = (node(number), vec![ended]);
    world.step(Event::Updates { node, updates }, true);
}

#[test]
fn an_attempt_that_never_started_is_made_up_for_twice() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.step(
        Event::Submit {
            id: id(1),
            owner: None,
            spec: spec(None),
        },
        false,
    );
    for attempt in 2..=3 {
        world.held.clear();
        world.connect(0, 1);
        assert_eq!(
            last(&world, 1, 0),
            (TaskState::Preparing, Reason::Assigned, attempt)
        );
    }
    world.held.clear();
    world.connect(0, 1);
    assert_eq!(last(&world, 1, 0), (TaskState::Failed, Reason::Lost, 3));
}

#[test]
fn a_lost_run_is_repeated_only_if_the_job_allows_it() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.submit(1, spec(None));
    lost(&mut world, 0);
    assert_eq!(last(&world, 1, 0), (TaskState::Failed, Reason::Lost, 1));
    world.submit(2, scheduled(None, retries(Some(1), RetryOn::Infrastructure)));
    lost(&mut world, 0);
    assert_eq!(last(&world, 2, 0), (TaskState::Preparing, Reason::Assigned, 2));
    let task = &world.tasks[&TaskId { job: id(2), index: 0 }];
    insta::assert_snapshot!(task.timeline[3].detail, @"attempt 1 failed: its supervisor was killed");
    lost(&mut world, 0);
    assert_eq!(last(&world, 2, 0), (TaskState::Failed, Reason::Lost, 2));
}

#[test]
fn the_scripts_own_failure_is_repeated_only_on_any() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.submit(1, scheduled(None, retries(Some(3), RetryOn::Infrastructure)));
    world.says(0, &[TaskState::Running, TaskState::Failed]);
    assert_eq!(last(&world, 1, 0), (TaskState::Failed, Reason::Exited, 1));
    world.submit(2, scheduled(None, retries(Some(1), RetryOn::Any)));
    world.says(0, &[TaskState::Running, TaskState::Failed]);
    assert_eq!(last(&world, 2, 0), (TaskState::Preparing, Reason::Assigned, 2));
    world.says(0, &[TaskState::Running, TaskState::Failed]);
    assert_eq!(last(&world, 2, 0), (TaskState::Failed, Reason::Exited, 2));
    assert_eq!(world.held[&0].len(), 0, "all ends are acknowledged");
}

#[test]
fn a_task_that_takes_supervisors_down_is_quarantined_whatever_its_retries_allow() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.submit(1, scheduled(None, retries(Some(1000), RetryOn::Any)));
    world.submit(2, spec(None));
    for _ in 0..3 {
        lost(&mut world, 0);
        if world.held[&0]
            .first()
            .is_some_and(|attempt| attempt.task.job == id(2))
        {
            break;
        }
    }
    // The other job was not kept waiting by the poison: it took its turn after the first loss or the last.
    while world.jobs.values().any(|job| !job.state.is_terminal()) {
        let attempt = *world.held[&0].first().unwrap();
        if attempt.task.job == id(1) {
            lost(&mut world, 0);
        } else {
            world.says(0, &[TaskState::Running, TaskState::Succeeded]);
        }
    }
    assert_eq!(last(&world, 1, 0), (TaskState::Failed, Reason::Quarantined, 3));
    assert_eq!(world.jobs[&id(2)].state, TaskState::Succeeded);
}

#[test]
fn an_array_whose_tasks_take_supervisors_down_is_quarantined_as_a_whole() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.submit(1, spec(Some("0-999999")));
    for _ in 0..3 {
        lost(&mut world, 0);
    }
    let job = &world.jobs[&id(1)];
    assert_eq!(
        (job.state, job.given_up),
        (TaskState::Failed, Some(Reason::Quarantined))
    );
    assert_eq!(job.counts.of(TaskState::Failed), 1_000_000);
}

#[test]
fn what_is_lost_together_counts_once_and_a_success_forgives() {
    let mut world = World::unhurried();
    world.connect(0, 4);
    world.submit(1, spec(Some("0-99")));
    for index in 0..4 {
        world.says_of(0, AttemptId::new(id(1), index, 1), &[TaskState::Running]);
    }
    // The machine went down, and all four with it.
    world.held.clear();
    world.connect(0, 4);
    assert_eq!(world.jobs[&id(1)].given_up, None);
    world.held.insert(0, BTreeSet::new());
    for round in 0..6 {
        world.connect(0, 4);
        let held = world.dispatch.attempts_on(&node(0));
        world.held.insert(0, held.iter().copied().collect());
        world.says(0, &[TaskState::Running, TaskState::Succeeded]);
        lost(&mut world, 0);
        assert_eq!(world.jobs[&id(1)].given_up, None, "in round {round}");
    }
}

#[test]
fn a_job_waits_in_the_queue_no_longer_than_its_limit() {
    let mut world = World::unhurried();
    world.connect(0, 1);
    world.submit(1, spec(None));
    let limit = Duration::from_secs(60);
    let limited = Scheduling {
        queue_timeout: Some(limit),
        ..Scheduling::default()
    };
    world.submit(2, scheduled(None, limited.clone()));
    world.submit(3, scheduled(Some("1-1000"), limited));
    let due = world.dispatch.next_deadline().unwrap();
    assert_eq!(
        due,
        Duration::from_millis(world.jobs[&id(2)].created_unix_ms) + limit
    );
    // The limit goes on through a restart.
    world.now += 30_000;
    world.restart();
    assert!(world.dispatch.next_deadline().unwrap() <= due);
    world.now += 30_000;
    world.step(Event::Tick, true);
    assert_eq!(last(&world, 2, 0), (TaskState::Failed, Reason::QueueTimedOut, 0));
    let array = &world.jobs[&id(3)];
    assert_eq!(
        (array.state, array.given_up),
        (TaskState::Failed, Some(Reason::QueueTimedOut))
    );
    assert_eq!(world.dispatch.next_deadline(), None);
    assert!(!world.jobs[&id(1)].state.is_terminal());
}

#[test]
fn a_node_that_stays_away_is_replaced_only_for_jobs_that_say_so() {
    let mut world = World::unhurried();
    world.connect(0, 2);
    let after = Duration::from_secs(60);
    let replace = OnDisconnect::Replace { after };
    world.submit(
        1,
        scheduled(
            None,
            Scheduling {
                on_disconnect: replace,
                ..Scheduling::default()
            },
        ),
    );
    world.submit(2, spec(None));
    for number in [1, 2] {
        world.says_of(0, AttemptId::new(id(number), 0, 1), &[TaskState::Running]);
    }
    world.connect(1, 2);
    world.disconnect(0);
    // `disconnect` names the newest session, which is the other node's; the right one is 1.
    let (node, session) = (node(0), 1);
    world.step(
        Event::Disconnected {
            node: node.clone(),
            session,
        },
        true,
    );
    assert!(world.dispatch.is_unreachable("n0"));
    let due = world.dispatch.next_deadline().unwrap();
    world.now = u64::try_from(due.as_millis()).unwrap() - 1001;
    world.step(Event::Tick, true);
    assert_eq!(last(&world, 1, 0).2, 1, "not before its time");
    world.step(Event::Tick, true);
    assert_eq!(last(&world, 1, 0), (TaskState::Preparing, Reason::Assigned, 2));
    assert_eq!(last(&world, 2, 0), (TaskState::Running, Reason::Started, 1));
    // The one that was given up says that it succeeded: too late, it is acknowledged and changes nothing.
    world.connect(0, 2);
    assert!(
        !world.held[&0].contains(&AttemptId::new(id(1), 0, 1)),
        "it is not wanted any more"
    );
    world.says_of(0, AttemptId::new(id(1), 0, 1), &[TaskState::Succeeded]);
    assert_eq!(last(&world, 1, 0), (TaskState::Preparing, Reason::Assigned, 2));
}

#[test]
fn a_node_that_is_gone_for_good_is_said_to_be_and_its_jobs_are_lost_or_repeated() {
    let mut world = World::unhurried();
    world.connect(0, 2);
    world.submit(1, spec(None));
    world.submit(2, scheduled(None, retries(Some(1), RetryOn::Infrastructure)));
    for number in [1, 2] {
        world.says_of(0, AttemptId::new(id(number), 0, 1), &[TaskState::Running]);
    }
    let remove = Event::RemoveNode {
        node: node(0),
        connected: false,
    };
    assert_eq!(
        world.try_step(remove.clone(), true),
        Err(Refused::NodeConnected(node(0)))
    );
    world.disconnect(0);
    world.try_step(remove.clone(), true).unwrap();
    assert_eq!(last(&world, 1, 0), (TaskState::Failed, Reason::Lost, 1));
    assert_eq!(last(&world, 2, 0), (TaskState::Queued, Reason::Retried, 1));
    assert!(world.nodes.is_empty());
    assert_eq!(world.try_step(remove, true), Err(Refused::UnknownNode(node(0))));
}

#[test]
fn another_agent_cannot_take_the_name_of_one_that_has_jobs() {
    let mut world = World::unhurried();
    world.connect_as(0, 1, "first", &[]).unwrap();
    world.submit(1, spec(None));
    world.disconnect(0);
    world.held.clear();
    let refused = world.connect_as(0, 1, "second", &[]).unwrap_err();
    insta::assert_snapshot!(refused, @"node n0 is known as another agent, which has 1 jobs: give this one another name; or, if that one is gone for good, say so by `haul node rm n0`");
    assert_eq!(
        last(&world, 1, 0).0,
        TaskState::Preparing,
        "nothing was taken from the first"
    );
    let node = node(0);
    world.step(
        Event::RemoveNode {
            node,
            connected: false,
        },
        true,
    );
    world.connect_as(0, 1, "second", &[]).unwrap();
}
