//! A tracker in the test's own process, HTTP and UDP on loopback: it knows the peers that it was
//! told of and those that announce themselves, remembers what it was asked, and misbehaves on
//! request.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How the tracker misbehaves, until it is told otherwise.
#[derive(Clone, Debug)]
pub enum Fault {
    /// HTTP: this status, with this body.
    Status(u16, Vec<u8>),
    /// HTTP: status 200 with this body.
    Body(Vec<u8>),
    /// HTTP: this body, compressed.
    Gzip(Vec<u8>),
    /// HTTP: this body, of which a longer length was promised.
    CutBody(Vec<u8>),
    /// HTTP: this body, in chunks of a byte.
    Chunked(Vec<u8>),
    /// HTTP: exactly these bytes and nothing else.
    Raw(Vec<u8>),
    /// HTTP: redirects to itself, again and again.
    RedirectLoop,
    /// HTTP: redirects there once; the answer to that is a good one.
    RedirectTo(String),
    /// HTTP: redirects to itself this many times, by a relative URL, then answers.
    Redirects(usize),
    /// HTTP: a body without end.
    EndlessBody,
    /// HTTP: a header without end.
    EndlessHead,
    /// HTTP: headers without end.
    EndlessHeaders,
    /// HTTP: a byte of the answer at a time, with this pause between them.
    Slow(Duration),
    /// HTTP: reads the request and closes.
    Close,
    /// HTTP and UDP: the tracker's own error.
    Failure(Vec<u8>),
    /// HTTP and UDP: never answers.
    Silent,
    /// UDP: ignores this many datagrams.
    Drop(usize),
    /// UDP: before each answer, others that answer nothing: empty, short, from another port, with
    /// a wrong transaction id or action.
    Strays,
    /// UDP: only answers with a wrong transaction id.
    WrongTransaction,
    /// UDP: answers from another port.
    FromElsewhere,
    /// UDP: takes no connection id but a new one for each announce.
    ForgetsConnections,
}

/// One announce, as it came in.
#[derive(Clone, Debug, Default)]
pub struct Announced {
    /// Whether it came by UDP.
    pub udp: bool,
    /// Where it came from.
    pub from: Option<SocketAddr>,
    /// HTTP: the request's target, as sent.
    pub target: String,
    /// HTTP: the headers in their order, names as sent.
    pub headers: Vec<(String, String)>,
    /// UDP: what followed the 98 bytes.
    pub options: Vec<u8>,
    pub info_hash: Vec<u8>,
    pub peer_id: Vec<u8>,
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
    /// `started`, `completed`, `stopped` or nothing.
    pub event: String,
    pub key: u32,
    pub numwant: u32,
    pub tracker_id: Option<Vec<u8>>,
}

#[derive(Default)]
struct Book {
    fault: Option<Fault>,
    interval: i64,
    min_interval: Option<i64>,
    tracker_id: Option<Vec<u8>>,
    announces: Vec<Announced>,
    /// Peers that every torrent has.
    peers: Vec<SocketAddr>,
    /// Peers that announced themselves, by info-hash.
    swarms: HashMap<Vec<u8>, Vec<SocketAddr>>,
    /// Connections that are held open and never answered.
    held: Vec<TcpStream>,
    /// Connection ids that were given out.
    connections: Vec<u64>,
    redirects_left: usize,
    drops_left: usize,
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    announced: Condvar,
    over: AtomicBool,
    datagrams: AtomicUsize,
    connects: AtomicUsize,
}

/// A running tracker. It ends when it is dropped.
pub struct Tracker {
    shared: Arc<Shared>,
    http: SocketAddr,
    udp: SocketAddr,
}

