//! The thread of one peer: owns its socket and the slots it was given, does what it is told, tells
//! what happened.
//!
//! ```text
//! let line = peer_thread::dial(key, address, None, introduction, surroundings)?;
//! line.send(vec![Command::Request(slot)])?;
//! // ... Report { peer: key, batch: [Laid(slot)] } arrives in the inbox ...
//! line.hang_up(Farewell::Leaving);        // Report { batch: [.., Gone(Leaving)] } is the last one
//! ```
//!
//! The thread blocks in one place, a `poll(2)` on its socket and its bell, and in one more that is
//! wanted: the bounded inbox. A coordinator that is slow slows the sockets. It never wakes without a
//! reason: the time-out of the poll is the next real deadline.
//!
//! Whatever ends the thread, a panic included, every slot it held goes home before `Gone`.

use super::deadlines::Watch;
use super::give_way::give_way;
use super::greeting::{Stranger, Wait, wait};
use super::intake::Intake;
use super::low_water::LowWater;
use super::mailbox::{self, Mailbox};
use super::meter::{Meter, Metered};
use super::outbox::{Outbox, broken};
use super::trace::{Told, Tracer};
use super::trickle::Trickle;
use super::unsent::UnsentLimit;
use super::{Command, Happened, Introduction, Report, dial as dialling};
use crate::protocol::peer::decoder::WireRules;
use crate::protocol::peer::{Message, WireBlock};
use crate::storage::slot::{Landing, LandingBudget};
use crate::swarm::event::{Farewell, Flow, Greeting, PeerKey};
use crossbeam_channel::Sender;
use rustix::event::{PollFd, PollFlags};
use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

pub use super::deadlines::Deadlines;
pub use super::mailbox::{Line, Stuck};

/// The stack of a peer thread in bytes. It costs address space: resident is what was touched, 16 KiB by an idle thread
/// and 32 by one at work (x86-64, release build).
const STACK: usize = 192 * 1024;

/// What every peer thread is given.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The coordinator's inbox; bounded.
    pub inbox: Sender<Report>,
    /// Where wire messages are written down.
    pub trace: Option<Tracer>,
    /// What all threads together may take for receiving.
    pub budget: LandingBudget,
    /// How long a peer may take over what.
    pub deadlines: Deadlines,
    /// Which directions need grants.
    pub metered: Metered,
}

/// Starts a thread that calls `address`, from `bind` if given. The first report is `Connected` or `Gone`.
/// An error means that the system has no thread or descriptor left.
pub fn dial(
    key: PeerKey,
    address: SocketAddr,
    bind: Option<IpAddr>,
    introduction: Introduction,
    surroundings: Surroundings,
) -> io::Result<Line> {
    start(key, surroundings, move |surroundings, kit| {
        let mut wait = Wait {
            mailbox: &mut kit.mailbox,
        };
        let patience = surroundings.deadlines.connect;
        let socket = dialling::connect(address, bind, &mut wait, patience)?;
        let greeting = stranger(&socket, address, surroundings).call(&introduction, &mut wait)?;
        converse(&socket, introduction, greeting, surroundings, kit)
    })
}

/// Starts a thread for a caller. The first report is `Knocked` or `Gone`.
/// An error means that the system has no thread or descriptor left.
pub fn answer(
    key: PeerKey,
    stream: TcpStream,
    address: SocketAddr,
    surroundings: Surroundings,
) -> io::Result<Line> {
    start(key, surroundings, move |surroundings, kit| {
        dialling::tune(&stream).map_err(|error| broken(&error))?;
        let mut wait = Wait {
            mailbox: &mut kit.mailbox,
        };
        let (introduction, greeting) =
            stranger(&stream, address, surroundings).answer(&mut wait, &mut kit.reports)?;
        converse(&stream, introduction, greeting, surroundings, kit)
    })
}

/// What has to survive a panic of the thread's body, because slots are in it.
struct Kit {
    landing: Landing,
    mailbox: Mailbox,
    reports: Reports,
}

/// What happened and was not told yet.
pub(super) struct Reports {
    peer: PeerKey,
    inbox: Sender<Report>,
    pub(super) batch: Vec<Happened>,
}

impl Reports {
    /// Tells the coordinator what happened, if anything did. Waits while the inbox is full.
    pub(super) fn send(&mut self) -> Result<(), Farewell> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let report = Report {
            peer: self.peer,
            batch: std::mem::take(&mut self.batch),
        };
        // Without a coordinator there is nobody left to be a peer for.
        self.inbox.send(report).map_err(|_| Farewell::Leaving)
    }
}

/// A life ends with a farewell and in no other way.
type Life = Result<std::convert::Infallible, Farewell>;

