//! The datagrams between clients and trackers (BEP 15), and what may follow them (BEP 41).
//!
//! A client first asks for a connection id, which proves that it is where it seems to be, and then
//! announces or scrapes with it. Both directions are here, for the client and for the tracker
//! server; nothing is copied that can be borrowed, as a server may answer a quarter of a million a second.
//!
//! ```
//! use ropewalk::protocol::tracker::udp::{Question, Reply};
//! let asked = Question::Connect { transaction: 7 }.encode();
//! assert_eq!(Question::decode(&asked), Ok(Question::Connect { transaction: 7 }));
//! let reply = Reply::Connected { transaction: 7, connection: 99 }.encode();
//! assert_eq!(Reply::decode(&reply).unwrap().transaction(), 7);
//! ```

use super::compact;
use super::http::{Occasion, PEERS_MAX, text};
use super::scrape::Counts;
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use std::net::SocketAddr;

/// What stands in place of a connection id in the question for one.
pub const PROTOCOL_ID: u64 = 0x0000_0417_2710_1980;

/// Bytes of an announce without options.
pub const ANNOUNCE: usize = 98;

/// Torrents that fit into one scrape.
pub const SCRAPE_MAX: usize = 74;

/// The longest path and query that an announce carries, in bytes. Longer ones are cut off whole.
pub const URL_DATA_MAX: usize = 1_024;

const ACTION_CONNECT: u32 = 0;
const ACTION_ANNOUNCE: u32 = 1;
const ACTION_SCRAPE: u32 = 2;
const ACTION_ERROR: u32 = 3;

const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_URL_DATA: u8 = 2;

/// What a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question<'a> {
    /// Asks for a connection id.
    Connect {
        /// The client's number for this question; comes back in the answer.
        transaction: u32,
    },
    /// Tells of a peer and asks for others.
    Announce {
        /// The id that the tracker gave.
        connection: u64,
        /// The client's number for this question.
        transaction: u32,
        /// Who asks, about which torrent, and how far it has come.
        announce: Announce,
        /// What follows: see [`url_data`] and [`url_options`].
        options: &'a [u8],
    },
    /// Asks how many share some torrents.
    Scrape {
        /// The id that the tracker gave.
        connection: u64,
        /// The client's number for this question.
        transaction: u32,
        /// The torrents; at most 74 of ours, as many as there are when read.
        info_hashes: &'a [[u8; 20]],
    },
}

/// What an announce says. The address is the datagram's: the field for another one is sent as zero
/// and not read, or anybody could point a swarm at a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's id.
    pub peer_id: PeerId,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still missing.
    pub left: u64,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// The occasion; none for the regular announce.
    pub event: Option<Occasion>,
    /// A secret by which the tracker knows a client whose address has changed.
    pub key: u32,
    /// How many addresses are wanted; the tracker decides if not said.
    pub num_want: Option<u32>,
    /// The TCP port on which it listens; a hostile client's may be 0.
    pub port: u16,
}

/// Why bytes are no question of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    /// Fewer bytes than such a question has.
    #[error("the datagram is too short")]
    Short,
    /// A question for a connection id that does not begin with the protocol's number.
    #[error("the datagram is not of this protocol")]
    Foreign,
    /// A number that names no kind of question.
    #[error("there is no action {0}")]
    Action(u32),
}

impl<'a> Question<'a> {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ANNOUNCE);
        self.encode_into(&mut out);
        out
    }

    /// Appends the datagram to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match *self {
            Question::Connect { transaction } => {
                head(out, PROTOCOL_ID, ACTION_CONNECT, transaction);
            }
            Question::Announce {
                connection,
                transaction,
                ref announce,
                options,
            } => {
                head(out, connection, ACTION_ANNOUNCE, transaction);
                announce.encode_into(out);
                out.extend(options);
            }
            Question::Scrape {
                connection,
                transaction,
                info_hashes,
            } => {
                head(out, connection, ACTION_SCRAPE, transaction);
                let fitting = info_hashes.iter().take(SCRAPE_MAX);
                fitting.for_each(|hash| out.extend(hash));
            }
        }
    }

    /// Reads a datagram. Of a scrape, bytes behind the last whole info-hash are passed over.
    pub fn decode(datagram: &'a [u8]) -> Result<Question<'a>, QuestionError> {
        let mut rest = datagram;
        let parts = (u64_of(&mut rest), u32_of(&mut rest), u32_of(&mut rest));
        let (Some(connection), Some(action), Some(transaction)) = parts else {
            return Err(QuestionError::Short);
        };
        match action {
            ACTION_CONNECT if connection == PROTOCOL_ID => Ok(Question::Connect { transaction }),
            ACTION_CONNECT => Err(QuestionError::Foreign),
            ACTION_ANNOUNCE => Ok(Question::Announce {
                connection,
                transaction,
                announce: Announce::decode(&mut rest).ok_or(QuestionError::Short)?,
                options: rest,
            }),
            ACTION_SCRAPE => match rest.as_chunks().0 {
                [] => Err(QuestionError::Short),
                info_hashes => Ok(Question::Scrape {
                    connection,
                    transaction,
                    info_hashes,
                }),
            },
            other => Err(QuestionError::Action(other)),
        }
    }
}

