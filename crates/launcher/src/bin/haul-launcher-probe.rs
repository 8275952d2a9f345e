//! probe
fn main() -> std::process::ExitCode {
    haul_launcher::supervisor::main_if_asked().unwrap_or(std::process::ExitCode::FAILURE)
}
