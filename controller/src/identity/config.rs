//! What the controller's identity needs to know.

use std::path::{Path, PathBuf};
use std::time::Duration;

use haul_identity::Address;

/// Settings of authority, certificates and tokens.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// Where the authority is kept; [`Self::directory_of`] the controller's state directory.
    pub directory: PathBuf,
    /// Where agents and users reach the controller, best first: tokens carry them, its certificate names their hosts.
    pub addresses: Vec<Address>,
    /// How long certificates hold. Nodes renew theirs at half of it.
    pub certificate_life: Duration,
    /// For so long after its certificate has expired, a node that was not revoked may still renew it, and nothing else:
    /// a machine that slept, or that could not reach the controller over a weekend, comes back by itself. Zero has every
    /// such node join again.
    pub renew_expired_for: Duration,
}

impl IdentityConfig {
    /// Certificates hold for a day.
    pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(24 * 3600);
    /// And can be renewed for a week after.
    pub const RENEW_EXPIRED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

    /// The usual settings.
    #[must_use]
    pub fn new(state_dir: &Path, addresses: Vec<Address>) -> Self {
        Self {
            directory: Self::directory_of(state_dir),
            addresses,
            certificate_life: Self::CERTIFICATE_LIFE,
            renew_expired_for: Self::RENEW_EXPIRED_FOR,
        }
    }

    /// Where the authority is kept within a controller's state directory.
    #[must_use]
    pub fn directory_of(state_dir: &Path) -> PathBuf {
        state_dir.join("identity")
    }
}
