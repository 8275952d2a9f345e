//! Joining, certificates, tokens and the authority. Whether the caller may is decided in front of this.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use haul_identity::{Secret, Step, VerifiedRequest};
use haul_lifecycle::{Event, Refused};
use haul_proto::server::IdentityService;
use haul_proto::v1;
use haul_store::TokenRecord;
use haul_types::{NodeName, Role, TargetName, TokenId};
use tonic::{Request, Response, Status};

use crate::engine::{Engine, StepError};
use crate::identity::{Granted, Identity, JoinOrder, Life, Standing, TokenOrder, unix_ms};
use crate::principal::Principal;
use crate::status::{IntoStatus, panicked};

/// Labels that a node may have, and letters in a label and its value.
const LABELS: usize = 64;
const LABEL_LETTERS: usize = 256;

pub(super) struct IdentityCalls {
    pub(super) engine: Arc<Engine>,
    /// Absent where no authority was made: a controller that only its own user reaches.
    pub(super) identity: Option<Arc<Identity>>,
}

impl IdentityCalls {
    fn identity(&self) -> Result<&Arc<Identity>, Status> {
        self.identity.as_ref().ok_or_else(|| {
            Status::failed_precondition(
                "this controller has no authority, and only its own user reaches it: one for many machines is made by \
                 `haul-controller init`",
            )
        })
    }

    /// What a node ran that was shut out is lost: nothing that it says is believed any more, and who takes its name does not
    /// take its attempts.
    async fn forget_node(&self, node: NodeName) -> Result<(), Status> {
        let connected = true;
        match self.engine.step(Event::RemoveNode { node, connected }).await {
            // One that joined and never connected.
            Ok(()) | Err(StepError::Refused(Refused::UnknownNode(_))) => Ok(()),
            Err(error) => Err(error.into_status()),
        }
    }
}

