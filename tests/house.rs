//! The rules of the house, held against the source itself: which room may use which, where the
//! clock, sockets and `unsafe` are, that README says what the program says.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rusty_torrent::error::Status;
use rusty_torrent::options::{self, Row};

fn home() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text_of(name: &str) -> String {
    fs::read_to_string(home().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

// ---- source files ------------------------------------------------------------------------------

/// A file below `src`.
struct Source {
    /// Its path below `src`.
    name: String,
    /// As it is.
    text: String,
    /// Without comments and the contents of literals.
    code: String,
}

impl Source {
    /// Its code without what is compiled for tests only.
    fn product(&self) -> String {
        const MARK: &str = "#[cfg(test)]";
        let mut rest = self.code.as_str();
        let mut kept = String::new();
        while let Some(at) = rest.find(MARK) {
            kept.push_str(&rest[..at]);
            rest = &rest[at + MARK.len()..];
            rest = &rest[end_of_item(rest)..];
        }
        kept + rest
    }

    /// The module it is, from the crate's root.
    fn module(&self) -> Vec<String> {
        let path = self.name.trim_end_matches(".rs");
        let path = path.trim_end_matches("/mod");
        path.split('/').map(str::to_owned).collect()
    }
}

/// Where the item ends that `code` begins with: after its block, or its semicolon.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// `text` without comments and the contents of string and character literals.
fn code_of(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '"' {
            1 + end_of_literal(&rest[1..], '"')
        } else if first == '\'' && is_character(rest) {
            1 + end_of_literal(&rest[1..], '\'')
        } else if first == 'r' && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            raw_literal(rest).unwrap_or(0)
        } else {
            0
        };
        if skip == 0 {
            code.push(first);
        }
        rest = &rest[skip.max(first.len_utf8())..];
    }
    code
}

/// Whether a quote begins a character and not a lifetime.
fn is_character(rest: &str) -> bool {
    let mut after = rest.chars().skip(1);
    after.next() == Some('\\') || after.next() == Some('\'')
}

fn end_of_literal(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in rest.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// How long the raw string is that `rest` begins with, if it does.
fn raw_literal(rest: &str) -> Option<usize> {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    let body = rest[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(2 + hashes + body.find(&end)? + end.len())
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![home().join("src")];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).expect("a folder that can be read");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(home().join("src")).unwrap();
                let name = name.to_str().unwrap().to_owned();
                let text = fs::read_to_string(&path).unwrap();
                let code = code_of(&text);
                sources.push(Source { name, text, code });
            }
        }
    }
    assert!(sources.len() > 40, "where is the source?");
    sources
}

// ---- paths in code -----------------------------------------------------------------------------

/// Every path in `code` that begins with the word `root`, without it: `std::{fs, io::Read}` gives
/// `fs` and `io::Read`.
fn paths(code: &str, root: &str) -> Vec<Vec<String>> {
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].chars().next_back();
        if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            let mut rest = &code[at + start.len()..];
            read_tree(&mut rest, &[], &mut found);
        }
    }
    found
}

/// Reads what can follow `::` and adds the paths that it stands for, each after `before`.
fn read_tree(rest: &mut &str, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        *rest = rest.trim_start();
        if let Some(inner) = rest.strip_prefix('{') {
            *rest = inner;
            loop {
                *rest = rest.trim_start().trim_start_matches(',').trim_start();
                if rest.is_empty() || rest.starts_with('}') {
                    *rest = rest.get(1..).unwrap_or("");
                    return;
                }
                let length = rest.len();
                read_tree(rest, &path, found);
                if let Some(after) = rest.trim_start().strip_prefix("as ") {
                    *rest = after.trim_start().trim_start_matches(is_word);
                }
                assert!(rest.len() < length, "what is {rest:.40}");
            }
        }
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len()).max(1).min(rest.len());
        path.push(rest[..word].to_owned());
        *rest = &rest[word..];
        match rest.strip_prefix("::") {
            Some(after) => *rest = after,
            None => return found.push(path),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c| !is_word(c)).any(|found| found == word)
}

// ---- the map -----------------------------------------------------------------------------------

