//! The small parts that run millions of times, each alone.
//!
//! ```text
//! cargo bench --bench small                 # all; `-- lanes` for those with "lanes" in their name
//! cargo bench --bench small -- --test       # each once: only to see that they run
//! ```

#![allow(clippy::unwrap_used)]

#[path = "crowd.rs"]
mod crowd;

use crowd::{Crowd, Plan};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ropewalk::protocol::bencode::{self, DecodeLimits, Value};
use ropewalk::protocol::bitfield::Bitfield;
use ropewalk::protocol::digest::Digest;
use ropewalk::protocol::digest::lanes::{Lanes, Width};
use ropewalk::protocol::metainfo::Metainfo;
use ropewalk::protocol::peer::decoder::{Decoded, Decoder, WireRules};
use ropewalk::protocol::peer::{Message, WireBlock};
use ropewalk::protocol::{Geometry, PieceIndex};
use ropewalk::swarm::availability::Availability;
use ropewalk::swarm::event::{Moment, PeerKey};
use ropewalk::swarm::peer::Holding;
use ropewalk::swarm::picker::{Asker, Picker};

fn main() {
    divan::main();
}

/// A torrent of 20,000 files and 100,000 pieces: about 3 MiB.
fn large_torrent() -> Vec<u8> {
    let piece_length = 256 * 1024;
    let pieces = 100_000;
    let files = 20_000;
    let size = pieces * piece_length / files;
    let file = |number: i64| {
        let name = format!("track {number:05}.flac");
        let folder = format!("disc {}", number / 100);
        let path = Value::List(vec![folder.as_str().into(), name.as_str().into()]);
        Value::dict([("length", size.into()), ("path", path)])
    };
    let digests = vec![7u8; pieces as usize * 20];
    let info = Value::dict([
        ("files", Value::List((0..files).map(file).collect())),
        ("name", "everything".into()),
        ("piece length", piece_length.into()),
        ("pieces", Value::from(&digests[..])),
    ]);
    Value::dict([("info", info)]).encode()
}

#[divan::bench]
fn bencode_of_a_torrent_of_20000_files(bencher: Bencher) {
    let bytes = large_torrent();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| bencode::decode(black_box(&bytes), DecodeLimits::FILE).is_ok());
}

#[divan::bench]
fn metainfo_of_a_torrent_of_20000_files(bencher: Bencher) {
    let bytes = large_torrent();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Metainfo::from_bytes(black_box(&bytes)).unwrap());
}

fn geometry(pieces: u64) -> Geometry {
    Geometry::new(pieces * 256 * 1024, 256 * 1024).unwrap()
}

/// A peer's bitfield with every second piece, at random.
fn half(geometry: &Geometry, dice: &mut fastrand::Rng) -> Holding {
    let mut field = Bitfield::new(geometry);
    for piece in geometry.all_pieces().filter(|_| dice.bool()) {
        field.set(piece);
    }
    Holding::Some(field)
}

/// 100,000 pieces, 500 peers with half of them each; one block is picked and comes, by turns.
#[divan::bench]
fn picker_with_100000_pieces_and_500_peers(bencher: Bencher) {
    let geometry = geometry(100_000);
    let mut dice = fastrand::Rng::with_seed(5);
    let mut picker = Picker::new(geometry, &Bitfield::new(&geometry), &[], &mut dice);
    let holds: Vec<_> = (0..500).map(|_| half(&geometry, &mut dice)).collect();
    holds.iter().for_each(|it| picker.available().arrive(it));
    let mut current = vec![None; holds.len()];
    let (mut turn, mut blocks) = (0, Vec::new());
    bencher.counter(ItemsCount::new(16usize)).bench_local(|| {
        turn = (turn + 1) % holds.len();
        let peer = PeerKey(turn as u64);
        let asker = Asker {
            peer,
            holds: &holds[turn],
            current: &mut current[turn],
            suggested: &mut Vec::new(),
            only: None,
        };
        blocks.clear();
        picker.pick(asker, 16, false, Moment::ZERO, &mut dice, &mut blocks);
        for block in &blocks {
            picker.lay(*block, peer);
        }
        if let Some(block) = blocks.first()
            && picker.is_full(block.piece())
        {
            picker.finish(block.piece());
        }
        blocks.len()
    });
}

