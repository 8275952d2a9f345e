//! Compiles the contract with protox, so that no protoc is needed.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = ["job", "snapshot", "node", "agent"].map(|name| format!("haul/v1/{name}.proto"));
    let descriptors = protox::compile(files, [root])?;
    tonic_prost_build::configure()
        .build_client(std::env::var_os("CARGO_FEATURE_CLIENT").is_some())
        .build_server(std::env::var_os("CARGO_FEATURE_SERVER").is_some())
        .bytes(".haul.v1.LogFrame.data")
        .bytes(".haul.v1.UploadRequest.frame")
        .bytes(".haul.v1.FetchResponse.frame")
        .compile_fds(descriptors)?;
    Ok(())
}
