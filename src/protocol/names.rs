//! Decides where below the output directory a torrent's file lies, so that no name can lead out of
//! it, hide what it is, or make two files one.
//!
//! A component `..` is refused. `/`, NUL, control, bidi and zero-width characters and what is not
//! UTF-8 become `_`. Empty components and `.` are dropped. A component that is too long for a file
//! system is cut, keeping its extension, and tagged with a hash of the original: `long…~1a2b3c4d.mp3`.
//! Names that differ in the torrent, but no longer after that, are tagged too. All of it depends on
//! the torrent alone, so that the next run finds the files of this one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::iter;

use sha1::{Digest, Sha1};

use crate::limits::{
    EXTENSION_LENGTH_MAX_BYTES, NAME_LENGTH_MAX_BYTES, PATH_DEPTH_MAX, PATH_LENGTH_MAX_BYTES,
};
use crate::text::{Foreign, is_plain};

/// Why a name or a set of names can't be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// A component is `..`.
    Parent,
    /// There is no component that names anything.
    Nothing,
    /// More than [`PATH_DEPTH_MAX`] components.
    TooDeep,
    /// More than [`PATH_LENGTH_MAX_BYTES`].
    TooLong,
    /// Two files have this path.
    Twice(String),
    /// This path is a file's and also the directory of another.
    FileAndDirectory(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parent => write!(f, "`..` in a path would lead out of the output directory"),
            Self::Nothing => write!(f, "the path names no file"),
            Self::TooDeep => write!(f, "the path has more than {PATH_DEPTH_MAX} parts"),
            Self::TooLong => write!(f, "the path has more than {PATH_LENGTH_MAX_BYTES} bytes"),
            Self::Twice(path) => write!(f, "two files would be {}", Foreign::new(path)),
            Self::FileAndDirectory(path) => {
                write!(f, "{} would be a file and a directory", Foreign::new(path))
            }
        }
    }
}

/// A path below the output directory: one or more components with `/` between them, each of which
/// is safe as the name of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SafePath {
    path: String,
    /// Of the original, if a component had to be changed.
    tag: Option<Tag>,
}

impl SafePath {
    /// The path that `components`, as they stand in the torrent, have below `top`.
    pub fn new<'a, C>(top: Option<&SafePath>, components: C) -> Result<Self, Refused>
    where
        C: IntoIterator<Item = &'a [u8], IntoIter: Clone>,
    {
        let components = components.into_iter().filter(|name| !matches!(*name, b"" | b"."));
        let mut path = top.map(|top| top.path.clone()).unwrap_or_default();
        let mut depth = path.split('/').filter(|component| !component.is_empty()).count();
        let above = depth;
        let mut changed = false;
        for component in components.clone() {
            if component == b".." {
                return Err(Refused::Parent);
            }
            let name = safe_name(component);
            changed |= name.as_bytes() != component;
            depth += 1;
            if depth > PATH_DEPTH_MAX {
                return Err(Refused::TooDeep);
            }
            if path.len() + 1 + name.len() > PATH_LENGTH_MAX_BYTES {
                return Err(Refused::TooLong);
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&name);
        }
        if depth == above {
            return Err(Refused::Nothing);
        }
        // What was changed may have to be told apart later.
        if changed && path.len() + Tag::LENGTH > PATH_LENGTH_MAX_BYTES {
            return Err(Refused::TooLong);
        }
        Ok(Self { path, tag: changed.then(|| Tag::of(components)) })
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.path
    }

    /// The path.
    pub fn into_string(self) -> String {
        self.path
    }

    /// Whether a component is not what stands in the torrent.
    pub fn is_changed(&self) -> bool {
        self.tag.is_some()
    }

    /// Gives the file a name that no other has, unless it has the very name it is to have.
    fn tell_apart(&mut self) {
        let Some(tag) = &self.tag else { return };
        let name_at = self.path.rfind('/').map_or(0, |slash| slash + 1);
        let name = self.path.split_off(name_at);
        self.path.push_str(&tagged(name.as_bytes(), tag));
    }
}

/// Makes sure that each of a torrent's files has a path of its own that is no other's directory.
/// Files whose paths became the same only here are told apart by tags.
pub fn settle(paths: &mut [SafePath]) -> Result<(), Refused> {
    for index in twice(paths) {
        if let Some(path) = paths.get_mut(index) {
            path.tell_apart();
        }
    }
    if let Some(path) = twice(paths).first().and_then(|index| paths.get(*index)) {
        return Err(Refused::Twice(path.path.clone()));
    }
    let mut directories = HashSet::new();
    for path in paths.iter() {
        let above = path.path.rmatch_indices('/').filter_map(|(slash, _)| path.path.get(..slash));
        for directory in above {
            if !directories.insert(directory) {
                break; // and so are those above it
            }
        }
    }
    match paths.iter().find(|path| directories.contains(path.as_str())) {
        Some(path) => Err(Refused::FileAndDirectory(path.path.clone())),
        None => Ok(()),
    }
}

