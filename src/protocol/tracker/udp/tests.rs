#![allow(clippy::unwrap_used)]
use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|it| it.to_digit(16)).collect();
    let pairs = digits.chunks(2);
    pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn announce() -> Announce {
    Announce {
        info_hash: InfoHash(*b"aaaaaaaaaaaaaaaaaaaa"),
        peer_id: PeerId(*b"bbbbbbbbbbbbbbbbbbbb"),
        downloaded: 1,
        left: 2,
        uploaded: 3,
        event: Some(Occasion::Started),
        key: 0x00c0_ffee,
        num_want: None,
        port: 6881,
    }
}

const ANNOUNCE_HEX: &str = "0102030405060708 00000001 0a0b0c0d \
    6161616161616161616161616161616161616161 6262626262626262626262626262626262626262 \
    0000000000000001 0000000000000002 0000000000000003 00000002 00000000 00c0ffee ffffffff 1ae1";

fn any_announce() -> impl Strategy<Value = Announce> {
    let event = prop_oneof![
        Just(None),
        Just(Some(Occasion::Started)),
        Just(Some(Occasion::Completed)),
        Just(Some(Occasion::Stopped))
    ];
    let num_want = proptest::option::of(0..=i32::MAX as u32);
    let who = (any::<[u8; 20]>(), any::<[u8; 20]>(), any::<[u64; 3]>());
    (who, event, num_want, any::<u32>(), any::<u16>()).prop_map(
        |((info_hash, id, [downloaded, left, uploaded]), event, num_want, key, port)| Announce {
            info_hash: InfoHash(info_hash),
            peer_id: PeerId(id),
            downloaded,
            left,
            uploaded,
            event,
            key,
            num_want,
            port,
        },
    )
}

proptest! {
    #[test]
    fn every_question_survives_its_datagram(
        connection: u64, transaction: u32, announce in any_announce(),
        options in vec(any::<u8>(), 0..40), info_hashes in vec(any::<[u8; 20]>(), 1..=SCRAPE_MAX),
    ) {
        for one in [
            Question::Connect { transaction },
            Question::Announce { connection, transaction, announce, options: &options },
            Question::Scrape { connection, transaction, info_hashes: &info_hashes },
        ] {
            let bytes = one.encode();
            prop_assert_eq!(Question::decode(&bytes), Ok(one));
        }
    }

    #[test]
    fn every_reply_survives_its_datagram(
        connection: u64, transaction: u32, numbers: [u32; 3], bytes in vec(any::<u8>(), 0..100),
        counts in vec(any::<[u32; 3]>(), 0..20),
    ) {
        let counts = counts.into_iter().map(|[a, b, c]| Counts {
            complete: a.into(), downloaded: Some(b.into()), incomplete: c.into(),
        });
        let [interval, leechers, seeders] = numbers;
        for one in [
            Reply::Connected { transaction, connection },
            Reply::Announced { transaction, interval, leechers, seeders, peers: &bytes },
            Reply::Scraped { transaction, counts: counts.collect() },
            Reply::Refused { transaction, reason: &bytes },
        ] {
            let bytes = one.encode();
            prop_assert_eq!(Reply::decode(&bytes), Ok(one));
        }
    }

    #[test]
    fn noise_is_an_error_and_no_panic(action in 0u32..5, bytes in vec(any::<u8>(), 0..200)) {
        let named = [&action.to_be_bytes()[..], &bytes].concat();
        let asked = [&PROTOCOL_ID.to_be_bytes()[..], &named].concat();
        for bytes in [&bytes, &named, &asked] {
            let _ = Question::decode(bytes);
            let _ = Reply::decode(bytes);
            let _ = (url_data(bytes), reason(bytes), peers(bytes, true), peers(bytes, false));
        }
    }

    #[test]
    fn every_path_survives_its_options(path in "/[a-z/?=&]{1,600}") {
        prop_assert_eq!(url_data(&url_options(&path)), path.as_bytes());
    }
}

#[test]
fn questions_have_the_bytes_of_the_specification() {
    let (connection, transaction) = (0x0102_0304_0506_0708, 0x0a0b_0c0d);
    let connect = Question::Connect { transaction }.encode();
    assert_eq!(connect, hex("0000041727101980 00000000 0a0b0c0d"));
    let one = Question::Announce {
        connection,
        transaction,
        announce: announce(),
        options: &[],
    };
    assert_eq!(one.encode(), hex(ANNOUNCE_HEX));
    assert_eq!(one.encode().len(), ANNOUNCE);
    let scrape = Question::Scrape {
        connection,
        transaction,
        info_hashes: &[[0x61; 20], [0x62; 20]],
    };
    let expected = "0102030405060708 00000002 0a0b0c0d \
        6161616161616161616161616161616161616161 6262626262626262626262626262626262626262";
    assert_eq!(scrape.encode(), hex(expected));
}

