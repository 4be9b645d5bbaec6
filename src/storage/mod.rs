//! The hands that hold files.
//!
//! [`layout`] knows which file holds which byte and keeps files open; [`slot`] is the right to write
//! one block; [`window`] is the map a block is received into; [`keeper`] allocates, syncs and writes
//! the [`record`] of work; [`check`] hashes. Threads: one keeper and one checker a client; slots are
//! used by the peer threads that hold them.

pub mod check;
pub mod keeper;
pub mod layout;
pub mod record;
pub mod slot;
pub mod window;
