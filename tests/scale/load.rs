//! Many jobs, submitted by several clients at once, while others list them and ask why they wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use haul_client::Client;
use haul_types::{JobId, JobSpec, TaskState};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::deployment::{Deployment, Outcome};

/// Between two questions of one that asks all the time: asking without a pause would be a load of its own.
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(20);
/// The longest page that a controller gives.
const PAGE: u32 = 1000;

/// How long calls took.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// The time within which this share of them was done, in milliseconds.
    pub fn within(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let place = (last as f64 * share).round() as usize;
        self.0.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// One more.
    pub fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Those of both.
    pub fn merge(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Load {
    /// How long it took in all.
    pub took: Duration,
    /// `SubmitJob`, each.
    pub submit: Times,
    /// `ListJobs`, 100 of those that are queued, each.
    pub list: Times,
    /// `GetJob` of a job that waits, each.
    pub get: Times,
    /// Why that job waited, as it was told last.
    pub waiting_for: String,
}

/// Submits `count` jobs by `clients`, each on a connection of its own and one after the other.
pub async fn submit(deployment: &Deployment, spec: JobSpec, count: usize, clients: usize) -> Outcome<Load> {
    let began = Instant::now();
    let (left, spec) = (Arc::new(AtomicUsize::new(count)), Arc::new(spec));
    let mut submitting = JoinSet::new();
    for _ in 0..clients {
        let (client, left, spec) = (deployment.admin()?, Arc::clone(&left), Arc::clone(&spec));
        submitting.spawn(async move {
            let mut times = Times::default();
            while left
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1))
                .is_ok()
            {
                let began = Instant::now();
                client.submit(JobId::random(), &spec).await?;
                times.add(began.elapsed());
            }
            Outcome::Ok(times)
        });
    }
    let stop = CancellationToken::new();
    let mut asking = JoinSet::new();
    let (lister, asker) = (deployment.admin()?, deployment.admin()?);
    let asked = stop.clone();
    asking.spawn(async move {
        let mut load = Load::default();
        while !asked.is_cancelled() {
            let began = Instant::now();
            lister.jobs(&[TaskState::Queued], 100, None).await?;
            load.list.add(began.elapsed());
            tokio::time::sleep(BETWEEN_QUESTIONS).await;
        }
        Outcome::Ok(load)
    });
    let asked = stop.clone();
    asking.spawn(async move {
        let mut load = Load::default();
        while !asked.is_cancelled() {
            if let Some(id) = newest_queued(&asker).await? {
                let began = Instant::now();
                let job = asker.job(&id.to_string()).await?;
                load.get.add(began.elapsed());
                load.waiting_for = job.waiting_for;
            }
            tokio::time::sleep(BETWEEN_QUESTIONS).await;
        }
        Outcome::Ok(load)
    });
    let mut load = Load::default();
    while let Some(times) = submitting.join_next().await {
        load.submit.merge(times??);
    }
    load.took = began.elapsed();
    stop.cancel();
    while let Some(asked) = asking.join_next().await {
        let asked = asked??;
        load.list.merge(asked.list);
        load.get.merge(asked.get);
        if !asked.waiting_for.is_empty() {
            load.waiting_for = asked.waiting_for;
        }
    }
    Ok(load)
}

async fn newest_queued(client: &Client) -> Outcome<Option<JobId>> {
    Ok(client
        .jobs(&[TaskState::Queued], 1, None)
        .await?
        .jobs
        .first()
        .map(|job| job.id))
}

/// How many jobs are in each state, in order of the states' numbers; and how long each page of the list took.
pub async fn count(deployment: &Deployment) -> Outcome<([usize; 7], Times)> {
    let client = deployment.admin()?;
    let (mut counts, mut times, mut after) = ([0; 7], Times::default(), None);
    loop {
        let began = Instant::now();
        let page = client.jobs(&[], PAGE, after).await?;
        times.add(began.elapsed());
        for job in &page.jobs {
            counts[job.state as usize - 1] += 1;
        }
        after = page.next;
        if after.is_none() {
            return Ok((counts, times));
        }
    }
}
