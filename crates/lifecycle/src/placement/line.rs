//! The line: jobs that have a task to hand out, in order of turn.
//!
//! Jobs that ask for the same thing (the same target, the same resources) are of one *class*: where the first of them
//! does not fit, none does. So a hundred thousand jobs that wait cost no more than their classes do: a class that was
//! found blocked is looked at again only when its first job is another one, or when a node of its target has more room.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use haul_types::{JobId, Priority, Resources};

use super::fleet::PoolId;

/// A job's place in the line; the least is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    pub(crate) priority: Reverse<Priority>,
    /// Tasks that it has on nodes.
    pub(crate) assigned: u32,
    /// The order of submission.
    pub(crate) age: u64,
    pub(crate) job: JobId,
}

/// What the jobs of one class ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClassKey {
    pub(crate) pool: PoolId,
    pub(crate) demand: Resources,
}

#[derive(Debug, Default)]
struct Class {
    turns: BTreeSet<Turn>,
    /// Its first job, when that was found to fit nowhere.
    blocked: Option<Turn>,
    /// Whether it is among those to look at.
    listed: bool,
}

/// The line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    classes: BTreeMap<ClassKey, Class>,
    /// Classes to look at.
    listed: Vec<ClassKey>,
    /// Whether the line was mixed when that was last asked.
    was_mixed: bool,
}

impl Line {
    /// The job has a task to hand out.
    pub(crate) fn insert(&mut self, key: ClassKey, turn: Turn) {
        let class = self.classes.entry(key).or_default();
        class.turns.insert(turn);
        if !std::mem::replace(&mut class.listed, true) {
            self.listed.push(key);
        }
    }

    /// The job has none, or its turn is about to change.
    pub(crate) fn remove(&mut self, key: ClassKey, turn: &Turn) {
        if let Some(class) = self.classes.get_mut(&key)
            && class.turns.remove(turn)
            && !std::mem::replace(&mut class.listed, true)
        {
            self.listed.push(key);
        }
    }

    /// There is more room in these pools: who was blocked is looked at again.
    pub(crate) fn unblock(&mut self, pools: &[PoolId]) {
        for (key, class) in &mut self.classes {
            if class.blocked.is_some() && pools.contains(&key.pool) {
                class.blocked = None;
                if !std::mem::replace(&mut class.listed, true) {
                    self.listed.push(*key);
                }
            }
        }
    }

    /// Takes the classes to look at, with the first job of each. Classes that nobody waits in are forgotten: whether
    /// there were any.
    pub(crate) fn take_listed(&mut self) -> (Vec<(Turn, ClassKey)>, bool) {
        let mut found = Vec::new();
        let mut emptied = false;
        for key in std::mem::take(&mut self.listed) {
            let Some(class) = self.classes.get_mut(&key) else {
                continue;
            };
            class.listed = false;
            match class.turns.first() {
                None => {
                    self.classes.remove(&key);
                    emptied = true;
                }
                Some(first) if class.blocked == Some(*first) => {}
                Some(&first) => {
                    class.blocked = None;
                    found.push((first, key));
                }
            }
        }
        (found, emptied)
    }

    /// The first job of a class.
    pub(crate) fn first(&self, key: ClassKey) -> Option<Turn> {
        self.classes.get(&key)?.turns.first().copied()
    }

    /// The first few jobs of a class.
    pub(crate) fn first_few(&self, key: ClassKey, many: usize) -> Vec<Turn> {
        let class = self.classes.get(&key);
        class.map_or_else(Vec::new, |class| class.turns.iter().take(many).copied().collect())
    }

    /// Whether jobs of more than one class are in line, so that one may be overtaken by another.
    pub(crate) fn is_mixed(&self) -> bool {
        self.classes.len() > 1
    }

    /// Whether the line has become mixed since this was last asked.
    pub(crate) fn becomes_mixed(&mut self) -> bool {
        let mixed = self.is_mixed();
        !std::mem::replace(&mut self.was_mixed, mixed) && mixed
    }

    /// The class's first job fits nowhere now.
    pub(crate) fn block(&mut self, key: ClassKey) {
        if let Some(class) = self.classes.get_mut(&key) {
            class.blocked = class.turns.first().copied();
        }
    }

    /// The first jobs of all classes that are blocked, in order of turn.
    pub(crate) fn blocked(&self) -> Vec<(Turn, ClassKey)> {
        let mut blocked: Vec<_> = self
            .classes
            .iter()
            .filter_map(|(key, class)| class.blocked.map(|turn| (turn, *key)))
            .collect();
        blocked.sort_unstable();
        blocked
    }
}
