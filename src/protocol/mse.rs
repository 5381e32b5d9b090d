//! Speaks the handshake of message stream encryption (MSE/PE, "Message Stream Encryption" in Vuze's
//! wiki): bytes in, bytes out, until it is known how what follows is encrypted.
//!
//! It hides from those in between what is talked about, and keeps out who does not know the torrent.
//! It is no more than that: whoever knows the info-hash and sits in between can read everything.
//!
//! ```text
//! initiator  public key, PadA
//! responder  public key, PadB
//! initiator  HASH('req1', S), HASH('req2', SKEY) xor HASH('req3', S),
//!            encrypted: VC, crypto_provide, length and PadC, length and IA
//! responder  encrypted: VC, crypto_select, length and PadD
//! ```
//!
//! S is the secret that both keys make, SKEY the info-hash, IA what the initiator says first. Where
//! PadA and PadB end is found by what follows them. No byte of what follows the handshake is taken
//! in, since it is known at every step how many are still to come at least.

pub mod dh;
pub mod rc4;

use fastrand::Rng;
use sha1::{Digest, Sha1};

use crate::limits::ENCRYPTION_PAD_MAX_BYTES;
use crate::units::InfoHash;
use dh::{KEY_LENGTH, PrivateKey};
use rc4::Rc4;

/// `VC`, by which each side sees that the other has the same keys.
const VERIFICATION: [u8; 8] = [0; 8];
/// Bits of `crypto_provide` and `crypto_select`.
const PLAIN: u32 = 1;
const RC4: u32 = 2;

type Hash = [u8; 20];
type Secret = [u8; KEY_LENGTH];

/// A peer that is no peer: which rule it broke.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Broken(pub &'static str);

/// How what follows the handshake is encrypted.
pub struct Ciphers {
    outgoing: Option<Rc4>,
    incoming: Rc4,
    /// Bytes of what comes that are encrypted. All, or those of IA.
    incoming_left: u64,
}

impl Ciphers {
    /// Decrypts what came next, in place.
    pub fn decrypt(&mut self, bytes: &mut [u8]) {
        let left = usize::try_from(self.incoming_left).unwrap_or(usize::MAX);
        let encrypted = bytes.len().min(left);
        self.incoming_left -= encrypted as u64;
        self.incoming.apply(bytes.get_mut(..encrypted).unwrap_or_default());
    }

    /// Whether what is sent is encrypted.
    pub fn encrypt(&self) -> bool {
        self.outgoing.is_some()
    }

    /// What encrypts all that is sent. `None`: it is sent as it is.
    pub fn outgoing(&mut self) -> Option<&mut Rc4> {
        self.outgoing.as_mut()
    }
}

/// One side of a handshake that is under way.
pub struct Exchange {
    info_hash: InfoHash,
    private_key: PrivateKey,
    rng: Rng,
    role: Role,
    step: Step,
    /// What came of the step at hand.
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

#[derive(Clone)]
enum Role {
    /// It says this first, once it can.
    Initiator(Vec<u8>),
    Responder {
        /// It takes plain text if the other side offers it.
        takes_plain: bool,
    },
}

/// What is to come next.
enum Step {
    PublicKey,
    /// PadA or PadB, and what is found behind it.
    Pad {
        end: Vec<u8>,
        skipped: usize,
        then: Then,
    },
    /// Both: the hash of the info-hash.
    Torrent(Secret),
    Offer(Pair),
    Choice(Pair),
    /// PadC or PadD. Behind PadC there is a length as well.
    LastPad {
        length: usize,
        pair: Pair,
        selected: u32,
    },
    Done(Option<Ciphers>),
}

enum Then {
    Torrent(Secret),
    Choice(Pair),
}

/// The two directions, as one side sees them.
struct Pair {
    outgoing: Rc4,
    incoming: Rc4,
}

impl Exchange {
    /// The side that dialled. It offers RC4 alone, and says `first` as soon as it can: no more than
    /// 65535 bytes. `rng` makes pads.
    pub fn initiate(info_hash: InfoHash, first: &[u8], private_key: PrivateKey, rng: Rng) -> Self {
        let role = Role::Initiator(first.to_vec());
        let mut exchange = Self::new(info_hash, role, private_key, rng);
        exchange.say_key();
        exchange
    }

