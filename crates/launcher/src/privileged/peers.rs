//! Who is told: the agent that connected last. An earlier one has died, or is about to notice that it is cut off.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::protocol::FromLauncher;

/// Messages that wait for an agent to read them: the ends of an array's tasks come in crowds. An agent that does not keep
/// up with so many is cut off, and told everything when it connects again.
const WAITING: usize = 4096;

/// The present agent, if there is one.
#[derive(Default)]
pub(super) struct Peers(Option<Peer>);

struct Peer {
    sender: mpsc::Sender<FromLauncher>,
    cut: CancellationToken,
}

impl Peers {
    /// Puts a new agent in the place of the one before.
    pub(super) fn welcome(&mut self) -> (mpsc::Receiver<FromLauncher>, CancellationToken) {
        let (sender, receiver) = mpsc::channel(WAITING);
        let cut = CancellationToken::new();
        let peer = Peer {
            sender,
            cut: cut.clone(),
        };
        if let Some(before) = self.0.replace(peer) {
            before.cut.cancel();
        }
        (receiver, cut)
    }

    /// Says something to the present agent. What none hears is told to the next one.
    pub(super) fn say(&self, message: FromLauncher) {
        if let Some(peer) = &self.0
            && peer.sender.try_send(message).is_err()
        {
            peer.cut.cancel();
        }
    }
}
