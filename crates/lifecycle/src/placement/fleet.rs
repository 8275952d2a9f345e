//! The nodes, what is free on each, and where a task fits.
//!
//! A *pool* is what a job may name: everything, a declared target, or one node by its name. Each keeps its open nodes
//! (connected, and given work) in order of free processors, so that a place is found without looking at every node.
//!
//! Invariant: nothing is placed on a node but where it fits beside all that is placed there. Only a node that comes back
//! with less than it had, or whose controller has forgotten which of its tasks were sent ahead, may hold more than it
//! has; it is given nothing until that has gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use haul_types::{
    Admission, AttemptId, Enforcement, Inventory, JobId, Labels, NodeName, NodeRecord, NodeState, Placement,
    Resources, TargetName, TargetRecord,
};

/// A node's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeKey(u32);

/// A pool's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PoolId(u32);

/// What a job has on a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// What each of its tasks asks for.
    demand: Resources,
    /// Tasks that have their place.
    pub(crate) placed: u32,
    /// Tasks that are there, those that wait for a place of the others included.
    pub(crate) total: u32,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) record: NodeRecord,
    pub(crate) session: Option<u64>,
    /// Since when it has had no session, by the monotonic clock.
    pub(crate) away_since: Duration,
    pub(crate) attempts: BTreeSet<AttemptId>,
    pub(crate) shares: BTreeMap<JobId, Share>,
    /// What is placed here.
    used: Resources,
    /// The job that it is kept for.
    pub(crate) kept_for: Option<JobId>,
    pools: Vec<PoolId>,
    /// The free processors by which pools know it; absent while it is given nothing.
    indexed: Option<u32>,
}

impl Node {
    fn new(record: NodeRecord) -> Self {
        Self {
            record,
            session: None,
            away_since: Duration::ZERO,
            attempts: BTreeSet::new(),
            shares: BTreeMap::new(),
            used: Resources::NONE,
            kept_for: None,
            pools: Vec::new(),
            indexed: None,
        }
    }

    /// What is free.
    pub(crate) fn free(&self) -> Resources {
        self.record.inventory.capacity.less(self.used)
    }

    /// What is placed.
    pub(crate) const fn used(&self) -> Resources {
        self.used
    }

    /// How many tasks that ask for this it has room for when it is empty.
    pub(crate) const fn holds(&self, demand: Resources) -> u32 {
        let capacity = self.record.inventory.capacity;
        let by_cpus = capacity.cpus.millis().checked_div(demand.cpus.millis());
        let by_memory = capacity.memory.0.checked_div(demand.memory.0);
        let by_cpus = match by_cpus {
            Some(many) => many,
            None => u32::MAX,
        };
        match by_memory {
            Some(many) if many < by_cpus as u64 => many as u32,
            _ => by_cpus,
        }
    }

    /// Whether it is given work.
    pub(crate) fn is_open(&self) -> bool {
        self.session.is_some() && self.record.admission == Admission::Open
    }

    /// How it stands.
    pub(crate) const fn state(&self) -> NodeState {
        match (self.session, self.record.admission) {
            (None, _) => NodeState::Unreachable,
            (Some(_), Admission::Open) => NodeState::Ready,
            (Some(_), Admission::Draining) => NodeState::Draining,
            (Some(_), Admission::Cordoned) => NodeState::Cordoned,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pool {
    /// Its name; absent for everything.
    pub(crate) name: Option<TargetName>,
    pub(crate) members: BTreeSet<NodeKey>,
    open: BTreeSet<(u32, NodeKey)>,
    /// The node that is kept for the first of its jobs that fits nowhere.
    pub(crate) kept: Option<NodeKey>,
}

/// All nodes and targets.
#[derive(Debug)]
pub(crate) struct Fleet {
    nodes: Vec<Option<Node>>,
    names: BTreeMap<NodeName, NodeKey>,
    targets: BTreeMap<TargetName, TargetRecord>,
    pools: Vec<Pool>,
    pool_names: HashMap<TargetName, PoolId>,
    /// Pools in which there is more room than there was.
    roomier: Vec<PoolId>,
}

/// The pool of everything.
pub(crate) const EVERYTHING: PoolId = PoolId(0);

impl Default for Fleet {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            names: BTreeMap::new(),
            targets: BTreeMap::new(),
            pools: vec![Pool {
                name: None,
                members: BTreeSet::new(),
                open: BTreeSet::new(),
                kept: None,
            }],
            pool_names: HashMap::new(),
            roomier: Vec::new(),
        }
    }
}

impl Fleet {
    pub(crate) fn key(&self, name: &NodeName) -> Option<NodeKey> {
        self.names.get(name).copied()
    }

    pub(crate) fn node(&self, key: NodeKey) -> Option<&Node> {
        self.nodes.get(key.0 as usize)?.as_ref()
    }

    pub(crate) fn node_mut(&mut self, key: NodeKey) -> Option<&mut Node> {
        self.nodes.get_mut(key.0 as usize)?.as_mut()
    }

