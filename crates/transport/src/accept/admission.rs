//! How many connections there may be.
//!
//! Those that are not ready cost an honest peer milliseconds and a dishonest one nothing; so the limit on them keeps
//! nobody out: the newest comes in and the oldest goes. Ready ones have work to do, so there the newest is kept out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Limits;

/// Refusals are logged no more often than this: they come in floods.
const BETWEEN_WORDS: Duration = Duration::from_secs(10);

/// What counts as one address: whoever has an IPv6 address has a /64 of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Site(IpAddr);

impl From<IpAddr> for Site {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// Counts connections.
#[derive(Debug)]
pub(super) struct Admission {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Numbers them, so that the oldest is the least.
    next: u64,
    handshaking: BTreeMap<u64, (Site, CancellationToken)>,
    ready: usize,
    sites: HashMap<Site, OfSite>,
    refused: u64,
    said: Option<Instant>,
}

#[derive(Debug, Default)]
struct OfSite {
    handshaking: BTreeSet<u64>,
    ready: usize,
}

impl Counts {
    /// The newest that is not ready; its number.
    fn insert(&mut self, site: Site, pushed_out: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        self.handshaking.insert(number, (site, pushed_out));
        self.sites.entry(site).or_default().handshaking.insert(number);
        number
    }

    /// One that was not ready goes; nothing if it has gone already.
    fn remove(&mut self, number: u64) -> Option<CancellationToken> {
        let (site, pushed_out) = self.handshaking.remove(&number)?;
        if let Some(of_site) = self.sites.get_mut(&site) {
            of_site.handshaking.remove(&number);
        }
        self.tidy(site);
        Some(pushed_out)
    }

    fn push_out(&mut self, number: Option<u64>) {
        if let Some(pushed_out) = number.and_then(|number| self.remove(number)) {
            pushed_out.cancel();
        }
    }

    fn tidy(&mut self, site: Site) {
        if self
            .sites
            .get(&site)
            .is_some_and(|of_site| of_site.handshaking.is_empty() && of_site.ready == 0)
        {
            self.sites.remove(&site);
        }
    }

    fn is_full(&self, site: Site, limits: &Limits) -> bool {
        let of_site = self.sites.get(&site).map_or(0, |of_site| of_site.ready);
        self.ready >= limits.connections || of_site >= limits.connections_per_address
    }

    fn say_refused(&mut self, site: Site) {
        self.refused += 1;
        if self.said.is_none_or(|said| said.elapsed() >= BETWEEN_WORDS) {
            tracing::warn!(
                address = %site.0,
                refused = self.refused,
                connections = self.ready,
                "refused connections: their address, or all together, have as many as allowed"
            );
            self.refused = 0;
            self.said = Some(Instant::now());
        }
    }
}

impl Admission {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            counts: Mutex::default(),
        })
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new connection; none if there are as many ready ones as there may be.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Handshaking> {
        let site = Site::from(address);
        let mut counts = self.counts();
        if counts.is_full(site, &self.limits) {
            counts.say_refused(site);
            return None;
        }
        let of_site = counts.sites.get(&site).map(|of_site| &of_site.handshaking);
        if let Some(numbers) = of_site
            && numbers.len() >= self.limits.handshakes_per_address
        {
            let oldest = numbers.first().copied();
            counts.push_out(oldest);
        }
        if counts.handshaking.len() >= self.limits.handshakes {
            let oldest = counts.handshaking.keys().next().copied();
            counts.push_out(oldest);
        }
        let pushed_out = CancellationToken::new();
        let number = counts.insert(site, pushed_out.clone());
        Some(Handshaking {
            admission: Arc::clone(self),
            site,
            number: AtomicU64::new(number),
            pushed_out,
        })
    }
}

/// A connection that is not ready.
#[derive(Debug)]
pub(super) struct Handshaking {
    admission: Arc<Admission>,
    site: Site,
    number: AtomicU64,
    pushed_out: CancellationToken,
}

impl Handshaking {
    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }

    /// It has shown that it means it, at some cost: it is the newest again.
    pub(super) fn renew(&self) {
        let mut counts = self.admission.counts();
        if let Some(pushed_out) = counts.remove(self.number()) {
            self.number
                .store(counts.insert(self.site, pushed_out), Ordering::Relaxed);
        }
    }

    /// Returns when it has to go.
    pub(super) async fn pushed_out(&self) {
        self.pushed_out.cancelled().await;
    }

    /// It is ready; nothing if it may not stay.
    pub(super) fn ready(self) -> Option<Place> {
        let mut counts = self.admission.counts();
        if counts.is_full(self.site, &self.admission.limits) {
            counts.say_refused(self.site);
            return None;
        }
        counts.ready += 1;
        counts.sites.entry(self.site).or_default().ready += 1;
        counts.remove(self.number());
        drop(counts);
        Some(Place {
            admission: Arc::clone(&self.admission),
            site: self.site,
        })
    }
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        self.admission.counts().remove(self.number());
    }
}

