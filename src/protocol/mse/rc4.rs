//! The stream cipher RC4, forwards and, for what could not be sent, backwards.

/// Bytes of the keystream that are thrown away at its beginning: they tell of the key.
const DROPPED: usize = 1024;

/// One direction of an encrypted connection. Encrypting and decrypting are the same.
#[derive(Clone)]
pub struct Rc4 {
    /// A permutation of all bytes. As bytes they would be packed, which takes a third longer.
    state: Box<[u16; 256]>,
    i: u8,
    j: u8,
}

impl Rc4 {
    /// The keystream of `key` behind its first 1024 bytes. An empty key is no key at all.
    pub fn new(key: &[u8]) -> Self {
        let mut rc4 = Self::whole(key);
        rc4.apply(&mut [0; DROPPED]);
        rc4
    }

    /// Encrypts or decrypts `bytes` in place.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        // Four to a round: the optimizer, told to save space, would not do so by itself.
        let (fours, rest) = bytes.as_chunks_mut();
        for [a, b, c, d] in fours {
            *a ^= self.next();
            *b ^= self.next();
            *c ^= self.next();
            *d ^= self.next();
        }
        rest.iter_mut().for_each(|byte| *byte ^= self.next());
    }

    /// Takes back what [`Rc4::apply`] did last: these are its last bytes, and become what they
    /// were before, and the next ones are encrypted as these were.
    pub fn undo(&mut self, bytes: &mut [u8]) {
        for byte in bytes.iter_mut().rev() {
            *byte ^= self.last();
        }
    }
}

#[allow(clippy::indexing_slicing)] // a byte is an index into 256 entries
impl Rc4 {
    /// The keystream of `key` from its first byte on.
    fn whole(key: &[u8]) -> Self {
        let mut state = Box::new([0; 256]);
        (0..).zip(state.iter_mut()).for_each(|(number, entry)| *entry = number);
        let mut j = 0_u8;
        for (i, key) in (0..state.len()).zip(key.iter().cycle()) {
            j = j.wrapping_add(byte(state[i])).wrapping_add(*key);
            state.swap(i, usize::from(j));
        }
        Self { state, i: 0, j: 0 }
    }

    #[inline(always)]
    fn next(&mut self) -> u8 {
        self.i = self.i.wrapping_add(1);
        let a = self.state[usize::from(self.i)];
        self.j = self.j.wrapping_add(byte(a));
        let b = self.state[usize::from(self.j)];
        self.state[usize::from(self.i)] = b;
        self.state[usize::from(self.j)] = a;
        byte(self.state[usize::from(byte(a).wrapping_add(byte(b)))])
    }

    /// The byte that was the next one a step ago.
    fn last(&mut self) -> u8 {
        let b = self.state[usize::from(self.i)];
        let a = self.state[usize::from(self.j)];
        let last = self.state[usize::from(byte(a).wrapping_add(byte(b)))];
        self.state[usize::from(self.i)] = a;
        self.state[usize::from(self.j)] = b;
        self.j = self.j.wrapping_sub(byte(a));
        self.i = self.i.wrapping_sub(1);
        byte(last)
    }
}

/// An entry of the state, which is none but a byte.
#[allow(clippy::cast_possible_truncation)] // so nothing is cut off
fn byte(entry: u16) -> u8 {
    entry as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6229: for keys `01 02 03 ..` of some lengths, what stands at 0 and at 1024.
    #[test]
    fn the_keystream_is_the_one_of_rfc_6229() {
        let cases: [(u8, [u8; 16], [u8; 16]); 3] = [
            (
                5,
                *b"\xb2\x39\x63\x05\xf0\x3d\xc0\x27\xcc\xc3\x52\x4a\x0a\x11\x18\xa8",
                *b"\x30\xab\xbc\xc7\xc2\x0b\x01\x60\x9f\x23\xee\x2d\x5f\x6b\xb7\xdf",
            ),
            (
                16,
                *b"\x9a\xc7\xcc\x9a\x60\x9d\x1e\xf7\xb2\x93\x28\x99\xcd\xe4\x1b\x97",
                *b"\xbd\xf0\x32\x4e\x60\x83\xdc\xc6\xd3\xce\xdd\x3c\xa8\xc5\x3c\x16",
            ),
            (
                32,
                *b"\xea\xa6\xbd\x25\x88\x0b\xf9\x3d\x3f\x5d\x1e\x4c\xa2\x61\x1d\x91",
                *b"\x7f\xec\x5b\xfd\x9f\x9b\x89\xce\x65\x48\x30\x90\x92\xd7\xe9\x58",
            ),
        ];
        for (length, first, behind_dropped) in cases {
            let key: Vec<u8> = (1..=length).collect();
            let mut bytes = [0; 16];
            Rc4::whole(&key).apply(&mut bytes);
            assert_eq!(bytes, first, "{length}");
            let mut bytes = [0; 16];
            Rc4::new(&key).apply(&mut bytes);
            assert_eq!(bytes, behind_dropped, "{length}");
        }
    }

    #[test]
    fn in_whatever_parts_it_is_the_same_stream() {
        let mut rng = fastrand::Rng::with_seed(1);
        let text: Vec<u8> = (0..10_000).map(|_| rng.u8(..)).collect();
        let mut whole = text.clone();
        Rc4::new(b"key").apply(&mut whole);
        let mut parts = text.clone();
        let mut rc4 = Rc4::new(b"key");
        let mut rest = &mut parts[..];
        while !rest.is_empty() {
            let (part, behind) = rest.split_at_mut(rng.usize(..=rest.len().min(100)));
            rc4.apply(part);
            rest = behind;
        }
        assert!(parts == whole);
        Rc4::new(b"key").apply(&mut parts);
        assert!(parts == text);
    }

    #[test]
    fn what_is_taken_back_was_never_encrypted() {
        let mut rng = fastrand::Rng::with_seed(2);
        let text: Vec<u8> = (0..10_000).map(|_| rng.u8(..)).collect();
        let mut whole = text.clone();
        Rc4::new(b"key").apply(&mut whole);
        let mut parts = text.clone();
        let mut rc4 = Rc4::new(b"key");
        let mut begin = 0;
        while begin < parts.len() {
            let rest = &mut parts[begin..];
            let end = rng.usize(1..=rest.len().min(1000));
            let kept = rng.usize(..=end);
            rc4.apply(&mut rest[..end]);
            rc4.undo(&mut rest[kept..end]);
            begin += kept;
            assert!(parts[begin..] == text[begin..]);
        }
        assert!(parts == whole);
    }
}