    /// The side that was dialled. It takes RC4, or plain text if it is offered and `takes_plain`.
    pub fn respond(
        info_hash: InfoHash,
        takes_plain: bool,
        private_key: PrivateKey,
        rng: Rng,
    ) -> Self {
        Self::new(info_hash, Role::Responder { takes_plain }, private_key, rng)
    }

    fn new(info_hash: InfoHash, role: Role, private_key: PrivateKey, rng: Rng) -> Self {
        let (inbox, outbox) = (Vec::new(), Vec::new());
        Self { info_hash, private_key, rng, role, step: Step::PublicKey, inbox, outbox }
    }

    /// What is to be sent now.
    pub fn take_outbox(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox)
    }

    /// Bytes that are still to come, at least: so many may be read. 0: it is over.
    pub fn wanted(&self) -> usize {
        match &self.step {
            Step::Pad { end, .. } => end.len() - self.beginning(end),
            _ => self.length() - self.inbox.len(),
        }
    }

    /// Bytes that the step at hand is done with.
    fn length(&self) -> usize {
        match &self.step {
            Step::PublicKey => KEY_LENGTH,
            Step::Pad { end, .. } => end.len(),
            Step::Torrent(_) => 20,
            Step::Offer(_) => 8 + 4 + 2,
            Step::Choice(_) => 4 + 2,
            Step::LastPad { length, .. } => *length,
            Step::Done(_) => 0,
        }
    }

    /// How many of the last bytes that came may be the first ones of `end`.
    fn beginning(&self, end: &[u8]) -> usize {
        let last = |length| self.inbox.get(self.inbox.len() - length..).unwrap_or_default();
        (0..=self.inbox.len()).rev().find(|length| end.starts_with(last(*length))).unwrap_or(0)
    }

    /// Takes in what came. Returns how many bytes that were; the others belong to what follows.
    ///
    /// # Errors
    /// The other side does not speak this, or not about this torrent.
    pub fn take(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut taken = 0;
        for byte in bytes {
            if self.is_over() {
                break;
            }
            self.inbox.push(*byte);
            taken += 1;
            while !self.is_over() && self.inbox.len() == self.length() {
                self.advance()?;
            }
        }
        Ok(taken)
    }

    fn is_over(&self) -> bool {
        matches!(self.step, Step::Done(_))
    }

    /// What was agreed on, once nothing more is wanted.
    pub fn into_ciphers(self) -> Option<Ciphers> {
        match self.step {
            Step::Done(ciphers) => ciphers,
            _ => None,
        }
    }

    // ---- what is said --------------------------------------------------------------------------

    fn say_key(&mut self) {
        self.outbox.extend(self.private_key.public_key());
        let pad = (0..self.pad_length()).map(|_| self.rng.u8(..));
        self.outbox.extend(pad);
    }

    /// To the responder, when the secret is known.
    fn say_offer(&mut self, secret: &Secret, first: &[u8], outgoing: &mut Rc4) {
        self.outbox.extend(hash(b"req1", &[secret]));
        self.outbox.extend(torrent_hash(self.info_hash, secret));
        let mut offer = self.choice(RC4);
        offer.extend(u16::try_from(first.len()).unwrap_or(u16::MAX).to_be_bytes());
        offer.extend(first.iter().take(usize::from(u16::MAX)));
        outgoing.apply(&mut offer);
        self.outbox.extend(offer);
    }

    /// VC, ways to encrypt, and a pad with its length.
    fn choice(&mut self, ways: u32) -> Vec<u8> {
        let pad = self.pad_length();
        let mut choice = VERIFICATION.to_vec();
        choice.extend(ways.to_be_bytes());
        choice.extend(u16::try_from(pad).unwrap_or(0).to_be_bytes());
        choice.resize(choice.len() + pad, 0);
        choice
    }

    fn pad_length(&mut self) -> usize {
        self.rng.usize(..=ENCRYPTION_PAD_MAX_BYTES)
    }

    // ---- what comes ----------------------------------------------------------------------------

