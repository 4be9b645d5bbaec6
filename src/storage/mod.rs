//! The hands that hold files.
//!
//! [`layout`] knows which file holds which byte ([`part`]: those of files nobody asked for) and [`open_files`] keeps files open (each a [`lazy_file`]); [`slot`] is the
//! right to write one block; `landing` brings payload from a socket into the slots a thread holds,
//! through `windows` (a [`window`] is one; a `volley` takes several blocks with one call) or the `positional` store; [`keeper`] surveys, allocates,
//! syncs and writes the [`record`] of work ([`hashed`] takes its place where the torrent was just made); [`check`] hashes. Threads: one keeper and one checker a
//! client; slots are used by the peer threads that hold them.

mod allocate;
mod arriving;
pub mod check;
pub mod hashed;
pub mod keeper;
mod landing;
pub mod layout;
pub mod lazy_file;
mod move_in;
pub mod open_files;
pub mod part;
mod positional;
mod reach;
pub mod record;
mod record_file;
#[cfg(test)]
mod scratch_file;
pub mod slot;
pub mod survey;
mod sync;
#[cfg(test)]
pub(crate) mod test_torrent;
mod volley;
pub mod window;
mod windows;
