//! What was given, on the command line or by variables of the environment, and who gave it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::error::Fatal;
use crate::options::{Row, VARIABLE_PREFIX, rows};
use crate::text::Foreign;
use crate::values::switch;

/// What was typed, and what the environment says.
pub struct Given {
    /// What nobody has read yet.
    pub typed: pico_args::Arguments,
    /// Those whose names begin as ours do.
    variables: Vec<(OsString, OsString)>,
    /// All options that were typed.
    rows_typed: Vec<&'static Row>,
    /// The options that were found to say something, and who said it: they or their variables.
    said: Vec<(&'static Row, String)>,
}

/// A value that can turn out wrong later, and who said it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// The option, or the variable.
    pub by: String,
    /// What it said.
    pub text: String,
}

/// A value as it was given, and by what.
pub type Value = (String, OsString);

impl Given {
    /// These arguments, and of these variables those that are for this program.
    pub fn new(
        arguments: Vec<OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Self {
        let mut apart = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match split(&argument) {
                Some((option, value)) => apart.extend([option.to_owned(), value.to_owned()]),
                None => apart.push(argument),
            }
        }
        let mut variables: Vec<_> = variables.into_iter().collect();
        let prefix = VARIABLE_PREFIX.as_bytes();
        variables.retain(|(name, value)| name.as_bytes().starts_with(prefix) && !value.is_empty());
        let mut rows_typed = Vec::new();
        let mut words = apart.iter();
        while let Some(word) = words.next() {
            let rows = rows_of(word);
            // What stands behind is its value, whatever it looks like.
            if rows.iter().any(|row| !row.value.is_empty()) {
                let _value = words.next();
            }
            rows_typed.extend(rows);
        }
        let typed = pico_args::Arguments::from_vec(apart);
        Self { typed, variables, rows_typed, said: Vec::new() }
    }

    /// Whether it was typed, read already or not.
    pub fn is_among_typed(&self, row: &Row) -> bool {
        self.rows_typed.iter().any(|typed| typed.name == row.name)
    }

    /// Who said something of one of these, the first of them; empty if nobody did.
    pub fn by_any(&self, rows: &[&'static Row]) -> &str {
        rows.iter().find_map(|row| self.by(row)).unwrap_or_default()
    }

    /// What was typed and nobody has read.
    pub fn rest(&mut self) -> Vec<OsString> {
        let nothing = pico_args::Arguments::from_vec(Vec::new());
        std::mem::replace(&mut self.typed, nothing).finish()
    }

    /// Who said something of this.
    fn by(&self, row: &Row) -> Option<&str> {
        let mut said = self.said.iter();
        said.find(|(other, _)| other.name == row.name).map(|(_, by)| by.as_str())
    }

    /// It was said, but means nothing.
    pub fn unsay(&mut self, row: &Row) {
        self.said.retain(|(said, _)| said.name != row.name);
        self.rows_typed.retain(|typed| typed.name != row.name);
    }

    /// Whether this is an option of which something was read.
    pub fn is_read(&self, option: &OsStr) -> bool {
        self.said.iter().any(|(row, _)| *row.name == *option || *row.short == *option)
    }

    fn note(&mut self, row: &'static Row, by: &str) {
        if self.by(row).is_none() {
            self.said.push((row, by.to_owned()));
        }
    }

    /// Whether all that was said can be had together.
    ///
    /// # Errors
    /// Two of them can't.
    pub fn check(&self) -> Result<(), Fatal> {
        for (at, (row, by)) in self.said.iter().enumerate() {
            let mut before = self.said.iter().take(at);
            if let Some((_, other)) = before.find(|(other, _)| !row.goes_with(other)) {
                return Err(Fatal::Usage(format!("{other} and {by} can't be used together")));
            }
        }
        Ok(())
    }

    /// What the option's variable says, if it does not go against what was typed.
    pub fn variable(&self, row: &Row) -> Option<Value> {
        let gives_way = |typed: &&Row| !typed.goes_with(row) && !row.is_firm;
        let name = row.variable().filter(|_| !self.rows_typed.iter().any(gives_way))?;
        let (_, value) = self.variables.iter().find(|(other, _)| *other == *name)?;
        Some((name, value.clone()))
    }

    /// Variables that no option has. What tests are told by them is not for us.
    pub fn strange_variables(&self) -> Vec<String> {
        let mut strange = Vec::new();
        for (name, _) in &self.variables {
            let shown = Foreign::new(name.as_bytes()).to_string();
            let rest = shown.trim_start_matches(VARIABLE_PREFIX);
            let known = rows().any(|row| row.variable().is_some_and(|variable| variable == shown));
            if !known && rest != "BIN" && !rest.starts_with("TEST_") {
                strange.push(shown);
            }
        }
        strange
    }

    /// The next value that was typed.
    fn typed_value(&mut self, row: &'static Row) -> Result<Option<Value>, Fatal> {
        fn read(text: &OsStr) -> Result<OsString, &'static str> {
            Ok(text.to_owned())
        }
        let value = match row.short {
            "" => self.typed.opt_value_from_os_str(row.name, read),
            short => self.typed.opt_value_from_os_str([short, row.name], read),
        };
        match value {
            Ok(value) => Ok(value.map(|value| (row.name.to_owned(), value))),
            Err(_) => Err(Fatal::Usage(format!("{} needs a value: {}", row.name, row.value))),
        }
    }

