//! A relay that stands between the program and a peer of the test's own: plain text on the one side,
//! message stream encryption on the other. It speaks that by itself, without the library, so that
//! no mistake is made on both sides alike.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sha1::{Digest, Sha1};

use super::leech::PATIENCE;
use super::torrent::Payload;
use super::wire::read_handshake;

/// Ways to encrypt, as they are offered and selected.
pub const PLAIN: u32 = 1;
pub const RC4: u32 = 2;

const PAD_MAX: usize = 512;

/// What a veil saw of the program.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Connections in the order in which they came, and whether they began in plain text.
    pub began_plain: Vec<bool>,
    /// Ways that the program offered when it dialled, or that it selected when it was dialled.
    pub ways: Vec<u32>,
    /// Handshakes that failed.
    pub failed: Vec<String>,
}

/// The relay. It ends with the test.
pub struct Veil {
    address: SocketAddr,
    record: Arc<Mutex<Record>>,
}

impl Veil {
    /// The program dials it, and is brought to this peer, if it speaks encrypted.
    pub fn before(peer: SocketAddr, payload: &Payload) -> Self {
        let torrent = payload.info_hash;
        Self::start(move |stream, record| {
            let mut first = [0; 20];
            stream.read_exact(&mut first)?;
            let plain = &first == b"\x13BitTorrent protocol";
            record.lock().unwrap().began_plain.push(plain);
            if plain {
                return Ok(());
            }
            let (pair, first, offered) = respond(stream, &first, &torrent)?;
            record.lock().unwrap().ways.push(offered);
            let mut peer = TcpStream::connect(peer)?;
            peer.write_all(&first)?;
            relay(&peer, stream, pair)
        })
    }

    /// A peer dials it, and is brought to the program, encrypted in one of these ways. So many bytes
    /// of the peer's handshake are said as soon as possible.
    pub fn towards(program: SocketAddr, payload: &Payload, ways: u32, early: usize) -> Self {
        let torrent = payload.info_hash;
        Self::start(move |peer, record| {
            let first = read_handshake(peer)?;
            let (early, late) = first.split_at(early);
            let mut stream = TcpStream::connect(program)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let (mut pair, selected) = initiate(&mut stream, &torrent, ways, early)?;
            record.lock().unwrap().ways.push(selected);
            let mut late = late.to_vec();
            pair.apply_outgoing(&mut late);
            stream.write_all(&late)?;
            relay(peer, &stream, pair)
        })
    }

