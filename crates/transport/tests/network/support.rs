//! A controller's port with a gRPC server's HTTP/2 behind it, certificates, and calls to it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use haul_transport::{Acceptor, Address, ByteStream, Dialer, Limits, Peer, Proxy, http2};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::ServiceExt;

/// The name that the controller proves.
pub(crate) const NAME: &str = "controller.haul.internal";

/// A CA, and configurations with certificates of it.
pub(crate) struct Identity {
    ca: CertifiedIssuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Two with one name would be told apart by their signatures alone.
        let key = KeyPair::generate().unwrap();
        let name = format!("CA of {:?}", &key.public_key_raw()[..8]);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).unwrap();
        Self {
            ca,
            roots: Arc::new(roots),
        }
    }

    fn certificate(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        (certificate.der().clone(), key.into())
    }

    pub(crate) fn server(&self) -> Arc<ServerConfig> {
        let (certificate, key) = self.certificate(NAME);
        let clients = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::new(rustls::crypto::ring::default_provider()),
        )
        .allow_unauthenticated()
        .build()
        .unwrap();
        let config = builder(ServerConfig::builder_with_provider)
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Arc::new(config)
    }

    /// The CA's certificate.
    pub(crate) fn root(&self) -> &CertificateDer<'static> {
        self.ca.der()
    }

    /// A client's configuration, and its certificate.
    pub(crate) fn client(&self) -> (Arc<ClientConfig>, CertificateDer<'static>) {
        let (certificate, key) = self.certificate("agent");
        let config = builder(ClientConfig::builder_with_provider)
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(vec![certificate.clone()], key)
            .unwrap();
        (Arc::new(config), certificate)
    }
}

/// The configuration of a client that has no certificate.
pub(crate) fn anonymous(root: CertificateDer<'static>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let config = builder(ClientConfig::builder_with_provider)
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

fn builder<S: rustls::ConfigSide>(
    of: fn(Arc<rustls::crypto::CryptoProvider>) -> rustls::ConfigBuilder<S, rustls::WantsVersions>,
) -> rustls::ConfigBuilder<S, rustls::WantsVerifier> {
    of(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
}

/// A controller's port.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Who made a call, as often as one is made.
    pub(crate) calls: mpsc::UnboundedReceiver<Peer>,
    /// Says so when a call that never ends has ended all the same.
    pub(crate) cut: mpsc::UnboundedReceiver<()>,
    pub(crate) tasks: TaskTracker,
}

/// Reports when it goes.
struct Cut(mpsc::UnboundedSender<()>);

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Serves, as the controller does: `/wait` is answered never, anything else at once.
pub(crate) async fn serve(identity: &Identity, limits: Limits) -> Server {
    let listener = haul_transport::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let tasks = TaskTracker::new();
    let acceptor = Acceptor::start(listener, identity.server(), limits, &tasks);
    let (made, calls) = mpsc::unbounded_channel();
    let (cutting, cut) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: hyper::Request<Body>| {
        let _ = made.send(request.extensions().get::<Peer>().unwrap().clone());
        let cutting = cutting.clone();
        async move {
            if request.uri().path() == "/wait" {
                let _cut = Cut(cutting);
                std::future::pending::<()>().await;
            }
            Ok::<_, Infallible>(hyper::Response::new(Body::empty()))
        }
    });
    let server = http2::server(tonic::transport::Server::builder());
    tasks.spawn(async move { server.serve_with_incoming(service, acceptor).await.unwrap() });
    Server {
        address,
        calls,
        cut,
        tasks,
    }
}

/// A dialler with a certificate of its own.
pub(crate) fn dialer(identity: &Identity, addresses: &[&str], proxy: Proxy) -> Dialer {
    let addresses: Vec<Address> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    let name = ServerName::try_from(NAME).unwrap();
    Dialer::new(addresses, identity.client().0, name, proxy)
}

/// What a client or an agent makes of an open connection.
pub(crate) fn channel(stream: ByteStream) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    http2::remote_client(Endpoint::from_static("http://haul.invalid")).connect_with_connector_lazy(
        tower::service_fn(move |_: Uri| {
            let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
            async move { stream.map_err(std::io::Error::from) }
        }),
    )
}

/// One call.
pub(crate) async fn call(channel: Channel, path: &str) -> Result<(), tonic::transport::Error> {
    let request = hyper::Request::builder()
        .uri(format!("http://haul.invalid{path}"))
        .body(Body::empty())
        .unwrap();
    channel.oneshot(request).await.map(drop)
}

/// Waits, though not for ever.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what)
        .await
        .expect("it takes too long")
}

/// Opens calls and takes each back at once, as many as that, or until it is cut off: that is the answer.
pub(crate) async fn open_and_take_back(stream: ByteStream, calls: u32) -> bool {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PER_WRITE: u32 = 100;

    let frame = |kind: u8, flags: u8, number: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(number.to_be_bytes());
        frame.extend(payload);
        frame
    };
    // From HPACK's static table: POST, http; then the path and the authority, spelt out.
    let headers = b"\x83\x86\x04\x05/wait\x01\x04haul";
    let (mut reads, mut writes) = tokio::io::split(stream);
    let write = async {
        writes.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await?;
        writes.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
        for first in (0..calls).step_by(PER_WRITE as usize) {
            let mut frames = Vec::new();
            for call in first..first + PER_WRITE {
                let number = 2 * call + 1;
                // END_STREAM and END_HEADERS; and CANCEL.
                frames.extend(frame(HEADERS, 0x5, number, headers));
                frames.extend(frame(RESET, 0, number, &[0, 0, 0, 8]));
            }
            writes.write_all(&frames).await?;
            writes.flush().await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let mut answer = vec![0; 4096];
    let read = async { while let Ok(1..) = reads.read(&mut answer).await {} };
    tokio::select! {
        written = write => written.is_err(),
        () = read => true,
    }
}
