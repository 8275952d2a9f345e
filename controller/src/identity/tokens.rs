//! Making tokens and ending them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use haul_identity::{Address, Pin, Token};
use haul_store::{IdentityOp, IdentityRefusal, TokenRecord};
use haul_types::{NodeName, Role, TokenId};

use super::{Identity, IdentityError, unix_ms};
use crate::engine::lock;

/// How long a join token is good for, unless its maker says otherwise.
const JOIN_LIFE: Duration = Duration::from_secs(10 * 60);
/// The same of a user's.
const USER_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// The longest name of a token, in letters.
const LONGEST_NAME: usize = 128;

/// A token that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct TokenOrder {
    pub(crate) role: Role,
    /// When empty: for a user a name that no other token has, for a machine the role.
    pub(crate) name: String,
    pub(crate) target: Option<String>,
    pub(crate) life: Life,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) replaces: Option<NodeName>,
}

/// How long a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// As is usual for its role.
    Usual,
    /// So long.
    For(Duration),
    /// Until it is revoked.
    Ever,
}

impl TokenOrder {
    /// The token, and what is kept of it.
    pub(super) fn make(
        self,
        addresses: &[Address],
        pin: Pin,
        now: SystemTime,
    ) -> Result<(Token, TokenRecord), IdentityError> {
        let joins = self.role == Role::Agent;
        if !joins && (self.replaces.is_some() || !self.labels.is_empty()) {
            return Err(IdentityError::BadOrder(
                "only a join token has labels or takes a node's place",
            ));
        }
        if joins && self.life == Life::Ever {
            return Err(IdentityError::BadOrder("a join token must expire"));
        }
        if self.name.chars().count() > LONGEST_NAME || self.name.chars().any(char::is_control) {
            return Err(IdentityError::BadOrder(
                "the name is too long or has control characters",
            ));
        }
        if addresses.is_empty() {
            return Err(IdentityError::BadOrder(
                "this controller does not know where it is reached: give it an address, in its configuration or by \
                 `--address`",
            ));
        }
        let life = match self.life {
            Life::Usual if joins => Some(JOIN_LIFE),
            Life::Usual => Some(USER_LIFE),
            Life::For(life) => Some(life),
            Life::Ever => None,
        };
        let token = Token::new(self.role, addresses.to_vec(), pin)?;
        let created_unix_ms = unix_ms(now);
        // Jobs belong to a name: two users whom nobody named are not one.
        let name = match self.name {
            name if !name.is_empty() => name,
            _ if joins => self.role.to_string(),
            _ => format!("{}-{}", self.role, token.secret().id()),
        };
        let record = TokenRecord {
            hash: token.secret().hash(),
            name,
            role: self.role,
            target: self.target,
            labels: self.labels,
            replaces: self.replaces,
            created_unix_ms,
            expires_unix_ms: life.map(|life| {
                created_unix_ms.saturating_add(u64::try_from(life.as_millis()).unwrap_or(u64::MAX))
            }),
            used: None,
            revoked_unix_ms: None,
        };
        Ok((token, record))
    }
}

impl Identity {
    /// Makes a token. Its text is in the answer and nowhere else.
    pub(crate) async fn create_token(
        &self,
        order: TokenOrder,
        now: SystemTime,
    ) -> Result<(Token, TokenRecord), IdentityError> {
        let pin = lock(&self.authorities).pin();
        let (token, record) = order.make(&self.config.addresses, pin, now)?;
        self.apply(IdentityOp::PutToken(record.clone())).await?;
        tracing::info!(token = %record.id(), role = %record.role, name = record.name, "made a token");
        Ok((token, record))
    }

    /// Ends a token.
    pub(crate) async fn revoke_token(
        &self,
        id: TokenId,
        now: SystemTime,
    ) -> Result<TokenRecord, IdentityError> {
        let at_unix_ms = unix_ms(now);
        self.apply(IdentityOp::RevokeToken { id, at_unix_ms }).await?;
        self.callers.on_revoked();
        tracing::info!(token = %id, "a token was revoked");
        let revoked = self.tokens()?.into_iter().find(|token| token.id() == id);
        Ok(revoked.ok_or(IdentityRefusal::UnknownToken)?)
    }
}