#[test]
fn replies_have_the_bytes_of_the_specification() {
    let transaction = 0x0a0b_0c0d;
    for (bytes, reply) in [
        (
            "00000000 0a0b0c0d 0102030405060708",
            Reply::Connected {
                transaction,
                connection: 0x0102_0304_0506_0708,
            },
        ),
        (
            "00000001 0a0b0c0d 00000708 0000000a 00000014 c0a800011ae1",
            Reply::Announced {
                transaction,
                interval: 1800,
                leechers: 10,
                seeders: 20,
                peers: &[192, 168, 0, 1, 0x1a, 0xe1],
            },
        ),
        (
            "00000002 0a0b0c0d 00000001 00000003 00000002",
            Reply::Scraped {
                transaction,
                counts: vec![Counts {
                    complete: 1,
                    downloaded: Some(3),
                    incomplete: 2,
                }],
            },
        ),
        (
            "00000003 0a0b0c0d 556e61626c6520746f20436f6e6e656374",
            Reply::Refused {
                transaction,
                reason: b"Unable to Connect",
            },
        ),
    ] {
        assert_eq!(Reply::decode(&hex(bytes)), Ok(reply.clone()));
        assert_eq!(reply.encode(), hex(bytes));
    }
}

#[test]
fn every_truncation_is_refused() {
    let connect = Question::Connect { transaction: 1 }.encode();
    let scrape = Question::Scrape {
        connection: 1,
        transaction: 2,
        info_hashes: &[[1; 20]],
    };
    for question in [connect, hex(ANNOUNCE_HEX), scrape.encode()] {
        for cut in 0..question.len() {
            let decoded = Question::decode(&question[..cut]);
            assert_eq!(decoded, Err(QuestionError::Short), "{cut}");
        }
    }
    for (length, reply) in [
        (16, "00000000 0a0b0c0d 0102030405060708"),
        (20, "00000001 0a0b0c0d 00000708 0000000a 00000014"),
        (8, "00000003 0a0b0c0d"),
    ] {
        assert_eq!(hex(reply).len(), length);
        for cut in 0..length {
            let bytes = hex(reply);
            let decoded = Reply::decode(&bytes[..cut]);
            assert_eq!(decoded, Err(ReplyError::Short), "{cut} of {reply}");
        }
    }
}

#[test]
fn what_is_not_of_this_protocol_is_refused() {
    let foreign = hex("0000041727101981 00000000 0a0b0c0d");
    assert_eq!(Question::decode(&foreign), Err(QuestionError::Foreign));
    let action = hex("0000041727101980 00000003 0a0b0c0d");
    assert_eq!(Question::decode(&action), Err(QuestionError::Action(3)));
    let reply = Reply::decode(&[0, 0, 0, 4, 1, 1, 1, 1]);
    assert_eq!(reply, Err(ReplyError::Action(4)));
}

#[test]
fn longer_datagrams_and_unknown_events_are_taken() {
    let mut longer = hex(ANNOUNCE_HEX);
    longer[83] = 9;
    longer.extend([0, 0]);
    let Ok(Question::Announce {
        announce: found,
        options,
        ..
    }) = Question::decode(&longer)
    else {
        panic!("an announce");
    };
    let event = None;
    assert_eq!(
        found,
        Announce {
            event,
            ..announce()
        }
    );
    assert_eq!((options, url_data(options)), (&[0, 0][..], Vec::new()));
    let connect = hex("0000041727101980 00000000 0a0b0c0d ff");
    assert!(Question::decode(&connect).is_ok());
    let connected = hex("00000000 0a0b0c0d 0102030405060708 ff");
    assert!(Reply::decode(&connected).is_ok());
}

#[test]
fn the_path_is_told_in_parts_of_255_bytes() {
    let path = "/dir?a=b&c=d";
    let expected = [&[2, 12][..], path.as_bytes()].concat();
    assert_eq!(url_options(path), expected);
    assert_eq!(
        url_data(&[&expected[..], &[1, 1, 0]].concat()),
        path.as_bytes()
    );
    assert_eq!(
        url_data(&[&[1][..], &expected[..]].concat()),
        path.as_bytes()
    );
    assert_eq!(
        (url_options(""), url_options("/")),
        (Vec::new(), Vec::new())
    );
    let long = format!("/{}", "x".repeat(299));
    let options = url_options(&long);
    assert_eq!((options.len(), options[1], options[258]), (304, 255, 45));
    assert_eq!(url_data(&options), long.as_bytes());
    assert_eq!(url_options(&"x".repeat(URL_DATA_MAX + 1)), b"");
}

#[test]
fn options_that_are_cut_or_unknown_do_no_harm() {
    assert_eq!(url_data(&[2]), b"");
    assert_eq!(url_data(&[2, 0]), b"");
    assert_eq!(url_data(&[2, 5, b'/', b'a']), b"");
    assert_eq!(url_data(&[9, 1, 7, 2, 1, b'/']), b"/");
    let endless = [&[2, 255][..], &[b'x'; 255]].concat().repeat(100);
    assert_eq!(url_data(&endless).len(), 1_020);
}

#[test]
fn the_size_of_a_peer_follows_from_the_network() {
    let v4 = hex("0a0a0a05 0050 0a0a0a06");
    assert_eq!(peers(&v4, false), ["10.10.10.5:80".parse().unwrap()]);
    assert_eq!(peers(&v4, true), []);
    let v6 = hex("100210354527354678541237324732171ae1");
    let expected = "[1002:1035:4527:3546:7854:1237:3247:3217]:6881";
    assert_eq!(peers(&v6, true), [expected.parse().unwrap()]);
    assert_eq!(peers(&[9; 65_000], false).len(), PEERS_MAX);
}

#[test]
fn a_reason_is_cut_and_loses_its_zeros() {
    assert_eq!(reason(b"gone\0\0"), "gone");
    assert_eq!(reason(b"\0"), "");
    assert_eq!(reason("é".repeat(60_000).as_bytes()), "é".repeat(200));
}