/// A ready connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    site: Site,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts();
        counts.ready -= 1;
        if let Some(of_site) = counts.sites.get_mut(&self.site) {
            of_site.ready -= 1;
        }
        counts.tidy(self.site);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits() -> Limits {
        Limits {
            step_timeout: Duration::from_secs(1),
            handshakes_per_address: 3,
            handshakes: 5,
            connections_per_address: 2,
            connections: 4,
        }
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let [one, same, other, mapped] = [
            "2001:db8::1",
            "2001:db8::2:1",
            "2001:db8:0:1::1",
            "::ffff:192.0.2.1",
        ]
        .map(|text| Site::from(text.parse::<IpAddr>().unwrap()));
        assert_eq!(one, same);
        assert_ne!(one, other);
        assert_eq!(mapped, Site::from(address(1)));
    }

    #[test]
    fn the_oldest_that_is_not_ready_goes() {
        let admission = Admission::new(limits());
        let mut waiting: Vec<_> = (0..4).map(|_| admission.admit(address(1)).unwrap()).collect();
        assert!(waiting[0].pushed_out.is_cancelled());
        assert!(waiting[1..].iter().all(|one| !one.pushed_out.is_cancelled()));
        // Others are not pushed out by one address's flood.
        waiting.push(admission.admit(address(2)).unwrap());
        waiting.extend((0..20).map(|_| admission.admit(address(1)).unwrap()));
        assert!(!waiting[4].pushed_out.is_cancelled());
    }

    #[test]
    fn one_that_gets_on_is_the_newest_again() {
        let admission = Admission::new(limits());
        let waiting: Vec<_> = (0..3).map(|_| admission.admit(address(1)).unwrap()).collect();
        waiting[0].renew();
        let _more = [admission.admit(address(1)), admission.admit(address(1))];
        let gone: Vec<_> = waiting.iter().map(|one| one.pushed_out.is_cancelled()).collect();
        assert_eq!(gone, [false, true, true]);
    }

    #[test]
    fn a_ready_one_is_never_pushed_out_and_keeps_the_newest_out() {
        let admission = Admission::new(limits());
        let _places: Vec<_> = (0..2)
            .map(|_| admission.admit(address(1)).unwrap().ready().unwrap())
            .collect();
        assert!(admission.admit(address(1)).is_none());
        assert!(admission.admit(address(2)).is_some());
    }

    proptest! {
        #[test]
        fn limits_hold_and_nothing_is_left(steps in prop::collection::vec((0..5u8, 1..4u8, 0..8usize), 0..200)) {
            let limits = limits();
            let admission = Admission::new(limits.clone());
            let (mut waiting, mut places) = (Vec::new(), Vec::new());
            for (what, site, which) in steps {
                match what {
                    0 | 1 => waiting.extend(admission.admit(address(site))),
                    2 if which < waiting.len() => {
                        let one: Handshaking = waiting.remove(which);
                        places.extend(one.ready());
                    }
                    3 if which < places.len() => drop(places.remove(which)),
                    3 if which < waiting.len() => drop(waiting.remove(which)),
                    4 if which < waiting.len() => waiting[which].renew(),
                    _ => {}
                }
                // One that was pushed out may still have become ready at the same moment; it then counts as that.
                let counts = admission.counts();
                let living = waiting.iter().filter(|one| !one.pushed_out.is_cancelled()).count();
                prop_assert_eq!(counts.handshaking.len(), living);
                prop_assert!(living <= limits.handshakes);
                prop_assert_eq!(counts.ready, places.len());
                prop_assert!(counts.ready <= limits.connections);
                for of_site in counts.sites.values() {
                    prop_assert!(of_site.handshaking.len() <= limits.handshakes_per_address);
                    prop_assert!(of_site.ready <= limits.connections_per_address);
                }
            }
            drop((waiting, places));
            let counts = admission.counts();
            prop_assert!(counts.sites.is_empty() && counts.handshaking.is_empty() && counts.ready == 0);
        }
    }
}
