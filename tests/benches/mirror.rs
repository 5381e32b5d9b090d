//! The program and `curl -o`, with the same file from the same web server on loopback.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::sendfile;

use crate::download::{program, watch};
use crate::measure::{Dir, GIB, MIB, RUNS, Table, median};
use crate::torrent::Torrent;

const FILE_BYTES: usize = 1024 * MIB;
const PIECES_BYTES: [usize; 2] = [256 << 10, 4 << 20];

pub fn run() {
    let dir = Dir::new("mirror");
    let file = dir.path().join("file");
    let url = format!("http://{}/file", serve(&file).unwrap());
    let title = "From a web server on loopback: 1 GiB, in turns\n\
        (the second of two runs each: where the first ones find no memory, they wait for the host)";
    let mut table = Table::new(title, &["who", "seconds", "CPU s", "of curl's time"]);
    let (mut theirs, mut ours) = (Vec::new(), [Vec::new(), Vec::new()]);
    let torrents = PIECES_BYTES.map(|piece_length| {
        let torrent = Torrent::single("file", FILE_BYTES, piece_length).mirrored_by(&url);
        fs::write(&file, &*torrent.payload.bytes).unwrap();
        let path = dir.path().join(format!("{piece_length}.torrent"));
        fs::write(&path, torrent.encode()).unwrap();
        path
    });
    let out = dir.path().join("out");
    for _ in 0..RUNS {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output"]).arg(out.join("file")).arg(&url);
        theirs.push(measure(curl, &out));
        for (torrent, runs) in torrents.iter().zip(&mut ours) {
            let mut program = Command::new(program());
            program.arg("--quiet").arg(torrent).arg(&out);
            runs.push(measure(program, &out));
        }
    }
    let middle =
        |runs: &[[f64; 2]], column: usize| median(runs.iter().map(|run| run[column]).collect());
    let whole = middle(&theirs, 0);
    let mut row = |who: String, runs: &[[f64; 2]]| {
        let [seconds, cpu] = [middle(runs, 0), middle(runs, 1)];
        table.row([
            who,
            format!("{seconds:.2}"),
            format!("{cpu:.2}"),
            format!("{:.0} %", 100.0 * seconds / whole),
        ]);
    };
    row("curl".to_owned(), &theirs);
    for (piece_length, runs) in PIECES_BYTES.iter().zip(&ours) {
        row(format!("the program, pieces of {} KiB", piece_length >> 10), runs);
    }
    table.print();
}

/// Seconds and seconds of a processor for each GiB, of the second of two runs.
fn measure(mut command: Command, out: &Path) -> [f64; 2] {
    command.stdout(Stdio::null());
    let measured = [(), ()].map(|()| {
        let _none = fs::remove_dir_all(out);
        fs::create_dir(out).unwrap();
        let [seconds, cpu, ..] = watch(&mut command);
        let length = fs::metadata(out.join("file")).map_or(0, |file| file.len());
        assert!(length == FILE_BYTES as u64, "the download failed: {command:?}");
        [seconds, cpu / (FILE_BYTES as f64 / GIB)]
    });
    fs::remove_dir_all(out).unwrap();
    measured[1]
}

/// A web server that does nothing but send parts of one file, as fast as it can.
fn serve(file: &Path) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (address, file) = (listener.local_addr()?, file.to_owned());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let file = file.clone();
            thread::spawn(move || {
                // The other side closes when it has all: that is how each of them ends.
                let _closed = answer(&stream, &file);
            });
        }
    });
    Ok(address)
}

fn answer(mut stream: &TcpStream, file: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let file = File::open(file)?;
    let whole = file.metadata()?.len();
    let mut lines = BufReader::new(stream).lines();
    while let Some(_get) = lines.next().transpose()? {
        let mut range = None;
        while let Some(line) = lines.next().transpose()?.filter(|line| !line.is_empty()) {
            range = range.or_else(|| {
                let line = line.to_ascii_lowercase();
                let (first, last) = line.strip_prefix("range: bytes=")?.split_once('-')?;
                Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()? + 1))
            });
        }
        let (mut at, end) = range.unwrap_or((0, whole));
        let (length, last) = (end - at, end - 1);
        let (status, part) = match range {
            Some(_) => (206, format!("Content-Range: bytes {at}-{last}/{whole}\r\n")),
            None => (200, String::new()),
        };
        let head = format!("HTTP/1.1 {status} OK\r\n{part}Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        while at < end {
            let wanted = usize::try_from(end - at).unwrap();
            if sendfile(stream, &file, Some(&mut at), wanted)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