impl Announce {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend(self.info_hash.0);
        out.extend(self.peer_id.0);
        out.extend(self.downloaded.to_be_bytes());
        out.extend(self.left.to_be_bytes());
        out.extend(self.uploaded.to_be_bytes());
        let event: u32 = match self.event {
            None => 0,
            Some(Occasion::Completed) => 1,
            Some(Occasion::Started) => 2,
            Some(Occasion::Stopped) => 3,
            // In no BEP, but what libtorrent sends for it.
            Some(Occasion::Paused) => 4,
        };
        out.extend(event.to_be_bytes());
        out.extend([0; 4]);
        out.extend(self.key.to_be_bytes());
        let wanted = self
            .num_want
            .map(|it| i32::try_from(it).unwrap_or(i32::MAX));
        out.extend(wanted.unwrap_or(-1).to_be_bytes());
        out.extend(self.port.to_be_bytes());
    }

    fn decode(rest: &mut &[u8]) -> Option<Announce> {
        Some(Announce {
            info_hash: InfoHash(take(rest)?),
            peer_id: PeerId(take(rest)?),
            downloaded: u64_of(rest)?,
            left: u64_of(rest)?,
            uploaded: u64_of(rest)?,
            event: match u32_of(rest)? {
                1 => Some(Occasion::Completed),
                2 => Some(Occasion::Started),
                3 => Some(Occasion::Stopped),
                4 => Some(Occasion::Paused),
                _ => None,
            },
            key: {
                let _address = u32_of(rest)?;
                u32_of(rest)?
            },
            num_want: u32::try_from(i32::from_be_bytes(take(rest)?)).ok(),
            port: take(rest).map(u16::from_be_bytes)?,
        })
    }
}

/// The options that tell a tracker the path and query of its address (BEP 41): private trackers know
/// their users by them. Nothing for the path that says nothing.
pub fn url_options(path_and_query: &str) -> Vec<u8> {
    let data = path_and_query.as_bytes();
    let mut out = Vec::new();
    if data.is_empty() || data == b"/" || data.len() > URL_DATA_MAX {
        return out;
    }
    for part in data.chunks(usize::from(u8::MAX)) {
        // Parts are never longer than a byte can say.
        out.extend([OPTION_URL_DATA, part.len() as u8]);
        out.extend(part);
    }
    out
}

/// The path and query among the options of an announce; empty where there is none. Options that are
/// cut off, and unknown ones, end the reading: aria2 sends two zero bytes.
pub fn url_data(options: &[u8]) -> Vec<u8> {
    let mut rest = options;
    let mut found = Vec::new();
    while let [kind, tail @ ..] = rest {
        rest = match (*kind, tail) {
            (OPTION_END, _) => break,
            (OPTION_NOTHING, tail) => tail,
            (kind, [length, tail @ ..]) => {
                let Some((data, tail)) = tail.split_at_checked(usize::from(*length)) else {
                    break;
                };
                if kind == OPTION_URL_DATA && found.len() + data.len() <= URL_DATA_MAX {
                    found.extend(data);
                }
                tail
            }
            _ => break,
        };
    }
    found
}

/// What a tracker sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A connection id; a client may use it for a minute, a tracker takes it for two.
    Connected {
        /// The question's number.
        transaction: u32,
        /// The id.
        connection: u64,
    },
    /// The answer to an announce.
    Announced {
        /// The question's number.
        transaction: u32,
        /// Seconds until the next regular announce, as given.
        interval: u32,
        /// Peers that still lack something.
        leechers: u32,
        /// Peers that have everything.
        seeders: u32,
        /// Peers as bytes: 6 each where the datagram came over IPv4, 18 over IPv6. See [`peers`].
        peers: &'a [u8],
    },
    /// The answer to a scrape, in the order of the question.
    Scraped {
        /// The question's number.
        transaction: u32,
        /// What is known of each torrent; all zero where nothing is.
        counts: Vec<Counts>,
    },
    /// The tracker says no.
    Refused {
        /// The question's number.
        transaction: u32,
        /// Why, in a stranger's words. See [`reason`].
        reason: &'a [u8],
    },
}

