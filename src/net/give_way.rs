//! A thread that does not push others off a processor when it wakes (`SCHED_BATCH`).
//!
//! ```text
//! give_way();                                        // first thing in a thread of a peer
//! ```
//!
//! A thread that waits for a socket is woken by the other end's bytes, or by room for ours, and the system often lets
//! it take the place of whoever is at work on that processor. Where that is the other end of the same connection the
//! two take turns of a few packets each; another peer's thread, a checker or another program loses what it has in the
//! caches. Who gives way begins when a processor is free or its turn has come, with more to do at once. Its weight
//! (nice) stays; what it loses is the wait at each wake, which sched(7) calls a small penalty.
#![allow(unsafe_code)]

/// Lets the calling thread give way. Any policy but the usual one stays, and where the system refuses nothing changes.
/// By the numbers of the calls, as the functions of these names do nothing in musl.
#[cfg(target_os = "linux")]
pub(super) fn give_way() {
    // SAFETY: asks for a number; 0 is the calling thread.
    let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, 0) };
    if policy == libc::c_long::from(libc::SCHED_OTHER) {
        set_policy(libc::SCHED_BATCH);
    }
}

#[cfg(target_os = "linux")]
fn set_policy(policy: libc::c_int) {
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
        if before != libc::SCHED_OTHER {
            return; // whoever runs the tests chose it
        }
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
            set_policy(libc::SCHED_IDLE);
            give_way();
            policy()
        });
        assert_eq!(after.join().unwrap(), libc::SCHED_IDLE);
    }
}
