//! A SOCKS5 proxy (RFC 1928, RFC 1929): what goes through it comes from an address of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::wire::dial;

/// Where everything comes from that goes through it.
pub const EXIT: Ipv4Addr = Ipv4Addr::new(127, 66, 6, 6);
const CONNECT: u8 = 1;
const REFUSED: u8 = 5;

/// The proxy. Names it knows are those that end with `.invalid`: this machine's.
pub struct Socks {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Socks {
    /// Lets everybody in, or those who have this name and password.
    pub fn start(login: Option<(&'static str, &'static str)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let book = Arc::clone(&book);
                thread::spawn(move || drop(serve(stream.unwrap(), login, &book)));
            }
        });
        Self { address, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it was asked to connect to, as it was told.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    login: Option<(&str, &str)>,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let [5, methods] = read::<2>(&mut stream)? else { return Ok(()) };
    let mut offered = vec![0; usize::from(methods)];
    stream.read_exact(&mut offered)?;
    let method = if login.is_some() { 2 } else { 0 };
    if !offered.contains(&method) {
        return stream.write_all(&[5, 0xff]);
    }
    stream.write_all(&[5, method])?;
    if let Some((name, password)) = login {
        let [1] = read::<1>(&mut stream)? else { return Ok(()) };
        let (heard_name, heard_password) = (read_text(&mut stream)?, read_text(&mut stream)?);
        let right = heard_name == name && heard_password == password;
        stream.write_all(&[1, u8::from(!right)])?;
        if !right {
            return Ok(());
        }
    }
    let [5, CONNECT, _, kind] = read::<4>(&mut stream)? else { return Ok(()) };
    let host = match kind {
        1 => Ipv4Addr::from(read::<4>(&mut stream)?).to_string(),
        4 => format!("[{}]", Ipv6Addr::from(read::<16>(&mut stream)?)),
        _ => read_text(&mut stream)?,
    };
    let port = u16::from_be_bytes(read::<2>(&mut stream)?);
    asked.lock().unwrap().push(format!("{host}:{port}"));
    let host = if host.ends_with(".invalid") { "127.0.0.1" } else { &host };
    let to = format!("{host}:{port}").parse().map_err(io::Error::other)?;
    let Ok(mut there) = dial(to, EXIT) else {
        return stream.write_all(&[5, REFUSED, 0, 1, 0, 0, 0, 0, 0, 0]);
    };
    stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (mut back, mut forth) = (there.try_clone()?, stream.try_clone()?);
    let answers = thread::spawn(move || {
        let _ended = io::copy(&mut back, &mut forth);
        let _closed = forth.shutdown(Shutdown::Write);
    });
    let _ended = io::copy(&mut stream, &mut there);
    let _closed = there.shutdown(Shutdown::Write);
    answers.join().map_err(|_| io::ErrorKind::Other.into())
}

fn read<const LENGTH: usize>(stream: &mut TcpStream) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn read_text(stream: &mut TcpStream) -> io::Result<String> {
    let [length] = read::<1>(stream)?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text)?;
    String::from_utf8(text).map_err(io::Error::other)
}
