//! Looks on while it runs, and passes on what was asked for: the screen, the files that are complete,
//! records for programs, the command that is to be run at the end.

use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::arguments::{Arguments, Task};
use crate::bitfield::Bitfield;
use crate::engine::coordinator::{Progress, Watch};
use crate::engine::download::Report;
use crate::error::{Fatal, Status};
use crate::hook::{Hook, Running, Told};
use crate::json_lines::{Ending, Record, end_record, progress_record};
use crate::piece_map::{Marks, piece_map};
use crate::policy::completion::Completion;
use crate::policy::selection::Selection;
use crate::progress::{Screen, Style};
use crate::protocol::metainfo::{FileEntry, Metainfo};
use crate::units::{Bytes, PieceIndex};

/// Who looks on for the user.
pub struct Viewer {
    screen: Screen,
    dir: PathBuf,
    json: bool,
    /// Files are told of when they are complete.
    summary: bool,
    map: Option<Marks>,
    began: Instant,
    torrent: Option<Arc<Metainfo>>,
    /// Nothing of it becomes a file.
    delivers: bool,
    /// The files that are fetched, if not all.
    selection: Option<Selection>,
    completion: Option<Completion>,
    /// The map as it was last.
    picture: Vec<String>,
    command: Command,
    downloaded: u64,
    uploaded: u64,
}

/// What is to be run.
enum Command {
    None,
    Waits(Hook),
    Runs(Running),
}

impl Viewer {
    /// Shows on `screen` what was asked for.
    pub fn new(arguments: &Arguments, screen: &Screen) -> Self {
        let map = arguments.map && screen.size().is_some();
        Self {
            screen: screen.clone(),
            dir: arguments.dir.clone(),
            json: arguments.progress == Style::Json && arguments.task == Task::Download,
            summary: arguments.summary,
            map: map.then(Marks::of_locale),
            began: Instant::now(),
            torrent: None,
            delivers: arguments.stdout,
            selection: None,
            completion: None,
            picture: Vec::new(),
            command: Command::None,
            downloaded: 0,
            uploaded: 0,
        }
    }

    /// Who looks on at the next torrent. The command goes on to it.
    pub fn next(&mut self, arguments: &Arguments, screen: &Screen) -> Self {
        let command = std::mem::replace(&mut self.command, Command::None);
        Self { command, ..Self::new(arguments, screen) }
    }

    /// The command that is to be run when everything is there.
    pub fn keep(&mut self, hook: Hook) {
        self.command = Command::Waits(hook);
    }

    /// It is known what the torrent is, and which of its files are fetched, if not all.
    pub fn meet(&mut self, torrent: &Arc<Metainfo>, selection: Option<&Selection>) {
        self.torrent = Some(Arc::clone(torrent));
        self.selection = selection.cloned();
        if self.json {
            let geometry = torrent.geometry;
            let record = Record::new("torrent")
                .text("name", torrent.name.as_str())
                .text("info_hash", torrent.info_hash.to_string().as_str())
                .text("dir", shown(&self.dir).as_str())
                .value("total", geometry.total())
                .value("files", self.files(torrent).count())
                .value("pieces", geometry.pieces())
                .value("piece_length", geometry.piece_length());
            let _ignored = record.write(&mut io::stdout());
        }
    }

    /// It ended well, `line` says how, and nobody needs what it had open any more.
    pub fn conclude(&mut self, report: &Report, line: Option<String>) {
        (self.downloaded, self.uploaded) = (report.downloaded, report.uploaded);
        if let Some(line) = line.filter(|_| !self.json) {
            self.screen.result(&line);
        }
        self.complete(report.downloaded);
    }

    /// Waits for the command if it is running.
    ///
    /// # Errors
    /// It failed.
    pub fn wait(&mut self, signals: &Receiver<()>) -> Result<(), Fatal> {
        self.screen.clear();
        let (command, done) = match std::mem::replace(&mut self.command, Command::None) {
            Command::Runs(running) => {
                let (hook, done) = running.wait(signals);
                (Command::Waits(hook), done)
            }
            command => (command, Ok(())),
        };
        self.command = command;
        done
    }

