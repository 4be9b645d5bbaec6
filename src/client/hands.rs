//! What the torrents of a client share: the lines to peers, the open files, the keeper, the checker,
//! and the board on which users read what happens.

use super::Notice;
use super::noticeboard::Noticeboard;
use super::switchboard::{Admission, Switchboard};
use crate::announce::Answered;
use crate::net::peer_thread::{self, Surroundings};
use crate::net::{Command, Introduction};
use crate::protocol::Block;
use crate::storage::check::Checker;
use crate::storage::keeper::Keeper;
use crate::storage::layout::Layout;
use crate::storage::lazy_file::Access;
use crate::storage::open_files::OpenFiles;
use crate::storage::slot::ReadableBlock;
use crate::swarm::event::{Action, Farewell, PeerKey, Way};
use crossbeam_channel::Sender;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};

/// Everything a torrent may use and does not own.
pub(super) struct Hands {
    /// The lines to peer threads.
    pub(super) switchboard: Switchboard,
    /// Files in use.
    pub(super) files: OpenFiles,
    /// Surveys, allocates, syncs, keeps the records.
    pub(super) keeper: Keeper,
    /// Hashes.
    pub(super) checker: Checker,
    /// Where announcers send their answers.
    pub(super) answers: Sender<Answered>,
    /// To whoever watches.
    pub(super) noticeboard: Noticeboard,
    /// What every peer thread gets.
    pub(super) surroundings: Surroundings,
    /// Dial from this address only.
    pub(super) bind: Option<IpAddr>,
    /// Connections at a time.
    pub(super) peers_max: usize,
    /// The port we listen on.
    pub(super) port: Option<u16>,
    /// Verified bytes of a torrent that may wait for a sync.
    pub(super) unsynced_max: u64,
    /// Pieces of all torrents that may wait for the checker before nothing more is asked for.
    pub(super) unchecked_max: usize,
    /// Torrents of which the checker looks through what lies there.
    pub(super) lookers: usize,
    /// Where the brains' dice begin.
    pub(super) seed: u64,
    /// A caller for whom somebody else is being sent away.
    pub(super) caller: Option<(TcpStream, SocketAddr)>,
    /// The user was told that peers get no thread.
    pub(super) lacked_threads: bool,
    /// The list that brains write their actions into, kept so that it is allocated once.
    pub(super) actions: Vec<Action>,
}

impl Hands {
    /// Starts a connection to `address` about `torrent`.
    pub(super) fn dial(
        &mut self,
        torrent: usize,
        address: SocketAddr,
        introduction: Introduction,
    ) -> Result<(), Farewell> {
        if self.switchboard.len() >= self.peers_max {
            return Err(Farewell::NoRoom);
        }
        let key = self.switchboard.mint();
        let line = peer_thread::dial(
            key,
            address,
            self.bind,
            introduction,
            self.surroundings.clone(),
        );
        // A lack of threads or descriptors is ours, and says nothing about the address.
        let line = line.map_err(|error| {
            self.tell_lack_of_threads(&error);
            Farewell::NoRoom
        })?;
        self.switchboard
            .connect(key, line, address, Way::Dialled, Some(torrent));
        Ok(())
    }

    /// Whether another caller may be brought: none waits for room already.
    pub(super) fn takes_callers(&self) -> bool {
        self.caller.is_none()
    }

    /// Tries the caller again that waited for room.
    pub(super) fn answer_again(&mut self) {
        if let Some((stream, address)) = self.caller.take() {
            self.answer(stream, address);
        }
    }

    /// Gives a caller its thread, keeps it waiting while somebody leaves, or closes the connection by
    /// dropping it where there is no room.
    pub(super) fn answer(&mut self, stream: TcpStream, address: SocketAddr) {
        let most = self.peers_max.saturating_add(SPARE_CALLERS);
        match self.switchboard.admit_caller(address.ip(), most) {
            Admission::Refused => {}
            Admission::Later => self.caller = Some((stream, address)),
            Admission::Now => {
                let key = self.switchboard.mint();
                let surroundings = self.surroundings.clone();
                match peer_thread::answer(key, stream, address, surroundings) {
                    Ok(line) => {
                        let way = Way::Accepted;
                        self.switchboard.connect(key, line, address, way, None);
                    }
                    Err(error) => self.tell_lack_of_threads(&error),
                }
            }
        }
    }

    /// Peers get no thread, or no descriptor for its line. It may pass, and is told once: else a swarm full of peers
    /// would look as if nobody were there.
    fn tell_lack_of_threads(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.lacked_threads, true) {
            return;
        }
        let text = format!(
            "a peer needs a thread of its own, and the system gives none: {error}; raise its limits (see `ulimit -u`, `ulimit -n`) or lower --max-peers"
        );
        self.noticeboard.post(Notice::Warning { task: None, text });
    }

    /// Tells a peer thread something at the end of this turn.
    pub(super) fn tell(&mut self, peer: PeerKey, command: Command) {
        self.switchboard.tell(peer, command);
    }

    /// How many pieces that lie there a torrent hands to the checker ahead of its answers.
    pub(super) fn looks_ahead(&self) -> usize {
        (LOOKS_AHEAD / self.lookers.max(1)).max(1)
    }

    /// A block of a torrent as something that can be read.
    pub(super) fn source(&mut self, layout: &Layout, block: Block) -> ReadableBlock {
        ReadableBlock {
            block,
            places: self.files.places(layout, block, Access::Read),
        }
    }
}

/// Pieces that lie there and are with the checker at a time, of all torrents together: enough to keep it busy, few
/// enough that an interrupt is answered soon, and that the pieces that were fetched, which stand behind them, are.
const LOOKS_AHEAD: usize = 32;

/// Callers let in above the limit of connections until it is known what they want: silent ones must
/// not keep talking ones out.
pub(super) const SPARE_CALLERS: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::rig::Rig;

    #[test]
    fn that_peers_get_no_thread_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::lacking_the_last(folder.path(), |_| {});
        rig.notices();
        for _ in 0..3 {
            let error = io::Error::from(io::ErrorKind::WouldBlock);
            rig.hands.tell_lack_of_threads(&error);
        }
        let told = rig.notices();
        assert!(matches!(&told[..], [Notice::Warning { text, .. }] if text.contains("ulimit -u")));
    }
}
