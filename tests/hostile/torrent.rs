//! Torrents made byte by byte, so that they can say what no maker would write.

use std::sync::Arc;

/// A torrent and the bytes it stands for.
#[derive(Clone)]
pub struct Torrent {
    /// The info dictionary.
    info: Vec<u8>,
    /// Tiers of trackers.
    tiers: Vec<Vec<String>>,
    /// All files laid end to end.
    pub content: Arc<[u8]>,
    /// Bytes of a piece.
    pub piece_length: usize,
}

/// Bytes as a bencoded string.
pub fn string(bytes: &[u8]) -> Vec<u8> {
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

/// `length` bytes that look like nothing, always the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes
}

fn pieces(content: &[u8], piece_length: usize) -> Vec<u8> {
    let digests: Vec<u8> = content
        .chunks(piece_length)
        .flat_map(|piece| sha1_smol::Sha1::from(piece).digest().bytes())
        .collect();
    string(&digests)
}

impl Torrent {
    /// One file.
    pub fn file(name: &[u8], length: usize, piece_length: usize) -> Torrent {
        let content: Arc<[u8]> = noise(length).into();
        let info = [
            format!("d6:lengthi{length}e4:name").as_bytes(),
            &string(name),
            format!("12:piece lengthi{piece_length}e6:pieces").as_bytes(),
            &pieces(&content, piece_length),
            b"e",
        ]
        .concat();
        Torrent {
            info,
            tiers: Vec::new(),
            content,
            piece_length,
        }
    }

    /// A folder of files, each with the elements of its path and its length.
    pub fn folder(name: &[u8], files: &[(&[&[u8]], usize)], piece_length: usize) -> Torrent {
        let content: Arc<[u8]> = noise(files.iter().map(|(_, length)| length).sum()).into();
        let mut info = b"d5:filesl".to_vec();
        for (path, length) in files {
            info.extend(format!("d6:lengthi{length}e4:pathl").as_bytes());
            info.extend(path.iter().flat_map(|element| string(element)));
            info.extend(b"ee");
        }
        info.extend(b"e4:name");
        info.extend(string(name));
        info.extend(format!("12:piece lengthi{piece_length}e6:pieces").as_bytes());
        info.extend(pieces(&content, piece_length));
        info.push(b'e');
        Torrent {
            info,
            tiers: Vec::new(),
            content,
            piece_length,
        }
    }

    /// The same with trackers, one a tier.
    pub fn announced(mut self, trackers: &[&str]) -> Torrent {
        self.tiers = trackers.iter().map(|url| vec![(*url).into()]).collect();
        self
    }

    /// The .torrent file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"d".to_vec();
        if let Some(first) = self.tiers.first() {
            bytes.extend(b"8:announce");
            bytes.extend(string(first[0].as_bytes()));
            bytes.extend(b"13:announce-listl");
            for tier in &self.tiers {
                bytes.push(b'l');
                bytes.extend(tier.iter().flat_map(|url| string(url.as_bytes())));
                bytes.push(b'e');
            }
            bytes.push(b'e');
        }
        bytes.extend(b"4:info");
        bytes.extend(&self.info);
        bytes.push(b'e');
        bytes
    }

    /// Which torrent it is.
    pub fn info_hash(&self) -> [u8; 20] {
        sha1_smol::Sha1::from(&self.info).digest().bytes()
    }

    /// How many pieces it has.
    pub fn pieces(&self) -> usize {
        self.content.len().div_ceil(self.piece_length)
    }

    /// The run of content that a request names.
    pub fn block(&self, index: u32, begin: u32, length: u32) -> &[u8] {
        let start = index as usize * self.piece_length + begin as usize;
        &self.content[start..start + length as usize]
    }

    /// All requests that together fetch everything, as (index, begin, length).
    pub fn requests(&self) -> Vec<(u32, u32, u32)> {
        let mut all = Vec::new();
        for (index, piece) in self.content.chunks(self.piece_length).enumerate() {
            for (number, block) in piece.chunks(16_384).enumerate() {
                all.push((index as u32, number as u32 * 16_384, block.len() as u32));
            }
        }
        all
    }

    /// The bitfield message of one who has everything.
    pub fn full_bitfield(&self) -> Vec<u8> {
        let mut bits = vec![0xff_u8; self.pieces().div_ceil(8)];
        let spare = bits.len() * 8 - self.pieces();
        if let Some(last) = bits.last_mut() {
            *last <<= spare;
        }
        bits
    }
}
