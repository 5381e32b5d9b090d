//! A web server in the test's own process: it has the files of a torrent, answers requests for parts
//! of them, remembers what it was asked, and misbehaves on request.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::torrent::Torrent;
use super::tracker::percent_decode;

/// What no test waits for.
const LIMIT: Duration = Duration::from_secs(40);
/// Bytes that are sent at a time.
const CHUNK: usize = 16 << 10;

/// How the server misbehaves, until it is told otherwise.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and these lines of a head, with a short body.
    Status(u16, String),
    /// The whole file with status 200, whatever part was asked for.
    Whole,
    /// The same, and its length is not told.
    WholeWithoutLength,
    /// `Content-Range` names so many bytes further on.
    Shifted(u64),
    /// `Content-Range` is missing.
    NoContentRange,
    /// `Content-Range` names a file of one byte more.
    OtherFile,
    /// `Content-Length` is so many bytes longer or shorter than what was asked for.
    Length(i64),
    /// The body ends after so many bytes, with the connection.
    Cut(usize),
    /// The body stops after so many bytes, and nothing more is heard.
    Stops(usize),
    /// The right number of bytes, of which the first is wrong.
    WrongBytes,
    /// No length, and after the right bytes others without end.
    Endless,
    /// A byte at a time, with this pause behind each.
    Trickle(Duration),
    /// Never answers.
    Silent,
    /// Redirects there, with the path behind it.
    RedirectTo(String),
    /// Redirects to itself this many times in a row, by a relative URL, then answers.
    Redirects(usize),
    /// Exactly these bytes and nothing else.
    Raw(Vec<u8>),
    /// Reads the request and closes.
    Close,
}

/// One request, as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// As sent.
    pub target: String,
    /// The bytes that were asked for; all, if none are named.
    pub range: Option<Range<u64>>,
    /// In their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Number of the connection that it came over.
    pub connection: usize,
    /// When it had been read.
    pub at: Instant,
}

#[derive(Default)]
struct Book {
    /// By path, decoded.
    files: HashMap<Vec<u8>, Arc<Vec<u8>>>,
    fault: Option<Fault>,
    /// The fault is over after so many requests.
    times: Option<usize>,
    /// Between two chunks.
    pause: Duration,
    redirects_left: usize,
    connections: usize,
    requests: Vec<Request>,
    /// Bytes of bodies.
    sent: u64,
    /// Connections that are held open and never answered.
    held: Vec<TcpStream>,
}

#[derive(Default)]
struct Shared {
    book: Mutex<Book>,
    news: Condvar,
    over: AtomicBool,
}

/// A running server. It ends when it is dropped.
pub struct Web {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Web {
    /// It has the torrent's files, padding left out, below `/files/`.
    pub fn start(torrent: &Torrent) -> Self {
        let web = Self::empty();
        for (path, bytes) in torrent.files() {
            web.add(&format!("files/{}", path.display()), bytes);
        }
        web
    }

    /// It has nothing.
    pub fn empty() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        thread::spawn(move || serve(&listener, &server));
        Self { shared, address }
    }

    /// A server that begins with a fault.
    pub fn with_fault(torrent: &Torrent, fault: Fault) -> Self {
        let web = Self::start(torrent);
        web.set_fault(fault);
        web
    }

    /// One that pauses for so long after each 16 KiB.
    pub fn slow(torrent: &Torrent, pause: Duration) -> Self {
        let web = Self::start(torrent);
        web.shared.book().pause = pause;
        web
    }

    /// A file more.
    pub fn add(&self, path: &str, bytes: &[u8]) {
        let path = Path::new("/").join(path).into_os_string().into_encoded_bytes();
        self.shared.book().files.insert(path, Arc::new(bytes.to_vec()));
    }

    /// `None` ends a fault.
    pub fn set_fault(&self, fault: impl Into<Option<Fault>>) {
        let mut book = self.shared.book();
        book.fault = fault.into();
        book.times = None;
        book.redirects_left = match book.fault {
            Some(Fault::Redirects(count)) => count,
            _ => 0,
        };
    }

    /// The fault is for the next so many requests only.
    pub fn set_fault_for(&self, fault: Fault, requests: usize) {
        self.set_fault(fault);
        self.shared.book().times = Some(requests);
    }

    /// The URL below which the files are, without a `/` at its end.
    pub fn url(&self) -> String {
        format!("http://{}/files", self.address)
    }

    /// The server's own URL, without a `/` at its end.
    pub fn root(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.book().requests.clone()
    }

    /// Bytes of bodies that were sent so far.
    pub fn sent(&self) -> u64 {
        self.shared.book().sent
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.shared.book().connections
    }

    /// Waits until so many requests have come, and so many bytes of bodies have gone.
    #[track_caller]
    pub fn wait_for(&self, requests: usize, sent: u64) {
        let until = Instant::now() + LIMIT;
        let mut book = self.shared.book();
        while book.requests.len() < requests || book.sent < sent {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {requests} requests came", book.requests.len());
            book = self.shared.news.wait_timeout(book, left).unwrap().0;
        }
    }

