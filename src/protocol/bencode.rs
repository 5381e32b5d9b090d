//! Speaks bencode (BEP 3): torrent files, trackers' answers, peers' extension messages.
//!
//! Reading is lenient where the field is: keys may be unsorted, doubled (the first one counts) or
//! empty, numbers may have leading zeros. So the reader is our own; it checks a text once, without
//! recursion and without allocating, and what a [`Value`] says afterwards can't fail. Writing is
//! strict, and bendy does it.

use std::collections::BTreeMap;
use std::fmt;

use bendy::encoding::{Error, SingleItemEncoder, ToBencode};

use crate::limits::BENCODE_DEPTH_MAX;
use crate::text::Foreign;

/// Why bytes are not bencode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed {
    /// Bytes from the start to what is wrong.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for Malformed {}

/// One value: the exact bytes of it, known to be bencode.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value<'a>(&'a [u8]);

impl<'a> Value<'a> {
    /// The value that `input` begins with. What follows it is not looked at.
    pub fn parse(input: &'a [u8]) -> Result<Self, Malformed> {
        Self::parse_prefix(input).map(|(value, _)| value)
    }

    /// The value that `input` begins with, and the bytes after it.
    pub fn parse_prefix(input: &'a [u8]) -> Result<(Self, &'a [u8]), Malformed> {
        let length = Checker { input, at: 0 }.check_value()?;
        let (value, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
        Ok((Self(value), rest))
    }

    /// The bytes it was read from.
    pub fn raw(self) -> &'a [u8] {
        self.0
    }

    /// The bytes of a string; `None` for anything else.
    pub fn bytes(self) -> Option<&'a [u8]> {
        if !self.0.first()?.is_ascii_digit() {
            return None;
        }
        let colon = self.0.iter().position(|byte| *byte == b':')?;
        self.0.get(colon + 1..)
    }

    /// A string that is UTF-8; `None` for anything else.
    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// An integer; `None` for anything else and for a number that an `i64` can't hold.
    pub fn integer(self) -> Option<i64> {
        let digits = self.0.strip_prefix(b"i")?.strip_suffix(b"e")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The items of a list; `None` for anything else.
    pub fn list(self) -> Option<List<'a>> {
        self.0.strip_prefix(b"l").map(|rest| List { rest })
    }

    /// The entries of a dictionary, in the order they stand in; `None` for anything else.
    pub fn dict(self) -> Option<Dict<'a>> {
        self.0.strip_prefix(b"d").map(|rest| Dict { items: List { rest } })
    }

    /// What a dictionary has under `key`; the first of several. `None` if it has nothing there or
    /// this is no dictionary.
    pub fn get(self, key: impl AsRef<[u8]>) -> Option<Value<'a>> {
        let key = key.as_ref();
        self.dict()?.find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Foreign::new(self.0))
    }
}

/// The items of a list, one after the other.
#[derive(Clone, Debug)]
pub struct List<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (item, rest) = self.rest.split_at_checked(length_of_checked(self.rest)?)?;
        self.rest = rest;
        Some(Value(item))
    }
}

/// The entries of a dictionary, one after the other.
#[derive(Clone, Debug)]
pub struct Dict<'a> {
    items: List<'a>,
}

impl<'a> Iterator for Dict<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        Some((self.items.next()?.bytes()?, self.items.next()?))
    }
}

