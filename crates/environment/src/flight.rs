//! One build however many ask: everyone waits for the same task and hears the same output.
//!
//! The task lives as long as somebody waits for it. When the last waiter goes, it is told to stop, and one that comes
//! after that starts another, which waits for the first to have cleaned up (on the environment's lock).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use haul_types::Digest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How much of a build's output a late joiner can still get; uv says a few KiB, a source build perhaps more.
const KEPT_OUTPUT: usize = 1024 * 1024;

/// Where the output of a build goes. It is called by the build itself, so it must not block for long: hand over to a
/// buffer or a file.
pub trait SetupSink: Send + Sync {
    /// One or more whole lines, with their ends.
    fn write(&self, bytes: &[u8]);
}

/// The builds that are going on, each with a result of type `T`.
pub(crate) struct Flights<T> {
    flights: Mutex<HashMap<Digest, Flying<T>>>,
    tracker: TaskTracker,
}

struct Flying<T> {
    flight: Arc<Flight<T>>,
    waiters: usize,
}

/// One build.
pub(crate) struct Flight<T> {
    log: Mutex<Log>,
    /// None while it goes on; `Some(None)` when it ended without a result.
    result: watch::Sender<Option<Option<T>>>,
    cancel: CancellationToken,
}

#[derive(Default)]
struct Log {
    said: Vec<u8>,
    sinks: BTreeMap<u64, Arc<dyn SetupSink>>,
    next: u64,
}

impl<T> Flight<T> {
    /// Told when nobody waits any more.
    pub(crate) fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Tells every waiter.
    pub(crate) fn say(&self, line: &[u8]) {
        let mut log = unpoisoned(&self.log);
        if log.said.len() + line.len() > KEPT_OUTPUT {
            // The older half goes, at a line's end.
            let half = log.said.len() / 2;
            let end = log.said[half..]
                .iter()
                .position(|b| *b == b'\n')
                .map_or(log.said.len(), |at| half + at + 1);
            log.said.drain(..end);
        }
        log.said.extend_from_slice(line);
        for sink in log.sinks.values() {
            sink.write(line);
        }
    }

    fn listen(&self, sink: Arc<dyn SetupSink>) -> u64 {
        let mut log = unpoisoned(&self.log);
        if !log.said.is_empty() {
            sink.write(&log.said);
        }
        let id = log.next;
        log.next += 1;
        log.sinks.insert(id, sink);
        id
    }
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new() -> Self {
        Self {
            flights: Mutex::default(),
            tracker: TaskTracker::new(),
        }
    }

    /// Whether something is built under `key`.
    pub(crate) fn is_flying(&self, key: Digest) -> bool {
        unpoisoned(&self.flights).contains_key(&key)
    }

    /// The result of the build under `key`, which `start` begins if nobody has; none when it ended without one. Being
    /// dropped is how a waiter goes away.
    pub(crate) async fn join<F>(
        self: &Arc<Self>,
        key: Digest,
        sink: Arc<dyn SetupSink>,
        start: impl FnOnce(Arc<Flight<T>>) -> F,
    ) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let waiter = self.board(key, sink, start);
        let mut result = waiter.flight.result.subscribe();
        match result.wait_for(Option::is_some).await {
            Ok(ended) => ended.clone().flatten(),
            // The sender is in the flight, which the waiter holds.
            Err(_) => None,
        }
    }

    fn board<F>(
        self: &Arc<Self>,
        key: Digest,
        sink: Arc<dyn SetupSink>,
        start: impl FnOnce(Arc<Flight<T>>) -> F,
    ) -> Waiter<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut flights = unpoisoned(&self.flights);
        let flying = flights.entry(key).or_insert_with(|| {
            let flight = Arc::new(Flight {
                log: Mutex::default(),
                result: watch::channel(None).0,
                cancel: CancellationToken::new(),
            });
            let landing = Landing {
                flights: Arc::clone(self),
                flight: Arc::clone(&flight),
                key,
            };
            let work = start(Arc::clone(&flight));
            self.tracker.spawn(async move {
                let result = work.await;
                landing.flight.result.send_replace(Some(Some(result)));
                drop(landing);
            });
            Flying { flight, waiters: 0 }
        });
        flying.waiters += 1;
        let flight = Arc::clone(&flying.flight);
        let waiter = Waiter {
            flights: Arc::clone(self),
            listener: flight.listen(sink),
            flight,
            key,
        };
        drop(flights);
        waiter
    }

    /// Forgets `flight`, unless another has its place already.
    fn forget(&self, key: Digest, flight: &Arc<Flight<T>>) {
        let mut flights = unpoisoned(&self.flights);
        if flights
            .get(&key)
            .is_some_and(|flying| Arc::ptr_eq(&flying.flight, flight))
        {
            flights.remove(&key);
        }
    }
}

