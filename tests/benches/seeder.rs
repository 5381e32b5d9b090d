//! A seeder that does nothing but send, as fast as it can: from memory, many blocks to a write.

use std::io::{self, IoSlice, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::torrent::Payload;

const REQUEST_LENGTH: usize = 17;
/// Blocks to one write: two parts each, and the kernel takes 1024.
const BLOCKS_AT_ONCE: usize = 64;

/// Listens on loopback until the program ends.
pub fn start(payload: &Payload) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, payload) = (listener.local_addr()?, payload.clone());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // The other side closes when it has all: that is how each of them ends.
            let _closed = serve(stream, &payload);
        }
    });
    Ok(address)
}

fn serve(mut stream: TcpStream, payload: &Payload) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut theirs = [0; 68];
    stream.read_exact(&mut theirs)?;
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\x04".to_vec();
    hello.extend(payload.info_hash);
    hello.extend(b"-BN0001-000000000000");
    // "Have all" (BEP 6), "unchoke".
    hello.extend([0, 0, 0, 1, 0x0e, 0, 0, 0, 1, 1]);
    stream.write_all(&hello)?;
    let mut inbox = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        inbox.extend_from_slice(&buffer[..read]);
        let (mut at, mut asked) = (0, Vec::new());
        while let Some(prefix) = inbox[at..].first_chunk::<4>() {
            let length = 4 + u32::from_be_bytes(*prefix) as usize;
            let Some(message) = inbox.get(at..at + length) else { break };
            if length == REQUEST_LENGTH && message[4] == 6 {
                asked.push(request(message));
            }
            at += length;
        }
        inbox.drain(..at);
        for batch in asked.chunks(BLOCKS_AT_ONCE) {
            send(&mut stream, payload, batch)?;
        }
    }
}

/// Piece, begin, length.
fn request(message: &[u8]) -> [usize; 3] {
    let number = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().unwrap()) as usize;
    [number(5), number(9), number(13)]
}

fn send(stream: &mut TcpStream, payload: &Payload, asked: &[[usize; 3]]) -> io::Result<()> {
    let header = |[piece, begin, length]: [usize; 3]| {
        let mut header = [0; 13];
        header[..4].copy_from_slice(&(length as u32 + 9).to_be_bytes());
        header[4] = 7;
        header[5..9].copy_from_slice(&(piece as u32).to_be_bytes());
        header[9..].copy_from_slice(&(begin as u32).to_be_bytes());
        header
    };
    let headers: Vec<[u8; 13]> = asked.iter().copied().map(header).collect();
    let mut parts = Vec::new();
    for (header, [piece, begin, length]) in headers.iter().zip(asked) {
        let block = payload.block(*piece, *begin, *length).ok_or(io::ErrorKind::InvalidData)?;
        parts.extend([IoSlice::new(header), IoSlice::new(block)]);
    }
    let mut parts = parts.as_mut_slice();
    while !parts.is_empty() {
        let sent = stream.write_vectored(parts)?;
        IoSlice::advance_slices(&mut parts, sent);
    }
    Ok(())
}
