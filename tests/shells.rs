//! The completions in the shells they are for, and the man page as `man` shows it. Only bash is on
//! every machine: the others are asked for with `--ignored`, and must be there then.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Output};

use rusty_torrent::options;

use support::case::LIMIT;
use support::program;
use support::scratch::Scratch;

/// A directory with something to complete, and what the program prints with `options` as `script`.
fn scene(name: &str, options: &[&str]) -> Scratch {
    let scratch = Scratch::new(name);
    for file in ["one.torrent", "two words.torrent", "other"] {
        fs::write(scratch.join(file), "").unwrap();
    }
    fs::create_dir(scratch.join("onward")).unwrap();
    let printed = program::run(options, LIMIT);
    printed.assert_status(0);
    fs::write(scratch.join("script"), printed.stdout).unwrap();
    scratch
}

/// Runs a shell in there; `None` if this machine has none.
fn try_shell(scratch: &Scratch, shell: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new(shell);
    // Neither its colours nor the width of somebody's terminal.
    command.current_dir(scratch.path()).env("TERM", "dumb").env("MANWIDTH", "80");
    command.env("HOME", scratch.path()).args(arguments).output().ok()
}

/// What it said in a run that went well.
fn shell(scratch: &Scratch, shell: &str, arguments: &[&str]) -> String {
    let output = try_shell(scratch, shell, arguments);
    let output = output.unwrap_or_else(|| panic!("{shell} is missing"));
    assert!(output.status.success() && output.stderr.is_empty(), "{shell}: {output:#?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lines in order, what stands behind a tab aside.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> =
        text.lines().map(|line| line.split('\t').next().unwrap_or(line)).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn bash_completes_options_words_and_names() {
    let scratch = scene("bash", &["--completions", "bash"]);
    let Some(checked) = try_shell(&scratch, "bash", &["-n", "script"]) else {
        println!("there is no bash here");
        return;
    };
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:#?}");
    let cases: [(&str, &[&str]); 11] = [
        ("--max-p", &["--max-peers"]),
        ("-q --max-upl", &["--max-upload-limit"]),
        ("--frob", &[]),
        ("--encryption ''", &["off", "prefer", "require"]),
        ("--encryption = re", &["require"]),
        ("--encryption =", &["off", "prefer", "require"]),
        ("--max-peers ''", &[]),
        ("-l o", &["one.torrent", "onward", "other"]),
        ("on", &["one.torrent", "onward"]),
        ("-q tw", &["two words.torrent"]),
        ("x.torrent onw", &["onward"]),
    ];
    for (line, expected) in cases {
        let ask = format!(
            "source ./script; COMP_WORDS=(rusty_torrent {line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _rusty_torrent; (( ${{#COMPREPLY[@]}} == 0 )) || printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let said = shell(&scratch, "bash", &["--norc", "-c", &ask]);
        assert_eq!(lines(&said), expected, "{line}");
    }
    let registered = shell(&scratch, "bash", &["--norc", "-c", "source ./script; complete -p"]);
    assert!(registered.contains("complete -F _rusty_torrent rusty_torrent"), "{registered}");
}

#[test]
#[ignore = "needs fish"]
fn fish_completes_options_words_and_names() {
    let scratch = scene("fish", &["--completions", "fish"]);
    shell(&scratch, "fish", &["-n", "script"]);
    let cases: [(&str, &[&str]); 6] = [
        ("--max-p", &["--max-peers"]),
        ("--frob", &[]),
        ("--encryption ", &["off", "prefer", "require"]),
        ("--encryption=re", &["--encryption=require"]),
        ("--max-peers ", &[]),
        ("-l oth", &["other"]),
    ];
    let complete = |line: &str| {
        let ask = format!("source script; complete -C 'rusty_torrent {line}'");
        shell(&scratch, "fish", &["--no-config", "-c", &ask])
    };
    for (line, expected) in cases {
        assert_eq!(lines(&complete(line)), expected, "{line}");
    }
    let (names, both) = (complete("on"), ["one.torrent", "onward/"]);
    assert!(both.iter().all(|name| lines(&names).contains(name)), "{names}");
    let all = complete("--");
    for row in options::rows() {
        assert!(lines(&all).contains(&row.name), "{}: {all}", row.name);
    }
}

#[test]
#[ignore = "needs zsh"]
fn zsh_completes_options_words_and_names() {
    let scratch = scene("zsh", &["--completions", "zsh"]);
    shell(&scratch, "zsh", &["-f", "-n", "script"]);
    // As if somebody typed it, in a terminal.
    let begin = "zmodload zsh/zpty; zpty inner 'PS1= zsh -f -i'; \
                 zpty -w inner 'autoload -U compinit; compinit -u -D; source ./script; \
                 zstyle \":completion:*\" list-prompt \"\"; echo is ready'; \
                 zpty -r -m inner line '*is ready*is ready*'; ";
    let cases = [
        ("--max-p", "--max-peers"),
        ("--encryption re", "require"),
        ("--encryption=re", "--encryption=require"),
        ("-l oth", "other"),
        ("one", "one.torrent"),
        ("one.torrent onw", "onward/"),
    ];
    for (line, expected) in cases {
        let ask = format!(
            "{begin} zpty -w -n inner $'rusty_torrent {line}\\t'; \
             zpty -r -m inner line $'*{expected}*'; print -r -- \"$line\"; zpty -d inner"
        );
        let said = shell(&scratch, "timeout", &["60", "zsh", "-f", "-c", &ask]);
        assert!(said.contains(expected), "{line}: {said}");
    }
}

#[test]
#[ignore = "needs man and groff"]
fn man_shows_the_page_without_a_warning() {
    let scratch = scene("man", &["--manual"]);
    let page = shell(&scratch, "man", &["--warnings", "-P", "cat", "-l", "script"]);
    for row in options::rows() {
        assert!(page.contains(row.name), "{}: {page}", row.name);
    }
    shell(&scratch, "groff", &["-man", "-Tutf8", "-ww", "-z", "script"]);
}