/// The map in `lib.rs`: the rooms from the ground up, as paths below `src`, with their floor.
fn map() -> Vec<(usize, String)> {
    let text = text_of("src/lib.rs");
    let map = text.split("```text\n").nth(1).and_then(|rest| rest.split("//! ```").next());
    let mut floors: Vec<(usize, String)> = Vec::new();
    for line in map.expect("a map in lib.rs").lines() {
        let line = line.trim_start_matches("//!").trim();
        match line.split_once("  ") {
            Some((number, rest)) if number.parse::<usize>().is_ok() => {
                floors.push((number.parse().unwrap(), rest.trim().to_owned()));
            }
            // A line that goes on with the one before.
            _ => {
                let (_, floor) = floors.last_mut().expect("a floor's number comes first");
                *floor = format!("{floor} {line}");
            }
        }
    }
    floors.reverse();
    let mut rooms = Vec::new();
    for (number, floor) in floors {
        let (folder, names) = match floor.split_once('/') {
            Some((folder, rest)) => {
                let names = rest.split_once(": ").expect("rooms after a colon").1;
                (format!("{folder}/"), names.split(", ").map(str::trim).collect::<Vec<_>>())
            }
            None => (String::new(), floor.split("  ").next().unwrap().split(' ').collect()),
        };
        rooms.extend(names.iter().map(|name| (number, format!("{folder}{name}"))));
    }
    rooms
}

/// The room that a module is, or is in. The crate's root and the folders' own files are none.
fn room_of(module: &[String], rooms: &[(usize, String)]) -> Option<usize> {
    let one = module.first()?.clone();
    let two = module.get(1).map(|second| format!("{one}/{second}"));
    rooms.iter().position(|(_, room)| *room == one || two.as_ref() == Some(room))
}

#[test]
fn the_map_shows_every_room() {
    let rooms = map();
    let on_map: BTreeSet<&str> = rooms.iter().map(|(_, room)| room.as_str()).collect();
    assert_eq!(on_map.len(), rooms.len(), "a room is named twice");
    let folders: BTreeSet<&str> =
        on_map.iter().filter_map(|room| room.split_once('/')).map(|(folder, _)| folder).collect();
    let mut there = BTreeSet::new();
    for source in sources() {
        let module = source.module();
        match room_of(&module, &rooms) {
            Some(room) => drop(there.insert(rooms[room].1.clone())),
            None => assert!(
                source.name == "lib.rs" || module.len() == 1 && folders.contains(&*module[0]),
                "{} is not on the map",
                source.name
            ),
        }
    }
    assert_eq!(there.iter().map(String::as_str).collect::<BTreeSet<_>>(), on_map);
}

