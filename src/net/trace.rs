//! The microscope: every wire message in words a learner understands.

use crate::protocol::peer::{Handshake, Message};
use std::net::SocketAddr;

/// What goes over the wire, as the trace shows it.
#[derive(Debug, Clone)]
pub enum Told {
    /// The first 68 bytes.
    Handshake(Handshake),
    /// A message; of a `Piece` the head.
    Message(Message),
}

/// The way to the trace thread; every peer thread has a clone.
#[derive(Debug, Clone)]
pub struct Tracer {}

impl Tracer {
    /// Writes down what `peer` told us.
    pub fn heard(&self, _peer: SocketAddr, _told: Told) {
        todo!("the trace's author is at work")
    }

    /// Writes down what we told `peer`.
    pub fn said(&self, _peer: SocketAddr, _told: Told) {
        todo!("the trace's author is at work")
    }
}