fn invalid(error: &dyn std::error::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn node_name(name: String) -> Result<NodeName, Status> {
    NodeName::try_from(name).map_err(|error| invalid(&error))
}

fn target_name(name: &str) -> Result<TargetName, Status> {
    name.parse()
        .map_err(|error| Status::invalid_argument(format!("target: {error}")))
}

fn labels(labels: impl IntoIterator<Item = (String, String)>) -> Result<BTreeMap<String, String>, Status> {
    let labels: BTreeMap<_, _> = labels.into_iter().collect();
    let long = |text: &String| text.len() > LABEL_LETTERS;
    if labels.len() > LABELS
        || labels
            .iter()
            .any(|(label, value)| label.is_empty() || long(label) || long(value))
    {
        return Err(Status::invalid_argument(format!(
            "labels: at most {LABELS}, each of 1 to {LABEL_LETTERS} letters"
        )));
    }
    Ok(labels)
}

#[tonic::async_trait]
impl IdentityService for IdentityCalls {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let identity = self.identity()?;
        let v1::JoinRequest {
            secret,
            request,
            node,
            labels: said,
        } = request.into_inner();
        let secret: Secret = secret
            .parse()
            .map_err(|_| Status::unauthenticated("this is not a token's secret"))?;
        let order = JoinOrder {
            token: secret.hash(),
            request: VerifiedRequest::verify(&request).map_err(|error| invalid(&error))?,
            name: node_name(node)?,
            labels: labels(said)?,
        };
        let node = order.name.clone();
        let granted = identity
            .join(order, SystemTime::now())
            .await
            .map_err(IntoStatus::into_status)?;
        if granted.replaced {
            self.forget_node(node.clone()).await?;
        }
        if let Some(target) = &granted.target {
            let target = target_name(target)?;
            let enlisted = self.engine.step(Event::Enlist { target, node }).await;
            enlisted.map_err(IntoStatus::into_status)?;
        }
        let credentials = Some(credentials(granted));
        Ok(Response::new(v1::JoinResponse { credentials }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let identity = self.identity()?;
        let (Principal::Node { name, id } | Principal::ExpiredNode { name, id }) = Principal::of(&request)
        else {
            return Err(Status::unauthenticated(
                "only a node renews a certificate, and by the one that it has",
            ));
        };
        let request = VerifiedRequest::verify(&request.get_ref().request).map_err(|error| invalid(&error))?;
        let granted = identity
            .renew(&name, id, &request, SystemTime::now())
            .await
            .map_err(IntoStatus::into_status)?;
        let credentials = Some(credentials(granted));
        Ok(Response::new(v1::RenewResponse { credentials }))
    }

    async fn get_caller(
        &self,
        request: Request<v1::GetCallerRequest>,
    ) -> Result<Response<v1::GetCallerResponse>, Status> {
        // Needs no authority: the controller's own user asks too.
        let (name, role, target) = match Principal::of(&request) {
            Principal::Local => (String::new(), Role::Admin, None),
            Principal::User {
                name, role, target, ..
            } => (name, role, target),
            Principal::Node { name, .. } => (name.to_string(), Role::Agent, None),
            Principal::ExpiredNode { .. } | Principal::Anonymous => {
                return Err(Status::permission_denied(
                    "who is unknown does not ask who that is",
                ));
            }
        };
        Ok(Response::new(v1::GetCallerResponse {
            name,
            role: role_message(role).into(),
            target: target.unwrap_or_default(),
        }))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let identity = self.identity()?;
        let asked = request.into_inner();
        let order = TokenOrder {
            role: role(asked.role())?,
            name: asked.name,
            target: (!asked.target.is_empty())
                .then(|| target_name(&asked.target).map(|_| asked.target))
                .transpose()?,
            life: match asked.life_ms {
                None => Life::Usual,
                Some(0) => Life::Ever,
                Some(ms) => Life::For(Duration::from_millis(ms)),
            },
            labels: labels(asked.labels)?,
            replaces: (!asked.replaces.is_empty())
                .then(|| node_name(asked.replaces))
                .transpose()?,
        };
        let (token, record) = identity
            .create_token(order, SystemTime::now())
            .await
            .map_err(IntoStatus::into_status)?;
        Ok(Response::new(v1::CreateTokenResponse {
            token: token.reveal(),
            info: Some(token_info(identity, &record)?),
        }))
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let identity = self.identity()?;
        let now = unix_ms(SystemTime::now());
        let all = request.get_ref().all;
        let tokens = identity.tokens().map_err(IntoStatus::into_status)?;
        let shown = tokens.iter().filter(|token| all || token.standing(now).is_ok());
        Ok(Response::new(v1::ListTokensResponse {
            tokens: shown
                .map(|token| token_info(identity, token))
                .collect::<Result<_, _>>()?,
        }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let identity = self.identity()?;
        let id: TokenId = request.get_ref().id.parse().map_err(|error| invalid(&error))?;
        let revoked = identity
            .revoke_token(id, SystemTime::now())
            .await
            .map_err(|error| match error {
                // Here the caller is known, and it is the named token that is not.
                crate::identity::IdentityError::Refused(haul_store::IdentityRefusal::UnknownToken) => {
                    Status::not_found(format!("there is no token {id}"))
                }
                other => other.into_status(),
            })?;
        let info = Some(token_info(identity, &revoked)?);
        Ok(Response::new(v1::RevokeTokenResponse { info }))
    }

    async fn get_authorities(
        &self,
        _: Request<v1::GetAuthoritiesRequest>,
    ) -> Result<Response<v1::GetAuthoritiesResponse>, Status> {
        let (phase, authorities) = authorities(&self.identity()?.authorities());
        Ok(Response::new(v1::GetAuthoritiesResponse { phase, authorities }))
    }

    async fn rotate_authority(
        &self,
        request: Request<v1::RotateAuthorityRequest>,
    ) -> Result<Response<v1::RotateAuthorityResponse>, Status> {
        let identity = Arc::clone(self.identity()?);
        let step = match request.get_ref().step() {
            v1::RotationStep::Unspecified => return Err(Status::invalid_argument("step: is missing")),
            v1::RotationStep::Begin => Step::Begin,
            v1::RotationStep::Activate => Step::Activate,
            v1::RotationStep::Finish => Step::Finish,
            v1::RotationStep::RollBack => Step::RollBack,
        };
        let force = request.get_ref().force;
        let rotated =
            tokio::task::spawn_blocking(move || identity.rotate(step, force, SystemTime::now())).await;
        let standing = rotated.map_err(panicked)?.map_err(IntoStatus::into_status)?;
        let (phase, authorities) = authorities(&standing);
        Ok(Response::new(v1::RotateAuthorityResponse { phase, authorities }))
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        let name = node_name(request.into_inner().node)?;
        let id = self
            .identity()?
            .revoke_node(&name, SystemTime::now())
            .await
            .map_err(IntoStatus::into_status)?;
        self.forget_node(name).await?;
        Ok(Response::new(v1::RevokeNodeResponse {
            node_id: id.to_string(),
        }))
    }
}

fn credentials(granted: Granted) -> v1::NodeCredentials {
    let certificate = granted.credentials.certificate;
    v1::NodeCredentials {
        node_id: certificate.id.to_string(),
        node: certificate.name.into(),
        expires_unix_ms: unix_ms(certificate.validity.not_after),
        chain: granted.credentials.chain,
        authorities: granted.bundle.certificates().map(<[u8]>::to_vec).collect(),
    }
}

fn role(role: v1::Role) -> Result<Role, Status> {
    Ok(match role {
        v1::Role::Unspecified => return Err(Status::invalid_argument("role: is missing")),
        v1::Role::Agent => Role::Agent,
        v1::Role::Viewer => Role::Viewer,
        v1::Role::Submitter => Role::Submitter,
        v1::Role::Admin => Role::Admin,
    })
}

fn role_message(role: Role) -> v1::Role {
    match role {
        Role::Agent => v1::Role::Agent,
        Role::Viewer => v1::Role::Viewer,
        Role::Submitter => v1::Role::Submitter,
        Role::Admin => v1::Role::Admin,
    }
}

fn token_info(identity: &Identity, token: &TokenRecord) -> Result<v1::TokenInfo, Status> {
    let used_by = match token.used {
        Some(used) => identity.node_name(used.by).map_err(IntoStatus::into_status)?,
        None => None,
    };
    Ok(v1::TokenInfo {
        id: token.id().to_string(),
        name: token.name.clone(),
        role: role_message(token.role).into(),
        target: token.target.clone().unwrap_or_default(),
        labels: token.labels.clone().into_iter().collect(),
        created_unix_ms: token.created_unix_ms,
        expires_unix_ms: token.expires_unix_ms,
        used_unix_ms: token.used.map(|used| used.at_unix_ms),
        used_by: used_by.map(String::from).unwrap_or_default(),
        revoked_unix_ms: token.revoked_unix_ms,
        replaces: token.replaces.clone().map(String::from).unwrap_or_default(),
    })
}

fn authorities(standing: &Standing) -> (i32, Vec<v1::Authority>) {
    let phase = match standing.phase {
        haul_identity::Phase::Steady => v1::RotationPhase::Steady,
        haul_identity::Phase::Begun => v1::RotationPhase::Begun,
        haul_identity::Phase::Activated => v1::RotationPhase::Activated,
    };
    let authorities = standing.authorities.iter().zip(standing.bundle.certificates());
    let authorities = authorities.map(|(authority, certificate)| v1::Authority {
        pin: authority.pin.to_string(),
        certificate: certificate.to_vec(),
        expires_unix_ms: unix_ms(authority.validity.not_after),
        signs: authority.signs,
    });
    (phase.into(), authorities.collect())
}
