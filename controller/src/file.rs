//! The controller's configuration file, `controller.toml`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use haul_identity::Address;
use haul_types::deserialize_duration;
use serde::Deserialize;

use crate::identity::IdentityConfig;

/// Its name in the state directory, where it is looked for if no other file is named.
pub const CONFIG_FILE: &str = "controller.toml";

/// What the file may say; flags go over it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControllerFile {
    /// Where it keeps everything.
    pub state_dir: Option<PathBuf>,
    /// The Unix socket to listen on.
    pub socket: Option<PathBuf>,
    /// Where agents and users reach the controller, best first, as `"HOST:PORT"`.
    pub addresses: Vec<Address>,
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

    /// Its part about identity.
    #[must_use]
    pub fn identity(&self, state_dir: &Path) -> IdentityConfig {
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