impl Tracker {
    pub fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).unwrap()
    }

    /// At `ip`, if the machine has that.
    pub fn start_at(ip: IpAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((ip, 0))?;
        let socket = UdpSocket::bind((ip, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (http, udp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        shared.book().interval = 1800;
        let server = Arc::clone(&shared);
        thread::spawn(move || serve_http(&listener, http, &server));
        let server = Arc::clone(&shared);
        thread::spawn(move || serve_udp(&socket, &server));
        Ok(Self { shared, http, udp })
    }

    pub fn http_url(&self) -> String {
        format!("http://{}/announce", self.http)
    }

    pub fn udp_url(&self) -> String {
        format!("udp://{}/announce", self.udp)
    }

    /// `None` ends a fault.
    pub fn set_fault(&self, fault: impl Into<Option<Fault>>) {
        let mut book = self.shared.book();
        book.fault = fault.into();
        book.redirects_left = match book.fault {
            Some(Fault::Redirects(count)) => count,
            Some(Fault::RedirectTo(_)) => 1,
            _ => 0,
        };
        book.drops_left = match book.fault {
            Some(Fault::Drop(count)) => count,
            _ => 0,
        };
    }

    /// A tracker that begins with a fault.
    pub fn with_fault(fault: Fault) -> Self {
        let tracker = Self::start();
        tracker.set_fault(fault);
        tracker
    }

    /// A peer that is named to everybody, whatever the torrent.
    pub fn add_peer(&self, peer: SocketAddr) {
        self.shared.book().peers.push(peer);
    }

    /// What HTTP answers ask for; seconds.
    pub fn set_intervals(&self, interval: i64, min_interval: Option<i64>) {
        let mut book = self.shared.book();
        (book.interval, book.min_interval) = (interval, min_interval);
    }

    /// What HTTP answers want to be sent back.
    pub fn set_tracker_id(&self, id: &[u8]) {
        self.shared.book().tracker_id = Some(id.to_vec());
    }

    /// Every announce so far. One that was met by a fault counts, if it was read.
    pub fn announces(&self) -> Vec<Announced> {
        self.shared.book().announces.clone()
    }

    /// Waits until there were `count` announces, and returns all; fewer if `patience` ends first.
    pub fn wait_for_announces(&self, count: usize, patience: Duration) -> Vec<Announced> {
        let until = Instant::now() + patience;
        let mut book = self.shared.book();
        while book.announces.len() < count {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            book = self.shared.announced.wait_timeout(book, left).unwrap().0;
        }
        book.announces.clone()
    }

    /// Datagrams received, of any kind and fate.
    pub fn datagrams(&self) -> usize {
        self.shared.datagrams.load(SeqCst)
    }

    /// Connection ids given out.
    pub fn connects(&self) -> usize {
        self.shared.connects.load(SeqCst)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        let _ = TcpStream::connect(self.http); // wakes the accept
        self.shared.book().held.clear();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Writes the announce down and returns the peers for it, without the one that asks.
    fn enter(&self, announce: Announced) -> Vec<SocketAddr> {
        let mut book = self.book();
        let ip = announce.from.map(|from| from.ip());
        let itself = ip.map(|ip| SocketAddr::new(ip, announce.port));
        let swarm = book.swarms.entry(announce.info_hash.clone()).or_default();
        swarm.retain(|peer| Some(*peer) != itself);
        let others = swarm.clone();
        if announce.event != "stopped" {
            swarm.extend(itself);
        }
        let wanted = announce.numwant as usize;
        let peers = book.peers.iter().copied().chain(others);
        let peers = peers.filter(|peer| Some(*peer) != itself).take(wanted).collect();
        book.announces.push(announce);
        self.announced.notify_all();
        peers
    }
}

// ---- HTTP --------------------------------------------------------------------------------------

fn serve_http(listener: &TcpListener, own: SocketAddr, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.over.load(SeqCst) {
            break;
        }
        let shared = Arc::clone(shared);
        thread::spawn(move || answer_http(stream, own, &shared));
    }
}

fn answer_http(mut stream: TcpStream, own: SocketAddr, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let fault = shared.book().fault.clone();
    let announce = match read_request(&stream) {
        Ok(Some(announce)) => announce,
        Ok(None) => return Ok(()),
        Err(_) => return respond(&mut stream, 400, "", b"not a request"),
    };
    if matches!(fault, Some(Fault::Close)) {
        return Ok(());
    }
    let query = announce.target.split_once('?').map_or("", |(_, query)| query).to_owned();
    let peers = shared.enter(announce);
    if shared.book().redirects_left > 0 {
        shared.book().redirects_left -= 1;
        let there = match fault {
            Some(Fault::RedirectTo(there)) => there,
            _ => format!("/again?{query}"),
        };
        return stream.write_all(redirect(&there).as_bytes());
    }
    let good = good_body(&shared.book(), &peers);
    match fault {
        Some(Fault::Status(status, body)) => respond(&mut stream, status, "", &body),
        Some(Fault::Body(body)) => respond(&mut stream, 200, "", &body),
        Some(Fault::Gzip(body)) => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            packed.write_all(&body)?;
            respond(&mut stream, 200, "Content-Encoding: gzip\r\n", &packed.finish()?)
        }
        Some(Fault::CutBody(body)) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len() + 100);
            stream.write_all(&[head.as_bytes(), &body].concat())
        }
        Some(Fault::Chunked(body)) => {
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            body.iter().for_each(|byte| answer.extend([b'1', 13, 10, *byte, 13, 10]));
            answer.extend(b"0\r\n\r\n");
            stream.write_all(&answer)
        }
        Some(Fault::Raw(bytes)) => stream.write_all(&bytes),
        Some(Fault::RedirectLoop) => {
            stream.write_all(redirect(&format!("http://{own}/again")).as_bytes())
        }
        Some(Fault::EndlessBody) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nd5:peers99999999:")?;
            write_without_end(&mut stream, b"x")
        }
        Some(Fault::EndlessHead) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
            write_without_end(&mut stream, b"y")
        }
        Some(Fault::EndlessHeaders) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            write_without_end(&mut stream, b"X: y\r\n")
        }
        Some(Fault::Slow(pause)) => {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", good.len());
            for byte in [head.as_bytes(), &good].concat() {
                stream.write_all(&[byte])?;
                thread::sleep(pause);
            }
            Ok(())
        }
        Some(Fault::Failure(reason)) => {
            let mut body = format!("d14:failure reason{}:", reason.len()).into_bytes();
            body.extend(reason);
            body.push(b'e');
            respond(&mut stream, 200, "", &body)
        }
        Some(Fault::Silent) => {
            shared.book().held.push(stream);
            Ok(())
        }
        _ => respond(&mut stream, 200, "", &good),
    }
}