/// The positions of the paths that are not the only ones of their kind.
fn twice(paths: &[SafePath]) -> Vec<usize> {
    let mut firsts = HashMap::with_capacity(paths.len());
    let mut twice = HashSet::new();
    for (index, path) in paths.iter().enumerate() {
        match firsts.entry(path.as_str()) {
            Entry::Vacant(entry) => {
                entry.insert(index);
            }
            Entry::Occupied(first) => twice.extend([*first.get(), index]),
        }
    }
    twice.into_iter().collect()
}

/// `~` and the start of a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag([u8; 4]);

impl Tag {
    /// Bytes that it has.
    pub const LENGTH: usize = 9;

    fn of<'a>(components: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut original = Sha1::new();
        for component in components {
            original.update(component);
            original.update(b"/");
        }
        let [a, b, c, d, ..] = <[u8; 20]>::from(original.finalize());
        Self([a, b, c, d])
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "~{:08x}", u32::from_be_bytes(self.0))
    }
}

/// Whether a component is safe as it is.
pub fn is_safe(component: &[u8]) -> bool {
    let (name, is_whole) = safe(component, NAME_LENGTH_MAX_BYTES);
    is_whole && name.as_bytes() == component
}

/// One component as a name that every file system of Linux takes. Not for empty ones and dots.
fn safe_name(component: &[u8]) -> String {
    match safe(component, NAME_LENGTH_MAX_BYTES) {
        (name, true) => name,
        (_, false) => tagged(component, &Tag::of(iter::once(component))),
    }
}

/// As much of `name` as `room` bytes hold once it is safe, and whether that is all. A name may have
/// megabytes: what is not kept takes no memory.
fn safe(name: &[u8], room: usize) -> (String, bool) {
    let mut kept = String::new();
    for chunk in name.utf8_chunks() {
        let plain = |char: char| if is_plain(char) && char != '/' { char } else { '_' };
        let invalid = (!chunk.invalid().is_empty()).then_some('_');
        for char in chunk.valid().chars().map(plain).chain(invalid) {
            if kept.len() + char.len_utf8() > room {
                return (kept, false);
            }
            kept.push(char);
        }
    }
    (kept, true)
}

