//! Fetching a snapshot's list, against a controller that notes what it is asked for.

use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use haul_client::{Client, UnixSocket};
use haul_proto::server::{self, SnapshotService};
use haul_proto::v1;
use haul_snapshot::bundle::{DEFAULT_LEVEL, FrameBuilder};
use haul_snapshot::{Entry, EntryKind, Manifest};
use haul_types::Digest;
use tokio::net::UnixListener;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, Streaming};

/// Has these chunks, and tells which were asked for.
struct Fake {
    chunks: HashMap<Digest, Vec<u8>>,
    asked: Arc<Mutex<Vec<Digest>>>,
}

#[tonic::async_trait]
impl SnapshotService for Fake {
    type FetchStream = Pin<Box<dyn Stream<Item = Result<v1::FetchResponse, Status>> + Send>>;

    async fn fetch(&self, request: Request<v1::FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let wanted = haul_proto::digests_from_bytes(&request.get_ref().digests).expect("whole digests");
        let mut builder = FrameBuilder::new(DEFAULT_LEVEL);
        let mut frames: Vec<_> = wanted
            .iter()
            .filter_map(|digest| builder.push(*digest, &self.chunks[digest]))
            .collect();
        frames.extend(builder.finish());
        self.asked.lock().expect("nothing panics").extend(wanted);
        let answers = frames.into_iter().map(|frame| {
            Ok(v1::FetchResponse {
                frame: frame.bytes.into(),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(answers))))
    }

    async fn find_missing(
        &self,
        _: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn upload(
        &self,
        _: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

/// Many files, of which one is of this size.
fn list(size: u64) -> Manifest {
    let entries = (0..5000u32).map(|index| Entry {
        path: format!("f{index:05}").into_bytes(),
        kind: EntryKind::Symlink {
            target: format!("target-{}", if index == 700 { size } else { 0 }).into_bytes(),
        },
    });
    Manifest::from_entries(entries.collect()).expect("a list of links")
}

fn objects(manifest: &Manifest) -> HashMap<Digest, Vec<u8>> {
    manifest
        .pages()
        .map(|page| (page.digest(), page.encoded().to_vec()))
        .chain([(manifest.id(), manifest.root_object().to_vec())])
        .collect()
}

#[tokio::test]
async fn pages_that_are_known_are_not_asked_for() {
    let (before, after) = (list(1), list(2));
    let (old, new) = (objects(&before), objects(&after));
    let fresh: HashSet<Digest> = new
        .keys()
        .copied()
        .filter(|digest| !old.contains_key(digest))
        .collect();
    assert!(
        fresh.len() < new.len() / 2,
        "a change that shows on few pages: {} of {}",
        fresh.len(),
        new.len()
    );

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("s");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).expect("a free path"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let fake = Fake {
        chunks: new,
        asked: asked.clone(),
    };
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let router = tonic::transport::Server::builder().add_service(server::snapshots(fake));
        router.serve_with_incoming(incoming).await.expect("it serves");
    });
    let client = Client::connect(Arc::new(UnixSocket::new(path)))
        .await
        .expect("it listens");

    let id = after.id();
    let fetched = client
        .manifest(id, &[Arc::new(before)])
        .await
        .expect("all is there");
    assert_eq!(fetched.entries(), after.entries());
    let asked: Vec<Digest> = std::mem::take(&mut *asked.lock().expect("nothing panics"));
    assert_eq!(asked.len(), fresh.len());
    assert_eq!(asked.into_iter().collect::<HashSet<_>>(), fresh);
}
