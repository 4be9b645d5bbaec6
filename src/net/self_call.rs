//! Whether this machine can call itself: `lab` and `share` do nothing else, or before anything else.
//!
//! Ours: no standard has this; decision 163.
//!
//! ```
//! use ropewalk::net::self_call::reaches_itself;
//! reaches_itself("127.0.0.1".parse().unwrap()).unwrap();
//! ```

use std::io;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

/// How long this machine may take to reach itself.
const WITHIN: Duration = Duration::from_secs(2);

/// Whether what this machine sends to its own address `ip` arrives there. Where the loopback interface is down
/// it does not, though `ip` can be listened on.
pub fn reaches_itself(ip: IpAddr) -> io::Result<()> {
    let ear = TcpListener::bind((ip, 0))?;
    TcpStream::connect_timeout(&ear.local_addr()?, WITHIN).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_others_cannot_be_called_as_our_own() {
        let theirs = IpAddr::from([192, 0, 2, 7]);
        let error = reaches_itself(theirs).map_err(|error| error.kind());
        assert_eq!(error, Err(io::ErrorKind::AddrNotAvailable));
    }
}