#[test]
fn a_room_uses_only_what_stands_before_it() {
    let rooms = map();
    let mut wrong = Vec::new();
    let mut uses = 0;
    for source in sources() {
        let module = source.module();
        let Some(room) = room_of(&module, &rooms) else { continue };
        let code = source.product();
        let mut used = paths(&code, "crate");
        used.extend(paths(&code, "rusty_torrent"));
        let above = &module[..module.len() - 1];
        used.extend(paths(&code, "super").into_iter().map(|path| [above, &path].concat()));
        for path in used {
            let Some(other) = room_of(&path, &rooms) else { continue };
            uses += 1;
            if other > room {
                wrong.push(format!("{} uses {}", source.name, path.join("::")));
            }
        }
    }
    assert!(uses > 100, "{uses} uses are too few to be all");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

// ---- what is where -----------------------------------------------------------------------------

#[test]
fn policy_and_protocol_do_no_io_and_read_no_clock() {
    const ADDRESSES: [&str; 6] =
        ["IpAddr", "Ipv4Addr", "Ipv6Addr", "SocketAddr", "SocketAddrV4", "SocketAddrV6"];
    let mut wrong = Vec::new();
    let pure = |source: &&Source| {
        source.name.starts_with("policy/") || source.name.starts_with("protocol/")
    };
    for source in sources().iter().filter(pure) {
        let code = source.product();
        for path in paths(&code, "std") {
            let second = path.get(1).map_or("", String::as_str);
            let fine = match path[0].as_str() {
                "env" | "fs" | "os" | "process" | "thread" => false,
                "net" => ADDRESSES.contains(&second),
                _ => true,
            };
            if !fine {
                wrong.push(format!("{}: std::{}", source.name, path.join("::")));
            }
        }
        let now = code.contains("Instant::now") || has_word(&code, "SystemTime");
        let outside = ["rustix", "memmap2", "ureq", "crossbeam_channel"];
        if now || outside.iter().any(|word| has_word(&code, word)) {
            wrong.push(format!("{}: the clock or the system", source.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Somebody may set it while a download runs. What waits for something waits by `Instant`.
#[test]
fn nobody_asks_the_clock_on_the_wall() {
    for source in sources() {
        assert!(!has_word(&source.product(), "SystemTime"), "{}", source.name);
    }
}

#[test]
fn one_room_uses_bendy() {
    let users: Vec<String> = sources()
        .into_iter()
        .filter(|source| has_word(&source.code, "bendy"))
        .map(|source| source.name)
        .collect();
    assert_eq!(users, ["protocol/bencode.rs"]);
}

#[test]
fn one_room_is_unsafe_and_says_why_it_is_safe() {
    let mut users = Vec::new();
    for source in sources() {
        if !has_word(&source.code, "unsafe") {
            continue;
        }
        let lines: Vec<&str> = source.text.lines().map(str::trim).collect();
        for (number, line) in lines.iter().enumerate() {
            if !has_word(&code_of(line), "unsafe") {
                continue;
            }
            let above = lines[..number].iter().rev().take_while(|line| line.starts_with("//"));
            let why = above.last().is_some_and(|first| first.starts_with("// SAFETY: "));
            assert!(why, "{}, line {}: why is it safe?", source.name, number + 1);
        }
        users.push(source.name);
    }
    assert_eq!(users, ["system/storage/map.rs"]);
}

#[test]
fn every_limit_says_what_it_is_for_and_in_which_unit() {
    const UNITS: [&str; 4] = ["_BYTES", "_CHARS", "_MS", "_S"];
    const COUNTS: [&str; 7] =
        ["_MAX", "_MIN", "_START", "_DEFAULT", "_PIECES", "_SNUBBED", "_TICKS"];
    // A word in a name that makes it a measure.
    const MEASURES: [&str; 11] = [
        "BUDGET", "BUFFER", "EXTENT", "INTERVAL", "LENGTH", "LIFE", "PAUSE", "STACK", "TIMEOUT",
        "WAITS", "WINDOW",
    ];
    // What the protocols call them.
    const NAMED_ELSEWHERE: [&str; 2] = ["BLOCK_LENGTH", "NUMWANT"];
    let text = text_of("src/limits.rs");
    let lines: Vec<&str> = text.lines().collect();
    let mut count = 0;
    for (number, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("pub const ") else { continue };
        let name = rest.split(':').next().unwrap();
        count += 1;
        assert!(number > 0 && lines[number - 1].starts_with("/// "), "{name} has no comment");
        if NAMED_ELSEWHERE.contains(&name) {
            continue;
        }
        let in_units = UNITS.iter().any(|unit| name.ends_with(unit));
        let counts = COUNTS.iter().any(|count| name.ends_with(count));
        assert!(in_units || counts, "{name} ends with no unit and is no count");
        let measures = name.split('_').any(|word| MEASURES.contains(&word));
        assert!(in_units || !measures || name.ends_with("_BYTES_MAX"), "{name} has no unit");
    }
    assert!(count > 80, "{count} limits are too few to be all");
}

// ---- README ------------------------------------------------------------------------------------

/// The cells of README's tables whose first cell `is_first` accepts, without backticks.
fn table(is_first: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let readme = text_of("README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    rows.filter_map(|row| row.split_once(" | "))
        .filter(|(first, _)| is_first(first))
        .map(|(first, second)| (first.replace('`', ""), second.replace('`', "")))
        .collect()
}

#[test]
fn readme_has_the_table_of_options() {
    let row = |row: &Row| (row.usage(), row.text.to_owned());
    let expected: Vec<(String, String)> = options::rows().map(row).collect();
    for (usage, text) in expected.iter().filter(|row| !table(|_| true).contains(row)) {
        println!("README needs: | `{}` | {text} |", usage.replace(", ", "`, `"));
    }
    assert_eq!(table(|first| first.starts_with("`-")), expected);
}

#[test]
fn readme_has_the_table_of_exit_statuses() {
    let expected: Vec<(String, String)> = Status::TABLE
        .iter()
        .map(|(status, meaning)| (status.code().to_string(), (*meaning).to_owned()))
        .collect();
    assert_eq!(table(|first| first.parse::<u8>().is_ok()), expected);
}

// ---- the tools themselves ----------------------------------------------------------------------

#[test]
fn code_is_told_from_comments_and_literals() {
    let text = "a /* b */ \"c \\\" d\" 'e' '\\'' <'f> // g\nr#\"h \" i\"# j \"//\" k";
    let words: Vec<String> = code_of(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["a", "<'f>", "j", "k"]);
    let code = code_of("x #[cfg(test)] fn y() { { } } z #[cfg(test)] use a::b; c");
    let source = Source { name: String::new(), text: String::new(), code };
    assert_eq!(source.product().split_whitespace().collect::<Vec<_>>(), ["x", "z", "c"]);
}

#[test]
fn paths_are_taken_apart() {
    let code = "use crate::a::b; use crate::{c, d::{self, e as f}, g::*}; not_crate::x; crate::h()";
    let found: Vec<String> = paths(code, "crate").iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a::b", "c", "d::self", "d::e", "g::*", "h"]);
}