    fn start(
        serve: impl Fn(&mut TcpStream, &Mutex<Record>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::<Mutex<Record>>::default();
        let (serve, notes) = (Arc::new(serve), Arc::clone(&record));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (serve, notes) = (Arc::clone(&serve), Arc::clone(&notes));
                thread::spawn(move || {
                    let _set = stream.set_read_timeout(Some(PATIENCE));
                    if let Err(error) = serve(&mut stream, &notes) {
                        notes.lock().unwrap().failed.push(error.to_string());
                    }
                    let _closed = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, record }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the record is as wished.
    #[track_caller]
    pub fn wait_until(&self, wish: impl Fn(&Record) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !wish(&self.record()) {
            assert!(Instant::now() < until, "waited in vain: {:?}", self.record());
            thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn record(&self) -> Record {
        self.record.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

// ---- the handshake -----------------------------------------------------------------------------

/// What encrypts and decrypts from now on.
struct Pair {
    outgoing: Option<Rc4>,
    incoming: Option<Rc4>,
}

impl Pair {
    fn apply_outgoing(&mut self, bytes: &mut [u8]) {
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.apply(bytes);
        }
    }
}

/// Also what the program says first, and what it offers.
fn respond(
    stream: &mut TcpStream,
    first: &[u8; 20],
    torrent: &[u8; 20],
) -> io::Result<(Pair, Vec<u8>, u32)> {
    let mut theirs = [0; 96];
    theirs[..20].copy_from_slice(first);
    stream.read_exact(&mut theirs[20..])?;
    let private = 0x9e37_79b9;
    stream.write_all(&[&power(number(2), private)[..], &[0x5a; 321]].concat())?;
    let secret = power(from_bytes(&theirs), private);
    skip_until(stream, &hash(&[b"req1", &secret]))?;
    let mut asked = [0; 20];
    stream.read_exact(&mut asked)?;
    let (two, three) = (hash(&[b"req2", torrent]), hash(&[b"req3", &secret]));
    let expected: Vec<u8> = two.iter().zip(three).map(|(two, three)| two ^ three).collect();
    rule(asked[..] == expected, "the torrent")?;
    let mut incoming = Rc4::new(&hash(&[b"keyA", &secret, torrent]));
    let mut outgoing = Rc4::new(&hash(&[b"keyB", &secret, torrent]));
    let head = read(stream, &mut incoming, 14)?;
    rule(head[..8] == [0; 8], "VC")?;
    let offered = u32::from_be_bytes(head[8..12].try_into().unwrap());
    let pad = usize::from(u16::from_be_bytes([head[12], head[13]]));
    rule(pad <= PAD_MAX, "PadC")?;
    let tail = read(stream, &mut incoming, pad + 2)?;
    let length = usize::from(u16::from_be_bytes([tail[pad], tail[pad + 1]]));
    let first = read(stream, &mut incoming, length)?;
    let mut choice = [&[0; 8][..], &RC4.to_be_bytes(), &77_u16.to_be_bytes(), &[0; 77]].concat();
    outgoing.apply(&mut choice);
    stream.write_all(&choice)?;
    Ok((Pair { outgoing: Some(outgoing), incoming: Some(incoming) }, first, offered))
}

/// Also what the program selected.
fn initiate(
    stream: &mut TcpStream,
    torrent: &[u8; 20],
    ways: u32,
    first: &[u8],
) -> io::Result<(Pair, u32)> {
    let private = 0x85eb_ca6b;
    stream.write_all(&[&power(number(2), private)[..], &[0xa5; 123]].concat())?;
    let mut theirs = [0; 96];
    stream.read_exact(&mut theirs)?;
    let secret = power(from_bytes(&theirs), private);
    let (two, three) = (hash(&[b"req2", torrent]), hash(&[b"req3", &secret]));
    let asked: Vec<u8> = two.iter().zip(three).map(|(two, three)| two ^ three).collect();
    let mut outgoing = Rc4::new(&hash(&[b"keyA", &secret, torrent]));
    let mut incoming = Rc4::new(&hash(&[b"keyB", &secret, torrent]));
    let mut offer = [&[0; 8][..], &ways.to_be_bytes(), &55_u16.to_be_bytes(), &[0; 55]].concat();
    offer.extend(u16::try_from(first.len()).unwrap().to_be_bytes());
    offer.extend(first);
    outgoing.apply(&mut offer);
    stream.write_all(&[&hash(&[b"req1", &secret])[..], &asked, &offer].concat())?;
    let mut end = [0; 8];
    incoming.apply(&mut end);
    skip_until(stream, &end)?;
    let head = read(stream, &mut incoming, 6)?;
    let selected = u32::from_be_bytes(head[..4].try_into().unwrap());
    let pad = usize::from(u16::from_be_bytes([head[4], head[5]]));
    rule(pad <= PAD_MAX, "PadD")?;
    read(stream, &mut incoming, pad)?;
    rule([PLAIN, RC4].contains(&selected) && ways & selected != 0, "crypto_select")?;
    let [outgoing, incoming] = [outgoing, incoming].map(|rc4| (selected == RC4).then_some(rc4));
    Ok((Pair { outgoing, incoming }, selected))
}

/// Passes over a pad, to behind what ends it.
fn skip_until(stream: &mut TcpStream, end: &[u8]) -> io::Result<()> {
    let mut came = vec![0; end.len()];
    stream.read_exact(&mut came)?;
    while !came.ends_with(end) {
        rule(came.len() < end.len() + PAD_MAX, "a pad without an end")?;
        came.push(0);
        let last = came.len() - 1;
        stream.read_exact(&mut came[last..])?;
    }
    Ok(())
}

fn read(stream: &mut TcpStream, incoming: &mut Rc4, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes)?;
    incoming.apply(&mut bytes);
    Ok(bytes)
}

fn rule(kept: bool, what: &str) -> io::Result<()> {
    if kept { Ok(()) } else { Err(io::Error::other(format!("the program broke {what}"))) }
}

fn hash(parts: &[&[u8]]) -> [u8; 20] {
    Sha1::digest(parts.concat()).into()
}

/// Passes everything on, until one side ends it.
fn relay(peer: &TcpStream, program: &TcpStream, pair: Pair) -> io::Result<()> {
    let Pair { outgoing, incoming } = pair;
    for stream in [peer, program] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(None)?;
    }
    let (from, to) = (peer.try_clone()?, program.try_clone()?);
    let other_way = thread::spawn(move || pass(&from, &to, outgoing));
    pass(program, peer, incoming);
    let _passed = other_way.join();
    Ok(())
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, mut cipher: Option<Rc4>) {
    let mut buffer = vec![0; 10_000];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..count];
        cipher.iter_mut().for_each(|cipher| cipher.apply(bytes));
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ended = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

// ---- arithmetic, as simple as can be -----------------------------------------------------------

struct Rc4 {
    state: Vec<u8>,
    i: usize,
    j: usize,
}

impl Rc4 {
    fn new(key: &[u8]) -> Self {
        let mut state: Vec<u8> = (0..=255).collect();
        let mut j = 0;
        for i in 0..256 {
            j = (j + usize::from(state[i]) + usize::from(key[i % key.len()])) % 256;
            state.swap(i, j);
        }
        let mut rc4 = Self { state, i: 0, j: 0 };
        rc4.apply(&mut [0; 1024]);
        rc4
    }

    fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.i = (self.i + 1) % 256;
            self.j = (self.j + usize::from(self.state[self.i])) % 256;
            self.state.swap(self.i, self.j);
            let sum = usize::from(self.state[self.i]) + usize::from(self.state[self.j]);
            *byte ^= self.state[sum % 256];
        }
    }
}

/// Of 768 bits, the last 64 of them first.
type Number = [u64; 12];

/// The prime (MSE, "Diffie-Hellman Parameters").
const P: Number = [
    0x0000_0000_0009_0563,
    0xf44c_42e9_a63a_3621,
    0xe485_b576_625e_7ec6,
    0x4fe1_356d_6d51_c245,
    0x302b_0a6d_f25f_1437,
    0xef95_19b3_cd3a_431b,
    0x514a_0879_8e34_04dd,
    0x020b_bea6_3b13_9b22,
    0x2902_4e08_8a67_cc74,
    0xc4c6_628b_80dc_1cd1,
    0xc90f_daa2_2168_c234,
    0xffff_ffff_ffff_ffff,
];

fn number(value: u64) -> Number {
    let mut number = [0; 12];
    number[0] = value;
    number
}

fn from_bytes(bytes: &[u8; 96]) -> Number {
    std::array::from_fn(|digit| {
        let at = 88 - 8 * digit;
        u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
    })
}

/// a + b modulo P.
fn sum(a: Number, b: Number) -> Number {
    let mut carry = 0;
    let whole: Number = std::array::from_fn(|at| {
        let sum = u128::from(a[at]) + u128::from(b[at]) + carry;
        carry = sum >> 64;
        u64::try_from(sum & u128::from(u64::MAX)).unwrap()
    });
    if carry == 0 && whole.iter().rev().lt(P.iter().rev()) {
        return whole;
    }
    let mut borrow = false;
    std::array::from_fn(|at| {
        let (less, first) = whole[at].overflowing_sub(P[at]);
        let (less, second) = less.overflowing_sub(borrow.into());
        borrow = first || second;
        less
    })
}

/// a b modulo P, by doubling and adding.
fn product(a: Number, b: Number) -> Number {
    let bits = (0..768).rev().map(|bit| b[bit / 64] >> (bit % 64) & 1 == 1);
    bits.fold(number(0), |product, bit| {
        let twice = sum(product, product);
        if bit { sum(twice, a) } else { twice }
    })
}

/// To the power of a private key, which is a short one: it is quicker.
fn power(base: Number, private: u32) -> [u8; 96] {
    let bits = (0..32).rev().map(|bit| private >> bit & 1 == 1);
    let power = bits.fold(number(1), |power, bit| {
        let square = product(power, power);
        if bit { product(square, base) } else { square }
    });
    let mut bytes: Vec<u8> = power.iter().rev().flat_map(|digit| digit.to_be_bytes()).collect();
    bytes.truncate(96);
    bytes.try_into().unwrap()
}