fn start(
    key: PeerKey,
    surroundings: Surroundings,
    life: impl FnOnce(&Surroundings, &mut Kit) -> Life + Send + 'static,
) -> io::Result<Line> {
    let (line, mailbox) = mailbox::open()?;
    thread::Builder::new()
        .name(format!("{key:?}"))
        .stack_size(STACK)
        .spawn(move || {
            give_way();
            let mut kit = Kit {
                landing: Landing::new(surroundings.budget.clone()),
                mailbox,
                reports: Reports {
                    peer: key,
                    inbox: surroundings.inbox.clone(),
                    batch: Vec::new(),
                },
            };
            // A panic is a lost peer and no more. What it may have left half done is in the kit, and of
            // that only whole slots are taken out.
            let end = catch_unwind(AssertUnwindSafe(|| life(&surroundings, &mut kit)));
            let why = match end {
                Ok(Ok(never)) => match never {},
                Ok(Err(why)) => why,
                Err(_) => Farewell::Panicked,
            };
            go(kit, why);
        })?;
    Ok(line)
}

/// The last report: all slots, then the farewell.
fn go(mut kit: Kit, why: Farewell) {
    let mut slots = kit.landing.drain();
    slots.extend(kit.mailbox.drain());
    let home = slots.into_iter().map(Happened::Returned);
    kit.reports.batch.extend(home);
    kit.reports.batch.push(Happened::Gone(why));
    // An error means that nobody is left to be told.
    let _ = kit.reports.send();
}

fn stranger<'a>(
    socket: &'a TcpStream,
    address: SocketAddr,
    surroundings: &'a Surroundings,
) -> Stranger<'a> {
    Stranger {
        socket,
        address,
        trace: surroundings.trace.as_ref(),
        deadlines: surroundings.deadlines,
    }
}

fn converse(
    socket: &TcpStream,
    introduction: Introduction,
    greeting: Greeting,
    surroundings: &Surroundings,
    kit: &mut Kit,
) -> Life {
    let rules = WireRules {
        fast: greeting.fast,
        extended: greeting.extended,
        pieces: introduction.geometry.pieces(),
    };
    let (address, trace) = (greeting.address, surroundings.trace.as_ref());
    kit.reports.batch.push(Happened::Connected(greeting));
    let mut conversation = Conversation {
        socket,
        address,
        trace,
        intake: Intake::new(&mut kit.landing, rules, address, trace.cloned()),
        outbox: Outbox::new(rules.fast),
        watch: Watch::new(surroundings.deadlines, Instant::now()),
        meter: Meter::new(surroundings.metered),
        trickle: Trickle::new(Instant::now()),
        low_water: LowWater::default(),
        unsent: UnsentLimit::new(Instant::now()),
        clogged: false,
        mailbox: &mut kit.mailbox,
        reports: &mut kit.reports,
    };
    let why = loop {
        if let Err(why) = conversation.turn() {
            break why;
        }
    };
    conversation.meter.close(&mut conversation.reports.batch);
    // The peer hears at once that it is over. An error says that it knows already.
    let _ = socket.shutdown(Shutdown::Both);
    Err(why)
}

/// A peer that has been greeted.
struct Conversation<'a> {
    socket: &'a TcpStream,
    address: SocketAddr,
    trace: Option<&'a Tracer>,
    intake: Intake<'a>,
    outbox: Outbox,
    watch: Watch,
    meter: Meter,
    trickle: Trickle,
    low_water: LowWater,
    unsent: UnsentLimit,
    /// The socket took less than was granted: nothing more is wanted before it takes more.
    clogged: bool,
    mailbox: &'a mut Mailbox,
    reports: &'a mut Reports,
}

