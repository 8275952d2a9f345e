//! Handshakes in memory between real configurations: who gets in, who does not, and what each is told.

use std::io;
use std::time::{Duration, SystemTime};

use haul_types::{NodeId, NodeName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use super::*;
use crate::authority::{Authorities, Step};
use crate::bundle::Bundle;
use crate::certificate::{NodeCertificate, Validity};
use crate::problem::TlsProblem;
use crate::request::{HostKey, VerifiedRequest};

const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: Duration = Duration::from_secs(3600);

/// Seconds that a machine's clock is ahead of the others.
#[derive(Debug)]
struct Clock(i64);

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        let shifted = now.as_secs().saturating_add_signed(self.0);
        Some(rustls::pki_types::UnixTime::since_unix_epoch(
            Duration::from_secs(shifted),
        ))
    }
}

struct Site {
    _directory: tempfile::TempDir,
    authorities: Authorities,
    identity: Arc<Current<ServerIdentity>>,
    grace: Duration,
}

impl Site {
    fn new() -> Self {
        Self::made_at(SystemTime::now())
    }

    /// Its certificates were made at this time.
    fn made_at(at: SystemTime) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authorities = Authorities::create(directory.path(), at).unwrap();
        let identity = server_identity(&authorities, DAY, at);
        Self {
            _directory: directory,
            authorities,
            identity: Current::new(identity),
            grace: DAY,
        }
    }

    fn server(&self) -> ServerConfig {
        server_config(Arc::clone(&self.identity))
    }

    fn step(&mut self, step: Step) {
        self.authorities.step(step, true, DAY, SystemTime::now()).unwrap();
        self.identity
            .set(server_identity(&self.authorities, self.grace, SystemTime::now()));
    }

    /// An agent with a certificate that was made at this time for this long.
    fn host(&self, at: SystemTime, life: Duration) -> HostIdentity {
        let key = HostKey::generate().unwrap();
        let request = VerifiedRequest::verify(&key.request().unwrap()).unwrap();
        let name = NodeName::try_from("box".to_owned()).unwrap();
        let issued = self
            .authorities
            .issue_node(&request, &name, NodeId::random(), life, at)
            .unwrap();
        HostIdentity::new(&key, &issued.chain, &self.authorities.bundle()).unwrap()
    }

    fn agent(&self) -> ClientConfig {
        agent_config(Current::new(self.host(SystemTime::now(), DAY)))
    }

    fn by(&self, trust: Trust) -> ClientConfig {
        client_config(trust).unwrap()
    }
}

fn server_identity(authorities: &Authorities, grace: Duration, at: SystemTime) -> ServerIdentity {
    let credentials = authorities
        .issue_server(&["10.0.0.1".parse().unwrap()], DAY, at)
        .unwrap();
    ServerIdentity::new(&credentials, &authorities.bundle(), grace).unwrap()
}

/// What each side says after a handshake, as an error of I/O, as a connection would have it.
struct Met {
    client: Result<(), io::Error>,
    server: Result<Option<NodeCertificate>, io::Error>,
}

impl Met {
    fn problem(self) -> TlsProblem {
        self.problem_of(None)
    }

    fn problem_of(self, own: Option<Validity>) -> TlsProblem {
        let error = self.client.expect_err("it gets in");
        TlsProblem::of(&error, own, SystemTime::now()).unwrap_or_else(|| panic!("unexplained: {error:?}"))
    }

    fn node(self) -> Option<NodeCertificate> {
        self.client.expect("the client is content");
        self.server.expect("the server is content")
    }
}

fn meet(server: ServerConfig, client: ClientConfig) -> Met {
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), controller_name()).unwrap();
    let (mut told_client, mut told_server) = (Ok(()), Ok(()));
    for _ in 0..8 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && told_server.is_ok() {
            server.read_tls(&mut unread).unwrap();
            told_server = server.process_new_packets().map(drop);
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && told_client.is_ok() {
            client.read_tls(&mut unread).unwrap();
            told_client = client.process_new_packets().map(drop);
        }
    }
    let io = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let node = server
        .peer_certificates()
        .and_then(|chain| NodeCertificate::read(&chain[0]).ok());
    if told_client.is_ok() && told_server.is_ok() {
        assert!(
            !client.is_handshaking() && !server.is_handshaking(),
            "the handshake is not over"
        );
        assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    }
    Met {
        client: told_client.map_err(io),
        server: told_server.map(|()| node).map_err(io),
    }
}

#[test]
fn agents_users_and_joining_hosts_get_in() {
    let site = Site::new();
    let host = site.host(SystemTime::now(), DAY);
    let expected = host.certificate().clone();
    assert_eq!(
        meet(site.server(), agent_config(Current::new(host))).node(),
        Some(expected)
    );
    assert_eq!(
        meet(site.server(), site.by(Trust::Bundle(site.authorities.bundle()))).node(),
        None
    );
    assert_eq!(
        meet(site.server(), site.by(Trust::Pin(site.authorities.pin()))).node(),
        None
    );
}

