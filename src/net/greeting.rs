//! The beginning of a conversation: both handshakes, as straight code with a deadline for the whole.
//!
//! Who dialled speaks first and has to hear the same torrent. Who was called hears first, tells the
//! coordinator that somebody knocked, and answers when it is admitted.

use super::deadlines::Deadlines;
use super::mailbox::Mailbox;
use super::outbox::broken;
use super::peer_thread::Reports;
use super::trace::{Told, Tracer};
use super::{Command, Happened, Introduction};
use crate::protocol::peer::Handshake;
use crate::swarm::event::{Farewell, Greeting, Slowness, Way};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How a thread waits before the conversation: for its socket, but never longer than a deadline, and
/// never past a command to hang up.
pub(super) struct Wait<'a> {
    pub(super) mailbox: &'a mut Mailbox,
}

impl Wait<'_> {
    /// Waits until the socket is ready.
    pub(super) fn until_ready(
        &mut self,
        socket: &impl AsFd,
        flags: PollFlags,
        patience: Duration,
        slowness: Slowness,
    ) -> Result<(), Farewell> {
        let deadline = Instant::now() + patience;
        self.until(socket, flags, deadline, slowness)
    }

    fn until(
        &mut self,
        socket: &impl AsFd,
        flags: PollFlags,
        deadline: Instant,
        slowness: Slowness,
    ) -> Result<(), Farewell> {
        loop {
            let mut waiting = [
                PollFd::new(socket, flags),
                PollFd::from_borrowed_fd(self.mailbox.bell(), PollFlags::IN),
            ];
            wait(&mut waiting, Some(deadline)).map_err(|error| broken(&error))?;
            let [ready, rung] = waiting.map(|fd| !fd.revents().is_empty());
            self.mailbox.collect(rung);
            let leaving = |command: &Command| matches!(command, Command::HangUp(_));
            if let Some(Command::HangUp(why)) = self.mailbox.pick(leaving) {
                return Err(why);
            }
            if ready {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Farewell::TooSlow(slowness));
            }
        }
    }

    /// Waits for the coordinator to admit a caller.
    fn admission(&mut self, patience: Duration) -> Result<Introduction, Farewell> {
        let deadline = Instant::now() + patience;
        loop {
            self.mailbox.collect(false);
            let answer =
                |command: &Command| matches!(command, Command::Admit(_) | Command::HangUp(_));
            match self.mailbox.pick(answer) {
                Some(Command::Admit(introduction)) => return Ok(introduction),
                Some(Command::HangUp(why)) => return Err(why),
                _ => {}
            }
            if Instant::now() >= deadline {
                return Err(Farewell::NoRoom);
            }
            let mut waiting = [PollFd::from_borrowed_fd(self.mailbox.bell(), PollFlags::IN)];
            wait(&mut waiting, Some(deadline)).map_err(|error| broken(&error))?;
            let rung = !waiting[0].revents().is_empty();
            self.mailbox.collect(rung);
        }
    }
}

/// One `poll(2)` until something is ready or the deadline is there.
pub(super) fn wait(waiting: &mut [PollFd<'_>], deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: left.as_secs() as _,
            tv_nsec: left.subsec_nanos() as _,
        });
        match poll(waiting, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// A stranger on a connected socket.
pub(super) struct Stranger<'a> {
    pub(super) socket: &'a TcpStream,
    pub(super) address: SocketAddr,
    pub(super) trace: Option<&'a Tracer>,
    pub(super) deadlines: Deadlines,
}

impl Stranger<'_> {
    /// The greeting of somebody we called.
    pub(super) fn call(
        &self,
        introduction: &Introduction,
        wait: &mut Wait<'_>,
    ) -> Result<Greeting, Farewell> {
        let deadline = Instant::now() + self.deadlines.handshake;
        self.speak(introduction, wait, deadline)?;
        let theirs = self.listen(wait, deadline)?;
        if theirs.info_hash != introduction.info_hash {
            return Err(Farewell::OtherTorrent);
        }
        self.greeting(introduction, theirs, Way::Dialled)
    }

    /// The greeting of somebody who called us, if the coordinator wants to have it.
    pub(super) fn answer(
        &self,
        wait: &mut Wait<'_>,
        reports: &mut Reports,
    ) -> Result<(Introduction, Greeting), Farewell> {
        let theirs = self.listen(wait, Instant::now() + self.deadlines.handshake)?;
        reports.batch.push(Happened::Knocked {
            info_hash: theirs.info_hash,
            id: theirs.id,
        });
        reports.send()?;
        let introduction = wait.admission(self.deadlines.admission)?;
        let deadline = Instant::now() + self.deadlines.handshake;
        self.speak(&introduction, wait, deadline)?;
        let greeting = self.greeting(&introduction, theirs, Way::Accepted)?;
        Ok((introduction, greeting))
    }

    fn greeting(
        &self,
        introduction: &Introduction,
        theirs: Handshake,
        way: Way,
    ) -> Result<Greeting, Farewell> {
        if theirs.id == introduction.id {
            return Err(Farewell::Ourselves);
        }
        let ours = Handshake::new(introduction.info_hash, introduction.id);
        Ok(Greeting {
            address: self.address,
            way,
            id: theirs.id,
            fast: ours.fast() && theirs.fast(),
            extended: ours.extended() && theirs.extended(),
        })
    }

    fn speak(
        &self,
        introduction: &Introduction,
        wait: &mut Wait<'_>,
        deadline: Instant,
    ) -> Result<(), Farewell> {
        let ours = Handshake::new(introduction.info_hash, introduction.id);
        let bytes = ours.encode();
        let (mut socket, mut sent) = (self.socket, 0);
        while sent < bytes.len() {
            wait.until(socket, PollFlags::OUT, deadline, Slowness::Handshake)?;
            sent += transfer(|| socket.write(&bytes[sent..]))?;
        }
        if let Some(trace) = self.trace {
            trace.said(self.address, Told::Handshake(ours));
        }
        Ok(())
    }

    /// Exactly the 68 bytes, or fewer if they are no handshake: what follows is the conversation's.
    fn listen(&self, wait: &mut Wait<'_>, deadline: Instant) -> Result<Handshake, Farewell> {
        let mut bytes = [0; Handshake::LENGTH];
        let (mut socket, mut got) = (self.socket, 0);
        loop {
            wait.until(socket, PollFlags::IN, deadline, Slowness::Handshake)?;
            got += transfer(|| match socket.read(&mut bytes[got..]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                read => read,
            })?;
            match Handshake::parse(&bytes[..got]) {
                Ok(None) => {}
                Err(_) => return Err(Farewell::NoHandshake),
                Ok(Some(theirs)) => {
                    if let Some(trace) = self.trace {
                        trace.heard(self.address, Told::Handshake(theirs));
                    }
                    return Ok(theirs);
                }
            }
        }
    }
}

/// One read or write on a socket that was ready; 0 if it was not, after all.
fn transfer(call: impl FnOnce() -> io::Result<usize>) -> Result<usize, Farewell> {
    match call() {
        Ok(bytes) => Ok(bytes),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
            _ => Err(broken(&error)),
        },
    }
}
