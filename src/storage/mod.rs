//! The hands that hold files.
//!
//! Where bytes lie:
//!
//! - [`layout`] knows which file holds which byte,
//! - [`part`] which bytes of files nobody asked for lie in the part file,
//! - [`places`] are what both say of a block, with the files to use,
//! - [`open_files`] keeps files open, each a [`lazy_file`];
//! - `reach` opens them below a folder, over no link where we write.
//!
//! How a block gets there:
//!
//! - [`slot`] is the right to write it, and the book of who has that right,
//! - `landing` brings payload from a socket into the slots a thread holds; `arriving` is the one under way, and a
//!   `reading` one call to the socket,
//! - a [`window`] is a mapped run of a file into which the kernel receives; `windows` are those of a thread,
//! - `positional` writes without a map, what came into a buffer,
//! - a `volley` takes several blocks with one call,
//! - [`budget`] is what windows and buffers may take.
//!
//! What is done about a torrent:
//!
//! - [`keeper`] is the thread that surveys, allocates, syncs and saves, a job at a time,
//! - [`survey`] looks at what is there,
//! - `raw_paths` finds what the torrent's author has under names that nobody else writes,
//! - `allocate` makes room for what is missing,
//! - `move_in` moves bytes out of the part file into files that are wanted now,
//! - `sync` makes bytes safe before the record says that they are there,
//! - `known` is how the files were left, and tells when somebody else wrote to them,
//! - by its [`facts`] a file is known again,
//! - [`record`] is the record of work, `record_file` its file,
//! - [`hashed`] takes the record's place where the torrent was made a moment ago,
//! - [`check`] hashes.
//!
//! Threads: one keeper and one checker a client, two where much is to be hashed; slots are used by the peer threads
//! that hold them.

mod allocate;
mod arriving;
pub mod budget;
pub mod check;
pub mod facts;
pub mod hashed;
pub mod keeper;
mod known;
mod landing;
pub mod layout;
pub mod lazy_file;
mod move_in;
pub mod open_files;
pub mod part;
pub mod places;
mod positional;
mod raw_paths;
mod reach;
mod reading;
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
