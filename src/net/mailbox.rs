//! The line from the coordinator to one peer thread: batches of commands and a bell.
//!
//! ```text
//! let (line, mailbox) = mailbox::open()?;
//! line.send(batch)?;                      // coordinator: never waits
//! poll(socket, mailbox.bell()); mailbox.collect(rung);   // peer thread
//! let slots = line.close();               // coordinator, after `Gone`
//! ```

use super::Command;
use crate::storage::slot::BlockSlot;
use crate::swarm::event::Farewell;
use crossbeam_channel::{Receiver, Sender};
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Batches a thread may leave unread before it counts as stuck.
pub const UNREAD_MAX: usize = 64;

/// Wakes a thread out of its `poll`: an eventfd that both ends hold. The tracker has its own (`tracker/bell`).
#[derive(Debug, Clone)]
pub(super) struct Bell(Arc<OwnedFd>);

impl Bell {
    pub(super) fn new() -> io::Result<Bell> {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Ok(Bell(Arc::new(eventfd(0, flags)?)))
    }

    /// Makes the bell readable. An error could only be a counter that is full, so readable already.
    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes the bell silent again. Before what it announced is looked at, never after.
    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The coordinator's end of the line to one peer thread.
#[derive(Debug)]
pub struct Line {
    commands: Sender<Vec<Command>>,
    /// Held so that what the thread never read is still here when it has gone: there may be slots in it.
    unread: Receiver<Vec<Command>>,
    bell: Bell,
}

/// The thread has left 64 batches unread. The batch comes back, with its slots.
#[derive(Debug)]
pub struct Stuck(pub Vec<Command>);

impl Stuck {
    /// The slots in the batch that was not sent.
    pub fn into_slots(self) -> Vec<BlockSlot> {
        self.0.into_iter().filter_map(slot_of).collect()
    }
}

/// The peer thread's end.
#[derive(Debug)]
pub(super) struct Mailbox {
    incoming: Receiver<Vec<Command>>,
    pending: VecDeque<Command>,
    bell: Bell,
}

/// Opens a line. It costs a descriptor and, until it is used, hardly any memory.
pub(super) fn open() -> io::Result<(Line, Mailbox)> {
    let bell = Bell::new()?;
    // Bound: `Line::send` refuses beyond UNREAD_MAX batches; a list that grows by use keeps an idle peer small.
    let (commands, incoming) = crossbeam_channel::unbounded();
    let line = Line {
        commands,
        unread: incoming.clone(),
        bell: bell.clone(),
    };
    let mailbox = Mailbox {
        incoming,
        pending: VecDeque::new(),
        bell,
    };
    Ok((line, mailbox))
}

impl Line {
    /// Sends a batch and wakes the thread; never waits. An empty batch is not sent.
    pub fn send(&self, batch: Vec<Command>) -> Result<(), Stuck> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.commands.len() >= UNREAD_MAX {
            return Err(Stuck(batch));
        }
        self.push(batch);
        Ok(())
    }

    /// Tells the thread to end, even one that counts as stuck. Once is enough.
    pub fn hang_up(&self, why: Farewell) {
        self.push(vec![Command::HangUp(why)]);
    }

    /// The slots in what the thread never read. To be called when `Gone` has come: they are home then too.
    pub fn close(self) -> Vec<BlockSlot> {
        let unread = self.unread.try_iter().flatten();
        unread.filter_map(slot_of).collect()
    }

    fn push(&self, batch: Vec<Command>) {
        // Cannot fail: this end holds a receiver.
        let _ = self.commands.send(batch);
        self.bell.ring();
    }
}

impl Mailbox {
    /// What to poll for reading: readable when commands may have come.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Fetches what has come. `rung` says that `poll` found the bell readable.
    pub(super) fn collect(&mut self, rung: bool) {
        if rung {
            self.bell.silence();
        }
        self.pending.extend(self.incoming.try_iter().flatten());
    }

    /// The next command in order.
    pub(super) fn next(&mut self) -> Option<Command> {
        let next = self.pending.pop_front();
        if next.is_none() && self.pending.capacity() > 0 {
            self.pending = VecDeque::new();
        }
        next
    }

    /// The next command of a kind; what stands before it stays in place.
    pub(super) fn pick(&mut self, wanted: fn(&Command) -> bool) -> Option<Command> {
        let at = self.pending.iter().position(wanted)?;
        self.pending.remove(at)
    }

    /// The slots in all that was not carried out.
    pub(super) fn drain(&mut self) -> Vec<BlockSlot> {
        self.collect(false);
        self.pending.drain(..).filter_map(slot_of).collect()
    }
}

fn slot_of(command: Command) -> Option<BlockSlot> {
    match command {
        Command::Request(slot) | Command::Settle(slot) => Some(slot),
        _ => None,
    }
}
