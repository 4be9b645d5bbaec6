//! `share`: makes a torrent, tracks and seeds it, and prints the command for other hosts.

use super::arguments::{CreateArguments, ShareArguments as Options};
use super::complaint::Complaint;
use super::create::{self, SaveTo};
use super::events::{self, JsonEvent};
use super::session::{Session, Teller};
use super::shown::shown;
use super::status::ExitStatus;
use super::{output, signals, transfer};
use crate::client::{Client, Control, Notice, Settings, Sharing};
use crate::share::addresses::Addresses;
use crate::share::{Counter, Share, Stall, Venue};
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use std::net::IpAddr;

/// Runs `share` to its end.
pub fn run(options: &Options) -> ExitStatus {
    let mut teller = Teller::new(options.seed.json);
    if let Err(complaint) = work(options, &mut teller) {
        teller.complain(&complaint);
    }
    teller.status()
}

fn work(options: &Options, teller: &mut Teller) -> Result<(), Complaint> {
    let place = match options.create.output {
        Some(_) => create::place(&options.create)?,
        None => SaveTo::Output,
    };
    let stall = Stall::open(&Venue {
        bind: options.seed.bind,
        port: options.seed.port,
        tracker_port: options.tracker_port,
    })
    .map_err(|error| Complaint::share(&error))?;
    let settings = CreateArguments {
        trackers: stall.trackers(),
        ..options.create.clone()
    };
    let hashing = create::start(&settings, &place)?;
    let stopper = hashing.stopper();
    // Bound: one, there is one client.
    let (at_work, started) = bounded::<Sender<Control>>(1);
    // One watch over both halves: a signal between them must not get lost.
    let signal = signals::watch(move || {
        stopper.stop();
        if let Ok(client) = started.recv() {
            let _ = client.send(Control::Stop);
        }
    });
    create::warn_before(&settings, &hashing);
    let hashed = hashing
        .hashed()
        .map_err(|error| Complaint::create(&error))?;
    let torrent = create::hash(hashing, settings.quiet, &signal)?;
    for oddity in &torrent.metainfo.oddities {
        create::warn(&settings, &shown(oddity));
    }
    if let SaveTo::File(target) = &place {
        create::save(target, &torrent, &settings, &signal)?;
    }
    let sharing = Sharing {
        ratio: options.seed.ratio,
        time: options.seed.time,
    };
    serve(
        options,
        stall.take_in(&torrent, hashed, sharing),
        teller,
        &signal,
        &at_work,
    )
}

fn serve(
    options: &Options,
    share: Share,
    teller: &mut Teller,
    signal: &Receiver<u8>,
    at_work: &Sender<Sender<Control>>,
) -> Result<(), Complaint> {
    let (tracer, trace_thread) = transfer::trace(&options.seed)?.unzip();
    let settings = Settings {
        port: None,
        bind: None,
        max_peers: options.seed.max_peers,
        up: options.seed.up,
        down: None,
        trace: tracer,
        seed: fastrand::u64(..),
    };
    let invitation = Invitation::of(options, &share);
    let mut session = Session::new(&options.seed, share.tasks(), teller);
    let (client, counter) = share
        .start(settings)
        .map_err(|error| Complaint::start(&error))?;
    let _ = at_work.try_send(client.control());
    follow(&mut session, &client, &counter, signal, &invitation);
    // The seed says goodbye to the tracker.
    drop(client);
    drop(counter);
    if let Some(thread) = trace_thread {
        transfer::tell_trace(&options.seed, thread.finish());
    }
    Ok(())
}

/// Tells what the seed tells, and the command as soon as it leads to something: when the tracker has
/// heard of the seed.
fn follow(
    session: &mut Session,
    client: &Client,
    counter: &Counter,
    signal: &Receiver<u8>,
    invitation: &Invitation,
) {
    output::work_ends_with(client.ended().clone());
    let control = client.control();
    let mut open = false;
    let mut ended = counter.ended().clone();
    loop {
        select! {
            recv(client.notices()) -> notice => {
                let Ok(notice) = notice else { break };
                session.hear(&notice, signal, &control);
                if let Notice::Tracker { outcome: Ok(_), .. } = notice && !open {
                    open = true;
                    session.result(&control, |session| invitation.tell(session));
                }
            }
            recv(ended) -> _ => {
                // It ends once, and stays ready for ever.
                ended = never();
                session.complain(&Complaint::tracker_has_ended());
                client.stop();
            }
        }
    }
    session.finish();
}

/// What others need to know.
struct Invitation {
    torrent: String,
    magnet: String,
    addresses: Addresses,
    bind: Option<IpAddr>,
    json: bool,
}

impl Invitation {
    fn of(options: &Options, share: &Share) -> Invitation {
        Invitation {
            torrent: share.torrent().to_owned(),
            magnet: share.magnet().to_owned(),
            addresses: share.addresses().clone(),
            bind: options.seed.bind,
            json: options.seed.json,
        }
    }

    fn tell(&self, session: &Session) -> Result<(), Complaint> {
        let Addresses { chosen, others } = &self.addresses;
        let others: Vec<String> = others.iter().map(IpAddr::to_string).collect();
        if self.json {
            let event = JsonEvent::Shared {
                torrent: self.torrent.clone(),
                magnet: self.magnet.clone(),
                address: chosen.to_string(),
                others,
            };
            return events::write(session.elapsed(), session.subject(0), &event);
        }
        session.say(&format!("magnet link: {}", shown(&self.magnet)));
        let kind = match self.bind {
            Some(every) if every.is_unspecified() && every.is_ipv4() => "IPv4 address",
            _ => "address",
        };
        match (&others[..], self.bind.filter(|bind| !bind.is_unspecified())) {
            _ if chosen.is_loopback() => {
                session.say(&format!("{chosen}: only this machine can reach it"));
            }
            ([], Some(_)) => {}
            ([], None) => session.say(&format!("{chosen} is the only {kind} of this machine")),
            (others, _) => {
                let others = others.join(", ");
                let also = format!("this machine is also {others}; --bind ADDR tells another one");
                session.say(&also);
            }
        }
        session.say(match chosen.is_loopback() {
            true => "on this machine:",
            false => "on every other host:",
        });
        session.print(&format!("ropewalk get {}", self.torrent))
    }
}
