//! A rotation locks nobody out at any step, and a crash leaves a whole phase.

use haul_types::{NodeId, NodeName};
use proptest::prelude::*;

use super::*;
use crate::request::{HostKey, VerifiedRequest};

const LIFE: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
}

fn create() -> (tempfile::TempDir, Authorities) {
    let directory = tempfile::tempdir().unwrap();
    let authorities = Authorities::create(directory.path(), now()).unwrap();
    (directory, authorities)
}

#[test]
fn what_was_made_is_read_back_and_never_made_again() {
    let (directory, made) = create();
    let opened = Authorities::open(directory.path()).unwrap();
    assert_eq!(
        (opened.pin(), opened.bundle(), opened.phase()),
        (made.pin(), made.bundle(), Phase::Steady)
    );
    let error = Authorities::create(directory.path(), now()).unwrap_err();
    assert!(matches!(error, AuthorityError::Exists(_)), "{error}");
    assert_eq!(Authorities::open(directory.path()).unwrap().pin(), made.pin());

    let empty = tempfile::tempdir().unwrap();
    let error = Authorities::open(empty.path()).unwrap_err();
    assert!(error.to_string().contains("haul-controller init"), "{error}");
    durable::replace(&directory.path().join(FILE_NAME), b"{}").unwrap();
    let error = Authorities::open(directory.path()).unwrap_err();
    assert!(error.to_string().contains("is damaged"), "{error}");
}

#[test]
fn a_node_certificate_says_who_and_how_long() {
    let (_directory, authorities) = create();
    let request = VerifiedRequest::verify(&HostKey::generate().unwrap().request().unwrap()).unwrap();
    let (name, id) = (
        NodeName::try_from("gpu-box.1".to_owned()).unwrap(),
        NodeId::random(),
    );
    let issue = || authorities.issue_node(&request, &name, id, LIFE, now()).unwrap();
    let (first, second) = (issue().certificate, issue().certificate);
    assert_eq!((&first.name, first.id), (&name, id));
    assert_eq!(first.validity.not_before, now() - BACKDATED);
    assert_eq!(first.validity.not_after, now() + LIFE);
    assert_ne!(first.serial, second.serial);
}

#[test]
fn each_step_follows_only_its_own() {
    let (_directory, mut authorities) = create();
    let mut step = |step, at: SystemTime| {
        authorities
            .step(step, false, LIFE, at)
            .map(|()| authorities.phase())
    };
    for wrong in [Step::Activate, Step::Finish, Step::RollBack] {
        let error = step(wrong, now()).unwrap_err();
        assert!(
            matches!(error, AuthorityError::Refused(StepRefused::OutOfOrder { .. })),
            "{error}"
        );
    }
    assert_eq!(step(Step::Begin, now()).unwrap(), Phase::Begun);
    assert!(step(Step::Begin, now()).is_err() && step(Step::Finish, now()).is_err());
    assert_eq!(step(Step::RollBack, now()).unwrap(), Phase::Steady);
    assert_eq!(step(Step::Begin, now()).unwrap(), Phase::Begun);
    assert_eq!(step(Step::Activate, now()).unwrap(), Phase::Activated);
    // What the old one signed holds for a day yet.
    let error = step(Step::Finish, now() + LIFE).unwrap_err();
    assert!(
        matches!(error, AuthorityError::Refused(StepRefused::StillInUse { .. })),
        "{error}"
    );
    assert!(error.to_string().contains("before 2026-09-22"), "{error}");
    assert_eq!(
        step(Step::Finish, now() + LIFE + Duration::from_secs(1)).unwrap(),
        Phase::Steady
    );
}

#[test]
fn rolled_back_after_activation_both_stay_trusted_until_no_certificate_needs_the_new_one() {
    let (_directory, mut authorities) = create();
    let old = authorities.pin();
    let mut step = |step, force, at: SystemTime| authorities.step(step, force, LIFE, at);
    step(Step::Begin, false, now()).unwrap();
    step(Step::Activate, false, now()).unwrap();
    step(Step::RollBack, false, now()).unwrap();
    assert!(step(Step::RollBack, false, now()).is_err());
    step(Step::RollBack, true, now()).unwrap();
    assert_eq!((authorities.pin(), authorities.list().len()), (old, 1));
}

#[test]
fn a_crash_before_any_stage_of_any_step_leaves_a_whole_phase() {
    let steps = [
        (Phase::Steady, Step::Begin, Phase::Begun),
        (Phase::Begun, Step::RollBack, Phase::Steady),
        (Phase::Begun, Step::Activate, Phase::Activated),
        (Phase::Activated, Step::RollBack, Phase::Begun),
        (Phase::Activated, Step::Finish, Phase::Steady),
    ];
    for (from, step, to) in steps {
        for stage in [Stage::Write, Stage::Sync, Stage::Rename, Stage::SyncDirectory] {
            let (directory, mut authorities) = create();
            let way = match from {
                Phase::Steady => &[][..],
                Phase::Begun => &[Step::Begin],
                Phase::Activated => &[Step::Begin, Step::Activate],
            };
            for step in way {
                authorities.step(*step, false, LIFE, now()).unwrap();
            }
            let before = authorities.bundle();
            let crashed = authorities.step_staged(step, true, LIFE, now(), &mut |at| {
                if at == stage {
                    Err(io::Error::other("the power is cut"))
                } else {
                    Ok(())
                }
            });
            assert!(crashed.is_err());
            assert_eq!(
                (authorities.phase(), authorities.bundle()),
                (from, before.clone()),
                "in memory"
            );
            let mut opened = Authorities::open(directory.path()).unwrap();
            if stage == Stage::SyncDirectory {
                assert_eq!(opened.phase(), to, "{step} before {stage:?}");
            } else {
                assert_eq!(
                    (opened.phase(), opened.bundle()),
                    (from, before),
                    "{step} before {stage:?}"
                );
                // It can be tried again.
                opened.step(step, true, LIFE, now()).unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever steps are tried, without force, every certificate that holds is of an authority that is trusted, and
    /// what is on the disk is what is in memory.
    #[test]
    fn no_certificate_that_holds_is_left_without_its_authority(
        steps in proptest::collection::vec((0usize..4, 0u64..40), 1..14)
    ) {
        let (directory, mut authorities) = create();
        let mut at = now();
        // Which authority signed, and until when it holds.
        let mut issued: Vec<(Pin, SystemTime)> = Vec::new();
        for (step, hours) in steps {
            at += Duration::from_secs(hours * 3600);
            let step = [Step::Begin, Step::Activate, Step::Finish, Step::RollBack][step];
            let _ = authorities.step(step, false, LIFE, at);
            issued.push((authorities.pin(), at + LIFE));
            let trusted: Vec<_> = authorities.bundle().pins().collect();
            for (pin, _) in issued.iter().filter(|(_, until)| *until >= at) {
                prop_assert!(trusted.contains(pin));
            }
            let opened = Authorities::open(directory.path()).unwrap();
            prop_assert_eq!(&opened.rotation, &authorities.rotation);
        }
    }
}