fn redirect(there: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n")
}

fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> io::Result<()> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat())
}

fn write_without_end(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let block = bytes.repeat(4096);
    loop {
        stream.write_all(&block)?;
    }
}

fn good_body(book: &Book, peers: &[SocketAddr]) -> Vec<u8> {
    let mut body = format!("d8:intervali{}e", book.interval).into_bytes();
    if let Some(seconds) = book.min_interval {
        body.extend(format!("12:min intervali{seconds}e").bytes());
    }
    for (key, of_v6) in [("5:peers", false), ("6:peers6", true)] {
        let list = compact(peers, of_v6);
        body.extend(format!("{key}{}:", list.len()).bytes());
        body.extend(list);
    }
    if let Some(id) = &book.tracker_id {
        body.extend(format!("10:tracker id{}:", id.len()).bytes());
        body.extend(id);
    }
    body.push(b'e');
    body
}

fn compact(peers: &[SocketAddr], of_v6: bool) -> Vec<u8> {
    let mut list = Vec::new();
    for peer in peers {
        match peer {
            SocketAddr::V4(peer) if !of_v6 => list.extend(peer.ip().octets()),
            SocketAddr::V6(peer) if of_v6 => list.extend(peer.ip().octets()),
            _ => continue,
        }
        list.extend(peer.port().to_be_bytes());
    }
    list
}

fn read_request(stream: &TcpStream) -> io::Result<Option<Announced>> {
    let mut lines = BufReader::new(stream.take(64 << 10)).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_owned(), value.to_owned()));
    }
    let query: HashMap<String, Vec<u8>> = target
        .split_once('?')
        .map_or("", |(_, query)| query)
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), percent_decode(value)))
        .collect();
    let bytes = |key: &str| query.get(key).cloned().unwrap_or_default();
    let text = |key: &str| String::from_utf8_lossy(&bytes(key)).into_owned();
    let number = |key: &str| text(key).parse().unwrap_or(0_u64);
    Ok(Some(Announced {
        udp: false,
        from: stream.peer_addr().ok(),
        headers,
        options: Vec::new(),
        info_hash: bytes("info_hash"),
        peer_id: bytes("peer_id"),
        port: u16::try_from(number("port")).unwrap_or(0),
        uploaded: number("uploaded"),
        downloaded: number("downloaded"),
        left: number("left"),
        event: text("event"),
        key: u32::from_str_radix(&text("key"), 16).unwrap_or(0),
        numwant: u32::try_from(number("numwant")).unwrap_or(0),
        tracker_id: query.get("trackerid").cloned(),
        target,
    }))
}