    /// The last record, if records are wanted.
    pub fn end(&self, status: Status, reason: Option<&str>) {
        if !self.json {
            return;
        }
        let torrent = self.torrent.as_deref();
        let ending = Ending {
            status,
            reason,
            name: torrent.map(|torrent| torrent.name.as_str()),
            info_hash: torrent.map(|torrent| torrent.info_hash.to_string()),
            dir: Some(shown(&self.dir)),
            total: torrent.map(|torrent| torrent.geometry.total()),
            downloaded: self.downloaded,
            uploaded: self.uploaded,
            elapsed: self.began.elapsed(),
        };
        let places = self.completion.iter().flat_map(Completion::complete);
        let files = torrent.map(|torrent| torrent.files.as_slice()).unwrap_or_default();
        let complete = places.filter_map(|place| files.get(place));
        let paths = complete.map(|file| shown(&self.dir.join(&file.path)));
        let mut out = BufWriter::new(io::stdout());
        let _ignored = end_record(&ending).write_with(&mut out, "files", paths);
    }

    /// The files that are fetched.
    fn files<'a>(&self, torrent: &'a Metainfo) -> impl Iterator<Item = &'a FileEntry> {
        let files = torrent.files.iter().enumerate();
        files.filter(|(at, file)| self.is_wanted(*at, file)).map(|(_, file)| file)
    }

    fn is_wanted(&self, at: usize, file: &FileEntry) -> bool {
        file.is_data()
            && !self.delivers
            && self.selection.as_ref().is_none_or(|selection| selection.has(at))
    }

    fn tell(&self, file: &FileEntry, was_there: bool) {
        let path = shown(&self.dir.join(&file.path));
        if self.json {
            let record = Record::new("file").text("path", path.as_str());
            let record = record.value("length", file.length).value("was_there", was_there);
            let _ignored = record.write(&mut io::stdout());
        } else {
            let already = if was_there { ", there already" } else { "" };
            self.screen.result(&format!("{path}: {}{already}\n", Bytes(file.length)));
        }
    }

    /// Counts the pieces, and tells of files that are complete since the last time.
    fn count(&mut self, torrent: &Metainfo, had: &Bitfield) {
        let first = self.completion.is_none();
        let mut completion = self.completion.take().unwrap_or_else(|| {
            let files = torrent.files.iter().enumerate();
            let files = files.map(|(at, file)| (file.length, self.is_wanted(at, file)));
            Completion::new(torrent.geometry, files)
        });
        if first {
            completion.look(had, |_| {});
            if self.summary {
                let places = completion.complete();
                // An empty one is made, whatever was there.
                let files = places.filter_map(|place| torrent.files.get(place));
                files.for_each(|file| self.tell(file, file.length > 0));
            }
        } else {
            completion.look(had, |place| {
                if let Some(file) = torrent.files.get(place).filter(|_| self.summary) {
                    self.tell(file, false);
                }
            });
        }
        self.completion = Some(completion);
    }
}

impl Watch for Viewer {
    fn progress(&mut self, progress: &Progress) {
        match *progress {
            Progress::Downloading { downloaded, uploaded, .. } => {
                (self.downloaded, self.uploaded) = (downloaded, uploaded);
            }
            Progress::Seeding { downloaded, uploaded, .. } => {
                (self.downloaded, self.uploaded) = (downloaded, uploaded);
                self.picture.clear();
            }
            Progress::Asking { .. } | Progress::Checking { .. } => {}
        }
        if self.json {
            let record = progress_record(progress, self.began.elapsed());
            let _ignored = record.write(&mut io::stdout());
        }
        self.screen.show(progress, &self.picture, Instant::now());
    }

    fn wants_pieces(&self) -> bool {
        self.json || self.summary || self.map.is_some()
    }

    fn pieces(&mut self, had: &Bitfield, begun: &[PieceIndex]) {
        let Some(torrent) = self.torrent.clone() else { return };
        if self.json || self.summary {
            self.count(&torrent, had);
        }
        if let (Some(marks), Some(size)) = (self.map, self.screen.size()) {
            self.picture = piece_map(torrent.geometry, had, begun, size, marks);
        }
    }

    fn complete(&mut self, downloaded: u64) {
        self.screen.clear();
        self.command = match (std::mem::replace(&mut self.command, Command::None), &self.torrent) {
            (Command::Waits(hook), Some(torrent)) => {
                let told = Told {
                    info_hash: torrent.info_hash.to_string(),
                    name: &torrent.name,
                    downloaded,
                    count: self.files(torrent).count(),
                };
                let paths = self.files(torrent).map(|file| file.path.as_path());
                Command::Runs(hook.run(&told, paths))
            }
            (command, _) => command,
        };
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
