//! What every command has: the words of the command line, the output, and the way to a controller.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use haul_client::Client;

use crate::args::{ColorChoice, GlobalArgs};
use crate::contexts::{self, Chosen, ContextFile, Wishes};
use crate::failure::Failure;
use crate::local::Local;
use crate::output::{self, Mode, Output, Style};

/// What every command has.
pub(crate) struct Context {
    /// Where to print.
    pub(crate) output: Box<dyn Output>,
    /// Whether colours may be used.
    pub(crate) style: Style,
    /// What is wanted of the output.
    pub(crate) mode: Mode,
    /// The command line, with the program's name.
    pub(crate) words: Vec<OsString>,
    /// Which controller is wished for.
    pub(crate) wishes: Wishes,
}

impl Context {
    pub(crate) fn new(global: &GlobalArgs, words: Vec<OsString>) -> Self {
        let mode = match (global.json, global.quiet) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Quiet,
            (false, false) => Mode::People,
        };
        let colored = |is_terminal: bool| match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        };
        let style = Style {
            stdout: colored(std::io::stdout().is_terminal()),
            stderr: colored(std::io::stderr().is_terminal()),
        };
        Self {
            output: output::new(mode, style),
            style,
            mode,
            words,
            wishes: Wishes {
                name: global.context.clone().filter(|name| !name.is_empty()),
                token: std::env::var("HAUL_TOKEN").ok().filter(|token| !token.is_empty()),
            },
        }
    }

    /// Whether moving pictures may be drawn on standard error.
    pub(crate) fn may_draw(&self) -> bool {
        self.mode == Mode::People && std::io::stderr().is_terminal()
    }

    /// The private controller's whereabouts.
    pub(crate) fn local(&self) -> Result<Local, Failure> {
        Ok(Local::from_environment()?)
    }

    /// The shared controllers that are known.
    pub(crate) fn contexts(&self) -> Result<ContextFile, Failure> {
        let home = etcetera::home_dir().ok();
        let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        contexts::directory(config.as_deref(), home.as_deref())
            .map(ContextFile::at)
            .ok_or_else(|| {
                Failure::usage("cannot tell where contexts are kept: there is no home directory")
                    .help("set HOME or XDG_CONFIG_HOME")
            })
    }

    /// Whether commands go to this user's private controller.
    pub(crate) fn is_local(&self) -> Result<bool, Failure> {
        Ok(matches!(self.chosen()?, Chosen::Local))
    }

    /// The controller that is meant.
    pub(crate) fn chosen(&self) -> Result<Chosen, Failure> {
        Ok(contexts::choose(&self.wishes, &self.contexts()?)?)
    }

    /// A connection to the controller that is meant; the private one is started if need be.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        match self.chosen()? {
            Chosen::Local => Ok(self.local()?.connect().await?),
            Chosen::Shared {
                name,
                addresses,
                trust,
                ask_again,
                secret,
            } => {
                let client = contexts::connect(&addresses, trust, &secret)
                    .await
                    .map_err(|failure| failure.at(format!("context {name}, at {}", addresses.join(", "))))?;
                if ask_again {
                    contexts::refresh(&client, &name, &self.contexts()?).await;
                }
                Ok(client)
            }
        }
    }
}