#[test]
fn a_wrong_pin_and_an_unknown_authority_are_told_apart() {
    let (site, other) = (Site::new(), Site::new());
    let problem = meet(site.server(), site.by(Trust::Pin(other.authorities.pin()))).problem();
    let TlsProblem::WrongPin(wrong) = problem else {
        panic!("{problem}")
    };
    assert_eq!(
        (wrong.expected, wrong.found),
        (other.authorities.pin(), Some(site.authorities.pin()))
    );
    let problem = meet(site.server(), site.by(Trust::Bundle(other.authorities.bundle()))).problem();
    assert_eq!(problem, TlsProblem::UnknownAuthority);
    assert_eq!(
        meet(site.server(), other.agent()).problem(),
        TlsProblem::UnknownAuthority
    );
}

#[test]
fn who_shows_the_pinned_authority_without_its_key_is_not_believed() {
    let (honest, liar) = (Site::new(), Site::new());
    let mut credentials = liar
        .authorities
        .issue_server(&[], DAY, SystemTime::now())
        .unwrap();
    let shown = Bundle::certificates(&honest.authorities.bundle())
        .next()
        .unwrap()
        .to_vec();
    credentials.chain.insert(1, shown.into());
    let identity = ServerIdentity::new(&credentials, &liar.authorities.bundle(), DAY).unwrap();
    let problem = meet(
        server_config(Current::new(identity)),
        honest.by(Trust::Pin(honest.authorities.pin())),
    )
    .problem();
    assert_eq!(problem, TlsProblem::UnknownAuthority);
}

#[test]
fn a_node_cannot_pass_for_the_controller_nor_a_foreign_node_for_ours() {
    let (site, other) = (Site::new(), Site::new());
    // A node's certificate, with the authority behind it, as a server would show it.
    let key = HostKey::generate().unwrap();
    let request = VerifiedRequest::verify(&key.request().unwrap()).unwrap();
    let name = NodeName::try_from("haul-controller".to_owned()).unwrap();
    let issued = site
        .authorities
        .issue_node(&request, &name, NodeId::random(), DAY, SystemTime::now())
        .unwrap();
    let mut credentials = site
        .authorities
        .issue_server(&[], DAY, SystemTime::now())
        .unwrap();
    credentials.chain[0] = issued.chain[0].clone().into();
    credentials.key = key;
    let identity = ServerIdentity::new(&credentials, &site.authorities.bundle(), DAY).unwrap();
    for trust in [
        Trust::Pin(site.authorities.pin()),
        Trust::Bundle(site.authorities.bundle()),
    ] {
        let met = meet(
            server_config(Current::new(ServerIdentity::clone(&identity))),
            site.by(trust),
        );
        assert_eq!(met.problem(), TlsProblem::NotAController);
    }
    // An agent that trusts us, with a certificate of somebody else.
    let key = HostKey::generate().unwrap();
    let request = VerifiedRequest::verify(&key.request().unwrap()).unwrap();
    let foreign = other
        .authorities
        .issue_node(&request, &name, NodeId::random(), DAY, SystemTime::now())
        .unwrap();
    let host = HostIdentity::new(&key, &foreign.chain, &site.authorities.bundle()).unwrap();
    let met = meet(site.server(), agent_config(Current::new(host)));
    assert!(met.server.is_err());
    assert_eq!(met.problem(), TlsProblem::RefusedAsForeign);
}

#[test]
fn a_clock_an_hour_off_is_told_with_both_times() {
    let site = Site::new();
    let mut behind = site.agent();
    behind.time_provider = Arc::new(Clock(-3600));
    let problem = meet(site.server(), behind).problem();
    assert!(
        matches!(problem, TlsProblem::ControllerNotYetValid { .. }),
        "{problem}"
    );
    assert!(
        problem.to_string().contains("the clock of this machine says"),
        "{problem}"
    );

    // An hour ahead does no harm: certificates hold for a day. Two days do.
    for (ahead, harm) in [(3600, false), (2 * 86_400, true)] {
        let mut config = site.agent();
        config.time_provider = Arc::new(Clock(ahead));
        let met = meet(site.server(), config);
        if harm {
            let problem = met.problem();
            assert!(
                matches!(problem, TlsProblem::ControllerExpired { .. }),
                "{problem}"
            );
        } else {
            assert!(met.node().is_some());
        }
    }
    // The controller's own clock: it takes a node's certificate for one of the future.
    let mut server = site.server();
    server.time_provider = Arc::new(Clock(-3600));
    let own = site.host(SystemTime::now(), DAY);
    let validity = own.certificate().validity;
    let problem = meet(server, agent_config(Current::new(own))).problem_of(Some(validity));
    assert!(
        matches!(problem, TlsProblem::RefusedAsExpired { own: Some(_) }),
        "{problem}"
    );
}

