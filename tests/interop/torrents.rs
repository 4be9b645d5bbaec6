//! The torrents that travel, and the other people's programs that make them.

use crate::programs::{PYTHON, Program, libtorrent_script};
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who makes a .torrent, and of what kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// mktorrent.
    Mktorrent,
    /// libtorrent: `v1`, `padded` (v1 with padding files) or `hybrid`.
    Libtorrent(&'static str),
}

/// A torrent to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// For messages; names the folder or file as well.
    pub name: &'static str,
    /// Paths below the root and their lengths. One file with an empty path: a single-file torrent.
    pub files: Vec<(String, usize)>,
    /// log2 of the piece length.
    pub piece_bits: u32,
    /// Who makes it.
    pub maker: Maker,
}

/// A torrent and its data.
pub struct Work {
    /// The .torrent.
    pub torrent: PathBuf,
    /// v1, hex.
    pub info_hash: String,
    /// Name of the root.
    pub name: String,
    /// Bytes of data, padding not counted.
    pub size: u64,
    /// The folder that holds the data under its name.
    plain: PathBuf,
    /// The same with padding files written out, where the torrent has some.
    padded: Option<PathBuf>,
}

/// Every kind of torrent that has to arrive.
pub fn every_kind() -> Vec<Plan> {
    let single = |name, length, piece_bits, maker| Plan {
        name,
        files: vec![(String::new(), length)],
        piece_bits,
        maker,
    };
    vec![
        single(
            "many small pieces.bin",
            (9 << 20) + 1,
            14,
            Maker::Libtorrent("v1"),
        ),
        single(
            "few great pieces.bin",
            (40 << 20) + 4_097,
            24,
            Maker::Mktorrent,
        ),
        single("one byte.bin", 1, 15, Maker::Libtorrent("v1")),
        single(
            "whole pieces only.bin",
            8 << 20,
            18,
            Maker::Libtorrent("v1"),
        ),
        Plan {
            name: "corners",
            files: corners(),
            piece_bits: 16,
            maker: Maker::Mktorrent,
        },
        Plan {
            name: "padding",
            files: corners(),
            piece_bits: 15,
            maker: Maker::Libtorrent("padded"),
        },
        Plan {
            name: "hybrid",
            files: corners(),
            piece_bits: 16,
            maker: Maker::Libtorrent("hybrid"),
        },
        Plan {
            name: "ten thousand files",
            files: (0..10_000)
                .map(|n| (format!("{:02}/{n:05}.txt", n % 97), n * 7_919 % 1_201))
                .collect(),
            piece_bits: 18,
            maker: Maker::Mktorrent,
        },
    ]
}

/// Files at every awkward length, in folders, with names from many alphabets.
fn corners() -> Vec<(String, usize)> {
    let mut files: Vec<(String, usize)> =
        [0, 1, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 65_536]
            .iter()
            .map(|length| (format!("lengths/{length}"), *length))
            .collect();
    files.extend((0..60).map(|n| (format!("crumbs/{n:02}"), 37 * n)));
    files.extend([
        ("a/deep/er/place/largest.bin".to_owned(), (5 << 20) + 12_345),
        ("naïve café.txt".to_owned(), 20_000),
        ("日本語/ファイル.bin".to_owned(), 70_001),
        ("Кириллица.bin".to_owned(), 33_333),
        ("with space & 'quote'.bin".to_owned(), 16_000),
        ("zz empty at the end".to_owned(), 0),
    ]);
    files
}

impl Plan {
    /// Writes the data and has the torrent made, all below `desk`.
    pub fn carry_out(&self, announce: &str, desk: &Path) -> Work {
        let desk = desk.join(format!("made-{}", self.name));
        let plain = desk.join("plain");
        fs::create_dir_all(&plain).expect("a folder can be made");
        let mut dice = fastrand::Rng::with_seed(self.files.len() as u64);
        let root = plain.join(self.name);
        for (path, length) in &self.files {
            let path = if path.is_empty() {
                root.clone()
            } else {
                root.join(path)
            };
            fs::create_dir_all(path.parent().expect("below the root"))
                .expect("a folder can be made");
            let mut bytes = vec![0; *length];
            dice.fill(&mut bytes);
            fs::write(path, bytes).expect("a file can be written");
        }
        let torrent = desk.join("it.torrent");
        self.make(announce, &root, &torrent, &desk);
        let (info_hash, padding) = tell(&torrent, &desk);
        let padded = (!padding.is_empty()).then(|| {
            let padded = desk.join("padded");
            copy(&plain, &padded);
            for (path, length) in padding {
                let path = padded.join(path);
                fs::create_dir_all(path.parent().expect("below the root"))
                    .expect("a folder can be made");
                fs::write(path, vec![0; length]).expect("a file can be written");
            }
            padded
        });
        Work {
            torrent,
            info_hash,
            name: self.name.to_owned(),
            size: self.files.iter().map(|(_, length)| *length as u64).sum(),
            plain,
            padded,
        }
    }