impl Conversation<'_> {
    fn turn(&mut self) -> Result<(), Farewell> {
        self.obey()?;
        self.write()?;
        self.reports.send()?;
        if self.wait()? {
            self.read()?;
        }
        self.keep_time()
    }

    /// Carries out the commands that have come.
    fn obey(&mut self) -> Result<(), Farewell> {
        self.mailbox.collect(false);
        while let Some(command) = self.mailbox.next() {
            self.carry_out(command)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, command: Command) -> Result<(), Farewell> {
        match command {
            Command::Say(message) => self.say(message),
            Command::Request(slot) => {
                let block = WireBlock::from(slot.block());
                if self.intake.expect(slot, &mut self.reports.batch) {
                    self.say(Message::Request(block))?;
                }
                Ok(())
            }
            Command::RequestSpare(block) if self.intake.expect_spare(block) => {
                self.say(Message::Request(WireBlock::from(block)))
            }
            Command::Revoke(block) if self.intake.revoke(block, &mut self.reports.batch) => {
                self.say(Message::Cancel(WireBlock::from(block)))
            }
            Command::Settle(slot) => {
                self.intake.settle(slot, &mut self.reports.batch);
                Ok(())
            }
            Command::Discard(block) if self.intake.discard(block) => {
                self.say(Message::Cancel(WireBlock::from(block)))
            }
            Command::Serve(source) => {
                self.outbox.serve(source);
                Ok(())
            }
            Command::Withhold(block) if self.outbox.withhold(block) => {
                self.say(Message::Reject(WireBlock::from(block)))
            }
            Command::Grant { flow, bytes } => {
                let now = Instant::now();
                self.meter.granted(flow, bytes, now);
                if flow == Flow::Down {
                    self.watch.listen(now, true);
                }
                Ok(())
            }
            Command::HangUp(why) => {
                self.outbox.withhold_all();
                // What the peer does not take any more is not why it is left.
                let _ = self.write();
                Err(why)
            }
            // Already admitted; or nothing left to revoke, discard or withhold.
            Command::Admit(_)
            | Command::RequestSpare(_)
            | Command::Revoke(_)
            | Command::Discard(_)
            | Command::Withhold(_) => Ok(()),
        }
    }

    fn say(&mut self, message: Message) -> Result<(), Farewell> {
        self.outbox.say(&message)?;
        if let Some(trace) = self.trace {
            trace.said(self.address, Told::Message(message));
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Farewell> {
        if !self.outbox.waits() {
            return Ok(());
        }
        self.unsent.sent(self.socket, 0, Instant::now());
        let room = self.meter.room(Flow::Up);
        if room == 0 && self.clogged {
            return Ok(());
        }
        let (address, trace) = (self.address, self.trace);
        let began = |block| {
            if let Some(trace) = trace {
                trace.said(address, Told::Message(Message::Piece(block)));
            }
        };
        let batch = &mut self.reports.batch;
        let written = self.outbox.write(self.socket, room, batch, began)?;
        self.meter.spend(Flow::Up, written.bytes);
        let spent = self.meter.room(Flow::Up) == 0;
        self.clogged = written.waits && !spent;
        if written.waits && spent {
            self.meter.ask(Flow::Up, self.outbox.waiting(), batch);
        }
        let (progress, waits, now) = (written.bytes > 0, written.waits, Instant::now());
        self.unsent.sent(self.socket, written.bytes, now);
        self.watch.wrote(now, progress, waits, self.clogged);
        Ok(())
    }

    /// The one place to block in. True if there is something to read.
    fn wait(&mut self) -> Result<bool, Farewell> {
        if self.intake.is_behind() {
            // It was read already, so the socket would not wake us for it.
            return Ok(true);
        }
        self.set_low_water();
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, !self.meter.is_waiting(Flow::Down));
        let writes = self.outbox.waits() && !self.meter.is_waiting(Flow::Up);
        flags.set(PollFlags::OUT, writes);
        let mut waiting = [
            PollFd::new(self.socket, flags),
            PollFd::from_borrowed_fd(self.mailbox.bell(), PollFlags::IN),
        ];
        let next = [
            self.watch.next(),
            self.intake.landing.rest_at(),
            self.meter.next(),
            self.low_water.next(),
        ];
        let deadline = next.into_iter().flatten().min();
        wait(&mut waiting, deadline).map_err(|error| broken(&error))?;
        let [socket, bell] = waiting.map(|fd| fd.revents());
        self.mailbox.collect(!bell.is_empty());
        self.clogged &= !socket.contains(PollFlags::OUT);
        if !flags.contains(PollFlags::IN) && socket.intersects(PollFlags::ERR | PollFlags::HUP) {
            // Nobody will read what is still there.
            let error = self.socket.take_error().ok().flatten();
            return Err(error.map_or(Farewell::Closed, |error| broken(&error)));
        }
        // Before anything is called late: what has come and was too little to be told of counts.
        let late = self.low_water.is_raised() && deadline.is_some_and(|at| Instant::now() >= at);
        // Errors and the end of the stream are for `read` to find.
        Ok(late || !socket.difference(PollFlags::OUT).is_empty())
    }

    /// Where the rate is limited as much comes at a time as was granted.
    fn set_low_water(&mut self) {
        let due = match self.meter.is_limited(Flow::Down) {
            true => 0,
            false => self.intake.landing.due(),
        };
        self.low_water.set(self.socket, due, Instant::now());
    }

    fn read(&mut self) -> Result<(), Farewell> {
        let now = Instant::now();
        let (room, batch) = (self.meter.room(Flow::Down), &mut self.reports.batch);
        let heard = self.intake.read(self.socket, room, now, batch)?;
        self.meter.spend(Flow::Down, heard.bytes);
        self.low_water.heard(heard.bytes, now);
        if heard.bytes > 0 || heard.finished {
            let unfinished = self.intake.unfinished();
            self.watch.heard(now, unfinished, heard.finished);
            let part = self.intake.landing.is_arriving();
            if self.trickle.came(heard.finished, part, now) {
                self.reports.batch.push(Happened::Arriving);
            }
        }
        if self.meter.room(Flow::Down) == 0 {
            self.meter.ask(Flow::Down, 0, &mut self.reports.batch);
            self.watch.listen(now, false);
        }
        Ok(())
    }

    /// Does what is due by now. After reading: what has come in time counts.
    fn keep_time(&mut self) -> Result<(), Farewell> {
        let now = Instant::now();
        self.intake.landing.rest(now);
        self.meter.expire(now, &mut self.reports.batch);
        self.intake.shrink();
        if self.watch.judge(now)? {
            self.say(Message::KeepAlive)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
