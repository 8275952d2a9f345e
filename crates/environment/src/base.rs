//! Which Python a virtual environment is built on: the node's, one by path or name, or one by version.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::environments::Shared;
use crate::error::{EnvironmentError, InterpreterError};
use crate::flight::SetupSink;
use crate::interpreter::Interpreter;
use crate::process::{self, Answer};

/// How long `uv python find` may take: it looks at every Python that it knows of.
const FIND_LIMIT: Duration = Duration::from_secs(30);

impl Shared {
    /// The Python to build on.
    pub(crate) async fn base(
        &self,
        wanted: Option<&str>,
        setup: &dyn SetupSink,
    ) -> Result<Interpreter, EnvironmentError> {
        let Some(wanted) = wanted else {
            return Ok(self.interpreters.named(&self.config, "python3").await?.1);
        };
        if !wanted.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(self.interpreters.named(&self.config, wanted).await?.1);
        }
        let known = self
            .versions
            .lock()
            .expect("nothing panics while it is held")
            .get(wanted)
            .cloned();
        if let Some(path) = known.filter(|path| path.exists()) {
            let found = self.interpreters.probe(&self.config, &path).await?;
            if found.is_version(wanted) {
                return Ok(found);
            }
        }
        let found = match self.interpreters.of_version(&self.config, wanted).await? {
            Some(found) => found,
            None => self.ask_uv(wanted, setup).await?,
        };
        self.versions
            .lock()
            .expect("nothing panics while it is held")
            .insert(wanted.to_owned(), found.executable.clone());
        Ok(found)
    }

    /// A Python that only uv knows of: one of its own, or of another tool.
    async fn ask_uv(&self, version: &str, setup: &dyn SetupSink) -> Result<Interpreter, EnvironmentError> {
        let never = CancellationToken::new();
        let said = |line: &[u8]| setup.write(line);
        let uv = self.uvs.ensure(&self.config, &self.layout, &said, &never).await?;
        let args = [
            "python",
            "find",
            "--no-project",
            "--quiet",
            "--no-python-downloads",
            version,
        ];
        let missing = |said: String| InterpreterError::NoSuchVersion {
            version: version.to_owned(),
            said,
        };
        let answer = process::ask(
            &uv.path,
            &args.map(AsRef::as_ref),
            &self.config.node_env,
            FIND_LIMIT,
        )
        .await;
        match answer {
            Ok(Answer::Said { code: Some(0), said }) => {
                let path = said.lines().last().unwrap_or_default().trim();
                let found = self.interpreters.probe(&self.config, Path::new(path)).await?;
                Ok(found)
            }
            Ok(Answer::Said { .. }) => Err(missing("neither on PATH nor known to uv".to_owned()).into()),
            Ok(Answer::Silent) => Err(missing("uv did not answer".to_owned()).into()),
            Err(source) => Err(EnvironmentError::Run {
                program: uv.path.display().to_string(),
                source: Arc::new(source),
            }),
        }
    }
}
