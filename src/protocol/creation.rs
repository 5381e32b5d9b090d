//! Writes torrent files of version 1 (BEP 3; BEP 12 tiers, 19 web seeds, 27 private). The same files
//! give the same bytes, whenever and wherever: there is no date in it.

use sha1::{Digest, Sha1};

use crate::limits::{
    PIECE_LENGTH_DEFAULT_MAX_BYTES, PIECE_LENGTH_MADE_MAX_BYTES, PIECE_LENGTH_MADE_MIN_BYTES,
    PIECES_DEFAULT_MAX,
};
use crate::protocol::bencode::Item;
use crate::units::InfoHash;

/// What a torrent is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// One file of so many bytes.
    File(u64),
    /// A directory with these files: the path below it, with `/` between its components, and bytes.
    Directory(&'a [(&'a str, u64)]),
}

/// What a torrent file says.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// The name of the file or directory.
    pub name: &'a str,
    /// What it is.
    pub content: Content<'a>,
    /// Bytes of a piece.
    pub piece_length: u32,
    /// The hashes of the pieces, in order.
    pub hashes: &'a [[u8; 20]],
    /// Trackers, each a tier of its own.
    pub trackers: &'a [String],
    /// Web servers that have it.
    pub web_seeds: &'a [String],
    /// Whether peers may come from the trackers alone.
    pub private: bool,
}

impl Creation<'_> {
    /// The torrent file, and its info-hash. A torrent may have a million files, so that values are
    /// written one by one, their keys in the order that bencode wants.
    pub fn encode(&self) -> (InfoHash, Vec<u8>) {
        let info = self.info();
        let mut torrent = b"d".to_vec();
        if let Some(first) = self.trackers.first() {
            put(&mut torrent, "announce", &Item::from(first.as_str()));
        }
        if self.trackers.len() > 1 {
            let tiers = self.trackers.iter().map(|url| Item::list([url.as_str()]));
            put(&mut torrent, "announce-list", &Item::list(tiers));
        }
        let own_name = concat!("rusty_torrent/", env!("CARGO_PKG_VERSION"));
        put(&mut torrent, "created by", &Item::from(own_name));
        torrent.extend(b"4:info");
        torrent.extend(&info);
        if !self.web_seeds.is_empty() {
            let urls = self.web_seeds.iter().map(String::as_str);
            put(&mut torrent, "url-list", &Item::list(urls));
        }
        torrent.push(b'e');
        (InfoHash(Sha1::digest(&info).into()), torrent)
    }

    fn info(&self) -> Vec<u8> {
        let mut info = b"d".to_vec();
        match self.content {
            Content::File(length) => put(&mut info, "length", &number(length)),
            Content::Directory(files) => {
                info.extend(b"5:filesl");
                for (path, length) in files {
                    let entries =
                        [("length", number(*length)), ("path", Item::list(path.split('/')))];
                    info.extend(Item::dict(entries).encode());
                }
                info.push(b'e');
            }
        }
        put(&mut info, "name", &Item::from(self.name));
        put(&mut info, "piece length", &number(u64::from(self.piece_length)));
        put(&mut info, "pieces", &Item::bytes(self.hashes.as_flattened()));
        if self.private {
            put(&mut info, "private", &number(1));
        }
        info.push(b'e');
        info
    }
}

fn put(dictionary: &mut Vec<u8>, key: &str, value: &Item) {
    dictionary.extend(Item::from(key).encode());
    dictionary.extend(value.encode());
}