    pub(crate) fn named(&self, name: &NodeName) -> Option<&Node> {
        self.node(self.key(name)?)
    }

    /// As [`Fleet::named`], by a name that may be none.
    pub(crate) fn named_as(&self, name: &str) -> Option<&Node> {
        self.node(*self.names.get(name)?)
    }

    /// The nodes, in order of name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> + '_ {
        self.names.values().filter_map(|&key| self.node(key))
    }

    pub(crate) fn targets(&self) -> &BTreeMap<TargetName, TargetRecord> {
        &self.targets
    }

    pub(crate) fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.0 as usize]
    }

    /// Takes a node up, or the one that is known by this name. One that only a job's record names has nothing.
    pub(crate) fn ensure(&mut self, name: &NodeName) -> NodeKey {
        if let Some(key) = self.key(name) {
            return key;
        }
        let nothing = Inventory {
            capacity: Resources::NONE,
            labels: Labels::new(),
            gpus: Vec::new(),
            enforces: Enforcement::default(),
        };
        self.insert(NodeRecord {
            name: name.clone(),
            instance: String::new(),
            inventory: nothing,
            admission: Admission::Open,
            last_seen_unix_ms: 0,
        })
    }

    /// Takes up a node that is not known.
    pub(crate) fn insert(&mut self, record: NodeRecord) -> NodeKey {
        let free = self.nodes.iter().position(Option::is_none);
        let place = free.unwrap_or(self.nodes.len());
        let key = NodeKey(u32::try_from(place).unwrap_or(u32::MAX));
        self.names.insert(record.name.clone(), key);
        let node = Some(Node::new(record));
        if free.is_some() {
            self.nodes[place] = node;
        } else {
            self.nodes.push(node);
        }
        self.regroup_node(key);
        key
    }

    /// Forgets a node that has no attempts.
    pub(crate) fn remove(&mut self, key: NodeKey) {
        let Some(node) = self.nodes.get_mut(key.0 as usize).and_then(Option::take) else {
            return;
        };
        self.names.remove(&node.record.name);
        for pool in node.pools {
            self.leave(pool, key, node.indexed);
        }
    }

    fn leave(&mut self, pool: PoolId, key: NodeKey, indexed: Option<u32>) {
        let pool = &mut self.pools[pool.0 as usize];
        pool.members.remove(&key);
        if let Some(free) = indexed {
            pool.open.remove(&(free, key));
        }
        if pool.kept == Some(key) {
            pool.kept = None;
        }
    }

    /// Declares a target, or changes one.
    pub(crate) fn put_target(&mut self, target: TargetRecord) {
        self.targets.insert(target.name.clone(), target);
        self.regroup();
    }

    /// Whether there was such a target.
    pub(crate) fn remove_target(&mut self, name: &TargetName) -> bool {
        let was = self.targets.remove(name).is_some();
        self.regroup();
        was
    }

    /// Whether a job can name this: a declared target, or a node.
    pub(crate) fn is_known(&self, name: &TargetName) -> bool {
        self.targets.contains_key(name) || self.names.contains_key(name.as_str())
    }

    /// The pool of a name, made if need be.
    pub(crate) fn pool_of(&mut self, name: Option<&TargetName>) -> PoolId {
        let Some(name) = name else { return EVERYTHING };
        if let Some(&id) = self.pool_names.get(name) {
            return id;
        }
        let id = PoolId(u32::try_from(self.pools.len()).unwrap_or(u32::MAX));
        self.pools.push(Pool {
            name: Some(name.clone()),
            members: BTreeSet::new(),
            open: BTreeSet::new(),
            kept: None,
        });
        self.pool_names.insert(name.clone(), id);
        self.regroup();
        id
    }

    /// Whether a node belongs to a pool: a declared target says so itself, any other name is a node's own.
    fn belongs(&self, node: &NodeRecord, pool: &Pool) -> bool {
        pool.name
            .as_ref()
            .is_none_or(|name| match self.targets.get(name) {
                Some(target) => target.has(&node.name, &node.inventory.labels),
                None => node.name.as_str() == name.as_str(),
            })
    }

    /// Finds out anew which nodes belong to which pool.
    fn regroup(&mut self) {
        let keys: Vec<NodeKey> = self.names.values().copied().collect();
        for key in keys {
            self.regroup_node(key);
        }
    }

    /// As [`Fleet::regroup`], for one node, whose labels or whose place in the world may have changed.
    pub(crate) fn regroup_node(&mut self, key: NodeKey) {
        let Some(node) = self.node(key) else { return };
        let pools: Vec<PoolId> = (0u32..)
            .map(PoolId)
            .zip(&self.pools)
            .filter(|(_, pool)| self.belongs(&node.record, pool))
            .map(|(id, _)| id)
            .collect();
        let (old, indexed) = (node.pools.clone(), node.indexed);
        for pool in old {
            self.leave(pool, key, indexed);
        }
        for pool in &pools {
            self.pools[pool.0 as usize].members.insert(key);
        }
        if let Some(node) = self.node_mut(key) {
            (node.pools, node.indexed) = (pools, None);
        }
        self.reindex(key);
    }

    /// Brings the pools up to date after a node's room changed, or whether it is given work.
    pub(crate) fn reindex(&mut self, key: NodeKey) {
        let Some(Some(node)) = self.nodes.get_mut(key.0 as usize) else {
            return;
        };
        let free = node.is_open().then(|| node.free().cpus.millis());
        let old = std::mem::replace(&mut node.indexed, free);
        // Memory may have become free without a processor.
        let roomier = free.is_some() && free >= old;
        for id in &node.pools {
            let pool = &mut self.pools[id.0 as usize];
            if free != old {
                old.map(|old| pool.open.remove(&(old, key)));
                free.map(|free| pool.open.insert((free, key)));
            }
            if roomier && !self.roomier.contains(id) {
                self.roomier.push(*id);
            }
        }
    }

    /// The node is kept for another job, or for none.
    pub(crate) fn keep(&mut self, key: NodeKey, job: Option<JobId>) {
        let Some(Some(node)) = self.nodes.get_mut(key.0 as usize) else {
            return;
        };
        if std::mem::replace(&mut node.kept_for, job) != job {
            for id in &node.pools {
                if !self.roomier.contains(id) {
                    self.roomier.push(*id);
                }
            }
        }
    }

    /// Notes which node is kept for the first of a pool's jobs.
    pub(crate) fn set_kept(&mut self, pool: PoolId, key: Option<NodeKey>) -> Option<NodeKey> {
        std::mem::replace(&mut self.pools[pool.0 as usize].kept, key)
    }

    /// Pools that keep a node.
    pub(crate) fn keeping(&self) -> impl Iterator<Item = (PoolId, NodeKey)> + '_ {
        let numbered = (0u32..).map(PoolId).zip(&self.pools);
        numbered.filter_map(|(id, pool)| Some((id, pool.kept?)))
    }

    /// Takes the pools in which there is more room than there was.
    pub(crate) fn take_roomier(&mut self) -> Vec<PoolId> {
        std::mem::take(&mut self.roomier)
    }

    /// Where a task fits now, among the nodes of `pool` that `may_use` allows.
    pub(crate) fn choose(
        &self,
        pool: PoolId,
        demand: Resources,
        may_use: impl Fn(&Node) -> bool,
    ) -> Option<NodeKey> {
        let pool = self.pool(pool);
        let fits = |&(_, key): &(u32, NodeKey)| {
            self.node(key)
                .is_some_and(|node| node.free().covers(demand) && may_use(node))
        };
        let least = (demand.cpus.millis(), NodeKey(0));
        let found = match self.placement(pool) {
            Placement::Spread => pool.open.range(least..).rev().copied().find(fits),
            Placement::Pack => pool.open.range(least..).copied().find(fits),
        };
        found.map(|(_, key)| key)
    }

    fn placement(&self, pool: &Pool) -> Placement {
        let target = pool.name.as_ref().and_then(|name| self.targets.get(name));
        target.map_or(Placement::Spread, |target| target.placement)
    }

    /// The open node of `pool` with the most room that would take a task if it were empty.
    pub(crate) fn choose_to_keep(
        &self,
        pool: PoolId,
        demand: Resources,
        may_keep: impl Fn(NodeKey) -> bool,
    ) -> Option<NodeKey> {
        let would_fit = |key: NodeKey| {
            self.node(key)
                .is_some_and(|node| node.record.inventory.capacity.covers(demand) && may_keep(key))
        };
        let pool = self.pool(pool);
        let kept = pool
            .kept
            .filter(|&key| self.node(key).is_some_and(Node::is_open) && would_fit(key));
        kept.or_else(|| {
            let open = pool.open.iter().rev();
            open.map(|&(_, key)| key).find(|&key| would_fit(key))
        })
    }

    /// A task comes to a node: to a place of its own, or ahead of its time.
    pub(crate) fn hold(&mut self, key: NodeKey, attempt: AttemptId, demand: Resources, ahead: bool) {
        let Some(node) = self.node_mut(key) else { return };
        if !node.attempts.insert(attempt) {
            return;
        }
        let share = node.shares.entry(attempt.task.job).or_insert(Share {
            demand,
            placed: 0,
            total: 0,
        });
        share.total += 1;
        if !ahead {
            share.placed += 1;
            node.used = node.used.plus(demand);
            self.reindex(key);
        }
    }

    /// A task leaves a node. One of its own job that was sent ahead takes its place. Whether it was there.
    pub(crate) fn release(&mut self, key: NodeKey, attempt: AttemptId) -> bool {
        let Some(node) = self.node_mut(key) else {
            return false;
        };
        if !node.attempts.remove(&attempt) {
            return false;
        }
        let job = attempt.task.job;
        if let Some(share) = node.shares.get_mut(&job) {
            share.total -= 1;
            let freed = share.placed > share.total;
            if freed {
                share.placed -= 1;
                node.used = node.used.less(share.demand);
            }
            if share.total == 0 {
                node.shares.remove(&job);
            }
            if freed {
                self.reindex(key);
            }
        }
        true
    }
}
