//! What the tests say on the wire, byte by byte and without the library.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::torrent::Payload;

/// What is asked for at a time.
pub const BLOCK: usize = 16 << 10;

/// Some bytes of a piece: the piece, where in it they begin, and how many there are.
pub type Range = (usize, usize, usize);

/// A connection from that address. An IPv6 one comes from wherever the system likes.
pub fn dial(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    match to.ip() {
        IpAddr::V6(_) => TcpStream::connect(to),
        IpAddr::V4(_) => {
            let end = socket(AddressFamily::INET, SocketType::STREAM, None)?;
            bind(&end, &SocketAddr::from((from, 0)))?;
            connect(&end, &to)?;
            Ok(end.into())
        }
    }
}

pub fn read_handshake(stream: &mut TcpStream) -> io::Result<[u8; 68]> {
    let mut bytes = [0; 68];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The blocks of a piece.
pub fn blocks_of(payload: &Payload, piece: usize) -> Vec<Range> {
    let start = piece * payload.piece_length;
    let length = payload.piece_length.min(payload.bytes.len().saturating_sub(start));
    (0..length).step_by(BLOCK).map(|begin| (piece, begin, BLOCK.min(length - begin))).collect()
}

pub fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[id], body].concat()
}

pub fn numbers((piece, begin, length): Range) -> Vec<u8> {
    let bytes = |number| u32::try_from(number).unwrap().to_be_bytes();
    [piece, begin, length].into_iter().flat_map(bytes).collect()
}
