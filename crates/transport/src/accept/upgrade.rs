//! The few words of HTTP/1.1 that are answered: the way into the tunnel, and for everybody else where they are.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};

use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use hyper::http::HeaderMap;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::bytes::Duplex;
use crate::tunnel;

/// The longest head of a request, in bytes, and the most headers in it.
const MAX_HEAD: usize = 8 << 10;
const MAX_HEADERS: usize = 64;

const ELSEWHERE: &str =
    "This is a Haul controller. It speaks gRPC over TLS, and nothing is to be seen here.\n";
const NO_WEBSOCKET: &str = "This is the tunnel of a Haul controller, and it is a WebSocket. If this request came \
    through a reverse proxy, let that pass the headers Connection and Upgrade.\n";

/// Why a connection that speaks HTTP/1.1 did not become a tunnel.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error("it spoke HTTP/1.1 badly")]
    Http(#[from] hyper::Error),
    #[error("it asked for something else than the tunnel")]
    Elsewhere,
}

/// Answers one request; the bytes beyond if it was for the tunnel. The caller sets the time.
pub(super) async fn serve(stream: impl Duplex + 'static) -> Result<TokioIo<Upgraded>, UpgradeError> {
    let upgrading = Mutex::new(None);
    let service = hyper::service::service_fn(|mut request| {
        let (response, upgrade) = answer(&mut request);
        if upgrade.is_some() {
            *upgrading.lock().unwrap_or_else(PoisonError::into_inner) = upgrade;
        }
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await?;
    let upgrading = upgrading.into_inner().unwrap_or_else(PoisonError::into_inner);
    let upgraded = upgrading.ok_or(UpgradeError::Elsewhere)?.await?;
    Ok(TokioIo::new(upgraded))
}

fn answer(request: &mut Request<Incoming>) -> (Response<String>, Option<OnUpgrade>) {
    // A reverse proxy may have left a prefix of its own in front.
    if !request.uri().path().ends_with(tunnel::PATH) {
        return (words(StatusCode::NOT_FOUND, ELSEWHERE), None);
    }
    let Some(key) = websocket_key(request.method(), request.headers()) else {
        let mut response = words(StatusCode::UPGRADE_REQUIRED, NO_WEBSOCKET);
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return (response, None);
    };
    let mut response = Response::new(String::new());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, key);
    (response, Some(hyper::upgrade::on(request)))
}

fn words(status: StatusCode, text: &str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response
}

/// What to answer to a request for a WebSocket (RFC 6455, 4.2.1); none if it is not one.
fn websocket_key(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = method == Method::GET
        && lists(headers, &CONNECTION, "upgrade")
        && lists(headers, &UPGRADE, "websocket")
        && headers
            .get(SEC_WEBSOCKET_VERSION)
            .is_some_and(|version| version == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asks)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|word| word.trim().eq_ignore_ascii_case(wanted))
}
