//! The brain: all that is known about one swarm, and every decision.
//!
//! ```text
//! let mut swarm = Swarm::new(setup, now);
//! swarm.handle(event, now, &mut actions);          // what happened in, what to do out
//! let alarm = swarm.wake_at();                     // hand it Event::Woken then
//! ```

pub mod event;
