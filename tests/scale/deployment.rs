//! A real controller's directory, and the ways to reach the controller: as an admin, and as whoever joins.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use haul_client::{Client, Endpoint, NewToken, TokenLife};
use haul_identity::{Token, Trust, client_config, controller_name};
use haul_snapshot::{ScanOptions, scan};
use haul_transport::{Dialer, Proxy};
use haul_types::{Digest, JobId, JobSpec, Role};
use std::time::Duration;

/// What goes wrong in a measurement ends it.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A controller, known by an admin's token.
#[derive(Clone, Debug)]
pub struct Deployment {
    token: Token,
}

impl Deployment {
    /// By the token that `haul-controller init` printed.
    pub fn new(token: &str) -> Outcome<Self> {
        Ok(Self {
            token: token.trim().parse()?,
        })
    }

    /// A connection of its own for an admin; it dials at the first call, and again when the connection is lost.
    pub fn admin(&self) -> Outcome<Client> {
        let tls = Arc::new(client_config(Trust::Pin(self.token.pin()))?);
        let client = Client::lazy(Endpoint::Remote(dialer(&self.token, tls)?).dial());
        Ok(client.with_token(&self.token.secret().reveal())?)
    }

    /// A token for a machine.
    pub async fn join_token(&self, admin: &Client) -> Outcome<Token> {
        let new = NewToken {
            role: Role::Agent,
            name: String::new(),
            target: None,
            life: TokenLife::Usual,
            labels: BTreeMap::new(),
            replaces: None,
        };
        Ok(admin.create_token(new).await?.0.parse()?)
    }

    /// A job whose directory, which is empty, the controller has.
    pub async fn any_job(&self, scratch: &Path) -> Outcome<JobSpec> {
        let empty = scratch.join("empty");
        std::fs::create_dir_all(&empty)?;
        let scan = Arc::new(tokio::task::spawn_blocking(move || scan(&ScanOptions::new(empty), &())).await??);
        let snapshot = scan.id();
        self.admin()?.send_snapshot(scan, Arc::new(())).await?;
        Ok(spec(snapshot))
    }
}

/// Dials where a token says.
pub fn dialer(token: &Token, tls: impl Into<haul_transport::ClientTlsSource>) -> Outcome<Dialer> {
    let addresses: Result<Vec<_>, _> = token
        .addresses()
        .iter()
        .map(|address| address.to_string().parse())
        .collect();
    Ok(Dialer::new(addresses?, tls, controller_name(), Proxy::none()))
}

fn spec(snapshot: Digest) -> JobSpec {
    JobSpec {
        name: format!("scale {}", JobId::random()),
        command: vec!["true".to_owned()],
        snapshot,
        working_dir: String::new(),
        env: BTreeMap::new(),
        environment: haul_types::EnvironmentSpec::Node,
        array: None,
        timeout: None,
        grace: Duration::from_secs(10),
        scheduling: haul_types::Scheduling::default(),
    }
}
