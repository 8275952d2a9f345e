//! Compiles the contract with protox, so that no protoc is needed, and lists its calls.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const FILES: [&str; 5] = ["job", "snapshot", "node", "agent", "identity"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = FILES.map(|name| format!("haul/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root])?;
    let calls: Vec<Call> = descriptors
        .file
        .iter()
        .flat_map(|file| {
            file.service.iter().flat_map(|service| {
                service.method.iter().map(|method| Call {
                    sends_stream: method.client_streaming(),
                    ..Call::new(file.package(), service.name(), method.name())
                })
            })
        })
        .collect();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("rpc.rs"), rpc_enum(&calls)?)?;
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .bytes(".haul.v1.LogFrame.data")
        .bytes(".haul.v1.UploadRequest.frame")
        .bytes(".haul.v1.FetchResponse.frame")
        .compile_fds(descriptors)?;
    Ok(())
}

/// One call of the contract.
struct Call {
    variant: String,
    path: String,
    /// Whether the caller sends one message after another.
    sends_stream: bool,
}

impl Call {
    fn new(package: &str, service: &str, method: &str) -> Self {
        let words = service.strip_suffix("Service").unwrap_or(service);
        Self {
            variant: format!("{words}{method}"),
            path: format!("/{package}.{service}/{method}"),
            sends_stream: false,
        }
    }
}

/// The calls as an enum, so that a `match` over them which misses one does not compile.
fn rpc_enum(calls: &[Call]) -> Result<String, std::fmt::Error> {
    let mut code = String::new();
    writeln!(code, "/// Every call of the contract.")?;
    writeln!(
        code,
        "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]\npub enum Rpc {{"
    )?;
    for Call { variant, path, .. } in calls {
        writeln!(code, "    /// `{path}`\n    {variant},")?;
    }
    writeln!(code, "}}\n\nimpl Rpc {{")?;
    writeln!(code, "    /// All of them, in the order of the contract.")?;
    writeln!(code, "    pub const ALL: [Self; {}] = [", calls.len())?;
    for Call { variant, .. } in calls {
        writeln!(code, "        Self::{variant},")?;
    }
    writeln!(code, "    ];\n\n    /// Its path in HTTP/2.")?;
    writeln!(
        code,
        "    #[must_use]\n    pub const fn path(self) -> &'static str {{\n        match self {{"
    )?;
    for Call { variant, path, .. } in calls {
        writeln!(code, "            Self::{variant} => {path:?},")?;
    }
    writeln!(code, "        }}\n    }}\n\n    /// The call of a path.")?;
    writeln!(
        code,
        "    #[must_use]\n    pub fn at(path: &str) -> Option<Self> {{\n        Some(match path {{"
    )?;
    for Call { variant, path, .. } in calls {
        writeln!(code, "            {path:?} => Self::{variant},")?;
    }
    writeln!(code, "            _ => return None,\n        }})\n    }}\n")?;
    writeln!(
        code,
        "    /// Whether the caller sends one message after another."
    )?;
    writeln!(
        code,
        "    #[must_use]\n    pub const fn sends_stream(self) -> bool {{\n        match self {{"
    )?;
    for Call {
        variant,
        sends_stream,
        ..
    } in calls
    {
        writeln!(code, "            Self::{variant} => {sends_stream},")?;
    }
    writeln!(code, "        }}\n    }}\n}}")?;
    Ok(code)
}