fn number(number: u64) -> Item {
    Item::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

/// Bytes of a piece for a torrent of `total` bytes: from some 1,000 to 2,000 pieces, as long as that
/// makes them neither very short nor very long.
pub fn default_piece_length(total: u64) -> u32 {
    let length = total.div_ceil(PIECES_DEFAULT_MAX).checked_next_power_of_two();
    let length = length.and_then(|length| u32::try_from(length).ok()).unwrap_or(u32::MAX);
    length.clamp(PIECE_LENGTH_MADE_MIN_BYTES, PIECE_LENGTH_DEFAULT_MAX_BYTES)
}

/// Bytes of a piece as others take them, too.
///
/// # Errors
/// Which lengths there may be, as they are typed.
pub fn check_piece_length(bytes: u64) -> Result<u32, String> {
    let (least, most) = (PIECE_LENGTH_MADE_MIN_BYTES, PIECE_LENGTH_MADE_MAX_BYTES);
    let length = u32::try_from(bytes).ok().filter(|length| (least..=most).contains(length));
    length
        .filter(|length| length.is_power_of_two())
        .ok_or_else(|| format!("a power of two from {}K to {}M", least >> 10, most >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::metainfo::Metainfo;

    const CREATION: Creation<'_> = Creation {
        name: "a b",
        content: Content::File(100),
        piece_length: 64,
        hashes: &[[1; 20], [2; 20]],
        trackers: &[],
        web_seeds: &[],
        private: false,
    };

    fn strings<const N: usize>(strings: [&str; N]) -> Vec<String> {
        strings.map(str::to_owned).to_vec()
    }

    #[test]
    fn one_file_is_written_as_bep_3_says() {
        let (hash, torrent) = CREATION.encode();
        let info = [
            &b"d6:lengthi100e4:name3:a b12:piece lengthi64e6:pieces40:"[..],
            &[1; 20],
            &[2; 20],
            b"e",
        ]
        .concat();
        let own_name = concat!("rusty_torrent/", env!("CARGO_PKG_VERSION"));
        let begin = format!("d10:created by{}:{own_name}4:info", own_name.len());
        assert_eq!(torrent, [begin.as_bytes(), &info, b"e"].concat());
        assert_eq!(hash.0, <[u8; 20]>::from(Sha1::digest(&info)));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let trackers = strings(["http://a.example/announce", "udp://b.example:1"]);
        let web_seeds = strings(["http://c.example/d%20e/"]);
        let files = [("a", 0), ("deep/deeper/Gr\u{fc}\u{df}e", 60), ("z", 40)];
        let content = Content::Directory(&files);
        let (trackers, web_seeds) = (&trackers[..], &web_seeds[..]);
        let creation = Creation { content, trackers, web_seeds, private: true, ..CREATION };
        let (hash, torrent) = creation.encode();
        let metainfo = Metainfo::parse(&torrent).unwrap();
        assert_eq!((metainfo.info_hash, metainfo.name.as_str()), (hash, "a b"));
        assert!(metainfo.multi_file && metainfo.private && metainfo.renamed_count == 0);
        let found: Vec<_> =
            metainfo.files.iter().map(|file| (file.path.to_str().unwrap(), file.length)).collect();
        assert_eq!(
            found,
            files
                .map(|(path, length)| (format!("a b/{path}"), length))
                .each_ref()
                .map(|(path, length)| (path.as_str(), *length))
        );
        assert_eq!(metainfo.tiers, [vec![trackers[0].clone()], vec![trackers[1].clone()]]);
        assert_eq!(metainfo.mirrors, web_seeds);
        let read: Vec<_> =
            metainfo.geometry.all_pieces().map(|piece| *metainfo.piece_hash(piece)).collect();
        assert_eq!(read, [[1; 20], [2; 20]]);
        let one = Creation { trackers: &trackers[..1], ..creation }.encode().1;
        assert_eq!(Metainfo::parse(&one).unwrap().tiers, [vec![trackers[0].clone()]]);
    }

    #[test]
    fn there_are_some_thousand_pieces() {
        let cases = [
            (1, 16 << 10),
            (32 << 20, 16 << 10),
            ((32 << 20) + 1, 32 << 10),
            (1 << 30, 512 << 10),
            ((1 << 30) + 1, 1 << 20),
            (32 << 30, 16 << 20),
            (1 << 50, 16 << 20),
            (u64::MAX, 16 << 20),
        ];
        for (total, length) in cases {
            assert_eq!(default_piece_length(total), length, "{total}");
            assert_eq!(check_piece_length(u64::from(length)), Ok(length));
        }
    }

    #[test]
    fn odd_piece_lengths_are_refused() {
        for bytes in [0, 1, 8 << 10, (16 << 10) + 1, 3 << 20, 128 << 20, 1 << 32, u64::MAX] {
            assert!(check_piece_length(bytes).is_err(), "{bytes}");
        }
        assert_eq!(check_piece_length(64 << 20), Ok(64 << 20));
    }
}
