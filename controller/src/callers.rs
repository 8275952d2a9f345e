//! From a connection and a call's metadata to a [`Principal`].

use tonic::Status;
use tonic::codegen::http::Request;
use tonic::transport::server::UdsConnectInfo;

use crate::principal::Principal;

/// Knows who calls.
#[derive(Debug, Default)]
pub(crate) struct Callers {}

impl Callers {
    /// Who makes this call.
    pub(crate) fn principal<B>(&self, request: &Request<B>) -> Result<Principal, Status> {
        // Who is on the Unix socket was let in as the controller's own user: see `listen`.
        if request.extensions().get::<UdsConnectInfo>().is_some() {
            return Ok(Principal::Local);
        }
        Ok(Principal::Anonymous)
    }
}
