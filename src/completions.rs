//! Scripts that let shells complete what is typed.

use crate::options::{Row, rows};

/// A shell that can be helped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shell {
    /// GNU's, 4 or later.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish, 3 or later.
    Fish,
}

/// The script for a shell.
pub fn completions(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// What a value is completed to.
#[derive(PartialEq, Eq)]
enum Kind {
    /// It has none.
    Nothing,
    /// One of the row's words.
    Words,
    File,
    Directory,
    /// Nobody knows.
    Any,
}

fn kind(row: &Row) -> Kind {
    match row.value {
        "" => Kind::Nothing,
        _ if !row.words.is_empty() => Kind::Words,
        "FILE" => Kind::File,
        "DIR" => Kind::Directory,
        _ => Kind::Any,
    }
}

// ---- bash --------------------------------------------------------------------------------------

const BASH_BEGIN: &str = r#"# bash completion for rusty_torrent
_rusty_torrent() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
    # An = is a word of its own.
    if [[ $before == = ]]; then
        before=${COMP_WORDS[COMP_CWORD-2]}
    elif [[ $word == = ]]; then
        word=
    fi
    COMPREPLY=()
    case $before in
"#;

const BASH_WORDS: &str = r#"        *) case $word in
            -*) _rusty_torrent_words ""#;

const BASH_END: &str = r#"" ;;
            *) _rusty_torrent_names -d; _rusty_torrent_names -f -X '!*.torrent' ;;
        esac ;;
    esac
}
_rusty_torrent_words() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$word")
}
_rusty_torrent_names() {
    compopt -o filenames 2>/dev/null
    mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen "$@" -- "$word")
}
complete -F _rusty_torrent rusty_torrent
"#;

fn bash() -> String {
    let mut script = String::from(BASH_BEGIN);
    for row in rows() {
        let action = match kind(row) {
            Kind::Nothing => continue,
            Kind::Words => ["_rusty_torrent_words '", &row.words.join(" "), "'"].concat(),
            Kind::File => "_rusty_torrent_names -f".to_owned(),
            Kind::Directory => "_rusty_torrent_names -d".to_owned(),
            Kind::Any => ":".to_owned(),
        };
        let or = if row.short.is_empty() { "" } else { "|" };
        let line = ["        ", row.short, or, row.name, ") ", &action, " ;;\n"];
        script.push_str(&line.concat());
    }
    script.push_str(BASH_WORDS);
    for row in rows() {
        for name in [row.short, row.name].into_iter().filter(|name| !name.is_empty()) {
            script.push_str(name);
            script.push(' ');
        }
    }
    script.push_str(BASH_END);
    script
}

// ---- zsh ---------------------------------------------------------------------------------------

const ZSH_BEGIN: &str = "#compdef rusty_torrent
_rusty_torrent() {
    _arguments -s -S : \\
";

const ZSH_END: &str = r#"        ':TORRENT:_files -g "*.torrent"' '::DIR:_files -/'
}
if [[ ${funcstack[1]} == _rusty_torrent ]]; then
    _rusty_torrent "$@"
else
    compdef _rusty_torrent rusty_torrent
fi
"#;

fn zsh() -> String {
    let mut script = String::from(ZSH_BEGIN);
    for row in rows() {
        for name in [row.short, row.name].into_iter().filter(|name| !name.is_empty()) {
            script.push_str("        ");
            // Each excludes both, unless it can be given again.
            let both = ["(", row.short, " ", row.name, ")"].concat().replace("( ", "(");
            quote(&mut script, if row.repeatable { "*" } else { &both });
            let joined = name.starts_with("--") && !row.value.is_empty();
            let joined = if joined { "=" } else { "" };
            quote(&mut script, &[name, joined, "[", row.meaning, "]"].concat());
            let action = match kind(row) {
                Kind::Nothing => String::new(),
                Kind::Words => [":", row.value, ":(", &row.words.join(" "), ")"].concat(),
                Kind::File => ":FILE:_files".to_owned(),
                Kind::Directory => ":DIR:_files -/".to_owned(),
                Kind::Any => [":", &row.value.replace(':', "\\:"), ":"].concat(),
            };
            quote(&mut script, &action);
            script.push_str(" \\\n");
        }
    }
    script.push_str(ZSH_END);
    script
}

// ---- fish --------------------------------------------------------------------------------------

const FISH: &str = "complete -c rusty_torrent";

fn fish() -> String {
    let mut script = [FISH, " -f -a '(__fish_complete_suffix .torrent)'\n"].concat();
    for row in rows() {
        script.push_str(FISH);
        if let Some(letter) = row.short.strip_prefix('-') {
            script.push_str(" -s ");
            script.push_str(letter);
        }
        script.push_str(" -l ");
        script.push_str(row.name.trim_start_matches('-'));
        match kind(row) {
            Kind::Nothing => {}
            Kind::Words => {
                script.push_str(" -x -a ");
                quote(&mut script, &row.words.join(" "));
            }
            Kind::File => script.push_str(" -r -F"),
            Kind::Directory => script.push_str(" -x -a '(__fish_complete_directories)'"),
            Kind::Any => script.push_str(" -x"),
        }
        script.push_str(" -d ");
        quote(&mut script, row.meaning);
        script.push('\n');
    }
    script
}

/// Text in single quotes, as all three understand it.
fn quote(script: &mut String, text: &str) {
    script.push('\'');
    script.push_str(&text.replace('\'', "'\\''"));
    script.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `name` is in `script` and does not go on there.
    fn has(script: &str, name: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '-';
        script.split(|c| !is_part(c)).any(|word| word == name)
    }

    #[test]
    fn every_option_is_in_each() {
        for row in rows() {
            let short = row.short.trim_start_matches('-');
            for name in [row.short, row.name].into_iter().filter(|name| !name.is_empty()) {
                assert!(has(&bash(), name) && has(&zsh(), name), "{name}");
            }
            let line = fish();
            let line = line.lines().find(|line| line.contains(&format!(" -l {} ", &row.name[2..])));
            assert!(short.is_empty() || line.unwrap().contains(&format!(" -s {short} ")));
            for word in row.words {
                assert!(has(&bash(), word) && has(&zsh(), word), "{word}");
                assert!(has(line.unwrap(), word), "{word}");
            }
        }
    }

    #[test]
    fn quotes_keep_what_is_inside() {
        let mut script = String::new();
        quote(&mut script, "the trackers'; it's");
        assert_eq!(script, "'the trackers'\\''; it'\\''s'");
    }
}
