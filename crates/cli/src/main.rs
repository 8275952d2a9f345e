//! The `haul` binary. See the library for what it does; this file only says in which order.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Supervisors are this program too, and must not have a thread or a runtime: they come first.
    if let Some(code) = haul_launcher::supervisor::main_if_asked() {
        return code;
    }
    if let Some(code) = haul_cli::daemon::main_if_asked() {
        return code;
    }
    haul_cli::main()
}