    /// What was asked for of this target, in order.
    pub fn ranges(&self, target: &str) -> Vec<Range<u64>> {
        let requests = self.requests();
        let of_it = requests.into_iter().filter(|request| request.target == target);
        let mut ranges: Vec<_> = of_it.filter_map(|request| request.range).collect();
        ranges.sort_by_key(|range| range.start);
        ranges
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.over.store(true, SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the accept
        self.shared.book().held.clear();
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn fault(&self) -> Option<Fault> {
        let mut book = self.book();
        if let Some(times) = &mut book.times {
            if *times == 0 {
                (book.fault, book.times) = (None, None);
            } else {
                *times -= 1;
            }
        }
        book.fault.clone()
    }
}

fn serve(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().map_while(Result::ok) {
        if shared.over.load(SeqCst) {
            break;
        }
        let number = {
            let mut book = shared.book();
            book.connections += 1;
            book.connections
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || answer_all(&stream, number, &shared));
    }
}

fn answer_all(stream: &TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader, number)? {
        shared.book().requests.push(request.clone());
        shared.news.notify_all();
        if !answer(stream, &request, shared)? {
            break;
        }
    }
    Ok(())
}

fn read_request(
    reader: &mut BufReader<&TcpStream>,
    connection: usize,
) -> io::Result<Option<Request>> {
    let mut lines = reader.take(64 << 10).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let range = headers.iter().find(|(name, _)| name == "range");
    let range = range.and_then(|(_, value)| {
        let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
        Some(first.parse().ok()?..last.parse::<u64>().ok()? + 1)
    });
    Ok(Some(Request { target, range, headers, connection, at: Instant::now() }))
}

/// Whether the connection may go on.
fn answer(stream: &TcpStream, request: &Request, shared: &Shared) -> io::Result<bool> {
    let fault = shared.fault();
    let again = {
        let mut book = shared.book();
        let again = book.redirects_left > 0;
        book.redirects_left -= usize::from(again);
        again
    };
    let mut out = stream;
    let redirect = |there: &str| {
        format!("HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n")
    };
    match &fault {
        _ if again => {
            // Its own path, relative to the server.
            out.write_all(redirect(&request.target).as_bytes())?;
            return Ok(true);
        }
        Some(Fault::RedirectTo(there)) => {
            out.write_all(redirect(&format!("{there}{}", request.target)).as_bytes())?;
            return Ok(true);
        }
        Some(Fault::Silent) => {
            shared.book().held.push(stream.try_clone()?);
            return Ok(false);
        }
        Some(Fault::Close) => return Ok(false),
        Some(Fault::Raw(bytes)) => {
            out.write_all(bytes)?;
            return Ok(false);
        }
        Some(Fault::Status(status, lines)) => {
            let head = format!("HTTP/1.1 {status} Status\r\n{lines}Content-Length: 5\r\n\r\nsorry");
            out.write_all(head.as_bytes())?;
            return Ok(true);
        }
        _ => {}
    }
    let file = shared.book().files.get(&percent_decode(&request.target)).cloned();
    let Some(file) = file else {
        out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    };
    let whole = file.len() as u64;
    let asked = request.range.clone().unwrap_or(0..whole);
    if asked.is_empty() || asked.end > whole {
        out.write_all(b"HTTP/1.1 416 Range\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(true);
    }
    let ignores = matches!(fault, Some(Fault::Whole | Fault::WholeWithoutLength));
    let part = if ignores { 0..whole } else { asked };
    let status = if ignores || request.range.is_none() { 200 } else { 206 };
    let mut head = format!("HTTP/1.1 {status} OK\r\n");
    let length = part.end - part.start;
    let has_length = !matches!(fault, Some(Fault::WholeWithoutLength | Fault::Endless));
    if has_length {
        let more = if let Some(Fault::Length(more)) = fault { more } else { 0 };
        head.push_str(&format!("Content-Length: {}\r\n", length.saturating_add_signed(more)));
    }
    if status == 206 && !matches!(fault, Some(Fault::NoContentRange)) {
        let shift = if let Some(Fault::Shifted(shift)) = fault { shift } else { 0 };
        let (first, last) = (part.start + shift, part.end - 1 + shift);
        let whole = whole + u64::from(matches!(fault, Some(Fault::OtherFile)));
        head.push_str(&format!("Content-Range: bytes {first}-{last}/{whole}\r\n"));
    }
    out.write_all(format!("{head}\r\n").as_bytes())?;
    let part = usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap();
    send_body(stream, &file[part], fault.as_ref(), shared)?;
    if matches!(fault, Some(Fault::Stops(_))) {
        shared.book().held.push(stream.try_clone()?);
        return Ok(false);
    }
    Ok(has_length && !matches!(fault, Some(Fault::Cut(_) | Fault::Length(_))))
}

fn send_body(
    mut stream: &TcpStream,
    body: &[u8],
    fault: Option<&Fault>,
    shared: &Shared,
) -> io::Result<()> {
    let mut body = body.to_vec();
    let (mut chunk, mut pause) = (CHUNK, shared.book().pause);
    match fault {
        Some(Fault::WrongBytes) => body[0] ^= 1,
        Some(Fault::Cut(after) | Fault::Stops(after)) => body.truncate(*after),
        Some(Fault::Trickle(between)) => (chunk, pause) = (1, *between),
        _ => {}
    }
    for part in body.chunks(chunk) {
        if shared.over.load(SeqCst) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        stream.write_all(part)?;
        shared.book().sent += part.len() as u64;
        shared.news.notify_all();
        if !pause.is_zero() {
            thread::sleep(pause);
        }
    }
    while matches!(fault, Some(Fault::Endless)) && !shared.over.load(SeqCst) {
        stream.write_all(&[0; CHUNK])?;
    }
    Ok(())
}
