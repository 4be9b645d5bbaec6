//! Signals: the first one asks for an orderly end, the second one gets a sudden one.

use super::output;
use crossbeam_channel::{Receiver, bounded, never};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Starts a thread that waits for SIGINT, SIGTERM and SIGHUP. At the first one `stop` is called and
/// its number can be received; at the second one the process ends at once with 128 + its number.
///
/// A signal that was ignored when the program started (`nohup`) stays ignored.
pub fn watch(stop: impl FnOnce() + Send + 'static) -> Receiver<u8> {
    output::outlive_readers();
    // Bound: one, only the first signal is told.
    let (tell, told) = bounded(1);
    let ignored = ignored();
    let wanted = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| ignored & (1 << (signal - 1)) == 0);
    // Without a thread that waits for them the signals end the process as they always do; the record is good even then.
    let Ok(mut signals) = Signals::new(wanted.clone()) else {
        return never();
    };
    let handle = signals.handle();
    let waiter = std::thread::Builder::new().name("signals".into());
    let started = waiter.stack_size(64 * 1024).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = tell.try_send(signal as u8);
            output::end_was_asked_for(signal as u8);
            stop();
        }
    });
    if started.is_err() {
        handle.close();
        for signal in wanted {
            // Its handler stays for ever, and does this from now on.
            let _ = flag::register_conditional_default(signal, Arc::new(AtomicBool::new(true)));
        }
        return never();
    }
    // The second one is counted by the handler itself: the thread above may be asleep still.
    let once = Arc::new(AtomicBool::new(false));
    for signal in wanted {
        let _ = flag::register_conditional_shutdown(signal, 128 + signal, once.clone());
        let _ = flag::register(signal, once.clone());
    }
    told
}

/// Lets a write past the allowed file size (`ulimit -f`) fail with an error instead of killing the
/// process: a handler takes SIGXFSZ. Unlike "ignore", handlers are not inherited by hooks.
pub fn survive_file_size_limit() {
    let _ = flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
}

/// The signals ignored by this process, one bit each, as Linux tells; none where it cannot be known.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