/// Ends a flight however its task ends: by itself, by a panic, or with the runtime.
struct Landing<T: Clone + Send + Sync + 'static> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
    key: Digest,
}

impl<T: Clone + Send + Sync + 'static> Drop for Landing<T> {
    fn drop(&mut self) {
        self.flights.forget(self.key, &self.flight);
        self.flight.result.send_if_modified(|result| {
            let lost = result.is_none();
            if lost {
                *result = Some(None);
            }
            lost
        });
    }
}

struct Waiter<T: Clone + Send + Sync + 'static> {
    flights: Arc<Flights<T>>,
    flight: Arc<Flight<T>>,
    listener: u64,
    key: Digest,
}

impl<T: Clone + Send + Sync + 'static> Drop for Waiter<T> {
    fn drop(&mut self) {
        unpoisoned(&self.flight.log).sinks.remove(&self.listener);
        let mut flights = unpoisoned(&self.flights.flights);
        let Some(flying) = flights.get_mut(&self.key) else {
            return;
        };
        if !Arc::ptr_eq(&flying.flight, &self.flight) {
            return;
        }
        flying.waiters -= 1;
        if flying.waiters == 0 {
            flights.remove(&self.key);
            self.flight.cancel.cancel();
        }
    }
}

/// A sink that panicked must not take the others' build with it.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[derive(Default)]
    struct Heard(Mutex<Vec<u8>>);
    impl SetupSink for Heard {
        fn write(&self, bytes: &[u8]) {
            self.0.lock().unwrap().extend_from_slice(bytes);
        }
    }

    #[tokio::test]
    async fn all_get_one_result_and_a_late_joiner_hears_it_all() {
        let flights = Arc::new(Flights::<u32>::new());
        let key = Digest::of(b"x");
        let starts = Arc::new(AtomicU32::new(0));
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let counted = Arc::clone(&starts);
        let (first, late) = (Arc::new(Heard::default()), Arc::new(Heard::default()));
        let one = flights.join(key, first.clone(), |flight| async move {
            counted.fetch_add(1, Ordering::Relaxed);
            flight.say(b"a\n");
            let _ = wait.await;
            flight.say(b"b\n");
            7
        });
        let two = async {
            while first.0.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            let joined = flights.join(key, late.clone(), |_| async { 8 });
            tokio::pin!(joined);
            tokio::select! { biased; _ = &mut joined => panic!("too early"), () = std::future::ready(()) => {} }
            let _ = go.send(());
            joined.await
        };
        assert_eq!(tokio::join!(one, two), (Some(7), Some(7)));
        assert_eq!(starts.load(Ordering::Relaxed), 1);
        for heard in [first, late] {
            assert_eq!(*heard.0.lock().unwrap(), b"a\nb\n");
        }
        assert!(!flights.is_flying(key));
    }

    #[tokio::test]
    async fn a_panic_is_no_result_and_leaves_the_way_free() {
        let flights = Arc::new(Flights::<u32>::new());
        let key = Digest::of(b"x");
        let sink = Arc::new(Heard::default());
        assert_eq!(
            flights
                .join(key, sink.clone(), |_| async { panic!("on purpose") })
                .await,
            None
        );
        assert_eq!(flights.join(key, sink, |_| async { 1 }).await, Some(1));
    }

    #[tokio::test]
    async fn the_last_to_go_cancels() {
        let flights = Arc::new(Flights::<()>::new());
        let key = Digest::of(b"x");
        let (told, tell) = tokio::sync::oneshot::channel();
        let start = |flight: Arc<Flight<()>>| async move {
            flight.cancel().cancelled().await;
            let _ = told.send(());
        };
        let mut one = Box::pin(flights.join(key, Arc::new(Heard::default()), start));
        let mut two = Box::pin(flights.join(key, Arc::new(Heard::default()), |_| async {}));
        tokio::select! { biased; _ = &mut one => {}, _ = &mut two => {}, () = std::future::ready(()) => {} }
        drop(one);
        tokio::task::yield_now().await;
        assert!(flights.is_flying(key));
        drop(two);
        tell.await.unwrap();
        assert!(!flights.is_flying(key));
    }
}