#[test]
fn an_expired_certificate_gets_through_for_a_while_and_says_that_it_is() {
    let mut site = Site::new();
    let now = SystemTime::now();
    // It was over an hour ago.
    let expired = || site.host(now - 2 * HOUR, HOUR);
    let certificate = meet(site.server(), agent_config(Current::new(expired())))
        .node()
        .unwrap();
    assert!(certificate.validity.has_expired(now));

    site.grace = HOUR / 2;
    site.identity
        .set(server_identity(&site.authorities, site.grace, now));
    let expired = site.host(now - 2 * HOUR, HOUR);
    let validity = expired.certificate().validity;
    let problem = meet(site.server(), agent_config(Current::new(expired))).problem_of(Some(validity));
    assert!(
        matches!(problem, TlsProblem::RefusedAsExpired { .. }),
        "{problem}"
    );
    assert!(problem.to_string().contains("haul-agent join"), "{problem}");

    // No while makes a foreign certificate ours.
    site.grace = DAY;
    site.identity
        .set(server_identity(&site.authorities, site.grace, now));
    let foreign = Site::new().host(now - 2 * HOUR, HOUR);
    let met = meet(site.server(), agent_config(Current::new(foreign)));
    assert_eq!(met.problem(), TlsProblem::UnknownAuthority);
    let key = HostKey::generate().unwrap();
    let request = VerifiedRequest::verify(&key.request().unwrap()).unwrap();
    let (name, other) = (NodeName::try_from("box".to_owned()).unwrap(), Site::new());
    let foreign = other
        .authorities
        .issue_node(&request, &name, NodeId::random(), HOUR, now - 2 * HOUR)
        .unwrap();
    let foreign = HostIdentity::new(&key, &foreign.chain, &site.authorities.bundle()).unwrap();
    assert!(
        meet(site.server(), agent_config(Current::new(foreign)))
            .server
            .is_err()
    );
}

#[test]
fn a_rotation_locks_out_neither_who_knows_of_it_nor_who_does_not() {
    let mut site = Site::new();
    let (old_bundle, old_pin) = (site.authorities.bundle(), site.authorities.pin());
    let old_agent = || Current::new(site.host(SystemTime::now(), DAY));
    let agents = [old_agent(), old_agent(), old_agent()];
    let mut agents = agents.into_iter();
    for step in [Step::Begin, Step::Activate, Step::RollBack, Step::Activate] {
        site.step(step);
        for trust in [
            Trust::Bundle(old_bundle.clone()),
            Trust::Pin(old_pin),
            Trust::Bundle(site.authorities.bundle()),
        ] {
            meet(site.server(), site.by(trust)).node();
        }
        if let Some(agent) = agents.next() {
            assert!(
                meet(site.server(), agent_config(agent)).node().is_some(),
                "after {step}"
            );
        }
        assert!(meet(site.server(), site.agent()).node().is_some(), "after {step}");
    }
    let new_pin = site.authorities.pin();
    let late = Current::new(site.host(SystemTime::now(), DAY));
    site.step(Step::Finish);
    meet(site.server(), site.by(Trust::Pin(new_pin))).node();
    assert!(meet(site.server(), agent_config(late)).node().is_some());
    let problem = meet(site.server(), site.by(Trust::Pin(old_pin))).problem();
    assert!(matches!(problem, TlsProblem::WrongPin(_)), "{problem}");
    assert_eq!(
        meet(site.server(), site.by(Trust::Bundle(old_bundle))).problem(),
        TlsProblem::UnknownAuthority
    );
}

#[test]
fn a_renewed_certificate_needs_no_restart() {
    let site = Site::made_at(SystemTime::now() - 3 * DAY);
    let config = site.server();
    let by_pin = || site.by(Trust::Pin(site.authorities.pin()));
    assert!(site.identity.get().validity().is_renewal_due(SystemTime::now()));
    let problem = meet(config.clone(), by_pin()).problem();
    assert!(
        matches!(problem, TlsProblem::ControllerExpired { .. }),
        "{problem}"
    );
    site.identity
        .set(server_identity(&site.authorities, DAY, SystemTime::now()));
    meet(config, by_pin()).node();
}

#[test]
fn what_speaks_no_tls_is_told_so() {
    let config = client_config(Trust::Pin(Site::new().authorities.pin())).unwrap();
    let mut client = ClientConnection::new(Arc::new(config), controller_name()).unwrap();
    client
        .read_tls(&mut &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..])
        .unwrap();
    let error = client.process_new_packets().unwrap_err();
    let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
    assert_eq!(
        TlsProblem::of(&error, None, SystemTime::now()),
        Some(TlsProblem::NotTls)
    );
    let other = io::Error::other("no TLS at all");
    assert_eq!(TlsProblem::of(&other, None, SystemTime::now()), None);
}
