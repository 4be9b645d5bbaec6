//! The same input, the same info-hash: what `ropewalk create` makes is what mktorrent and libtorrent
//! make of it.
//!
//! mktorrent orders files by the bytes of their paths, as we do. libtorrent takes them in the order in
//! which they are added, which its own `add_files` leaves to the file system; so it is told ours.

use crate::programs::PYTHON;
use crate::torrents::listing;
use ropewalk::create::TorrentFile;
use ropewalk::protocol::metainfo::Metainfo;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Adds files in the order of its arguments: piece length, output, folder of the root, and pairs of a
/// path below that folder and a length.
const LIBTORRENT: &str = r#"
import sys
import libtorrent as lt
piece_length, out, folder, *rest = sys.argv[1:]
files = lt.file_storage()
for path, length in zip(rest[::2], rest[1::2]):
    files.add_file(path, int(length))
torrent = lt.create_torrent(files, int(piece_length), lt.create_torrent.v1_only)
lt.set_piece_hashes(torrent, folder)
open(out, "wb").write(lt.bencode(torrent.generate()))
"#;

/// The folder with the data, and the .torrent files made of it.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    fn write(&self, path: &str, length: usize) {
        let path = self.data().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Runs a program that writes the file `out` on this desk; what is in it.
    fn make(&self, program: &str, words: impl FnOnce(&mut Command, &Path)) -> TorrentFile {
        let out = self.0.path().join("out.torrent");
        let _ = fs::remove_file(&out);
        let mut command = Command::new(program);
        command.current_dir(self.data());
        words(&mut command, &out);
        let done = command.output().expect("it is installed");
        let said = [done.stdout, done.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(done.status.success(), "{program}: {said}");
        let bytes = fs::read(out).unwrap();
        let metainfo = Metainfo::from_bytes(&bytes).unwrap();
        TorrentFile { bytes, metainfo }
    }

    fn ropewalk(&self, root: &str, bits: u32, more: &[&str]) -> TorrentFile {
        self.make(env!("CARGO_BIN_EXE_ropewalk"), |command, out| {
            let length = (1u64 << bits).to_string();
            command
                .args(["create", "--piece-length", &length])
                .args(more);
            command.arg("-o").arg(out).arg(root);
        })
    }

    fn mktorrent(&self, root: &str, bits: u32, more: &[&str]) -> TorrentFile {
        self.make("mktorrent", |command, out| {
            command.args(["-l", &bits.to_string()]).args(more);
            command.arg("-o").arg(out).arg(root);
        })
    }

    fn libtorrent(&self, root: &str, bits: u32) -> TorrentFile {
        self.make(PYTHON, |command, out| {
            let length = (1u64 << bits).to_string();
            command
                .args(["-c", LIBTORRENT, &length])
                .arg(out)
                .arg(self.data());
            for path in listing(&self.data().join(root)) {
                let path = if path.as_os_str().is_empty() {
                    PathBuf::from(root)
                } else {
                    Path::new(root).join(path)
                };
                let length = fs::metadata(self.data().join(&path)).unwrap().len();
                command.arg(path).arg(length.to_string());
            }
        })
    }
}

/// Fails with the two info dictionaries side by side, not with two hashes.
fn assert_same(ours: &TorrentFile, theirs: &TorrentFile, by: &str) {
    let text = |torrent: &TorrentFile| {
        let info = &torrent.bytes[torrent.metainfo.info.clone()];
        String::from_utf8_lossy(info).into_owned()
    };
    assert_eq!(text(ours), text(theirs), "{by}");
    assert_eq!(ours.metainfo.info_hash, theirs.metainfo.info_hash, "{by}");
}

#[test]
#[ignore = "needs mktorrent, python3-libtorrent"]
fn single_files_have_the_info_hash_that_others_give_them() {
    let desk = Desk::new();
    for (name, length, bits) in [
        ("one byte", 1, 14),
        ("whole pieces.bin", 1 << 20, 15),
        ("日本語.bin", (1 << 20) + 1, 18),
        ("less than a piece.bin", 300_000, 24),
    ] {
        desk.write(name, length);
        let ours = desk.ropewalk(name, bits, &[]);
        assert_same(&ours, &desk.libtorrent(name, bits), name);
        // mktorrent 1.1 takes no shorter pieces.
        if bits >= 15 {
            assert_same(&ours, &desk.mktorrent(name, bits, &[]), name);
        }
    }
}

#[test]
#[ignore = "needs mktorrent, python3-libtorrent"]
fn folders_have_the_info_hash_that_others_give_them() {
    let desk = Desk::new();
    for (path, length) in [
        // A slash stands behind a dash and a dot: whole paths are compared, not names.
        ("a/z", 10_000),
        ("a-b/z", 20_000),
        ("a.txt", 30_000),
        ("a/deep/er/place/largest.bin", 3_000_001),
        ("B", 5),
        ("b", 6),
        ("empty", 0),
        ("zz empty at the end", 0),
        ("naïve café.txt", 20_000),
        ("日本語/ファイル.bin", 70_001),
        ("with space & 'quote'.bin", 16_384),
    ] {
        desk.write(&format!("album/{path}"), length);
    }
    for number in 0..300 {
        desk.write(
            &format!("album/crumbs/{:02}/{number}", number % 17),
            number * 37,
        );
    }
    for bits in [15, 18, 24] {
        let ours = desk.ropewalk("album", bits, &[]);
        assert_same(&ours, &desk.mktorrent("album", bits, &[]), "mktorrent");
        assert_same(&ours, &desk.libtorrent("album", bits), "libtorrent");
    }
}

#[test]
#[ignore = "needs mktorrent"]
fn hidden_names_links_and_options_make_the_info_hash_of_mktorrent() {
    let desk = Desk::new();
    desk.write("album/.hidden/x", 100);
    desk.write("album/.dot", 200);
    desk.write("album/seen", 30_000);
    desk.write("elsewhere/y", 400);
    symlink("../elsewhere", desk.data().join("album/folder")).unwrap();
    symlink("seen", desk.data().join("album/again")).unwrap();
    let ours = [
        "--include-hidden",
        "--private",
        "--source=here",
        "--name=other",
        "--tracker=http://a.example/announce",
        "--tracker=http://b.example/announce,http://c.example/announce",
        "--webseed=http://d.example/",
    ];
    let theirs = [
        "-p",
        "-s",
        "here",
        "-n",
        "other",
        "-a",
        "http://a.example/announce",
        "-a",
        "http://b.example/announce,http://c.example/announce",
        "-w",
        "http://d.example/",
    ];
    let ours = desk.ropewalk("album", 16, &ours);
    let theirs = desk.mktorrent("album", 16, &theirs);
    assert_same(&ours, &theirs, "mktorrent");
    assert_eq!(ours.metainfo.trackers, theirs.metainfo.trackers);
    assert_eq!(ours.metainfo.webseeds, theirs.metainfo.webseeds);
}
