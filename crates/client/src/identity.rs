//! Who is who: tokens, the controller's authorities, and shutting nodes out.

use std::collections::BTreeMap;
use std::time::Duration;

use haul_proto::{client, v1};
use haul_types::Role;

use crate::call::repeated;
use crate::{CallError, Client};

/// Who the controller takes the caller for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user; empty for the controller's own, on its Unix socket.
    pub name: String,
    /// What the user may do.
    pub role: Role,
    /// The only target that the user may submit to.
    pub target: Option<String>,
}

/// A token, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenInfo {
    /// What lists name it by.
    pub id: String,
    /// What it is called: for a user's token, the user.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The only target of its user, or the one that its node is put into.
    pub target: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_unix_ms: u64,
    /// From when on it is worth nothing.
    pub expires_unix_ms: Option<u64>,
    /// When a join token was used, and the node that it made.
    pub used: Option<(u64, String)>,
    /// When it was revoked.
    pub revoked_unix_ms: Option<u64>,
}

/// What a new token is to be.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// What it is for.
    pub role: Role,
    /// What it is called: jobs belong to it. When empty the controller finds a name.
    pub name: String,
    /// The only target of its user, or the one that its node is put into.
    pub target: Option<String>,
    /// How long it is good for.
    pub life: TokenLife,
    /// A join token's: labels that its node gets.
    pub labels: BTreeMap<String, String>,
    /// A join token's: the enrolled node that its machine takes the place of.
    pub replaces: Option<String>,
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenLife {
    /// As the controller has it: 10 minutes for a join token, 90 days for a user's.
    Usual,
    /// So long.
    For(Duration),
    /// For ever; only a user's.
    Unlimited,
}

/// An authority of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The SHA-256 of its public key, in base64url.
    pub pin: String,
    /// Its certificate: X.509 in DER.
    pub certificate: Vec<u8>,
    /// When its certificate ends, in milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// Whether it is the one that signs.
    pub signs: bool,
}

/// The authorities of a controller, and where a change of them stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    /// Where a change stands.
    pub phase: RotationPhase,
    /// Those to trust, the one that signs first.
    pub list: Vec<Authority>,
}

/// Where a change of authorities stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationPhase {
    /// There is one authority.
    Steady,
    /// A second one is trusted; the first one signs.
    Begun,
    /// The second one signs; both are trusted.
    Activated,
}

/// A step of a change of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStep {
    /// Make the next authority and trust it.
    Begin,
    /// Let it sign.
    Activate,
    /// Drop the one before.
    Finish,
    /// Take the last step back.
    RollBack,
}

fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn role(number: i32) -> Result<Role, CallError> {
    u8::try_from(number)
        .ok()
        .and_then(Role::from_number)
        .ok_or_else(|| CallError::Internal(format!("role {number} is of a newer version")))
}

fn token(info: Option<v1::TokenInfo>) -> Result<TokenInfo, CallError> {
    let info = info.ok_or_else(|| CallError::Internal("the answer lacks the token".to_owned()))?;
    Ok(TokenInfo {
        role: role(info.role)?,
        id: info.id,
        name: info.name,
        target: some(info.target),
        created_unix_ms: info.created_unix_ms,
        expires_unix_ms: info.expires_unix_ms,
        used: info.used_unix_ms.map(|at| (at, info.used_by)),
        revoked_unix_ms: info.revoked_unix_ms,
    })
}

fn authorities(phase: i32, list: Vec<v1::Authority>) -> Result<Authorities, CallError> {
    let phase = match v1::RotationPhase::try_from(phase) {
        Ok(v1::RotationPhase::Steady) => RotationPhase::Steady,
        Ok(v1::RotationPhase::Begun) => RotationPhase::Begun,
        Ok(v1::RotationPhase::Activated) => RotationPhase::Activated,
        _ => {
            return Err(CallError::Internal(format!(
                "phase {phase} is of a newer version"
            )));
        }
    };
    let list = list.into_iter().map(|authority| Authority {
        pin: authority.pin,
        certificate: authority.certificate,
        expires_unix_ms: authority.expires_unix_ms,
        signs: authority.signs,
    });
    Ok(Authorities {
        phase,
        list: list.collect(),
    })
}

impl Client {
    /// Who the controller takes us for.
    pub async fn caller(&self) -> Result<Caller, CallError> {
        let call = async || {
            client::identity(self.calls())
                .get_caller(v1::GetCallerRequest {})
                .await
        };
        let answer = repeated(call).await?.into_inner();
        Ok(Caller {
            role: role(answer.role)?,
            name: answer.name,
            target: some(answer.target),
        })
    }

    /// Makes a token; its text, which nobody keeps, and what is kept of it. Not repeated: each call makes one.
    pub async fn create_token(&self, new: NewToken) -> Result<(String, TokenInfo), CallError> {
        let request = v1::CreateTokenRequest {
            role: new.role as i32,
            name: new.name,
            target: new.target.unwrap_or_default(),
            life_ms: match new.life {
                TokenLife::Usual => None,
                TokenLife::For(life) => Some(u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)),
                TokenLife::Unlimited => Some(0),
            },
            labels: new.labels.into_iter().collect(),
            replaces: new.replaces.unwrap_or_default(),
        };
        let answer = client::identity(self.calls()).create_token(request).await?;
        let answer = answer.into_inner();
        Ok((answer.token, token(answer.info)?))
    }

    /// The tokens that there are, newest first; with `all` those too that are worth nothing any more.
    pub async fn tokens(&self, all: bool) -> Result<Vec<TokenInfo>, CallError> {
        let call = async || {
            client::identity(self.calls())
                .list_tokens(v1::ListTokensRequest { all })
                .await
        };
        let tokens = repeated(call).await?.into_inner().tokens;
        tokens.into_iter().map(|info| token(Some(info))).collect()
    }

    /// Ends a token.
    pub async fn revoke_token(&self, id: &str) -> Result<TokenInfo, CallError> {
        let request = v1::RevokeTokenRequest { id: id.to_owned() };
        let call = async || client::identity(self.calls()).revoke_token(request.clone()).await;
        token(repeated(call).await?.into_inner().info)
    }

    /// The authorities to trust.
    pub async fn authorities(&self) -> Result<Authorities, CallError> {
        let call = async || {
            client::identity(self.calls())
                .get_authorities(v1::GetAuthoritiesRequest {})
                .await
        };
        let answer = repeated(call).await?.into_inner();
        authorities(answer.phase, answer.authorities)
    }

    /// Takes a step of a change of authorities. Not repeated: a step taken twice is two steps.
    pub async fn rotate_authority(&self, step: RotationStep, force: bool) -> Result<Authorities, CallError> {
        let step = match step {
            RotationStep::Begin => v1::RotationStep::Begin,
            RotationStep::Activate => v1::RotationStep::Activate,
            RotationStep::Finish => v1::RotationStep::Finish,
            RotationStep::RollBack => v1::RotationStep::RollBack,
        };
        let request = v1::RotateAuthorityRequest {
            step: step as i32,
            force,
        };
        let answer = client::identity(self.calls()).rotate_authority(request).await?;
        let answer = answer.into_inner();
        authorities(answer.phase, answer.authorities)
    }

    /// Shuts a node out for good.
    pub async fn revoke_node(&self, node: &str) -> Result<(), CallError> {
        let request = v1::RevokeNodeRequest {
            node: node.to_owned(),
        };
        let call = async || client::identity(self.calls()).revoke_node(request.clone()).await;
        repeated(call).await?;
        Ok(())
    }
}
