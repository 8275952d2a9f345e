//! What this node can build with, for a person who wants to know why it cannot.

use haul_types::ByteSize;

use crate::environments::Environments;
use crate::error::{InterpreterError, UvError};
use crate::interpreter::Interpreter;
use crate::uv::Uv;

/// A report on the node. Nothing is fetched for it.
#[derive(Debug)]
pub struct Doctor {
    /// The uv that builds would use; none when the next build has to fetch one.
    pub uv: Result<Option<Uv>, UvError>,
    /// The node's own Python.
    pub python: Result<Interpreter, InterpreterError>,
    /// How many environments there are.
    pub environments: usize,
    /// What they take together.
    pub bytes: ByteSize,
}

impl Environments {
    /// Looks at what is there.
    pub async fn doctor(&self) -> Result<Doctor, std::io::Error> {
        let shared = &self.shared;
        let infos = self.list().await?;
        let python = shared.interpreters.named(&shared.config, "python3").await;
        Ok(Doctor {
            uv: shared.uvs.find(&shared.config, &shared.layout).await,
            python: python.map(|(_, found)| found),
            environments: infos.len(),
            bytes: ByteSize(infos.iter().map(|info| info.bytes.0).sum()),
        })
    }
}
