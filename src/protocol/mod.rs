//! The ground floor: bytes ⇄ meaning, and nothing else.
//!
//! Every file here turns bytes from strangers into values that make sense, or values into bytes.
//! There is no socket, file, clock, thread or dice on this floor, so each function is a plain one:
//! the same input gives the same output, and a test is two literals.
//!
//! In reading order: how things are written down ([`bencode`]), fingerprints ([`digest`]), how a
//! torrent is cut ([`geometry`], [`bitfield`]), what a .torrent file says ([`metainfo`],
//! [`filenames`]) and a link to one ([`magnet`]), which of its files are wanted ([`glob`], [`selection`]), how
//! strangers' text is shown ([`plain`]), what peers say to each other ([`peer`]) and what trackers answer
//! ([`tracker`]). A keyed hash is there for tables that strangers fill ([`siphash`]).

pub mod bencode;
pub mod bitfield;
pub mod digest;
pub mod filenames;
pub mod geometry;
pub mod glob;
pub mod magnet;
pub mod metainfo;
pub mod peer;
pub mod plain;
pub mod selection;
pub mod siphash;
pub mod tracker;

pub use digest::{Digest, InfoHash};
pub use geometry::{Block, Geometry, PieceIndex};