    fn make(&self, announce: &str, root: &Path, torrent: &Path, desk: &Path) {
        let mut command = match self.maker {
            Maker::Mktorrent => {
                let mut command = Command::new("mktorrent");
                command.args(["-a", announce, "-l", &self.piece_bits.to_string()]);
                command.arg("-o").arg(torrent).arg(root);
                command
            }
            Maker::Libtorrent(kind) => {
                let mut command = Command::new(PYTHON);
                command.arg(libtorrent_script(desk)).args(["make", kind]);
                command.args([(1_u64 << self.piece_bits).to_string().as_str(), announce]);
                command.args([root, torrent]);
                command
            }
        };
        let done = command
            .output()
            .expect("mktorrent and python3-libtorrent are installed");
        let said = [done.stdout, done.stderr].concat();
        assert!(
            done.status.success(),
            "{}: {}",
            self.name,
            String::from_utf8_lossy(&said)
        );
    }
}

impl Work {
    /// The folder to seed from.
    pub fn folder(&self, with_padding_files: bool) -> &Path {
        match &self.padded {
            Some(padded) if with_padding_files => padded,
            _ => &self.plain,
        }
    }

    /// Panics unless `folder` holds the torrent's files byte for byte and nothing else, but for what
    /// the program is known to do about padding and empty files.
    pub fn assert_arrived(&self, folder: &Path, by: Program) {
        let mut sent = listing(&self.plain.join(&self.name));
        let mut came = listing(&folder.join(&self.name));
        if !by.makes_empty_files() {
            let root = self.plain.join(&self.name);
            sent.retain(|path| {
                path.as_os_str().is_empty()
                    || fs::metadata(root.join(path)).is_ok_and(|file| file.len() > 0)
            });
        }
        if !by.knows_padding()
            && let Some(padded) = &self.padded
        {
            let padding = listing(&padded.join(&self.name));
            came.retain(|path| sent.contains(path) || !padding.contains(path));
        }
        assert_eq!(came, sent, "{}: other files came than were sent", self.name);
        for path in sent {
            let place = Path::new(&self.name).join(&path);
            let place = if path.as_os_str().is_empty() {
                PathBuf::from(&self.name)
            } else {
                place
            };
            let [was, is] =
                [&self.plain, folder].map(|root| fs::read(root.join(&place)).expect("it is there"));
            let differs = was.iter().zip(&is).position(|(was, is)| was != is);
            assert!(
                was == is,
                "{}: {} has {} bytes and should have {}; the first wrong one is at {differs:?}",
                self.name,
                place.display(),
                is.len(),
                was.len()
            );
        }
    }
}

/// Asks libtorrent for a torrent's v1 info-hash and its padding files.
fn tell(torrent: &Path, desk: &Path) -> (String, Vec<(PathBuf, usize)>) {
    let script = libtorrent_script(desk);
    let mut command = Command::new(PYTHON);
    let told = command
        .arg(script)
        .arg("tell")
        .arg(torrent)
        .output()
        .expect("python runs");
    assert!(
        told.status.success(),
        "{}",
        String::from_utf8_lossy(&told.stderr)
    );
    let text = String::from_utf8(told.stdout).expect("text");
    let mut lines = text.lines();
    let info_hash = lines.next().expect("an info-hash").to_owned();
    let padding = lines.filter_map(|line| line.split_once(' '));
    let padding = padding.map(|(length, path)| (path.into(), length.parse().expect("a length")));
    (info_hash, padding.collect())
}

/// The files below `root`, sorted, as paths below it; one empty path if `root` is a file.
pub fn listing(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(place) = folders.pop() {
        if place.is_dir() {
            let entries = fs::read_dir(&place).expect("a folder can be read");
            folders.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if place.exists() {
            found.push(place.strip_prefix(root).expect("below the root").to_owned());
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    found
}

fn copy(from: &Path, to: &Path) {
    for path in listing(from) {
        let place = to.join(&path);
        fs::create_dir_all(place.parent().expect("below the root")).expect("a folder can be made");
        fs::copy(from.join(&path), place).expect("a file can be copied");
    }
}