/// `name`, safe, with `tag` before its extension, no longer than a name may be.
fn tagged(name: &[u8], tag: &Tag) -> String {
    let dot = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0);
    let parts = dot.and_then(|dot| name.split_at_checked(dot));
    let (stem, extension) = parts
        .map(|(stem, extension)| (stem, safe(extension, EXTENSION_LENGTH_MAX_BYTES)))
        .filter(|(_, (_, is_whole))| *is_whole)
        .map_or((name, String::new()), |(stem, (extension, _))| (stem, extension));
    let (kept, _) = safe(stem, NAME_LENGTH_MAX_BYTES - Tag::LENGTH - extension.len());
    format!("{kept}{tag}{extension}")
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};
    use std::time::Duration;

    use super::*;
    use crate::stopwatch::worked;

    fn path(components: &[&[u8]]) -> Result<String, Refused> {
        SafePath::new(None, components.iter().copied()).map(SafePath::into_string)
    }

    fn settled(paths: &[&[&[u8]]]) -> Result<Vec<String>, Refused> {
        let mut paths: Vec<SafePath> =
            paths.iter().map(|path| SafePath::new(None, path.iter().copied()).unwrap()).collect();
        settle(&mut paths)?;
        Ok(paths.into_iter().map(SafePath::into_string).collect())
    }

    #[test]
    fn components_become_safe() {
        let cases: [(&[&[u8]], &str); 15] = [
            (&[b"a.iso"], "a.iso"),
            (&[b"dir", b"a b.iso"], "dir/a b.iso"),
            (&["Größe".as_bytes(), "日本.txt".as_bytes()], "Größe/日本.txt"),
            (&[b"haiku/r1.iso"], "haiku_r1.iso"),
            (&[b"/etc", b"/"], "_etc/_"),
            (&[b"a\0b\nc\x1b[0m\x7f"], "a_b_c_[0m_"),
            (&["a\u{9b}b\u{202e}c\u{200b}d\u{feff}".as_bytes()], "a_b_c_d_"),
            (&[b"caf\xe9 \xff\xfe.txt"], "caf_ __.txt"),
            (&[b"", b"a", b".", b"", b"b", b"."], "a/b"),
            (&[b"../x"], ".._x"),
            (&[b"..."], "..."),
            (&[b".\0."], "._."),
            (&[b".hidden"], ".hidden"),
            (&[b" "], " "),
            (&[b"C:\\x"], "C:\\x"),
        ];
        for (components, safe) in cases {
            assert_eq!(path(components).as_deref(), Ok(safe));
        }
    }

    #[test]
    fn what_can_not_be_made_safe_is_refused() {
        let deep = vec![b"d".as_slice(); PATH_DEPTH_MAX + 1];
        let long = vec![[b'x'; 200].as_slice(); 16];
        let cases: [(&[&[u8]], Refused); 9] = [
            (&[b".."], Refused::Parent),
            (&[b"a", b"..", b"b"], Refused::Parent),
            (&[b".", b".."], Refused::Parent),
            (&[], Refused::Nothing),
            (&[b""], Refused::Nothing),
            (&[b"."], Refused::Nothing),
            (&[b"", b".", b""], Refused::Nothing),
            (&deep, Refused::TooDeep),
            (&long, Refused::TooLong),
        ];
        for (components, refused) in cases {
            assert_eq!(path(components), Err(refused));
        }
        assert!(path(&deep[1..]).is_ok());
        let top = SafePath::new(None, [b"top".as_slice()]).unwrap();
        assert_eq!(SafePath::new(Some(&top), [b".".as_slice()]), Err(Refused::Nothing));
        let below = SafePath::new(Some(&top), [b"a".as_slice()]).unwrap();
        assert_eq!((below.as_str(), below.is_changed()), ("top/a", false));
        assert_eq!(SafePath::new(Some(&top), deep[1..].iter().copied()), Err(Refused::TooDeep));
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let fits = "x".repeat(NAME_LENGTH_MAX_BYTES);
        assert_eq!(path(&[fits.as_bytes()]), Ok(fits.clone()));
        let cut = path(&[(fits.clone() + "y.tar").as_bytes()]).unwrap();
        assert_eq!(cut.len(), NAME_LENGTH_MAX_BYTES);
        assert!(cut.ends_with(".tar") && cut.starts_with("xxxxxxxx"), "{cut}");
        // The start of what `sha1sum` says of the name and a slash, in every version of ours.
        assert!(path(&[&[b'x'; 300]]).unwrap().ends_with("x~e9b48a6d"));
        assert_ne!(cut, path(&[(fits + "z.tar").as_bytes()]).unwrap());
        let wide = "日".repeat(100) + ".txt";
        let cut = path(&[wide.as_bytes()]).unwrap();
        assert!(cut.len() <= NAME_LENGTH_MAX_BYTES && cut.len() > 250, "{cut}");
        let no_extension = format!("a.{}", "x".repeat(300));
        assert!(path(&[no_extension.as_bytes()]).unwrap().starts_with("a.xxxx"));
    }

    #[test]
    fn one_path_twice_is_refused() {
        let twice = |path: &str| Err(Refused::Twice(path.into()));
        let both = |path: &str| Err(Refused::FileAndDirectory(path.into()));
        assert_eq!(settled(&[&[b"a"], &[b"b"], &[b"a"]]), twice("a"));
        assert_eq!(settled(&[&[b"a", b"b"], &[b"a", b".", b"", b"b"]]), twice("a/b"));
        assert!(matches!(settled(&[&[b"a\x01"], &[b"a\x01"]]), Err(Refused::Twice(_))));
        assert_eq!(settled(&[&[b"a"], &[b"a", b"b"]]), both("a"));
        assert_eq!(settled(&[&[b"a", b"b", b"c", b"d"], &[b"x"], &[b"a", b"b"]]), both("a/b"));
        assert_eq!(settled(&[&[b"a", b"b"], &[b"a/b"]]).unwrap(), ["a/b", "a_b"]);
        let apart: [&[&[u8]]; 4] = [&[b"a"], &[b"A"], &[b"ab", b"c"], &[b"b"]];
        assert_eq!(settled(&apart).unwrap(), ["a", "A", "ab/c", "b"]);
    }

    #[test]
    fn names_that_only_became_the_same_are_told_apart() {
        let paths = settled(&[&[b"d", b"\xe4.txt"], &[b"d", b"\xf6.txt"], &[b"d", b"_.txt"]]);
        let [first, second, third] = paths.unwrap().try_into().unwrap();
        assert_eq!(third, "d/_.txt");
        for name in [&first, &second] {
            assert!(name.starts_with("d/_~") && name.ends_with(".txt"), "{name}");
        }
        assert_ne!(first, second);
        // In whatever order they come, each has the name it had.
        let again = settled(&[&[b"d", b"_.txt"], &[b"d", b"\xf6.txt"], &[b"d", b"\xe4.txt"]]);
        assert_eq!(again.unwrap(), [third, second, first]);
        let directories = settled(&[&[b"\xe4", b"a"], &[b"\xf6", b"a"], &[b"\xf6", b"b"]]).unwrap();
        assert_eq!(directories[2], "_/b");
        assert!(directories[0] != directories[1] && directories[0].starts_with("_/a~"));
    }

    #[test]
    fn many_files_are_quick() {
        let began = worked();
        let names: Vec<[String; 3]> = (0..100_000)
            .map(|n| [format!("{}", n % 7), format!("d{}", n % 1000), format!("f{n}")])
            .collect();
        let mut paths: Vec<SafePath> = names
            .iter()
            .map(|names| SafePath::new(None, names.iter().map(String::as_bytes)).unwrap())
            .collect();
        assert_eq!(settle(&mut paths), Ok(()));
        let worked = worked() - began;
        assert!(worked < Duration::from_secs(10), "{worked:?}");
    }

    #[test]
    fn a_path_that_is_told_apart_is_no_longer_than_any() {
        // 12 * 252 + 38 bytes of directories and their slashes, so that 10 are left.
        let full: Vec<&[u8]> = [vec![[b'd'; 251].as_slice(); 12], vec![&[b'd'; 37]]].concat();
        let with = |name: &'static [u8]| [full.as_slice(), &[name]].concat();
        let longest = path(&with(b"0123456789")).unwrap();
        assert_eq!(longest.len(), PATH_LENGTH_MAX_BYTES);
        assert_eq!(path(&with(b"0123456789a")), Err(Refused::TooLong));
        assert_eq!(path(&with(b"01\x0145")), Err(Refused::TooLong));
        let [one, other] = [with(b"\x01"), with(b"\x02")];
        let apart = settled(&[&one, &other]).unwrap();
        assert!(apart.iter().all(|path| path.len() == PATH_LENGTH_MAX_BYTES), "{apart:?}");
    }

    #[test]
    fn whatever_the_bytes_the_paths_stay_below() {
        let mut rng = fastrand::Rng::with_seed(7);
        let pieces: [&[u8]; 14] = [
            b".",
            b"..",
            b"/",
            b"\\",
            b"\0",
            b"\x1b",
            b"a",
            b"\xff",
            b"\xe2\x80\xae",
            b"\xf0\x9f",
            b"~",
            b".mp3",
            "ß".as_bytes(),
            &[b'y'; 130],
        ];
        let component = |rng: &mut fastrand::Rng| -> Vec<u8> {
            match rng.u8(..8) {
                0 => (0..rng.usize(..300)).map(|_| rng.u8(..)).collect(),
                _ => (0..rng.usize(..5))
                    .flat_map(|_| *rng.choice(&pieces).unwrap())
                    .copied()
                    .collect(),
            }
        };
        let top = SafePath::new(None, [b"top".as_slice()]).unwrap();
        let (mut made, mut sets) = (0, 0);
        for _ in 0..10_000 {
            let top = rng.bool().then_some(&top);
            let mut paths = Vec::new();
            for _ in 0..rng.usize(1..4) {
                let components: Vec<Vec<u8>> = match rng.u8(..20) {
                    0 => (0..rng.usize(90..110)).map(|_| vec![b'x'; rng.usize(1..60)]).collect(),
                    _ => (0..rng.usize(..5)).map(|_| component(&mut rng)).collect(),
                };
                let path = SafePath::new(top, components.iter().map(Vec::as_slice));
                assert!(path.is_err() || !components.contains(&b"..".to_vec()));
                paths.extend(path);
            }
            made += paths.len();
            sets += usize::from(!paths.is_empty() && settle(&mut paths).is_ok());
            for path in paths.iter().map(SafePath::as_str) {
                assert!(path.len() <= PATH_LENGTH_MAX_BYTES, "{path:?}");
                assert!(path.split('/').count() <= PATH_DEPTH_MAX, "{path:?}");
                assert!(top.is_none() || path.starts_with("top/"), "{path:?}");
                for name in path.split('/') {
                    assert!(!["", ".", ".."].contains(&name), "{path:?}");
                    assert!(name.len() <= NAME_LENGTH_MAX_BYTES, "{path:?}");
                    assert!(name.chars().all(is_plain), "{path:?}");
                }
                let normal = |part| matches!(part, Component::Normal(_));
                assert!(Path::new(path).components().all(normal), "{path:?}");
                assert!(Path::new("/dir").join(path).starts_with("/dir"), "{path:?}");
            }
        }
        assert!(made > 5_000 && sets > 3_000, "{made} {sets}");
    }
}
