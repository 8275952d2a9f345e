//! The controller's configuration file, `controller.toml`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use haul_identity::{Address, Host};
use haul_transport::Limits;
use haul_types::deserialize_duration;
use serde::Deserialize;

use crate::SharedConfig;
use crate::identity::IdentityConfig;

/// Its name in the state directory, where it is looked for if no other file is named.
pub const CONFIG_FILE: &str = "controller.toml";

/// Neither the flags nor the file say where to listen.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "no address to listen on: say `addresses = [\"HOST:PORT\"]` or `listen = \"IP:PORT\"` in {CONFIG_FILE}"
)]
pub struct NowhereToListen;

/// What the file may say; flags go over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerFile {
    /// Where it keeps everything.
    pub state_dir: Option<PathBuf>,
    /// The Unix socket to listen on; `controller.sock` in the state directory when absent.
    pub socket: Option<PathBuf>,
    /// Where agents and users reach the controller, best first, as `"HOST:PORT"`.
    pub addresses: Vec<Address>,
    /// Where it listens for them, as in `"0.0.0.0:7070"`: every address of this machine, at the port of the first of
    /// `addresses`, when absent.
    pub listen: Option<SocketAddr>,
    /// The most connections from one address that are open at a time.
    pub connections_per_address: Option<usize>,
    /// The most connections in all that are open at a time.
    pub connections: Option<usize>,
    /// How long jobs that have ended are kept, as in `"30d"`.
    #[serde(deserialize_with = "deserialize_duration")]
    pub keep_jobs_for: Option<Duration>,
    /// How long certificates hold, as in `"1d"`.
    #[serde(deserialize_with = "deserialize_duration")]
    pub certificate_life: Option<Duration>,
    /// How long after a node's certificate has expired the node may still renew it, as in `"7d"`.
    #[serde(deserialize_with = "deserialize_duration")]
    pub renew_expired_for: Option<Duration>,
}

impl ControllerFile {
    /// The text of a file that names these addresses.
    #[must_use]
    pub fn with_addresses(addresses: &[Address]) -> String {
        let quoted: Vec<_> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
        format!(
            "# Where agents and users reach this controller, best first. Tokens carry them.\naddresses = [{}]\n",
            quoted.join(", ")
        )
    }

    /// What makes it a controller of many machines, if anything says that it is one: addresses, or an authority that was
    /// made. `listen` goes over what the file says.
    pub fn shared(
        &self,
        state_dir: &Path,
        listen: Option<SocketAddr>,
    ) -> Result<Option<SharedConfig>, NowhereToListen> {
        let identity = self.identity(state_dir);
        if identity.addresses.is_empty() && !identity.directory.exists() {
            return Ok(None);
        }
        let usual = identity.addresses.first().map(|address| {
            // Not everywhere is there IPv6; who is reached by it has it.
            let any: IpAddr = match address.host() {
                Host::Ip(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
                _ => Ipv4Addr::UNSPECIFIED.into(),
            };
            SocketAddr::from((any, address.port()))
        });
        let limits = Limits::default();
        Ok(Some(SharedConfig {
            listen: listen.or(self.listen).or(usual).ok_or(NowhereToListen)?,
            limits: Limits {
                connections_per_address: self
                    .connections_per_address
                    .unwrap_or(limits.connections_per_address),
                connections: self.connections.unwrap_or(limits.connections),
                ..limits
            },
            identity,
        }))
    }

    fn identity(&self, state_dir: &Path) -> IdentityConfig {
        let usual = IdentityConfig::new(state_dir, self.addresses.clone());
        IdentityConfig {
            certificate_life: self.certificate_life.unwrap_or(usual.certificate_life),
            renew_expired_for: self.renew_expired_for.unwrap_or(usual.renew_expired_for),
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_and_unknown_keys_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CONFIG_FILE);
        assert_eq!(
            haul_daemon::read_config_if_there::<ControllerFile>(&path).unwrap(),
            ControllerFile::default()
        );
        let addresses: Vec<Address> = vec![
            "haul.example.org:7070".parse().unwrap(),
            "[fd00::1]:7070".parse().unwrap(),
        ];
        std::fs::write(
            &path,
            ControllerFile::with_addresses(&addresses) + "renew_expired_for = \"0s\"\n",
        )
        .unwrap();
        let file: ControllerFile = haul_daemon::read_config(&path).unwrap();
        assert_eq!(
            (file.addresses.clone(), file.renew_expired_for),
            (addresses, Some(Duration::ZERO))
        );
        assert_eq!(
            file.identity(directory.path()).certificate_life,
            IdentityConfig::CERTIFICATE_LIFE
        );
        for (text, named) in [
            ("adresses = []", "adresses"),
            ("certificate_life = 5", "certificate_life"),
            ("addresses = [\"here\"]", "HOST:PORT"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = haul_daemon::read_config::<ControllerFile>(&path).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
