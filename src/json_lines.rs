//! How far it is, for programs: one JSON object a line on standard output, and a last one that says
//! how it ended. What stands in them is described in README and stays as it is.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};
use std::time::Duration;

use crate::engine::coordinator::Progress;
use crate::error::Status;
use crate::json;

/// One object, on its way to be a line. Its members keep their order.
pub struct Record(String);

impl Record {
    /// The record of such an event.
    pub fn new(event: &str) -> Self {
        Self(format!("{{\"event\":{}", quoted(event)))
    }

    /// With a text, or null.
    #[must_use]
    pub fn text<'a>(self, name: &str, text: impl Into<Option<&'a str>>) -> Self {
        let text = text.into().map_or_else(|| "null".to_owned(), quoted);
        self.member(name, &text)
    }

    /// With a number that JSON can write, `true` or `false`.
    #[must_use]
    pub fn value(self, name: &str, value: impl Display) -> Self {
        self.member(name, &value)
    }

    /// With a time in seconds.
    #[must_use]
    pub fn seconds(self, name: &str, time: Duration) -> Self {
        self.member(name, &format_args!("{:.3}", time.as_secs_f64()))
    }

    fn member(mut self, name: &str, value: &dyn Display) -> Self {
        let _fits = write!(self.0, ",\"{name}\":{value}");
        self
    }

    /// Writes it.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(format!("{}}}\n", self.0).as_bytes())?;
        out.flush()
    }

    /// Writes it with a list of texts at its end, which need never be there all at once.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_with(
        self,
        out: &mut impl Write,
        name: &str,
        texts: impl Iterator<Item = String>,
    ) -> io::Result<()> {
        write!(out, "{},\"{name}\":", self.0)?;
        json::list(out, texts.map(|text| quoted(&text)))?;
        out.write_all(b"}\n")?;
        out.flush()
    }
}

fn quoted(text: &str) -> String {
    // Nothing that a text can have in it is an error.
    serde_json::to_string(text).unwrap_or_default()
}

/// How a run ended, as far as it is known.
#[derive(Default)]
pub struct Ending<'a> {
    /// What the process ends with.
    pub status: Status,
    /// Why it is not 0.
    pub reason: Option<&'a str>,
    /// Of the torrent.
    pub name: Option<&'a str>,
    /// As hexadecimal digits.
    pub info_hash: Option<String>,
    /// As it was typed.
    pub dir: Option<String>,
    /// Bytes in all.
    pub total: Option<u64>,
    /// Bytes that came.
    pub downloaded: u64,
    /// Bytes that were sent.
    pub uploaded: u64,
    /// Since the start.
    pub elapsed: Duration,
}

/// The last record. A list of files belongs at its end.
pub fn end_record(ending: &Ending<'_>) -> Record {
    let total = ending.total.map_or_else(|| "null".to_owned(), |total| total.to_string());
    Record::new("end")
        .value("status", ending.status.code())
        .text("reason", ending.reason)
        .text("name", ending.name)
        .text("info_hash", ending.info_hash.as_deref())
        .text("dir", ending.dir.as_deref())
        .value("total", total)
        .value("downloaded", ending.downloaded)
        .value("uploaded", ending.uploaded)
        .seconds("elapsed_s", ending.elapsed)
}

/// The record of how far it is, after so long.
pub fn progress_record(progress: &Progress, elapsed: Duration) -> Record {
    let record = |phase| Record::new("progress").text("phase", phase).seconds("elapsed_s", elapsed);
    match *progress {
        Progress::Asking { here, all, asked, known } => record("metadata")
            .value("blocks_had", here)
            .value("blocks_total", all)
            .value("peers", asked)
            .value("known", known),
        Progress::Checking { looked, total } => {
            record("checking").value("checked", looked).value("total", total)
        }
        Progress::Downloading {
            had,
            total,
            downloaded,
            uploaded,
            per_second,
            sent_per_second,
            left,
            peers,
            known,
            mirrors,
        } => {
            let left = left.map_or_else(|| "null".to_owned(), |left| left.as_secs().to_string());
            record("downloading")
                .value("had", had)
                .value("total", total)
                .value("downloaded", downloaded)
                .value("uploaded", uploaded)
                .value("download_rate", per_second)
                .value("upload_rate", sent_per_second)
                .value("left_s", left)
                .value("peers", peers)
                .value("known", known)
                .value("mirrors", mirrors)
        }
        Progress::Seeding { total, downloaded, uploaded, sent_per_second, peers, .. } => {
            record("seeding")
                .value("had", total)
                .value("total", total)
                .value("downloaded", downloaded)
                .value("uploaded", uploaded)
                .value("upload_rate", sent_per_second)
                .value("peers", peers)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn line(record: Record) -> String {
        let mut out = Vec::new();
        record.write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_one_line_whatever_is_in_it() {
        let hostile = "a\"b\\c\nd\r\u{1b}\u{2028}é\u{0}";
        let record = Record::new("end").value("status", 7).text("reason", hostile);
        let record = record.text("name", None).seconds("elapsed_s", Duration::from_millis(1_500));
        let mut out = Vec::new();
        let files = ["x".to_owned(), hostile.to_owned()].into_iter();
        record.write_with(&mut out, "files", files).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.starts_with("{\"event\":\"end\",\"status\":7,"), "{text}");
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["reason"], hostile);
        assert_eq!(read["name"], Value::Null);
        assert_eq!(read["elapsed_s"], 1.5);
        assert_eq!(read["files"], serde_json::json!(["x", hostile]));
    }

    #[test]
    fn every_phase_has_its_record() {
        let elapsed = Duration::from_secs(3);
        let downloading = Progress::Downloading {
            had: u64::MAX,
            total: 2,
            downloaded: 3,
            uploaded: 4,
            per_second: 5,
            sent_per_second: 6,
            left: None,
            peers: 7,
            known: 8,
            mirrors: 9,
        };
        assert_eq!(
            line(progress_record(&downloading, elapsed)),
            "{\"event\":\"progress\",\"phase\":\"downloading\",\"elapsed_s\":3.000,\
             \"had\":18446744073709551615,\"total\":2,\"downloaded\":3,\"uploaded\":4,\
             \"download_rate\":5,\"upload_rate\":6,\"left_s\":null,\"peers\":7,\"known\":8,\
             \"mirrors\":9}\n"
        );
        let plan = crate::engine::coordinator::Seeding::default();
        for (progress, phase) in [
            (Progress::Asking { here: 0, all: 0, asked: 1, known: 2 }, "metadata"),
            (Progress::Checking { looked: 1, total: 2 }, "checking"),
            (
                Progress::Seeding {
                    total: 1,
                    downloaded: 1,
                    uploaded: 1,
                    sent_per_second: 1,
                    peers: 1,
                    plan,
                },
                "seeding",
            ),
        ] {
            let read: Value =
                serde_json::from_str(&line(progress_record(&progress, elapsed))).unwrap();
            assert_eq!((&read["event"], &read["phase"]), (&"progress".into(), &phase.into()));
        }
    }
}
