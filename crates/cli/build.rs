//! Gives each build a name, so that a private controller of another build is noticed and replaced.
//!
//! The name is the time of the build. A hash of the sources would be better for builds that should be the same twice;
//! for those, `HAUL_BUILD` in the environment is taken instead.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo:rerun-if-env-changed=HAUL_BUILD");
    for part in ["../../crates", "../../agent", "../../controller", "../../proto"] {
        println!("cargo:rerun-if-changed={part}");
    }
    let build = std::env::var("HAUL_BUILD").unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{:x}", now.as_millis())
    });
    println!("cargo:rustc-env=HAUL_BUILD={build}");
}
