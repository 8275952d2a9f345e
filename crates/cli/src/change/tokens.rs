//! `haul token`.

use haul_client::{CallError, NewToken, TokenLife};
use haul_types::Role;

use crate::args::{CreateTokenArgs, Expiry, RoleName, TokenArgs, TokenCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{NewTokenReport, TokensReport};

pub(crate) async fn tokens(args: TokenArgs, context: &mut Context) -> Result<Exit, Failure> {
    match args.command {
        TokenCommand::Create(args) => {
            let new = new_token(args)?;
            let role = new.role;
            let (text, info) = context.client().await?.create_token(new).await?;
            context.output.report(&NewTokenReport {
                text: &text,
                info: &info,
            });
            context.output.hint(if role == Role::Agent {
                "on the machine that is to join: haul-agent join TOKEN"
            } else {
                "its user runs `haul login` and pastes it; it is not shown again"
            });
        }
        TokenCommand::Ls { all } => {
            let tokens = context.client().await?.tokens(all).await?;
            context.output.report(&TokensReport(&tokens));
        }
        TokenCommand::Revoke { ids } => {
            let client = context.client().await?;
            for id in ids {
                let token = client.revoke_token(&id).await.map_err(|error| match error {
                    CallError::NotFound(what) | CallError::Invalid(what) => {
                        Failure::usage(what).help("`haul token ls` lists those that are there")
                    }
                    error => error.into(),
                })?;
                context
                    .output
                    .hint(&format!("revoked {}, {}'s", token.id, token.name));
            }
        }
    }
    Ok(Exit::SUCCESS)
}

fn new_token(args: CreateTokenArgs) -> Result<NewToken, Failure> {
    let role = match args.role {
        RoleName::Agent => Role::Agent,
        RoleName::Viewer => Role::Viewer,
        RoleName::Submitter => Role::Submitter,
        RoleName::Admin => Role::Admin,
    };
    if role != Role::Agent && (!args.labels.is_empty() || args.replace.is_some()) {
        return Err(
            Failure::usage("--label and --replace are for tokens by which machines join")
                .help("leave them out, or say --role agent"),
        );
    }
    if role == Role::Agent && args.expires == Some(Expiry::Never) {
        return Err(Failure::usage("a token by which a machine joins has to end")
            .help("say --expires 1h, for example"));
    }
    Ok(NewToken {
        role,
        name: args.name,
        target: args.target,
        life: match args.expires {
            None => TokenLife::Usual,
            Some(Expiry::After(life)) => TokenLife::For(life),
            Some(Expiry::Never) => TokenLife::Unlimited,
        },
        labels: args.labels.into_iter().collect(),
        replaces: args.replace,
    })
}
