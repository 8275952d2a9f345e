//! HTTP/1.1 up to the point where both sides give it up for bytes: CONNECT, and the request for a WebSocket.

use std::pin::{Pin, pin};

use futures::FutureExt;
use futures::future::FusedFuture;
use hyper::header::{
    CONNECTION, HOST, HeaderValue, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::address::Address;
use super::error::{Failure, Step};
use super::proxy::ProxyServer;
use crate::bytes::{ByteStream, Duplex};
use crate::tunnel;

/// The longest head of an answer, in bytes, and the most headers in it.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 100;

/// Asks a proxy to connect us to an address.
pub(super) async fn connect(
    stream: impl Duplex + 'static,
    address: &Address,
    proxy: &ProxyServer,
) -> Result<ByteStream, Failure> {
    let authority = address.authority();
    let mut request = Request::new(String::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = authority.parse().map_err(|_| Failure::NoTunnel)?;
    if let Ok(host) = HeaderValue::from_str(&authority) {
        request.headers_mut().insert(HOST, host);
    }
    authorize(&mut request, Some(proxy));
    let (response, upgraded) = ask(stream, request, Step::Proxy).await?;
    match (response.status(), upgraded) {
        (_, Some(upgraded)) => Ok(Box::new(upgraded)),
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, None) => Err(Failure::ProxyAuthentication {
            proxy: proxy.to_string(),
        }),
        (status, None) => Err(Failure::ProxyRefused {
            proxy: proxy.to_string(),
            status,
        }),
    }
}

/// Asks for the tunnel; by way of a proxy that passes requests on, if there is one.
pub(super) async fn websocket(
    stream: impl Duplex + 'static,
    address: &Address,
    proxy: Option<&ProxyServer>,
) -> Result<TokioIo<Upgraded>, Failure> {
    let authority = address.authority();
    let path = format!("{}{}", address.prefix(), tunnel::PATH);
    // The form with scheme and host is what a proxy knows by that it is to pass the request on.
    let target: Uri = match proxy {
        Some(_) => format!("http://{authority}{path}").parse(),
        None => path.parse(),
    }
    .map_err(|_| Failure::NoTunnel)?;
    let key = generate_key();
    let mut request = Request::new(String::new());
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = target;
    let headers = request.headers_mut();
    for (name, value) in [
        (HOST, authority.as_str()),
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_KEY, key.as_str()),
    ] {
        headers.insert(name, HeaderValue::from_str(value).map_err(|_| Failure::NoTunnel)?);
    }
    authorize(&mut request, proxy);
    let (response, upgraded) = ask(stream, request, Step::Tunnel).await?;
    match (response.status(), upgraded, proxy) {
        (StatusCode::SWITCHING_PROTOCOLS, Some(upgraded), _) => {
            let accepted = response.headers().get(SEC_WEBSOCKET_ACCEPT);
            if accepted.is_some_and(|accepted| accepted == derive_accept_key(key.as_bytes()).as_str()) {
                Ok(upgraded)
            } else {
                Err(Failure::NoTunnel)
            }
        }
        (StatusCode::PROXY_AUTHENTICATION_REQUIRED, _, Some(proxy)) => Err(Failure::ProxyAuthentication {
            proxy: proxy.to_string(),
        }),
        (status, ..) => Err(Failure::Refused { status }),
    }
}

fn authorize(request: &mut Request<String>, proxy: Option<&ProxyServer>) {
    if let Some(authorization) = proxy.and_then(|proxy| proxy.authorization.clone()) {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
    }
}

/// Sends a request; the answer, and the bytes behind it if it was the one that ends HTTP.
async fn ask(
    stream: impl Duplex + 'static,
    request: Request<String>,
    step: Step,
) -> Result<(Response<()>, Option<TokioIo<Upgraded>>), Failure> {
    let failed = |source| Failure::Http { step, source };
    let is_connect = request.method() == Method::CONNECT;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut connection = pin!(connection.with_upgrades().fuse());
    let response = driven(sender.send_request(request), connection.as_mut()).await;
    let mut response = response.map_err(failed)?;
    let status = response.status();
    let ends_http = if is_connect {
        status.is_success()
    } else {
        status == StatusCode::SWITCHING_PROTOCOLS
    };
    let upgraded = if ends_http {
        let upgraded = hyper::upgrade::on(&mut response);
        let upgraded = driven(upgraded, connection).await.map_err(failed)?;
        Some(TokioIo::new(upgraded))
    } else {
        None
    };
    Ok((response.map(|_| ()), upgraded))
}

/// Does something for which a connection has to be driven, until that has ended.
async fn driven<T>(work: impl Future<Output = T>, connection: Pin<&mut impl FusedFuture>) -> T {
    let mut work = pin!(work);
    let mut connection = connection;
    tokio::select! {
        biased;
        done = &mut work => done,
        _ = &mut connection, if !connection.is_terminated() => work.await,
    }
}
