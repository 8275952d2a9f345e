//! One agent's connection.

use std::sync::Arc;

use haul_types::AttemptId;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::service::Shared;
use crate::frame;
use crate::protocol::{FromLauncher, Standing, ToLauncher, VERSION};
use crate::reader::Reader;

impl Shared {
    /// Talks to whoever has connected, until he goes, another comes, or the launcher ends.
    pub(super) async fn converse(self: Arc<Self>, stream: UnixStream, shutdown: CancellationToken) {
        let uid = stream.peer_cred().map(|peer| peer.uid());
        if !matches!(uid, Ok(uid) if uid == self.config.agent_uid) {
            tracing::warn!(?uid, "refused a connection of another user");
            return;
        }
        let (reading, mut writing) = stream.into_split();
        let mut reader = Reader::new(reading);
        let (version, stays) = match reader.receive().await {
            Some(ToLauncher::Hello { version }) => (version, true),
            Some(ToLauncher::Look { version }) => (version, false),
            _ => return,
        };
        if version != VERSION {
            let why = format!(
                "this launcher speaks version {VERSION}, the agent version {version}: install the same release of both"
            );
            let _ = send(&mut writing, &FromLauncher::Refused { why }).await;
            return;
        }
        if !stays {
            let _ = send(&mut writing, &self.welcome(Vec::new())).await;
            return;
        }
        let (welcome, news, cut) = {
            let mut state = self.state();
            let (news, cut) = state.peers.welcome();
            (self.welcome(state.table.standings()), news, cut)
        };
        if send(&mut writing, &welcome).await.is_err() {
            return;
        }
        tokio::select! {
            () = self.listen_to(&mut reader) => {}
            () = speak(&mut writing, news) => {}
            () = cut.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
    }

    fn welcome(&self, attempts: Vec<(AttemptId, Standing)>) -> FromLauncher {
        FromLauncher::Welcome {
            version: VERSION,
            users: self.config.users.count(),
            enforced: self.enforced,
            attempts,
        }
    }

    async fn listen_to(self: &Arc<Self>, reader: &mut Reader) {
        while let Some(message) = reader.receive().await {
            match message {
                ToLauncher::Start { order, workdir } => self.start(*order, workdir),
                ToLauncher::TakeBack { request, workdir } => {
                    let shared = Arc::clone(self);
                    let answering = async move { shared.answer_take_back(request, workdir).await };
                    self.tasks.spawn(answering);
                }
                ToLauncher::Stop { attempt, why } => self.state().table.stop(attempt, why),
                ToLauncher::Acknowledge { attempt } => self.acknowledge(attempt),
                // Once is enough.
                ToLauncher::Hello { .. } | ToLauncher::Look { .. } => return,
            }
        }
    }
}

async fn speak(writing: &mut OwnedWriteHalf, mut news: mpsc::Receiver<FromLauncher>) {
    while let Some(message) = news.recv().await {
        if send(writing, &message).await.is_err() {
            return;
        }
    }
}

async fn send(writing: &mut OwnedWriteHalf, message: &FromLauncher) -> std::io::Result<()> {
    let frame = frame::encode(message, Vec::with_capacity(512)).map_err(std::io::Error::other)?;
    writing.write_all(&frame).await
}
