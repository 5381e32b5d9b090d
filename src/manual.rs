//! The man page, for `man`: roff with the macros of man(7).

use crate::error::Status;
use crate::help::{ABOUT, ENVIRONMENT, EXAMPLES, FILES, TITLE, VALUES, WORDS};
use crate::options::{GROUPS, Row};

/// What `--manual` prints.
pub fn manual() -> String {
    let mut page = String::from(concat!(
        ".TH RUSTY_TORRENT 1 \"\" \"rusty_torrent ",
        env!("CARGO_PKG_VERSION"),
        "\" \"User Commands\"\n.SH NAME\nrusty_torrent \\- "
    ));
    page.push_str(TITLE);
    page.push_str(
        "\n.SH SYNOPSIS\n\
         .B rusty_torrent\n[\\fIOPTIONS\\fR] \\fITORRENT\\fR... [\\fIDIR\\fR]\n.br\n\
         .B rusty_torrent\n[\\fIOPTIONS\\fR] --create \\fIPATH\\fR [\\fITORRENT\\fR]\n\
         .SH DESCRIPTION\n",
    );
    text(&mut page, ABOUT);
    page.push_str(".PP\n");
    text(&mut page, WORDS);
    page.push_str(".PP\n");
    text(&mut page, VALUES);
    page.push_str(".SH OPTIONS\n");
    for group in GROUPS {
        page.push_str(".SS ");
        text(&mut page, group.title);
        for row in group.rows {
            option(&mut page, row);
        }
    }
    page.push_str(".SH ENVIRONMENT\n");
    for paragraph in ENVIRONMENT {
        page.push_str(".PP\n");
        text(&mut page, paragraph);
    }
    page.push_str(".SH FILES\n");
    text(&mut page, FILES);
    page.push_str(".SH EXIT STATUS\n");
    for (status, meaning) in Status::TABLE {
        page.push_str(".TP\n");
        text(&mut page, &status.code().to_string());
        text(&mut page, meaning);
    }
    page.push_str(".SH EXAMPLES\n");
    for (command, meaning) in EXAMPLES {
        page.push_str(".TP\n.B ");
        text(&mut page, command);
        text(&mut page, meaning);
    }
    page
}

/// An option, bold, its value in italics, and what it means.
fn option(page: &mut String, row: &Row) {
    page.push_str(".TP\n");
    for (before, part, after) in
        [("\\fB", row.short, "\\fR, "), ("\\fB", row.name, "\\fR"), (" \\fI", row.value, "\\fR")]
    {
        if !part.is_empty() {
            page.push_str(before);
            escape(page, part);
            page.push_str(after);
        }
    }
    page.push('\n');
    text(page, row.text);
}

/// A line of text.
fn text(page: &mut String, line: &str) {
    // There a dot or a quote would begin a command.
    if line.starts_with(['.', '\'']) {
        page.push_str("\\&");
    }
    escape(page, line);
    page.push('\n');
}

/// A bare `-` is shown as a hyphen, which no shell takes.
fn escape(page: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '-' => page.push_str("\\-"),
            '\\' => page.push_str("\\e"),
            _ => page.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::rows;

    #[test]
    fn every_option_and_status_is_in_it() {
        let page = manual();
        for row in rows() {
            let name = format!("\\fB{}\\fR", row.name.replace('-', "\\-"));
            assert_eq!(page.matches(&name).count(), 1, "{name}");
            assert!(page.contains(&row.text.replace('-', "\\-")), "{}", row.name);
        }
        for (status, meaning) in Status::TABLE {
            let entry = format!(".TP\n{}\n{}\n", status.code(), meaning.replace('-', "\\-"));
            assert!(page.contains(&entry), "{entry}");
        }
    }

    #[test]
    fn its_lines_are_text_or_known_commands() {
        const COMMANDS: [&str; 7] = [".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".br"];
        let page = manual();
        // Not every roff reads UTF-8 unasked.
        assert!(page.is_ascii());
        for line in page.lines() {
            assert!(!line.is_empty());
            let command = line.split(' ').next().unwrap();
            assert!(!line.starts_with(['.', '\'']) || COMMANDS.contains(&command), "{line}");
        }
    }

    #[test]
    fn text_can_not_be_taken_for_a_command() {
        let mut page = String::new();
        [".NAME", "'x'", "a\\b -c"].iter().for_each(|line| text(&mut page, line));
        assert_eq!(page, "\\&.NAME\n\\&'x'\na\\eb \\-c\n");
    }
}
