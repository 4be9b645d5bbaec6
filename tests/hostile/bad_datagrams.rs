//! UDP trackers that answer nonsense, too late, or not at all.

use crate::fake_peer::seeds;
use crate::fake_tracker::{tracker_knowing, udp_event, udp_reply, udp_tracker};
use crate::gate::{Gate, Waiting};
use crate::run::{PATIENCE, Room, Run};
use crate::torrent::Torrent;
use std::fs;

fn torrent() -> Torrent {
    Torrent::file(b"data", 300_000, 32_768)
}

fn host(url: &str) -> &str {
    url.split('/').nth(2).unwrap()
}

/// Waits for what is said about the tracker at `url`.
fn verdict(run: &mut Run, url: &str) -> serde_json::Value {
    run.event("tells of the tracker", |event| {
        let named = event["tracker"].as_str().unwrap_or_default();
        event["event"] == "tracker" && named.contains(host(url))
    })
}

#[test]
fn datagrams_that_answer_nothing_are_passed_over_and_the_right_one_counts() {
    let torrent = torrent();
    let room = Room::new();
    let honest = seeds(&torrent, Waiting::not());
    let noisy = udp_tracker("/announce", move |question| {
        let right = udp_reply(question, &[honest]);
        let mut replies: Vec<Vec<u8>> = (0..8).map(|cut| right[..cut].to_vec()).collect();
        replies.push(right[..15].to_vec());
        let changed = |at: usize| {
            let mut other = right.clone();
            other[at] ^= 0x40;
            other
        };
        replies.extend((0..8).map(changed));
        replies.push([&[0, 0, 0, 3], &b"abcd"[..], b"not for us"].concat());
        replies.push(vec![0xff; 60_000]);
        replies.push([&right[..], &[9; 5]].concat());
        replies
    });
    let torrent = torrent.announced(&[&noisy.url]);
    let mut run = room.get(&torrent).start();
    let told = verdict(&mut run, &noisy.url);
    assert_eq!(told["error"], serde_json::Value::Null, "{told}");
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_silent_tracker_delays_neither_the_others_nor_our_leaving() {
    let torrent = torrent();
    let room = Room::new();
    let silent = udp_tracker("", |_| Vec::new());
    let honest = tracker_knowing(&[seeds(&torrent, Waiting::not())]);
    let torrent = torrent.announced(&[&silent.url, &honest.url]);
    let mut run = room.get(&torrent).start();
    silent.asked.recv_timeout(PATIENCE).expect("it was asked");
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    // It never gave an id: it was told nothing, and nothing was said of it.
    assert!(silent.asked.try_iter().all(|it| it.len() == 16));
    assert!(!run.everything_said().contains(host(&silent.url)));
}

#[test]
fn a_refusal_is_told_with_its_letters_tamed() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let honest = tracker_knowing(&[seeds(&torrent, gate.queue())]);
    let reason = "go \u{1b}[31maway\n".repeat(1_000);
    let angry = udp_tracker("/announce", move |question| {
        vec![[&[0, 0, 0, 3], &question[12..16], reason.as_bytes()].concat()]
    });
    let torrent = torrent.announced(&[&angry.url, &honest.url]);
    let mut run = room.get(&torrent).start();
    let told = verdict(&mut run, &angry.url);
    let error = told["error"].as_str().expect("an error");
    assert!(error.starts_with("the tracker refuses: go "), "{error}");
    assert!(error.chars().count() < 250, "{error}");
    gate.open();
    run.succeeds();
    assert!(!run.everything_said().contains('\u{1b}'));
}

#[test]
fn started_completed_and_stopped_are_told_once_each_and_in_this_order() {
    let torrent = torrent();
    let room = Room::new();
    let honest = seeds(&torrent, Waiting::not());
    let tracker = udp_tracker("/announce", move |question| {
        vec![udp_reply(question, &[honest])]
    });
    let torrent = torrent.announced(&[&tracker.url]);
    room.get(&torrent).start().succeeds();
    room.holds("data", &torrent.content[..]);
    let events: Vec<u8> = tracker
        .asked
        .try_iter()
        .filter_map(|it| udp_event(&it))
        .collect();
    let of_note: Vec<u8> = events.into_iter().filter(|event| *event != 0).collect();
    assert_eq!(of_note, [2, 1, 3]);
}

#[test]
fn a_passkey_in_a_udp_address_is_told_to_the_tracker_and_to_nobody_else() {
    const KEY: &str = "5ecre7be571e1ef70ffee5ecre7be571";
    for json in [true, false] {
        let torrent = torrent();
        let room = Room::new();
        let gate = Gate::closed();
        let honest = seeds(&torrent, gate.queue());
        let works = udp_tracker(&format!("/{KEY}/announce"), |question| {
            vec![udp_reply(question, &[])]
        });
        let refuses = udp_tracker(&format!("/announce?passkey={KEY}"), |question| {
            vec![[&[0, 0, 0, 3], &question[12..16], b"no"].concat()]
        });
        let urls = [&works.url[..], &refuses.url];
        let torrent = torrent.announced(&urls);
        let mut order = room.get(&torrent);
        if !json {
            order.without("--json").arg("-v");
        }
        let mut run = order.peer(honest).start();
        let announce = || works.asked.recv_timeout(PATIENCE).expect("an announce");
        let announce = std::iter::repeat_with(announce).find(|it| udp_event(it).is_some());
        let announce = announce.unwrap();
        let told = announce.windows(KEY.len()).any(|it| it == KEY.as_bytes());
        assert!(told, "{}", announce.escape_ascii());
        refuses.asked.recv_timeout(PATIENCE).expect("is asked");
        if json {
            urls.iter().for_each(|url| drop(verdict(&mut run, url)));
        }
        gate.open();
        run.succeeds_whatever_it_prints();
        let said = run.everything_said();
        assert!(!said.contains(KEY), "{said}");
        for entry in fs::read_dir(room.down()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            let found = bytes.windows(KEY.len()).any(|it| it == KEY.as_bytes());
            assert!(!found, "the key is on the disk");
        }
    }
}