    /// A step is done with.
    fn advance(&mut self) -> Result<(), Broken> {
        let mut came = std::mem::take(&mut self.inbox);
        self.step = match std::mem::replace(&mut self.step, Step::Done(None)) {
            Step::PublicKey => self.on_public_key(&came)?,
            Step::Pad { end, skipped, then } if came != end => {
                if skipped == ENCRYPTION_PAD_MAX_BYTES {
                    return Err(Broken("encryption: a pad without an end"));
                }
                came.remove(0);
                self.inbox = came;
                Step::Pad { end, skipped: skipped + 1, then }
            }
            Step::Pad { then: Then::Torrent(secret), .. } => Step::Torrent(secret),
            Step::Pad { then: Then::Choice(pair), .. } => Step::Choice(pair),
            Step::Torrent(secret) if came == torrent_hash(self.info_hash, &secret) => {
                Step::Offer(self.pair(&secret))
            }
            Step::Torrent(_) => return Err(Broken("encryption: for another torrent")),
            Step::Offer(pair) => self.on_offer(came, pair)?,
            Step::Choice(pair) => on_choice(came, pair)?,
            Step::LastPad { pair, selected, .. } => self.on_last_pad(came, pair, selected),
            done @ Step::Done(_) => done,
        };
        Ok(())
    }

    fn on_public_key(&mut self, came: &[u8]) -> Result<Step, Broken> {
        let secret = came.first_chunk().and_then(|theirs| self.private_key.shared_secret(theirs));
        let secret = secret.ok_or(Broken("encryption: no public key"))?;
        Ok(match self.role.clone() {
            Role::Initiator(first) => {
                let mut pair = self.pair(&secret);
                self.say_offer(&secret, &first, &mut pair.outgoing);
                let mut end = VERIFICATION.to_vec();
                pair.incoming.apply(&mut end);
                Step::Pad { end, skipped: 0, then: Then::Choice(pair) }
            }
            Role::Responder { .. } => {
                self.say_key();
                let end = hash(b"req1", &[&secret]).to_vec();
                Step::Pad { end, skipped: 0, then: Then::Torrent(secret) }
            }
        })
    }

    fn on_offer(&self, mut came: Vec<u8>, mut pair: Pair) -> Result<Step, Broken> {
        pair.incoming.apply(&mut came);
        let (verification, came) = came.split_first_chunk().unwrap_or((&[1; 8], &[]));
        if *verification != VERIFICATION {
            return Err(Broken("encryption: other keys"));
        }
        let (offered, pad) = ways_and_pad(came)?;
        let takes_plain = matches!(self.role, Role::Responder { takes_plain: true });
        let selected = match offered {
            offered if takes_plain && offered & PLAIN != 0 => PLAIN,
            offered if offered & RC4 != 0 => RC4,
            _ => return Err(Broken("encryption: no way that is known")),
        };
        // Behind PadC comes the length of IA.
        Ok(Step::LastPad { length: pad + 2, pair, selected })
    }

    fn on_last_pad(&mut self, mut came: Vec<u8>, mut pair: Pair, selected: u32) -> Step {
        pair.incoming.apply(&mut came);
        let mut incoming_left = u64::MAX;
        if matches!(self.role, Role::Responder { .. }) {
            let mut choice = self.choice(selected);
            pair.outgoing.apply(&mut choice);
            self.outbox.extend(choice);
            let first = came.last_chunk().map_or(0, |length| u16::from_be_bytes(*length));
            if selected == PLAIN {
                incoming_left = u64::from(first);
            }
        }
        let outgoing = (selected == RC4).then_some(pair.outgoing);
        Step::Done(Some(Ciphers { outgoing, incoming: pair.incoming, incoming_left }))
    }

    fn pair(&self, secret: &Secret) -> Pair {
        let keystream = |name: &[u8]| Rc4::new(&hash(name, &[secret, &self.info_hash.0]));
        let (a, b) = (keystream(b"keyA"), keystream(b"keyB"));
        match self.role {
            Role::Initiator(_) => Pair { outgoing: a, incoming: b },
            Role::Responder { .. } => Pair { outgoing: b, incoming: a },
        }
    }
}

fn on_choice(mut came: Vec<u8>, mut pair: Pair) -> Result<Step, Broken> {
    pair.incoming.apply(&mut came);
    match ways_and_pad(&came)? {
        (RC4, length) => Ok(Step::LastPad { length, pair, selected: RC4 }),
        _ => Err(Broken("encryption: a way that was not offered")),
    }
}