/// Haves by the million: what a crowd of leechers says all day.
#[divan::bench(args = [1_000, 100_000])]
fn availability_counts_1000_haves(bencher: Bencher, pieces: u64) {
    let geometry = geometry(pieces);
    let mut dice = fastrand::Rng::with_seed(5);
    let mut available = Availability::new(geometry, Bitfield::full(&geometry), &mut dice);
    let all: Vec<PieceIndex> = geometry.all_pieces().collect();
    bencher
        .counter(ItemsCount::new(1_000usize))
        .bench_local(|| {
            for _ in 0..1_000 {
                available.gain(all[dice.usize(..all.len())], &mut dice);
            }
        });
}

/// 50 peers tell of 1,000 new pieces each, to a brain that wants them all.
#[divan::bench(sample_count = 20)]
fn have_flood_of_50000(bencher: Bencher) {
    let plan = Plan {
        pieces: 100_000,
        blocks: 16,
        share: 50,
        ..Plan::default()
    };
    bencher
        .counter(ItemsCount::new(50_000usize))
        .with_inputs(|| (Crowd::gather(plan), fastrand::Rng::with_seed(9)))
        .bench_local_refs(|(crowd, dice)| {
            for turn in 0..50_000 {
                let piece = dice.u32(0..plan.pieces);
                crowd.say(PeerKey(turn % plan.peers), Message::Have { piece });
            }
        });
}

/// A block of a brain among 50 peers: received, booked, and the next one asked for.
#[divan::bench(sample_count = 20)]
fn brain_of_16000_blocks(bencher: Bencher) {
    bencher
        .counter(ItemsCount::new(16_000usize))
        .with_inputs(|| {
            let mut crowd = Crowd::gather(Plan::default());
            crowd.unchoke();
            crowd
        })
        .bench_local_refs(|crowd| crowd.run(16_000));
}

const MESSAGE: usize = 256 * 1024;

fn feed<'a>(message: &'a [u8], at: &'a mut [usize]) -> impl FnMut(usize, &mut [u8]) -> usize + 'a {
    move |number, room| {
        let rest = &message[at[number]..];
        let now = rest.len().min(room.len());
        room[..now].copy_from_slice(&rest[..now]);
        at[number] += now;
        now
    }
}

/// As many pieces of 256 KiB at once as there are lanes.
#[divan::bench(args = Width::all())]
fn lanes_side_by_side(bencher: Bencher, width: Width) {
    let messages = width.lanes();
    let (mut lanes, message) = (Lanes::new(width), vec![7; MESSAGE]);
    bencher
        .counter(BytesCount::new(MESSAGE * messages))
        .bench_local(|| {
            let mut at = vec![0; messages];
            lanes.hash(messages, feed(&message, &mut at))
        });
}

/// One piece of 256 KiB with sha1_smol: what the lanes have to beat.
#[divan::bench]
fn lanes_are_beside_sha1_smol(bencher: Bencher) {
    let message = vec![7; MESSAGE];
    bencher
        .counter(BytesCount::new(MESSAGE))
        .bench_local(|| Digest::of(black_box(&message)));
}

#[divan::bench]
fn bitfield_of_100000_pieces_from_the_wire(bencher: Bencher) {
    let geometry = geometry(100_000);
    let bytes = vec![0x55; 12_500];
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Bitfield::from_bytes(black_box(&bytes), &geometry).unwrap());
}

#[divan::bench]
fn bitfield_of_100000_pieces_is_gone_through(bencher: Bencher) {
    let geometry = geometry(100_000);
    let field = Bitfield::from_bytes(&[0x55; 12_500], &geometry).unwrap();
    bencher
        .counter(ItemsCount::new(100_000usize))
        .bench_local(|| black_box(&field).pieces(&geometry).count());
}

/// Haves and requests, one after the other, as they lie in a buffer.
#[divan::bench]
fn decoder_of_1000_messages(bencher: Bencher) {
    let mut stream = Vec::new();
    for number in 0..500u32 {
        let block = WireBlock {
            piece: number,
            begin: 0,
            length: 16_384,
        };
        Message::Have { piece: number }.encode(&mut stream);
        Message::Request(block).encode(&mut stream);
    }
    let decoder = Decoder::new(WireRules {
        pieces: 1_000,
        fast: true,
        extended: true,
    });
    bencher
        .counter(ItemsCount::new(1_000usize))
        .bench_local(|| {
            let mut rest = &stream[..];
            let mut count = 0;
            while let Ok(Decoded::Message { message, used }) = decoder.step(rest) {
                black_box(message);
                rest = &rest[used..];
                count += 1;
            }
            assert_eq!(count, 1_000);
        });
}