/// Why bytes are no answer of a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Fewer bytes than such an answer has.
    #[error("the datagram is too short")]
    Short,
    /// A number that names no kind of answer.
    #[error("there is no action {0}")]
    Action(u32),
}

impl<'a> Reply<'a> {
    /// The number of the question that this answers.
    pub fn transaction(&self) -> u32 {
        match *self {
            Reply::Connected { transaction, .. }
            | Reply::Announced { transaction, .. }
            | Reply::Scraped { transaction, .. }
            | Reply::Refused { transaction, .. } => transaction,
        }
    }

    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_into(&mut out);
        out
    }

    /// Appends the datagram to `out`.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let (action, transaction) = match *self {
            Reply::Connected { transaction, .. } => (ACTION_CONNECT, transaction),
            Reply::Announced { transaction, .. } => (ACTION_ANNOUNCE, transaction),
            Reply::Scraped { transaction, .. } => (ACTION_SCRAPE, transaction),
            Reply::Refused { transaction, .. } => (ACTION_ERROR, transaction),
        };
        out.extend(action.to_be_bytes());
        out.extend(transaction.to_be_bytes());
        match self {
            Reply::Connected { connection, .. } => out.extend(connection.to_be_bytes()),
            Reply::Announced {
                interval,
                leechers,
                seeders,
                peers,
                ..
            } => {
                for number in [interval, leechers, seeders] {
                    out.extend(number.to_be_bytes());
                }
                out.extend(*peers);
            }
            Reply::Scraped { counts, .. } => {
                let number = |it: u64| u32::try_from(it).unwrap_or(u32::MAX).to_be_bytes();
                for counts in counts {
                    out.extend(number(counts.complete));
                    out.extend(number(counts.downloaded.unwrap_or(0)));
                    out.extend(number(counts.incomplete));
                }
            }
            Reply::Refused { reason, .. } => out.extend(*reason),
        }
    }

    /// Reads a datagram. Whether it answers anything we asked is not its business: compare
    /// [`Reply::transaction`] and the sender's address.
    pub fn decode(datagram: &'a [u8]) -> Result<Reply<'a>, ReplyError> {
        let mut rest = datagram;
        let (Some(action), Some(transaction)) = (u32_of(&mut rest), u32_of(&mut rest)) else {
            return Err(ReplyError::Short);
        };
        match action {
            ACTION_CONNECT => Ok(Reply::Connected {
                transaction,
                connection: u64_of(&mut rest).ok_or(ReplyError::Short)?,
            }),
            ACTION_ANNOUNCE => {
                let mut number = || u32_of(&mut rest).ok_or(ReplyError::Short);
                let (interval, leechers, seeders) = (number()?, number()?, number()?);
                Ok(Reply::Announced {
                    transaction,
                    interval,
                    leechers,
                    seeders,
                    peers: rest,
                })
            }
            ACTION_SCRAPE => {
                let (entries, _) = rest.as_chunks::<12>();
                let counts = entries.iter().map(|entry| {
                    let mut rest = &entry[..];
                    let mut number = || u32_of(&mut rest).map_or(0, u64::from);
                    Counts {
                        complete: number(),
                        downloaded: Some(number()),
                        incomplete: number(),
                    }
                });
                Ok(Reply::Scraped {
                    transaction,
                    counts: counts.collect(),
                })
            }
            ACTION_ERROR => Ok(Reply::Refused {
                transaction,
                reason: rest,
            }),
            other => Err(ReplyError::Action(other)),
        }
    }
}

/// The addresses in an answer that came over IPv6 (`v6`) or IPv4, at most 1,000, without those that
/// nobody can connect to. A cut one at the end is left out: the borders of the others are sure.
pub fn peers(bytes: &[u8], v6: bool) -> Vec<SocketAddr> {
    let (size, decode): (_, fn(&[u8]) -> _) = if v6 {
        (compact::V6, compact::decode_v6)
    } else {
        (compact::V4, compact::decode_v4)
    };
    let whole = (bytes.len() / size).min(PEERS_MAX) * size;
    decode(&bytes[..whole]).unwrap_or_default()
}

/// A refusal in words, cut to 200 characters. A stranger's: escape it before it is shown.
pub fn reason(bytes: &[u8]) -> String {
    // Some trackers end it as C does.
    let end = bytes.iter().rposition(|&byte| byte != 0);
    text(&bytes[..end.map_or(0, |last| last + 1)])
}

fn head(out: &mut Vec<u8>, connection: u64, action: u32, transaction: u32) {
    out.extend(connection.to_be_bytes());
    out.extend(action.to_be_bytes());
    out.extend(transaction.to_be_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (found, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*found)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    take(rest).map(u32::from_be_bytes)
}

fn u64_of(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests;
