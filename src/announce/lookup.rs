//! Looks up a host's addresses and does not wait for ever: the system's own way has no time limit.

use super::http::AnnounceError;
use crate::protocol::tracker::compact;
use crossbeam_channel::{RecvTimeoutError, bounded};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How long nobody looks whether the answer is still wanted.
pub(super) const GLANCE: Duration = Duration::from_millis(200);

/// The addresses of `host` that can be connected to at all, at least one. A lookup that hangs is left
/// behind in a thread of its own, which ends when the system gives up.
pub(super) fn lookup(
    host: &str,
    port: u16,
    wait: Duration,
    halted: &dyn Fn() -> bool,
) -> Result<Vec<SocketAddr>, AnnounceError> {
    let found = match host.parse::<IpAddr>() {
        Ok(ip) => vec![SocketAddr::new(ip, port)],
        Err(_) => ask_the_system(host, port, wait, halted)?,
    };
    let found: Vec<SocketAddr> = found.into_iter().filter(compact::is_usable).collect();
    if found.is_empty() {
        return Err(AnnounceError::Address("leads to no host"));
    }
    Ok(found)
}

fn ask_the_system(
    host: &str,
    port: u16,
    wait: Duration,
    halted: &dyn Fn() -> bool,
) -> Result<Vec<SocketAddr>, AnnounceError> {
    let not_found = || AnnounceError::Unreachable("the host was not found".into());
    // Bound: the one answer.
    let (tell, answer) = bounded(1);
    let host = host.to_owned();
    let ask = move || {
        let found = (host.as_str(), port).to_socket_addrs();
        let _ = tell.send(found.map(Iterator::collect::<Vec<_>>));
    };
    let thread = Builder::new().name("lookup".to_owned()).spawn(ask);
    thread.map_err(|error| AnnounceError::Unreachable(error.to_string()))?;
    let deadline = Instant::now() + wait;
    loop {
        let glance = deadline.min(Instant::now() + GLANCE);
        match answer.recv_deadline(glance) {
            Ok(found) => return found.map_err(|_| not_found()),
            Err(RecvTimeoutError::Disconnected) => return Err(not_found()),
            Err(RecvTimeoutError::Timeout) if halted() => return Err(AnnounceError::Interrupted),
            Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
            Err(RecvTimeoutError::Timeout) => return Err(AnnounceError::TimedOut(wait)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn find(host: &str) -> Result<Vec<SocketAddr>, AnnounceError> {
        lookup(host, 80, Duration::from_secs(20), &|| false)
    }

    #[test]
    fn numbers_need_no_lookup_and_some_lead_nowhere() {
        assert_eq!(find("192.0.2.1"), Ok(vec!["192.0.2.1:80".parse().unwrap()]));
        assert_eq!(find("::1"), Ok(vec!["[::1]:80".parse().unwrap()]));
        for host in ["0.0.0.0", "224.0.0.1", "255.255.255.255", "ff02::1"] {
            let error = find(host).unwrap_err();
            assert_eq!(error, AnnounceError::Address("leads to no host"), "{host}");
        }
    }

    #[test]
    fn names_are_looked_up() {
        assert!(
            find("localhost")
                .unwrap()
                .iter()
                .all(|it| it.ip().is_loopback())
        );
    }
}
