//! Decides what is said to one peer while only the info-hash of a torrent is known: it is asked for
//! the info dictionary (BEP 9) and may tell of peers (BEP 11). All else that it says is passed over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::limits::{
    CHOKED_MS, EXTENDED_LENGTH_MAX_BYTES, INQUIRY_MESSAGE_MAX_BYTES, SILENCE_ASKED_MAX_MS,
    USELESS_MS,
};
use crate::policy::conversation::SessionEnd;
use crate::policy::exchange::Exchange;
use crate::policy::metadata::{Gathering, Outcome};
use crate::policy::noise::Noise;
use crate::protocol::extension::{self, Hello, Ours};
use crate::protocol::handshake::Handshake;
use crate::protocol::message::{self, Message};
use crate::protocol::metadata;
use crate::units::SessionId;

const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_ASKED_MAX_MS as u64);
const USELESS: Duration = Duration::from_millis(USELESS_MS as u64);
const FRUITLESS: Duration = Duration::from_millis(CHOKED_MS as u64);

/// What is known of the other side, and what is under way with it.
pub struct Inquiry {
    id: SessionId,
    hello: Option<Hello>,
    exchange: Exchange,
    heard: Vec<SocketAddr>,
    /// Where the peer has its node of the DHT.
    node_port: Option<u16>,
    /// The beginning of a message whose end has not come yet.
    unread: Vec<u8>,
    /// Bytes that are still to come of a message that is passed over.
    to_skip: usize,
    outbox: Vec<u8>,
    noise: Noise,
    last_heard: Instant,
    /// Since a block came, or since it began.
    last_use: Instant,
}

impl Inquiry {
    /// Begins after the handshakes. We listen on `port`, and our node of the DHT is at `dht_port`.
    ///
    /// # Errors
    /// The peer knows no extensions.
    pub fn new(
        id: SessionId,
        theirs: &Handshake,
        (port, dht_port): (Option<u16>, Option<u16>),
        now: Instant,
    ) -> Result<Self, SessionEnd> {
        if !theirs.extended {
            return Err(SessionEnd::Useless);
        }
        let mut outbox = Vec::new();
        if theirs.fast {
            Message::HaveNone.encode(&mut outbox);
        }
        if let Some(port) = dht_port.filter(|_| theirs.dht) {
            Message::Port(port).encode(&mut outbox);
        }
        Ours { exchange: true, port, ..Ours::default() }.encode(&mut outbox);
        Ok(Self {
            id,
            hello: None,
            exchange: Exchange::default(),
            heard: Vec::new(),
            node_port: None,
            unread: Vec::new(),
            to_skip: 0,
            outbox,
            noise: Noise::new(now),
            last_heard: now,
            last_use: now,
        })
    }

    /// Bytes that wait to be sent. The session takes from the front what it could send.
    pub fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Takes where the peer has its node of the DHT.
    pub fn take_node_port(&mut self) -> Option<u16> {
        self.node_port.take()
    }