/// Bytes of the value that `input`, which was checked before, begins with. `None` at the `e` that
/// ends the list or dictionary around it.
fn length_of_checked(input: &[u8]) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = 0;
    loop {
        match *input.get(at)? {
            b'l' | b'd' => {
                depth += 1;
                at += 1;
            }
            b'e' => {
                depth = depth.checked_sub(1)?;
                at += 1;
            }
            b'i' => at += input.get(at..)?.iter().position(|byte| *byte == b'e')? + 1,
            _ => at = Checker { input, at }.check_string().ok()?,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// What a list or dictionary that is being checked may go on with.
#[derive(Clone, Copy)]
enum Inside {
    List,
    DictBeforeKey,
    DictBeforeValue,
}

impl Inside {
    fn what_opens(byte: u8) -> Option<Self> {
        match byte {
            b'l' => Some(Self::List),
            b'd' => Some(Self::DictBeforeKey),
            _ => None,
        }
    }

    fn after_item(self) -> Self {
        match self {
            Self::List => Self::List,
            Self::DictBeforeKey => Self::DictBeforeValue,
            Self::DictBeforeValue => Self::DictBeforeKey,
        }
    }
}

/// Reads from the start of `input` on; `at` is what comes next.
struct Checker<'a> {
    input: &'a [u8],
    at: usize,
}

impl Checker<'_> {
    /// Goes over one value and returns where it ends. Keeps its own stack, so that no nesting can
    /// exhaust the thread's.
    fn check_value(mut self) -> Result<usize, Malformed> {
        let mut stack = [Inside::List; BENCODE_DEPTH_MAX];
        let mut depth = 0_usize;
        loop {
            let byte = self.peek()?;
            let inside = depth.checked_sub(1).and_then(|top| stack.get_mut(top));
            match (byte, inside.as_deref()) {
                (b'e', Some(Inside::List | Inside::DictBeforeKey)) => {
                    self.at += 1;
                    depth -= 1;
                }
                (b'e', Some(Inside::DictBeforeValue)) => return self.wrong("key without a value"),
                (_, Some(Inside::DictBeforeKey)) if !byte.is_ascii_digit() => {
                    return self.wrong("dictionary key that is no string");
                }
                _ => {
                    if let Some(inside) = inside {
                        *inside = inside.after_item();
                    }
                    if let Some(opened) = Inside::what_opens(byte) {
                        let Some(top) = stack.get_mut(depth) else {
                            return self.wrong("lists and dictionaries nested too deep");
                        };
                        *top = opened;
                        depth += 1;
                        self.at += 1;
                    } else if byte == b'i' {
                        self.at = self.check_integer()?;
                    } else {
                        self.at = self.check_string()?;
                    }
                }
            }
            if depth == 0 {
                return Ok(self.at);
            }
        }
    }

    /// Where the string ends that stands here.
    fn check_string(&self) -> Result<usize, Malformed> {
        let mut at = self.at;
        let mut length = 0_usize;
        loop {
            match self.input.get(at) {
                Some(byte @ b'0'..=b'9') => {
                    length = length.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                }
                Some(b':') if at > self.at => break,
                Some(_) => return Err(Malformed { at, what: "unexpected byte" }),
                None => return Err(Malformed { at, what: "unexpected end" }),
            }
            at += 1;
        }
        let start = at + 1;
        match start.checked_add(length) {
            Some(end) if end <= self.input.len() => Ok(end),
            _ => self.wrong("string longer than what is left"),
        }
    }

    /// Where the integer ends that stands here.
    fn check_integer(&self) -> Result<usize, Malformed> {
        let mut at = self.at + 1;
        if self.input.get(at) == Some(&b'-') {
            at += 1;
        }
        let digits = at;
        loop {
            match self.input.get(at) {
                Some(b'0'..=b'9') => at += 1,
                Some(b'e') if at > digits => return Ok(at + 1),
                Some(_) => return Err(Malformed { at, what: "integer with an unexpected byte" }),
                None => return Err(Malformed { at, what: "unexpected end" }),
            }
        }
    }

    fn peek(&self) -> Result<u8, Malformed> {
        self.input.get(self.at).copied().ok_or(Malformed { at: self.at, what: "unexpected end" })
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Malformed> {
        Err(Malformed { at: self.at, what })
    }
}

/// A value to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// An integer.
    Integer(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Item>),
    /// A dictionary; its order is the one that bencode asks for.
    Dict(BTreeMap<Vec<u8>, Item>),
}

impl Item {
    /// A dictionary of these entries, whatever their order.
    pub fn dict<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, Item)>) -> Self {
        let mut dict = BTreeMap::new();
        for (key, item) in entries {
            dict.insert(key.as_ref().to_vec(), item);
        }
        Self::Dict(dict)
    }

    /// A list of these items.
    pub fn list<T: Into<Item>>(items: impl IntoIterator<Item = T>) -> Self {
        Self::List(items.into_iter().map(Into::into).collect())
    }

    /// A string of these bytes.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().to_vec())
    }

    /// The bencode. Nothing that is nested deeper than [`BENCODE_DEPTH_MAX`] is ever written:
    /// nobody would read it, and the result is empty.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = self.to_bencode();
        debug_assert!(encoded.is_ok(), "nested too deep");
        encoded.unwrap_or_default()
    }
}