/// Undoes the escapes of a URL.
pub fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let mut digit = || char::from(bytes.next().unwrap_or(b'0')).to_digit(16).unwrap_or(0);
        decoded.push(if byte == b'%' {
            u8::try_from(digit() * 16 + digit()).unwrap_or(0)
        } else {
            byte
        });
    }
    decoded
}

// ---- UDP ---------------------------------------------------------------------------------------

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let ip = socket.local_addr().unwrap().ip();
    let elsewhere = UdpSocket::bind((ip, 0)).unwrap();
    let mut buffer = [0; 4096];
    while !shared.over.load(SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        shared.datagrams.fetch_add(1, SeqCst);
        let fault = {
            let mut book = shared.book();
            if book.drops_left > 0 {
                book.drops_left -= 1;
                continue;
            }
            book.fault.clone()
        };
        let Some(answer) = answer_udp(&buffer[..length], from, fault.as_ref(), shared) else {
            continue;
        };
        let wrong = {
            let mut wrong = answer.clone();
            wrong[4] ^= 1;
            wrong
        };
        let _ = match fault {
            Some(Fault::Silent) => continue,
            Some(Fault::WrongTransaction) => socket.send_to(&wrong, from),
            Some(Fault::FromElsewhere) => elsewhere.send_to(&answer, from),
            Some(Fault::Strays) => {
                let other_action = [&[0, 0, 0, 9], &answer[4..]].concat();
                for stray in [&[][..], &answer[..7], &answer[..12], &wrong, &other_action] {
                    let _ = socket.send_to(stray, from);
                }
                let _ = elsewhere.send_to(&answer, from);
                socket.send_to(&answer, from)
            }
            _ => socket.send_to(&answer, from),
        };
    }
}

fn answer_udp(
    datagram: &[u8],
    from: SocketAddr,
    fault: Option<&Fault>,
    shared: &Shared,
) -> Option<Vec<u8>> {
    let u32_at = |at: usize| Some(u32::from_be_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
    let u64_at = |at: usize| Some(u64::from_be_bytes(datagram.get(at..at + 8)?.try_into().ok()?));
    let transaction = u32_at(12)?.to_be_bytes();
    let error = |text: &[u8]| [&[0, 0, 0, 3], &transaction[..], text].concat();
    if let (8..=16, 0x0417_2710_1980, 0) = (datagram.len(), u64_at(0)?, u32_at(8)?) {
        let number = shared.connects.fetch_add(1, SeqCst) as u64;
        let id = 0x5eed_0000_0000_0000 + number;
        shared.book().connections.push(id);
        return Some([&[0, 0, 0, 0], &transaction[..], &id.to_be_bytes()].concat());
    }
    if datagram.len() < 98 || u32_at(8)? != 1 {
        return None;
    }
    let mut connections = shared.book().connections.clone();
    if matches!(fault, Some(Fault::ForgetsConnections)) {
        // Each id is good for one announce.
        shared.book().connections.clear();
        connections.drain(..connections.len().saturating_sub(1));
    }
    if !connections.contains(&u64_at(0)?) {
        return Some(error(b"Connection ID missmatch."));
    }
    let peers = shared.enter(Announced {
        udp: true,
        from: Some(from),
        options: datagram[98..].to_vec(),
        info_hash: datagram[16..36].to_vec(),
        peer_id: datagram[36..56].to_vec(),
        downloaded: u64_at(56)?,
        left: u64_at(64)?,
        uploaded: u64_at(72)?,
        event: ["", "completed", "started", "stopped"].get(u32_at(80)? as usize)?.to_string(),
        key: u32_at(88)?,
        numwant: u32_at(92)?,
        port: u16::from_be_bytes(datagram[96..98].try_into().ok()?),
        ..Announced::default()
    });
    if let Some(Fault::Failure(reason)) = fault {
        return Some(error(reason));
    }
    let interval = u32::try_from(shared.book().interval).unwrap_or(0);
    let mut answer = [&[0, 0, 0, 1], &transaction[..]].concat();
    for number in [interval, 0, 1] {
        answer.extend(number.to_be_bytes());
    }
    answer.extend(compact(&peers, from.is_ipv6()));
    Some(answer)
}
