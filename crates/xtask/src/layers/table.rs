//! Who stands where: the architecture as data. Changing a line here is changing the architecture.

/// The rules about dependencies.
pub(super) struct Table {
    /// Our crates from the lowest layer to the highest. A crate may depend on crates of lower layers only, so never on
    /// one beside it.
    pub(super) layers: &'static [&'static [&'static str]],
    /// Crates of others that only some of ours may name, so that their shapes stay there. The highest layer is not
    /// shipped and nothing stands on it; it may name what it likes.
    pub(super) known_by: &'static [(&'static str, &'static [&'static str])],
}

/// The rules.
pub(super) const TABLE: Table = Table {
    layers: &[
        // The words that all share; the commands of pages, which stand on nothing.
        &["haul-page", "haul-types"],
        // What each does one thing and knows nothing of the others.
        &[
            "haul-daemon",
            "haul-environment",
            "haul-identity",
            "haul-launcher",
            "haul-lifecycle",
            "haul-proto",
            "haul-snapshot",
            "haul-spool",
            "haul-transport",
        ],
        // The controller's shelf, and the way to a controller.
        &["haul-client", "haul-store"],
        // The daemons. Agent and controller know each other by the contract alone, agent and launcher by the socket that
        // the launcher's library makes; the one with rights knows nothing of the network.
        &["haul-agent", "haul-controller", "haul-launcherd"],
        // The one binary.
        &["haul-cli"],
        // What looks at all of it from outside.
        &["haul-tests", "xtask"],
    ],
    known_by: &[
        // The contract's shapes, and the network.
        ("prost", &["haul-proto"]),
        ("tonic-prost", &["haul-proto"]),
        ("tonic-prost-build", &["haul-proto"]),
        ("protox", &["haul-proto"]),
        (
            "tonic",
            &[
                "haul-agent",
                "haul-client",
                "haul-controller",
                "haul-proto",
                "haul-transport",
            ],
        ),
        ("tower", &["haul-client", "haul-controller", "haul-transport"]),
        ("http-body", &["haul-controller"]),
        ("hyper", &["haul-transport"]),
        ("hyper-util", &["haul-client", "haul-transport"]),
        ("tokio-rustls", &["haul-transport"]),
        ("tokio-tungstenite", &["haul-transport"]),
        // Cryptography: who is who is decided in one place. Those who open connections are handed what they need.
        ("rcgen", &["haul-identity", "haul-transport"]),
        ("ring", &["haul-identity"]),
        ("x509-parser", &["haul-identity"]),
        ("rustls", &["haul-identity", "haul-transport"]),
        // What is on disk.
        ("rusqlite", &["haul-store"]),
        ("tar", &["haul-snapshot"]),
        ("fastcdc", &["haul-snapshot"]),
        ("ignore", &["haul-snapshot"]),
        ("zstd", &["haul-snapshot", "haul-spool"]),
        ("postcard", &["haul-launcher", "haul-snapshot", "haul-store"]),
        ("blake3", &["haul-environment", "haul-snapshot", "haul-types"]),
        // Processes and signals.
        ("nix", &["haul-launcher"]),
        ("signal-hook", &["haul-launcher"]),
        // An async runtime: not for what is to be tried without one, nor for what is synchronous by design.
        (
            "tokio",
            &[
                "haul-agent",
                "haul-cli",
                "haul-client",
                "haul-controller",
                "haul-daemon",
                "haul-environment",
                "haul-launcher",
                "haul-launcherd",
                "haul-transport",
            ],
        ),
        // The terminal and the user's directories.
        ("anstream", &["haul-cli"]),
        ("anstyle", &["haul-cli"]),
        (
            "clap",
            &["haul-agent", "haul-cli", "haul-controller", "haul-launcherd"],
        ),
        ("clap_complete", &["haul-cli"]),
        ("comfy-table", &["haul-cli"]),
        ("etcetera", &["haul-cli"]),
        ("indicatif", &["haul-cli"]),
        ("jiff", &["haul-cli", "haul-identity"]),
        ("tracing-subscriber", &["haul-daemon"]),
        // Nobody: what is shipped has typed errors.
        ("anyhow", &[]),
    ],
};