impl From<i64> for Item {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<&str> for Item {
    fn from(text: &str) -> Self {
        Self::bytes(text)
    }
}

impl From<&[u8]> for Item {
    fn from(bytes: &[u8]) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Vec<u8>> for Item {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl ToBencode for Item {
    const MAX_DEPTH: usize = BENCODE_DEPTH_MAX;

    fn encode(&self, encoder: SingleItemEncoder<'_>) -> Result<(), Error> {
        match self {
            Self::Integer(integer) => encoder.emit_int(*integer),
            Self::Bytes(bytes) => encoder.emit_bytes(bytes),
            Self::List(items) => {
                encoder.emit_list(|list| items.iter().try_for_each(|item| list.emit(item)))
            }
            Self::Dict(entries) => encoder.emit_dict(|mut dict| {
                entries.iter().try_for_each(|(key, item)| dict.emit_pair(key, item))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bendy::decoding::{Decoder, Object};

    use super::*;
    use crate::stopwatch::worked;

    fn parse(input: &str) -> Value<'_> {
        Value::parse(input.as_bytes()).unwrap()
    }

    #[test]
    fn values_say_what_they_are() {
        assert_eq!(parse("5:hello").text(), Some("hello"));
        assert_eq!(parse("0:").bytes(), Some(b"".as_slice()));
        assert_eq!(parse("i-42e").integer(), Some(-42));
        let list: Vec<_> = parse("li1e1:aldee1:be").list().unwrap().map(Value::raw).collect();
        assert_eq!(list, [b"i1e".as_slice(), b"1:a", b"ldee", b"1:b"]);
        let dict = parse("d1:a1:b1:cd1:di1eee");
        assert_eq!(dict.get("c").unwrap().get("d").unwrap().integer(), Some(1));
        assert_eq!(dict.get("c").unwrap().raw(), b"d1:di1ee");
        assert_eq!(dict.get("d"), None);
        for (input, kind) in [("1:a", 0), ("i1e", 1), ("le", 2), ("de", 3)] {
            let value = parse(input);
            let is = [
                value.bytes().is_some(),
                value.integer().is_some(),
                value.list().is_some(),
                value.dict().is_some(),
            ];
            assert_eq!(is, [kind == 0, kind == 1, kind == 2, kind == 3], "{input}");
        }
        assert_eq!(Value::parse(b"1:\xff").unwrap().text(), None);
    }

    #[test]
    fn what_the_field_writes_is_read() {
        let unsorted = parse("d1:b1:x1:a1:y1:b1:z0:i7ee");
        assert_eq!(unsorted.get("b").unwrap().text(), Some("x"));
        assert_eq!(unsorted.get("a").unwrap().text(), Some("y"));
        assert_eq!(unsorted.get("").unwrap().integer(), Some(7));
        assert_eq!(unsorted.dict().unwrap().count(), 4);
        for (input, integer) in [
            ("i007e", Some(7)),
            ("i-0e", Some(0)),
            ("i9223372036854775807e", Some(i64::MAX)),
            ("i-9223372036854775808e", Some(i64::MIN)),
            ("i9223372036854775808e", None),
        ] {
            assert_eq!(parse(input).integer(), integer, "{input}");
        }
        assert_eq!(parse("003:abc").text(), Some("abc"));
        let (value, rest) = Value::parse_prefix(b"d1:ai1eexyz").unwrap();
        assert_eq!((value.raw(), rest), (b"d1:ai1ee".as_slice(), b"xyz".as_slice()));
    }

    #[test]
    fn broken_input_is_refused_where_it_breaks() {
        let cases = [
            ("", 0, "unexpected end"),
            ("x", 0, "unexpected byte"),
            ("e", 0, "unexpected byte"),
            (":", 0, "unexpected byte"),
            ("-1:a", 0, "unexpected byte"),
            ("<html>", 0, "unexpected byte"),
            ("5", 1, "unexpected end"),
            ("5a:", 1, "unexpected byte"),
            ("2:a", 0, "string longer"),
            ("l18446744073709551616:ae", 1, "string longer"),
            ("18446744073709551615:a", 0, "string longer"),
            ("ie", 1, "integer with"),
            ("i-e", 2, "integer with"),
            ("i--1e", 2, "integer with"),
            ("i+1e", 1, "integer with"),
            ("i1.5e", 2, "integer with"),
            ("i12", 3, "unexpected end"),
            ("l", 1, "unexpected end"),
            ("li1e", 4, "unexpected end"),
            ("d1:a", 4, "unexpected end"),
            ("d1:ae", 4, "key without a value"),
            ("di1ei2ee", 1, "dictionary key"),
            ("dlei2ee", 1, "dictionary key"),
            ("d1:ai1e", 7, "unexpected end"),
        ];
        for (input, at, what) in cases {
            let malformed = Value::parse(input.as_bytes()).unwrap_err();
            assert_eq!(malformed.at, at, "{input}: {malformed}");
            assert!(malformed.what.contains(what), "{input}: {malformed}");
        }
        assert_eq!(
            Value::parse(b"l2:a").unwrap_err().to_string(),
            "string longer than what is left at byte 1"
        );
    }

    #[test]
    fn nesting_ends_at_the_limit() {
        let nested = |depth: usize| ["l".repeat(depth), "e".repeat(depth)].concat();
        assert!(Value::parse(nested(BENCODE_DEPTH_MAX).as_bytes()).is_ok());
        let malformed = Value::parse(nested(BENCODE_DEPTH_MAX + 1).as_bytes()).unwrap_err();
        assert_eq!(malformed.at, BENCODE_DEPTH_MAX);
        assert!(Value::parse("l".repeat(10_000_000).as_bytes()).is_err());
        assert!(Value::parse("d0:".repeat(10_000_000).as_bytes()).is_err());
    }

    #[test]
    fn the_large_is_quick() {
        let began = worked();
        let lists = ["l", &"le".repeat(1_000_000), "e"].concat();
        assert_eq!(parse(&lists).list().unwrap().count(), 1_000_000);
        let items = ["l", &"d1:ali1ei2ee1:bi3ee".repeat(100_000), "e"].concat();
        let sum: i64 =
            parse(&items).list().unwrap().filter_map(|item| item.get("b")?.integer()).sum();
        assert_eq!(sum, 300_000);
        let digits = ["i", &"9".repeat(1_000_000), "e"].concat();
        assert_eq!(parse(&digits).integer(), None);
        let worked = worked() - began;
        assert!(worked < Duration::from_secs(10), "{worked:?}");
    }

    fn random_item(rng: &mut fastrand::Rng, depth: usize) -> Item {
        let bytes = |rng: &mut fastrand::Rng| -> Vec<u8> {
            (0..rng.usize(..12)).map(|_| rng.u8(..)).collect()
        };
        match rng.u8(..if depth == 0 { 2 } else { 4 }) {
            0 => Item::Integer(rng.i64(..) >> rng.u8(..64)),
            1 => Item::Bytes(bytes(rng)),
            2 => Item::List((0..rng.usize(..5)).map(|_| random_item(rng, depth - 1)).collect()),
            _ => Item::Dict(
                (0..rng.usize(..5)).map(|_| (bytes(rng), random_item(rng, depth - 1))).collect(),
            ),
        }
    }

    fn as_we_read(value: Value<'_>) -> Item {
        if let Some(list) = value.list() {
            return Item::List(list.map(as_we_read).collect());
        }
        if let Some(dict) = value.dict() {
            return Item::Dict(
                dict.map(|(key, value)| (key.to_vec(), as_we_read(value))).collect(),
            );
        }
        match value.bytes() {
            Some(bytes) => Item::bytes(bytes),
            None => Item::Integer(value.integer().unwrap()),
        }
    }

    fn as_bendy_reads(object: Object<'_, '_>) -> Option<Item> {
        Some(match object {
            Object::Integer(digits) => Item::Integer(digits.parse().ok()?),
            Object::Bytes(bytes) => Item::bytes(bytes),
            Object::List(mut list) => {
                let mut items = Vec::new();
                while let Some(item) = list.next_object().ok()? {
                    items.push(as_bendy_reads(item)?);
                }
                Item::List(items)
            }
            Object::Dict(mut dict) => {
                let mut entries = BTreeMap::new();
                while let Some((key, value)) = dict.next_pair().ok()? {
                    entries.insert(key.to_vec(), as_bendy_reads(value)?);
                }
                Item::Dict(entries)
            }
        })
    }

    fn bendy(input: &[u8]) -> Option<Item> {
        let mut decoder = Decoder::new(input).with_max_depth(BENCODE_DEPTH_MAX);
        as_bendy_reads(decoder.next_object().ok()??)
    }

    #[test]
    fn what_is_written_is_read_by_us_and_by_bendy() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..2_000 {
            let item = random_item(&mut rng, 6);
            let encoded = item.encode();
            assert_eq!(as_we_read(Value::parse(&encoded).unwrap()), item);
            assert_eq!(bendy(&encoded), Some(item));
        }
    }

    #[test]
    fn mutants_never_panic_and_what_bendy_reads_we_read_alike() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut both = 0;
        for _ in 0..20_000 {
            let mut buffer = random_item(&mut rng, 5).encode();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(..buffer.len());
                match rng.u8(..4) {
                    0 => buffer[at] = rng.u8(..),
                    1 => buffer[at] = *rng.choice(b"0123456789lide:-").unwrap(),
                    2 => buffer.truncate(at.max(1)),
                    _ => buffer.insert(at, *rng.choice(b"019lide:-").unwrap()),
                }
            }
            let ours = Value::parse(&buffer).ok();
            let fits = |value: Value<'_>| {
                // Every value inside is walked to its end, whatever it is.
                let mut open = vec![value];
                let mut fits = true;
                while let Some(value) = open.pop() {
                    open.extend(value.list().into_iter().flatten());
                    open.extend(value.dict().into_iter().flatten().map(|(_, value)| value));
                    fits &= value.raw().first() != Some(&b'i') || value.integer().is_some();
                }
                fits
            };
            let fits = ours.is_some_and(fits);
            if let Some(theirs) = bendy(&buffer) {
                both += 1;
                assert!(fits);
                assert_eq!(ours.map(as_we_read), Some(theirs), "{}", buffer.escape_ascii());
            }
        }
        assert!(both > 1_000, "{both}");
    }
}
