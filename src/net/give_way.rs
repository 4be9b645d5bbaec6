//! A thread that does not push others off a processor when it wakes (`SCHED_BATCH`).
//!
//! ```text
//! give_way();                                        // first thing in a thread of a peer
//! ```
//!
//! A thread that waits for a socket is woken by the other end's bytes, or by room for ours, and the system lets it
//! take the place of whoever is at work on that processor. Where that is the thread that fills or empties the same
//! connection, on this machine or in a router's interrupt, the two take turns of a few packets each. Who gives way is
//! woken as soon, and begins when a processor is free or its turn has come, with more to do at once. It is no lower
//! priority: the share of the time stays the same (sched(7)).
#![allow(unsafe_code)]

/// Lets the calling thread give way. A policy that somebody chose for it stays, and where the system knows of none
/// nothing changes.
#[cfg(target_os = "linux")]
pub(super) fn give_way() {
    // SAFETY: asks for a number, 0 being the calling thread. The libc functions of these names do nothing in musl.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    if policy == libc::c_long::from(libc::SCHED_OTHER) {
        become_one_of(libc::SCHED_BATCH);
    }
}

#[cfg(target_os = "linux")]
fn become_one_of(policy: libc::c_int) {
    // What sched.h calls a sched_param: a static priority, of which such threads have none.
    let priority: libc::c_int = 0;
    // SAFETY: the kernel reads one integer, which outlives the call.
    unsafe {
        let priority = &raw const priority;
        libc::syscall(libc::SYS_sched_setscheduler, 0, policy, priority);
    }
}

/// Nothing is known to do there.
#[cfg(not(target_os = "linux"))]
pub(super) fn give_way() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::thread;

    /// The policy of the calling thread, as the kernel counts them.
    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let behind_the_name = stat.rsplit(')').next().unwrap();
        let policy = behind_the_name.split_whitespace().nth(38).unwrap();
        policy.parse().unwrap()
    }

    #[test]
    fn a_thread_gives_way_and_the_one_that_started_it_does_not() {
        let before = policy();
        let after = thread::spawn(|| {
            give_way();
            policy()
        });
        assert_eq!(after.join().unwrap(), libc::SCHED_BATCH);
        assert_eq!(policy(), before);
    }

    #[test]
    fn a_policy_that_was_chosen_stays() {
        let after = thread::spawn(|| {
            become_one_of(libc::SCHED_IDLE);
            give_way();
            policy()
        });
        assert_eq!(after.join().unwrap(), libc::SCHED_IDLE);
    }
}
