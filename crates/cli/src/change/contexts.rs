//! `haul context`.

use haul_types::Role;

use super::login;
use crate::args::{ContextArgs, ContextCommand};
use crate::context::Context;
use crate::contexts::{ContextError, LOCAL};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{ContextLine, ContextsReport};

pub(crate) async fn contexts(args: ContextArgs, context: &mut Context) -> Result<Exit, Failure> {
    let store = context.contexts()?;
    match args.command {
        ContextCommand::Ls => {
            let all = store.read()?;
            let here = context.wishes.name.clone().or(all.current);
            let here = here.as_deref().unwrap_or(LOCAL);
            let mut lines = vec![ContextLine {
                name: LOCAL.to_owned(),
                address: String::new(),
                user: String::new(),
                role: Role::Admin,
                is_current: here == LOCAL,
            }];
            lines.extend(all.contexts.into_iter().map(|(name, controller)| ContextLine {
                is_current: here == name,
                name,
                address: controller.addresses.into_iter().next().unwrap_or_default(),
                user: controller.user,
                role: controller.role,
            }));
            context.output.report(&ContextsReport(&lines));
        }
        ContextCommand::Use { name } => {
            let found = store.change(|all| {
                if name == LOCAL {
                    all.current = None;
                    return Ok(());
                }
                if !all.contexts.contains_key(&name) {
                    return Err(all.contexts.keys().cloned().collect::<Vec<_>>());
                }
                all.current = Some(name.clone());
                Ok(())
            })?;
            found.map_err(|known| unknown(&name, known))?;
            context.output.hint(&format!("commands go to {name} now"));
        }
        ContextCommand::Add { name, token_file } => {
            let token = login::read_token(token_file.as_deref())?;
            return login::add(&name, &token, false, context).await;
        }
        ContextCommand::Rm { name } if name == LOCAL => {
            return Err(Failure::usage("`local` is always there")
                .help("`haul local stop` stops the private controller; jobs that run go on"));
        }
        ContextCommand::Rm { name } => {
            let (known, was_current) = store.change(|all| {
                let was_current = all.current.as_deref() == Some(&*name);
                if was_current {
                    all.current = None;
                }
                let known = match all.contexts.remove(&name) {
                    Some(_) => None,
                    None => Some(all.contexts.keys().cloned().collect::<Vec<_>>()),
                };
                (known, was_current)
            })?;
            if let Some(known) = known {
                return Err(unknown(&name, known));
            }
            store.forget_credential(&name)?;
            context.output.hint(if was_current {
                "forgotten; commands go to this machine's private controller now"
            } else {
                "forgotten"
            });
        }
    }
    Ok(Exit::SUCCESS)
}

fn unknown(name: &str, known: Vec<String>) -> Failure {
    let known = std::iter::once(LOCAL.to_owned()).chain(known).collect();
    ContextError::Unknown {
        name: name.to_owned(),
        known,
    }
    .into()
}
