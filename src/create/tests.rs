#![allow(clippy::unwrap_used)]

use super::*;
use crate::protocol::digest::Digest;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

fn threads(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap()
}

fn create(
    path: &Path,
    settings: TorrentSettings,
    count: usize,
) -> Result<TorrentFile, CreateError> {
    Creation::start(path, settings, threads(count))?.finish()
}

/// A folder with these files, each filled with noise of its length.
fn folder(files: &[(&str, usize)]) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for (number, (path, length)) in files.iter().enumerate() {
        let path = place.path().join("root").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = vec![0; *length];
        fastrand::Rng::with_seed(number as u64).fill(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
    place
}

#[test]
fn piece_lengths_give_1500_to_3000_pieces() {
    let mut last = 0;
    for bits in 0..50 {
        for total in [1u64 << bits, (1 << bits) + 1, 3 << bits] {
            let length = piece_length_for(total);
            let pieces = total.div_ceil(length.into());
            assert!(length.is_power_of_two());
            match length {
                PIECE_LENGTH_SHORTEST => assert!(pieces <= 3000),
                PIECE_LENGTH_LONGEST => assert!(pieces >= 1500),
                _ => assert!((1500..=3000).contains(&pieces), "{total}: {pieces}"),
            }
        }
        let length = piece_length_for(1 << bits);
        assert!(length >= last);
        last = length;
    }
    assert_eq!(piece_length_for(2 << 30), 1 << 20);
}

#[test]
fn pieces_over_files_of_every_awkward_length_are_those_of_the_bytes_in_a_row() {
    let lengths = [
        0, 1, 4095, 16_383, 16_384, 16_385, 0, 131_072, 131_073, 400_001, 0,
    ];
    let names: Vec<String> = (0..lengths.len()).map(|n| format!("{n:02}")).collect();
    let files: Vec<_> = names.iter().map(String::as_str).zip(lengths).collect();
    let place = folder(&files);
    let root = place.path().join("root");
    let row: Vec<u8> = names
        .iter()
        .flat_map(|name| fs::read(root.join(name)).unwrap())
        .collect();
    for (piece_length, count) in [(16_384, 1), (16_384, 3), (49_152, 2), (1 << 20, 4)] {
        let settings = TorrentSettings {
            piece_length: Some(piece_length),
            ..TorrentSettings::default()
        };
        let torrent = create(&root, settings, count).unwrap();
        let digests: Vec<_> = row.chunks(piece_length as usize).map(Digest::of).collect();
        assert_eq!(*torrent.metainfo.piece_digests, digests);
        assert_eq!(torrent.metainfo.files.len(), lengths.len());
        assert!(torrent.metainfo.oddities.is_empty());
    }
}

#[test]
fn files_stand_in_the_order_of_their_paths_bytes() {
    let place = folder(&[("a/z", 1), ("a-b/z", 1), ("a.txt", 1), ("ä", 1), ("Z", 1)]);
    let torrent = create(&place.path().join("root"), TorrentSettings::default(), 2).unwrap();
    let paths: Vec<_> = torrent
        .metainfo
        .files
        .iter()
        .map(|it| it.path.as_str())
        .collect();
    assert_eq!(paths, ["Z", "a-b/z", "a.txt", "a/z", "ä"]);
}

/// A file whose time of change is another than that of `old`, which may be as coarse as a kernel's tick.
fn later_file(path: &Path, old: &Path) -> fs::File {
    let of = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    };
    let file = fs::File::create(path).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while of(path) == of(old) {
        assert!(Instant::now() < deadline, "the clock stands still");
        file.set_len(0).unwrap();
        file.set_modified(std::time::SystemTime::now()).unwrap();
    }
    file
}

#[test]
fn what_changes_after_it_was_found_is_noticed() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 6] = [
        ("shorter", |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(10).unwrap();
        }),
        ("longer", |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes.push(0);
            fs::write(path, bytes).unwrap();
        }),
        ("gone", |path| fs::remove_file(path).unwrap()),
        ("another", |path| {
            let other = path.with_extension("new");
            let time = fs::metadata(path).unwrap().modified().unwrap();
            let file = later_file(&other, path);
            fs::copy(path, &other).unwrap();
            file.set_modified(time).unwrap();
            fs::rename(other, path).unwrap();
        }),
        ("written to, and its time set back", |path| {
            let time = fs::metadata(path).unwrap().modified().unwrap();
            drop(later_file(&path.with_extension("new"), path));
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, b"x", 0).unwrap();
            file.set_modified(time).unwrap();
        }),
        ("touched", |path| {
            let file = fs::OpenOptions::new().write(true).open(path).unwrap();
            let time = std::time::SystemTime::UNIX_EPOCH;
            file.set_modified(time).unwrap();
        }),
    ];
    for (what, change) in changes {
        let place = folder(&[("one", 100_000), ("two", 100_000)]);
        let root = place.path().join("root");
        let mut work = Creation::start(&root, TorrentSettings::default(), threads(2)).unwrap();
        let _ = work.next();
        change(&root.join("two"));
        match work.finish() {
            Err(CreateError::Changed { path }) => assert_eq!(path, root.join("two"), "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn a_creation_that_is_dropped_half_way_stops_its_threads_and_waits_for_them() {
    let place = folder(&[("one", 1)]);
    let root = place.path().join("root");
    let file = fs::File::create(root.join("two")).unwrap();
    file.set_len(1 << 28).unwrap();
    let mut work = Creation::start(&root, TorrentSettings::default(), threads(2)).unwrap();
    work.next().unwrap().unwrap();
    assert!(work.left > 0, "it is done already");
    let (stopper, tree) = (work.stopper(), Arc::downgrade(&work.tree));
    drop(work);
    assert!(stopper.is_stopped());
    assert_eq!(tree.strong_count(), 0, "a thread is still at work");
}

#[test]
fn what_no_program_could_read_is_refused_before_hashing() {
    let place = folder(&[("one", 1)]);
    let file = fs::File::create(place.path().join("root/huge")).unwrap();
    // All holes: nobody could hash it in the time of a test.
    file.set_len(1 << 43).unwrap();
    let settings = TorrentSettings {
        piece_length: Some(PIECE_LENGTH_SHORTEST),
        ..TorrentSettings::default()
    };
    let error = Creation::start(&place.path().join("root"), settings, threads(1)).unwrap_err();
    assert!(matches!(error, CreateError::Unusable(_)), "{error:?}");
}

#[test]
fn a_hasher_that_panics_says_so_instead_of_leaving_others_waiting() {
    let place = folder(&[("file", 16_384)]);
    let settings = TorrentSettings::default();
    let tree = Tree::look(&place.path().join("root"), &settings, threads(1)).unwrap();
    // Pieces behind the last file: no caller asks for such ones.
    let geometry = Geometry::new(3 * 16_384, 16_384).unwrap();
    let worker = Worker::new(Arc::new(tree), geometry, Stopper::default(), 1);
    // Bound: one job and its answer.
    let (jobs, queue) = crossbeam_channel::bounded(1);
    let (tell, done) = crossbeam_channel::bounded(1);
    jobs.send(Job::Hash(1..3)).unwrap();
    drop(jobs);
    worker.work(&queue, &tell);
    let answer = done.try_recv();
    assert!(
        matches!(answer, Ok(Done::Failed(CreateError::Hasher))),
        "{answer:?}"
    );
}
