//! HTTPS trackers that cannot show who they are. Each is refused with its reason, and hears not a byte
//! of what we would have told it.

use crate::bad_trackers::beside_an_honest_tracker;
use crate::fake_tracker::answer;
use crossbeam_channel::{Receiver, unbounded};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, Stream};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// An HTTPS tracker on this machine that signed its certificate itself, and what it heard.
fn tracker(certificate: CertificateParams) -> (String, Receiver<Vec<u8>>) {
    let key = KeyPair::generate().unwrap();
    let signed = certificate.self_signed(&key).unwrap();
    let secret = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], secret)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Bound: a handful of announces.
    let (tell, heard) = unbounded();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            let mut session = ServerConnection::new(config.clone()).unwrap();
            let mut line = Stream::new(&mut session, &mut stream);
            let mut request = vec![0; 4096];
            if let Ok(length) = line.read(&mut request) {
                request.truncate(length);
                let _ = tell.send(request);
                let body = answer(&[]);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = line.write_all(&[head.as_bytes(), &body].concat());
            }
        }
    });
    (format!("https://localhost:{port}/announce"), heard)
}

/// What is told of such a tracker.
fn refused(names: &[&str], change: fn(&mut CertificateParams)) -> String {
    let names: Vec<String> = names.iter().map(|it| it.to_string()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    let (url, heard) = tracker(params);
    let error = beside_an_honest_tracker(&url);
    assert!(heard.is_empty(), "it was told {:?}", heard.recv());
    error
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let error = refused(&["localhost"], |_| {});
    assert!(error.contains("UnknownIssuer"), "{error}");
    // Of another host's certificate, the missing voucher shows first.
    let error = refused(&["other.example"], |_| {});
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn a_certificate_that_has_expired_or_is_of_the_future_is_refused() {
    let error = refused(&["localhost"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    assert!(error.contains("xpired"), "{error}");
    let error = refused(&["localhost"], |params| {
        params.not_before = date_time_ymd(4000, 1, 1);
        params.not_after = date_time_ymd(4001, 1, 1);
    });
    assert!(
        error.contains("NotValidYet") || error.contains("not valid yet"),
        "{error}"
    );
}

/// A server that answers every greeting with these bytes.
fn answers(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let wait = Some(Duration::from_secs(30));
            stream.set_read_timeout(wait).unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&bytes);
            // Until the other side has gone.
            let _ = stream.read(&mut [0; 4096]);
        }
    });
    format!("https://localhost:{port}/announce")
}

#[test]
fn a_server_that_knows_only_old_tls_is_refused_in_plain_words() {
    // What OpenSSL says that was told to go no further than TLS 1.0 or 1.1.
    let alert = |minor| vec![21, 3, minor, 0, 2, 2, 70];
    // Servers from before 2018 answer with the version that they have.
    let hello = |minor| {
        let mut body = vec![3, minor];
        body.extend([7; 32]);
        body.extend([0, 0, 0x2f, 0]);
        let length = body.len() as u8;
        let head = [22, 3, minor, 0, length + 4, 2, 0, 0, length];
        [&head[..], &body].concat()
    };
    for bytes in [alert(1), alert(2), hello(1), hello(2)] {
        let error = beside_an_honest_tracker(&answers(bytes.clone()));
        let expected = "the server's TLS is too old: it must be version 1.2 or later";
        assert_eq!(error, expected, "{bytes:?}");
    }
}

#[test]
fn what_speaks_no_tls_behind_https_is_refused() {
    let plain = crate::fake_tracker::tracker_saying(answer(&[]));
    let url = plain.url.replace("http://", "https://");
    let error = beside_an_honest_tracker(&url);
    assert!(!error.is_empty());
}
