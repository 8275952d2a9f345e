//! What attempts that run share: the processors, and where a launcher of its own runs them, its users.
//!
//! The controller knows the processors and sends no more than fit; of the users it knows nothing. So small tasks may come
//! in greater numbers than there are users: they wait here, the earlier first, and no start is tried that the launcher
//! would have to refuse.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places of one agent.
#[derive(Debug)]
pub(crate) struct Places {
    /// Thousandths of processors.
    processors: Arc<Semaphore>,
    users: Option<Arc<Semaphore>>,
}

/// What one attempt has, until it is dropped: when its directory is the agent's again.
#[derive(Debug)]
pub(crate) struct Place {
    _processors: Option<OwnedSemaphorePermit>,
    _user: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// Of so many thousandths of processors, and so many users if the launcher has a number of them.
    pub(crate) fn new(millis: u32, users: Option<u32>) -> Self {
        let semaphore = |count: u32| Arc::new(Semaphore::new(count as usize));
        Self {
            processors: semaphore(millis),
            users: users.map(semaphore),
        }
    }

    /// Waits for a place. To be dropped when the attempt is to stop.
    pub(crate) async fn take(&self, millis: u32) -> Place {
        // All take them in this order, so none waits for one who waits for it. Neither is ever closed.
        let processors = Arc::clone(&self.processors).acquire_many_owned(millis).await.ok();
        let user = match &self.users {
            Some(users) => Arc::clone(users).acquire_owned().await.ok(),
            None => None,
        };
        Place {
            _processors: processors,
            _user: user,
        }
    }

    /// The place of an attempt that runs already, even if there are fewer now.
    pub(crate) fn keep(&self, millis: u32) -> Place {
        let users = self.users.as_ref();
        Place {
            _processors: Arc::clone(&self.processors).try_acquire_many_owned(millis).ok(),
            _user: users.and_then(|users| Arc::clone(users).try_acquire_owned().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn now(places: &Places, millis: u32) -> Option<Place> {
        places.take(millis).now_or_never()
    }

    #[test]
    fn small_tasks_wait_for_a_user_and_large_ones_for_processors() {
        let places = Places::new(2000, Some(3));
        let first = now(&places, 100).unwrap();
        let _second = now(&places, 100).unwrap();
        let _adopted = places.keep(100);
        assert!(now(&places, 100).is_none(), "there are three users");
        drop(first);
        assert!(now(&places, 1900).is_none(), "there are two processors");
        let third = now(&places, 100).unwrap();
        assert!(now(&places, 100).is_none());
        drop(third);
        assert!(
            now(&places, 100).is_some(),
            "who gave up waiting has taken nothing along"
        );
    }

    #[test]
    fn without_a_launcher_of_its_own_processors_alone_count() {
        let places = Places::new(1000, None);
        let all: Vec<_> = (0..100).map(|_| now(&places, 10).unwrap()).collect();
        assert!(now(&places, 10).is_none());
        drop(all);
    }

    #[test]
    fn what_runs_already_has_its_place_though_there_are_fewer() {
        let places = Places::new(1000, Some(1));
        let kept = [places.keep(1000), places.keep(1000)];
        assert!(now(&places, 10).is_none());
        drop(kept);
        assert!(now(&places, 10).is_some());
    }
}
