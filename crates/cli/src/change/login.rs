//! `haul login`, and `haul context add`: a token becomes a context.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use haul_identity::{Token, Trust};
use haul_types::Role;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use crate::args::LoginArgs;
use crate::context::Context;
use crate::contexts::{self, ContextFile, SharedController};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::LoggedInReport;

pub(crate) async fn login(args: LoginArgs, context: &mut Context) -> Result<Exit, Failure> {
    let token = read_token(args.token_file.as_deref())?;
    let name = args.name.unwrap_or_else(|| usual_name(&token));
    add(&name, &token, true, context).await
}

/// Looks whether the token is good, and keeps it under a name.
pub(crate) async fn add(
    name: &str,
    token: &Token,
    make_current: bool,
    context: &mut Context,
) -> Result<Exit, Failure> {
    if name == contexts::LOCAL {
        return Err(
            Failure::usage("`local` is the private controller of this machine")
                .help("choose another name by --name"),
        );
    }
    if !contexts::is_name(name) {
        return Err(Failure::usage(format!("{name:?} cannot name a context"))
            .help("use letters, digits, `-`, `_` and `.`, beginning with a letter or digit"));
    }
    if token.role() == Role::Agent {
        return Err(
            Failure::usage("this token lets a machine join; it is not a user's").help(
                "on the machine: haul-agent join TOKEN. A user's token: haul token create --role submitter",
            ),
        );
    }
    let addresses: Vec<String> = token.addresses().iter().map(ToString::to_string).collect();
    let client = contexts::connect(&addresses, Trust::Pin(token.pin()), token.secret()).await?;
    let caller = client.caller().await?;
    let controller = SharedController {
        addresses,
        authorities: contexts::authorities(&client).await?,
        asked_unix: contexts::now_unix(),
        user: caller.name,
        role: caller.role,
        target: caller.target,
    };
    let store = context.contexts()?;
    keep(&store, name, token, &controller, make_current)?;
    context.output.report(&LoggedInReport {
        name,
        controller: &controller,
        is_current: make_current,
    });
    Ok(Exit::SUCCESS)
}

fn keep(
    store: &ContextFile,
    name: &str,
    token: &Token,
    controller: &SharedController,
    make_current: bool,
) -> Result<(), Failure> {
    store.keep_credential(name, token.secret())?;
    store.change(|contexts| {
        contexts.contexts.insert(name.to_owned(), controller.clone());
        if make_current {
            contexts.current = Some(name.to_owned());
        }
    })?;
    Ok(())
}

/// The first part of the controller's host: `lab` for `lab.example.org:7443`.
fn usual_name(token: &Token) -> String {
    let address = token
        .addresses()
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let host = address.rsplit_once(':').map_or(&*address, |(host, _)| host);
    let numeric = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    let name = if numeric {
        host.trim_matches(['[', ']']).replace(':', "-")
    } else {
        host.split('.').next().unwrap_or_default().to_owned()
    };
    if contexts::is_name(&name) && name != contexts::LOCAL {
        name
    } else {
        "shared".to_owned()
    }
}

/// The token, from a file, from standard input, or typed without being seen.
pub(crate) fn read_token(file: Option<&Path>) -> Result<Token, Failure> {
    let text = match file {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("cannot read {}", path.display())).because(&error))?,
        None if io::stdin().is_terminal() => typed().map_err(|error| {
            Failure::usage("the token cannot be read from the terminal")
                .because(&error)
                .help("name a file that holds it: --token-file FILE")
        })?,
        None => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).map_err(|error| {
                Failure::usage("the token cannot be read from standard input").because(&error)
            })?;
            text
        }
    };
    if text.trim().is_empty() {
        return Err(Failure::usage("there is no token")
            .help("an admin makes one: haul token create --role submitter"));
    }
    text.parse()
        .map_err(|error: haul_identity::NotAToken| Failure::usage(error.to_string()))
}

/// A line from the terminal, not shown.
fn typed() -> io::Result<String> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    let mut stderr = io::stderr();
    stderr.write_all(b"Token: ")?;
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Now, &before)?;
    stderr.write_all(b"\n")?;
    read.map(|_| line)
}

#[cfg(test)]
mod tests {
    use haul_identity::Pin;

    use super::*;

    #[test]
    fn a_context_is_called_after_its_host() {
        for (address, name) in [
            ("lab.example.org:7443", "lab"),
            ("lab:7443", "lab"),
            ("10.0.0.7:7443", "10.0.0.7"),
            ("[fd00::7]:7443", "fd00--7"),
            ("local:7443", "shared"),
        ] {
            let token = Token::new(
                Role::Viewer,
                vec![address.parse().unwrap()],
                Pin::from_bytes([0; 32]),
            );
            assert_eq!(usual_name(&token.unwrap()), name, "{address}");
        }
    }
}