    /// Takes what the peer told of peers.
    pub fn take_heard(&mut self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.heard)
    }

    /// Takes in what came.
    ///
    /// # Errors
    /// The peer broke a rule, and the session ends.
    pub fn on_read(
        &mut self,
        bytes: &[u8],
        gathering: &mut Gathering,
        now: Instant,
    ) -> Result<Outcome, SessionEnd> {
        self.last_heard = now;
        self.hear_noise(0, now)?;
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = &unread[..];
        let mut outcome = Outcome::More;
        loop {
            let skipped = self.to_skip.min(rest.len());
            self.to_skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            let Some(length) = Message::length(rest) else { break };
            let id = rest.get(4).copied();
            if length > message::PREFIX_LENGTH && id.is_none() {
                break;
            }
            if length > EXTENDED_LENGTH_MAX_BYTES as usize {
                return Err(SessionEnd::Broke("a message longer than any"));
            }
            if id == Some(message::PORT) && length == message::PREFIX_LENGTH + 3 {
                let Some(port) = rest.get(5..).and_then(<[u8]>::first_chunk) else { break };
                self.node_port = Some(u16::from_be_bytes(*port)).filter(|port| *port != 0);
            }
            if id != Some(message::EXTENDED) || length > INQUIRY_MESSAGE_MAX_BYTES {
                self.hear_noise(length, now)?;
                self.to_skip = length;
                continue;
            }
            let Some(whole) = rest.get(..length) else { break };
            rest = rest.get(length..).unwrap_or_default();
            let Some((number, payload)) = whole.get(5..).and_then(<[u8]>::split_first) else {
                continue;
            };
            outcome = self.on_extended(*number, payload, gathering, now)?;
            if outcome != Outcome::More {
                break;
            }
        }
        self.unread = rest.to_vec();
        Ok(outcome)
    }

    fn on_extended(
        &mut self,
        number: u8,
        payload: &[u8],
        gathering: &mut Gathering,
        now: Instant,
    ) -> Result<Outcome, SessionEnd> {
        match number {
            extension::HELLO => {
                let hello = Hello::decode(payload).unwrap_or_default();
                if let (Some(_), Some(bytes)) = (hello.metadata, hello.metadata_bytes)
                    && !gathering.on_claim(self.id, bytes)
                {
                    return Err(SessionEnd::Broke("an info dictionary of an impossible length"));
                }
                self.hello = Some(hello);
            }
            extension::METADATA => match metadata::Message::decode(payload) {
                Some(metadata::Message::Data(number, bytes)) => {
                    let before = gathering.progress();
                    let outcome = gathering.on_block(self.id, number, bytes, now);
                    if gathering.progress() != before {
                        self.noise.make_up_for_block();
                        self.last_use = now;
                    }
                    if outcome == Outcome::Liar(self.id) {
                        return Err(SessionEnd::Banned);
                    }
                    return Ok(outcome);
                }
                Some(metadata::Message::Reject(number)) => {
                    gathering.on_reject(self.id, number, now);
                }
                // We have none of it to give.
                Some(metadata::Message::Request(number)) => {
                    self.say_metadata(metadata::Message::Reject(number));
                }
                None => {}
            },
            extension::EXCHANGE => {
                self.heard.append(&mut self.exchange.on_message(payload, now));
            }
            _ => {}
        }
        self.hear_noise(payload.len(), now)?;
        Ok(Outcome::More)
    }

    /// Asks for what may be asked for.
    ///
    /// # Errors
    /// The peer is of no use, and the session ends.
    pub fn ask(&mut self, gathering: &mut Gathering, now: Instant) -> Result<(), SessionEnd> {
        while let Some(number) = gathering.next(self.id, now) {
            self.say_metadata(metadata::Message::Request(number));
        }
        let knows = self.hello.as_ref().is_some_and(|hello| hello.metadata_bytes.is_some());
        let patience = if knows { FRUITLESS } else { USELESS };
        if now >= self.last_heard + SILENCE_MAX {
            return Err(SessionEnd::Silent);
        }
        if now >= self.last_use + patience {
            return Err(SessionEnd::Useless);
        }
        Ok(())
    }

    fn say_metadata(&mut self, message: metadata::Message<'_>) {
        let number = self.hello.as_ref().and_then(|hello| hello.metadata);
        // A peer that does not read is not told more than this.
        if let Some(number) = number.filter(|_| self.outbox.len() < INQUIRY_MESSAGE_MAX_BYTES) {
            Message::Extended(number.get(), &message.encode(0)).encode(&mut self.outbox);
        }
    }

    fn hear_noise(&mut self, bytes: usize, now: Instant) -> Result<(), SessionEnd> {
        if self.noise.hear(bytes, now) { Ok(()) } else { Err(SessionEnd::TooLoud) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::bencode::Item;
    use crate::units::{InfoHash, PeerId};
    use sha1::{Digest, Sha1};

    fn theirs(extended: bool) -> Handshake {
        let (info_hash, peer_id) = (InfoHash([1; 20]), PeerId([2; 20]));
        Handshake { info_hash, peer_id, fast: true, extended, dht: false }
    }

    fn info() -> Vec<u8> {
        vec![7; 40_000]
    }

    fn gathering(now: Instant) -> Gathering {
        Gathering::new(InfoHash(Sha1::digest(info()).into()), 1 << 20, now)
    }

    /// What a peer that has it says first: a bitfield, and which number it takes messages under.
    fn greeting(size: i64) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 0];
        Message::Bitfield(&[0xff; 30_000]).encode(&mut bytes);
        let hello = Item::dict([
            ("m", Item::dict([("ut_metadata", Item::Integer(9))])),
            ("metadata_size", Item::Integer(size)),
        ]);
        Message::Extended(extension::HELLO, &hello.encode()).encode(&mut bytes);
        Message::Unchoke.encode(&mut bytes);
        bytes
    }

    /// The blocks that it is asked for under this number.
    fn asked(inquiry: &mut Inquiry) -> Vec<u32> {
        let mut rest = &std::mem::take(inquiry.outbox())[..];
        let mut asked = Vec::new();
        while let Some(length) = Message::length(rest) {
            if rest[4] == message::EXTENDED && rest[5] == 9 {
                match metadata::Message::decode(&rest[6..length]) {
                    Some(metadata::Message::Request(number)) => asked.push(number),
                    other => panic!("{other:?}"),
                }
            }
            rest = &rest[length..];
        }
        asked
    }

    fn data(number: u32) -> Vec<u8> {
        let info = info();
        let block = metadata::Message::Data(number, metadata::block(&info, number).unwrap());
        let mut bytes = Vec::new();
        Message::Extended(extension::METADATA, &block.encode(info.len())).encode(&mut bytes);
        bytes
    }

    #[test]
    fn the_dictionary_comes_wherever_the_stream_is_cut() {
        let now = Instant::now();
        for step in [1, 7, 1_000, 100_000] {
            let mut all = gathering(now);
            let mut inquiry =
                Inquiry::new(SessionId(1), &theirs(true), (Some(1), None), now).unwrap();
            for bytes in greeting(40_000).chunks(step.max(100)) {
                assert_eq!(inquiry.on_read(bytes, &mut all, now), Ok(Outcome::More));
            }
            inquiry.ask(&mut all, now).unwrap();
            let asked = asked(&mut inquiry);
            assert_eq!(asked, [0, 1, 2]);
            let answer: Vec<u8> = asked.into_iter().flat_map(data).collect();
            let mut later = now;
            let outcomes = answer.chunks(step).map(|bytes| {
                // A read a millisecond is not too loud.
                later += Duration::from_millis(10);
                inquiry.on_read(bytes, &mut all, later).unwrap()
            });
            let whole = outcomes.filter(|outcome| *outcome != Outcome::More).last();
            assert!(whole == Some(Outcome::Whole(info())), "{step}");
        }
    }

    #[test]
    fn a_peer_without_it_is_left() {
        let start = Instant::now();
        let silent = Inquiry::new(SessionId(1), &theirs(false), (None, None), start);
        assert_eq!(silent.err(), Some(SessionEnd::Useless));
        let mut all = gathering(start);
        let mut inquiry = Inquiry::new(SessionId(1), &theirs(true), (None, None), start).unwrap();
        assert_eq!(inquiry.ask(&mut all, start + USELESS / 2), Ok(()));
        assert_eq!(inquiry.ask(&mut all, start + USELESS), Err(SessionEnd::Useless));
        // One that has it has more time.
        let mut inquiry = Inquiry::new(SessionId(2), &theirs(true), (None, None), start).unwrap();
        inquiry.on_read(&greeting(40_000), &mut all, start).unwrap();
        assert_eq!(inquiry.ask(&mut all, start + USELESS), Ok(()));
        assert_eq!(inquiry.ask(&mut all, start + FRUITLESS), Err(SessionEnd::Useless));
    }

    #[test]
    fn nonsense_ends_it() {
        let now = Instant::now();
        for (bytes, end) in [
            (vec![0xff; 5], SessionEnd::Broke("a message longer than any")),
            (greeting(0), SessionEnd::Broke("an info dictionary of an impossible length")),
            (greeting(1 << 30), SessionEnd::Broke("an info dictionary of an impossible length")),
            (vec![0; 200_000], SessionEnd::TooLoud),
        ] {
            let mut all = gathering(now);
            let mut inquiry = Inquiry::new(SessionId(1), &theirs(true), (None, None), now).unwrap();
            assert_eq!(inquiry.on_read(&bytes, &mut all, now), Err(end));
        }
        // A lie is found out with the last block.
        let mut all = gathering(now);
        let mut inquiry = Inquiry::new(SessionId(1), &theirs(true), (None, None), now).unwrap();
        inquiry.on_read(&greeting(16), &mut all, now).unwrap();
        inquiry.ask(&mut all, now).unwrap();
        assert_eq!(asked(&mut inquiry), [0]);
        let mut lie = Vec::new();
        let block = metadata::Message::Data(0, &[0; 16]);
        Message::Extended(extension::METADATA, &block.encode(16)).encode(&mut lie);
        assert_eq!(inquiry.on_read(&lie, &mut all, now), Err(SessionEnd::Banned));
    }

    #[test]
    fn it_hears_of_peers() {
        let now = Instant::now();
        let mut all = gathering(now);
        let mut inquiry = Inquiry::new(SessionId(1), &theirs(true), (None, None), now).unwrap();
        let mut bytes = Vec::new();
        let payload = b"d5:added6:\x01\x02\x03\x04\x00\x05e";
        Message::Extended(extension::EXCHANGE, payload).encode(&mut bytes);
        inquiry.on_read(&bytes, &mut all, now).unwrap();
        assert_eq!(inquiry.take_heard(), ["1.2.3.4:5".parse().unwrap()]);
        assert_eq!(inquiry.take_heard(), []);
    }
}