/// `crypto_provide` or `crypto_select`, and the length of the pad behind it.
fn ways_and_pad(came: &[u8]) -> Result<(u32, usize), Broken> {
    let ways = came.first_chunk().map_or(0, |ways| u32::from_be_bytes(*ways));
    let pad = came.last_chunk().map_or(0, |pad| usize::from(u16::from_be_bytes(*pad)));
    match pad <= ENCRYPTION_PAD_MAX_BYTES {
        true => Ok((ways, pad)),
        false => Err(Broken("encryption: a pad that is too long")),
    }
}

/// By which the responder knows what the initiator wants to talk about.
fn torrent_hash(info_hash: InfoHash, secret: &Secret) -> Hash {
    let mut bytes = hash(b"req2", &[&info_hash.0]);
    for (byte, other) in bytes.iter_mut().zip(hash(b"req3", &[secret])) {
        *byte ^= other;
    }
    bytes
}

fn hash(name: &[u8], parts: &[&[u8]]) -> Hash {
    let mut sha1 = Sha1::new();
    sha1.update(name);
    parts.iter().for_each(|part| sha1.update(part));
    sha1.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORRENT: InfoHash = InfoHash([7; 20]);
    const FIRST: &[u8] = b"what the initiator says first";

    fn initiator_key() -> PrivateKey {
        PrivateKey(*b"the initiator's key.")
    }

    fn responder_key() -> PrivateKey {
        PrivateKey(*b"the responder's key.")
    }

    fn initiator(seed: u64) -> Exchange {
        Exchange::initiate(TORRENT, FIRST, initiator_key(), Rng::with_seed(seed))
    }

    fn responder(takes_plain: bool) -> Exchange {
        Exchange::respond(TORRENT, takes_plain, responder_key(), Rng::with_seed(9))
    }

    /// What an initiator says, whoever it is that it talks to.
    struct Script {
        public_key: [u8; KEY_LENGTH],
        pads: [u16; 2],
        torrent: InfoHash,
        verification: [u8; 8],
        ways: u32,
        first_length: u16,
    }

    impl Default for Script {
        fn default() -> Self {
            let (public_key, verification) = (initiator_key().public_key(), VERIFICATION);
            let (pads, torrent, ways) = ([100, 50], TORRENT, RC4);
            Self { public_key, pads, torrent, verification, ways, first_length: 3 }
        }
    }

    impl Script {
        /// All of it, and what encrypts and decrypts what follows.
        fn bytes(&self) -> (Vec<u8>, Pair) {
            let secret = responder_key().shared_secret(&initiator_key().public_key()).unwrap();
            let mut bytes = self.public_key.to_vec();
            // Half of what ends the pad is in the pad as well.
            let end = hash(b"req1", &[&secret]);
            let [pad, last_pad] = self.pads.map(usize::from);
            let half = pad.min(10);
            bytes.resize(bytes.len() + pad - half, 0x55);
            bytes.extend(&end[..half]);
            bytes.extend(end);
            bytes.extend(torrent_hash(self.torrent, &secret));
            let mut offer = self.verification.to_vec();
            offer.extend(self.ways.to_be_bytes());
            offer.extend(self.pads[1].to_be_bytes());
            offer.resize(offer.len() + last_pad, 0);
            offer.extend(self.first_length.to_be_bytes());
            let mut pair = initiator(1).pair(&secret);
            pair.outgoing.apply(&mut offer);
            bytes.extend(offer);
            (bytes, pair)
        }
    }

    /// Gives it what it wants of `bytes`, as they come. How many bytes that were.
    fn feed(exchange: &mut Exchange, bytes: &[u8]) -> Result<usize, Broken> {
        let mut rng = Rng::with_seed(3);
        let mut fed = 0;
        while exchange.wanted() > 0 && fed < bytes.len() {
            let part = rng.usize(1..=exchange.wanted()).min(bytes.len() - fed);
            assert_eq!(exchange.take(&bytes[fed..fed + part])?, part, "no more than is wanted");
            assert!(exchange.inbox.capacity() <= 2 * ENCRYPTION_PAD_MAX_BYTES);
            fed += part;
        }
        Ok(fed)
    }

    #[test]
    fn both_sides_agree_and_take_no_byte_too_many() {
        for seed in 0..10 {
            let (mut initiator, mut responder) = (initiator(seed), responder(seed % 2 == 0));
            let said = initiator.take_outbox();
            assert_eq!(feed(&mut responder, &said), Ok(said.len()));
            let answered = responder.take_outbox();
            assert_eq!(feed(&mut initiator, &answered), Ok(answered.len()));
            let said = initiator.take_outbox();
            let fed = feed(&mut responder, &said).unwrap();
            let answered = [responder.take_outbox(), b"more".to_vec()].concat();
            let (mut ours, mut first) = (responder.into_ciphers().unwrap(), said[fed..].to_vec());
            ours.decrypt(&mut first);
            assert_eq!(first, FIRST);
            assert_eq!(feed(&mut initiator, &answered), Ok(answered.len() - 4));
            assert_eq!(initiator.take_outbox(), b"");
            let mut theirs = initiator.into_ciphers().unwrap();
            for part in [&b"one"[..], b"", b"another one"] {
                let mut bytes = part.to_vec();
                ours.outgoing().unwrap().apply(&mut bytes);
                assert!(part.is_empty() || bytes != part);
                theirs.decrypt(&mut bytes);
                theirs.outgoing().unwrap().apply(&mut bytes);
                ours.decrypt(&mut bytes);
                assert_eq!(bytes, part);
            }
        }
    }

    /// As Python's hashlib and pow and another RC4 have it.
    #[test]
    fn what_is_said_is_what_the_specification_says() {
        let mut initiator = initiator(1);
        initiator.take_outbox();
        initiator.take(&responder_key().public_key()).unwrap();
        let offer = b"\x70\x8e\x28\x44\x58\xd7\xe9\x83\xf2\xce\xe6\x65\x86\xbd\x73\x06\x16\x3a\xc3\
            \xac\x45\x71\x36\xa9\x74\xd1\xc7\x71\x66\xf3\x99\x88\x9a\x61\xd3\x57\x37\x06\
            \x2c\xc6\x13\xe5\xc3\x89\xdf\x80\xc9\x09\xd5\xa2\x74\xac";
        assert_eq!(initiator.take_outbox()[..52], offer[..]);
        for (takes_plain, last) in [(false, 0x5e), (true, 0x5d)] {
            let mut responder = responder(takes_plain);
            let (bytes, _) = Script { ways: RC4 | PLAIN, ..Script::default() }.bytes();
            let begin = feed(&mut responder, &bytes[..KEY_LENGTH]).unwrap();
            responder.take_outbox();
            feed(&mut responder, &bytes[begin..]).unwrap();
            let choice = b"\xcf\x07\x06\xc4\xee\x77\xbe\x02\x3f\xfa\x61";
            assert_eq!(responder.take_outbox()[..12], [&choice[..], &[last]].concat());
        }
    }

    #[test]
    fn with_plain_text_only_what_comes_first_is_encrypted() {
        let (bytes, mut theirs) = Script { ways: PLAIN | 4, ..Script::default() }.bytes();
        let mut responder = responder(true);
        assert_eq!(responder.take(&[&bytes[..], b"more"].concat()), Ok(bytes.len()));
        assert_eq!(responder.wanted(), 0);
        let mut ours = responder.into_ciphers().unwrap();
        assert!(ours.outgoing().is_none());
        let mut first = *b"abc";
        theirs.outgoing.apply(&mut first);
        let mut came = [&first[..], b"def"].concat();
        let (front, behind) = came.split_at_mut(2);
        ours.decrypt(front);
        ours.decrypt(behind);
        assert_eq!(came, b"abcdef");
    }

    #[test]
    fn a_responder_leaves_whom_it_can_not_talk_to() {
        let script = Script::default;
        let most = u16::try_from(ENCRYPTION_PAD_MAX_BYTES).unwrap();
        let long = most + 1;
        let mut minus_one = [0xff; KEY_LENGTH];
        minus_one[0] = 0;
        let cases = [
            ("as it should be", script(), Ok(())),
            ("no pads", Script { pads: [0, 0], ..script() }, Ok(())),
            ("the longest pads", Script { pads: [most, most], ..script() }, Ok(())),
            ("no IA", Script { first_length: 0, ..script() }, Ok(())),
            ("the longest IA", Script { first_length: u16::MAX, ..script() }, Ok(())),
            ("key 0", Script { public_key: [0; KEY_LENGTH], ..script() }, Err("no public key")),
            ("key too large", Script { public_key: [0xff; 96], ..script() }, Err("no public key")),
            ("another key", Script { public_key: minus_one, ..script() }, Err("without an end")),
            ("a long pad", Script { pads: [long, 0], ..script() }, Err("without an end")),
            ("a long PadC", Script { pads: [0, long], ..script() }, Err("too long")),
            ("the longest PadC", Script { pads: [0, 0xffff], ..script() }, Err("too long")),
            (
                "a torrent",
                Script { torrent: InfoHash([8; 20]), ..script() },
                Err("another torrent"),
            ),
            (
                "VC",
                Script { verification: [0, 0, 0, 0, 0, 0, 0, 1], ..script() },
                Err("other keys"),
            ),
            ("plain text alone", Script { ways: PLAIN, ..script() }, Err("no way")),
            ("no way", Script { ways: 0, ..script() }, Err("no way")),
            ("unknown ways", Script { ways: !3, ..script() }, Err("no way")),
        ];
        for (name, script, expected) in cases {
            let (bytes, _) = script.bytes();
            let mut responder = responder(false);
            let fed = feed(&mut responder, &[&bytes[..], &[0; 600]].concat());
            match expected {
                Ok(()) => assert_eq!(fed, Ok(bytes.len()), "{name}"),
                Err(why) => {
                    assert!(fed.unwrap_err().0.contains(why), "{name}: {fed:?}");
                    assert_eq!((responder.wanted(), responder.take(b"more")), (0, Ok(0)));
                    assert!(responder.into_ciphers().is_none());
                }
            }
        }
    }

    #[test]
    fn an_initiator_leaves_whom_it_can_not_talk_to() {
        let secret = initiator_key().shared_secret(&responder_key().public_key()).unwrap();
        let key = responder_key().public_key().to_vec();
        let (most, long) = (ENCRYPTION_PAD_MAX_BYTES, ENCRYPTION_PAD_MAX_BYTES + 1);
        let cases = [
            ("as it should be", [key.clone(), vec![1; 20]], (RC4, 30), Ok(())),
            ("no pads", [key.clone(), vec![]], (RC4, 0), Ok(())),
            ("the longest pads", [key.clone(), vec![0; most]], (RC4, most), Ok(())),
            ("a long pad", [key.clone(), vec![0; long]], (RC4, 0), Err("without an end")),
            ("a long PadD", [key.clone(), vec![]], (RC4, long), Err("too long")),
            ("key 1", [vec![0; 95], vec![1]], (RC4, 0), Err("no public key")),
            ("plain text", [key.clone(), vec![]], (PLAIN, 0), Err("not offered")),
            ("no way", [key.clone(), vec![]], (0, 0), Err("not offered")),
            ("both ways", [key, vec![]], (RC4 | PLAIN, 0), Err("not offered")),
        ];
        for (name, before, (way, pad), expected) in cases {
            let mut choice = VERIFICATION.to_vec();
            choice.extend(way.to_be_bytes());
            choice.extend(u16::try_from(pad).unwrap().to_be_bytes());
            choice.resize(choice.len() + pad, 0);
            responder(false).pair(&secret).outgoing.apply(&mut choice);
            let bytes = [before.concat(), choice].concat();
            let mut initiator = initiator(2);
            let fed = feed(&mut initiator, &[&bytes[..], &[0; 600]].concat());
            match expected {
                Ok(()) => assert_eq!(fed, Ok(bytes.len()), "{name}"),
                Err(why) => assert!(fed.unwrap_err().0.contains(why), "{name}: {fed:?}"),
            }
        }
    }

    #[test]
    fn noise_is_over_soon() {
        let mut rng = Rng::with_seed(4);
        for number in 0..20 {
            let noise: Vec<u8> = (0..1000).map(|_| rng.u8(..)).collect();
            let mut exchange = if number % 2 == 0 { initiator(number) } else { responder(true) };
            let broken = feed(&mut exchange, &noise).unwrap_err();
            assert!(broken.0.contains("without an end"), "{broken:?}");
        }
    }
}