    fn raw(&mut self, row: &'static Row) -> Result<Option<Value>, Fatal> {
        let value = self.typed_value(row)?.or_else(|| self.variable(row));
        value.iter().for_each(|(by, _)| self.note(row, by));
        Ok(value)
    }

    /// A path, whatever its bytes.
    ///
    /// # Errors
    /// The option has no value.
    pub fn path(&mut self, row: &'static Row) -> Result<Option<PathBuf>, Fatal> {
        Ok(self.raw(row)?.map(|(_, path)| path.into()))
    }

    /// A value that is looked at later.
    ///
    /// # Errors
    /// The option has no value, or none in UTF-8.
    pub fn text(&mut self, row: &'static Row) -> Result<Option<Said>, Fatal> {
        let Some((by, text)) = self.raw(row)? else { return Ok(None) };
        let said = |text: &str| Ok::<_, &str>(text.to_owned());
        read(&by, &text, said).map(|text| Some(Said { by, text }))
    }

    /// A value.
    ///
    /// # Errors
    /// The option has none, or the reader refuses it.
    pub fn value<T, E: AsRef<str>>(
        &mut self,
        row: &'static Row,
        reader: fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Fatal> {
        let value = self.raw(row)?;
        value.map(|(by, text)| read(&by, &text, reader)).transpose()
    }

    /// What was typed, or else what its variable says with white space in between.
    ///
    /// # Errors
    /// The option has no value, the reader refuses one, or there are too many.
    pub fn values(
        &mut self,
        row: &'static Row,
        reader: fn(&str) -> Result<String, &'static str>,
        count_max: usize,
    ) -> Result<Vec<String>, Fatal> {
        let mut values = Vec::new();
        while let Some((by, text)) = self.typed_value(row)? {
            values.push(read(&by, &text, reader)?);
        }
        let mut said_by = row.name.to_owned();
        if let Some((by, text)) = self.variable(row).filter(|_| values.is_empty()) {
            for word in text.as_bytes().split(u8::is_ascii_whitespace) {
                if !word.is_empty() {
                    values.push(read(&by, OsStr::from_bytes(word), reader)?);
                }
            }
            said_by = by;
        }
        if !values.is_empty() {
            self.note(row, &said_by);
        }
        match values.len() <= count_max {
            true => Ok(values),
            false => Err(Fatal::Usage(format!("{said_by} can be given {count_max} times at most"))),
        }
    }

    /// Whether it was typed, once at least.
    pub fn is_typed(&mut self, row: &'static Row) -> bool {
        let mut typed = false;
        while self.is_typed_again(row) {
            typed = true;
        }
        typed
    }

    /// Whether it was typed once more than it was asked for.
    pub fn is_typed_again(&mut self, row: &'static Row) -> bool {
        match row.short {
            "" => self.typed.contains(row.name),
            short => self.typed.contains([short, row.name]),
        }
    }

    /// Whether an option without a value was given.
    ///
    /// # Errors
    /// Its variable has a value that is none.
    pub fn flag(&mut self, row: &'static Row) -> Result<bool, Fatal> {
        if self.is_typed(row) {
            self.note(row, row.name);
            return Ok(true);
        }
        let Some((by, text)) = self.variable(row) else { return Ok(false) };
        let is_on = read(&by, &text, switch)?;
        if is_on {
            self.note(row, &by);
        }
        Ok(is_on)
    }
}

/// The options that this is, letters behind one dash among them.
fn rows_of(argument: &OsStr) -> Vec<&'static Row> {
    let text = argument.to_str().unwrap_or_default();
    let letters = text.strip_prefix('-').filter(|rest| !rest.starts_with('-')).unwrap_or_default();
    let is_letter = |row: &Row| row.short.strip_prefix('-').is_some_and(|it| letters.contains(it));
    let is_flag = |row: &Row| row.value.is_empty() || letters.len() == 1;
    rows().filter(|row| row.name == text || is_letter(row) && is_flag(row)).collect()
}

/// `--option=value`, taken apart.
fn split(argument: &OsStr) -> Option<(&OsStr, &OsStr)> {
    let bytes = argument.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let (option, value) = bytes.split_at_checked(at)?;
    let is_it = |row: &Row| [row.name.as_bytes(), row.short.as_bytes()].contains(&option);
    let takes_it = rows().any(|row| is_it(row) && !row.value.is_empty());
    let value = value.get(1..).filter(|_| takes_it)?;
    Some((OsStr::from_bytes(option), OsStr::from_bytes(value)))
}

/// Reads a value.
///
/// # Errors
/// The reader refuses it, or it is not UTF-8: `by` is named, who said it.
pub fn read<T, E: AsRef<str>>(
    by: &str,
    text: &OsStr,
    reader: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, Fatal> {
    let refused = |takes: &str| {
        let text = Foreign::new(text.as_bytes());
        Fatal::Usage(format!("{by} takes {takes}, not `{text}`"))
    };
    let text = text.to_str().ok_or_else(|| refused("UTF-8"))?;
    reader(text).map_err(|takes| refused(takes.as_ref()))
}
