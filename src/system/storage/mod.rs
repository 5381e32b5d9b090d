//! Owns the output files: where the torrent's bytes lie, and how they get there.
//!
//! Bytes are copied into mapped windows of files whose room is reserved. They go to the same place
//! by positioned writes where a file system can't reserve or map, or where more places are written
//! in turns than windows are kept: a window that is mapped again for each visit costs more than it
//! saves. Reading goes by positioned reads always: they cost less, and a file that somebody cut is
//! an ordinary error.

mod allocate;
pub mod directory;
mod files;
pub mod flush;
pub mod layout;
mod map;
pub mod source;
mod stretch;

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::io::{Errno, pwritev};

use allocate::Backing;
use directory::Directory;
use files::Files;
use layout::{Layout, OutputFile, OutputKind, Segment};
pub use map::catch_failed_stores;
use map::{Refused, Target, Windows};
use stretch::Stretch;

use crate::error::Fatal;
use crate::limits::STRETCH_PARTS_MAX;

/// A torrent's files below the output directory. One thread owns it.
#[derive(Debug)]
pub struct Storage {
    layout: Arc<Layout>,
    files: Files,
    windows: Windows,
}

impl Storage {
    /// Makes the output directory and nothing else yet.
    pub fn create(dir: &Path, layout: impl Into<Arc<Layout>>) -> Result<Self, Fatal> {
        Ok(Self::new(Directory::create(dir)?, layout))
    }

    /// Files in a directory that is there. Makes nothing yet.
    pub fn new(directory: Directory, layout: impl Into<Arc<Layout>>) -> Self {
        let (layout, windows) = (layout.into(), Windows::new(directory.path()));
        let files = Files::new(directory, layout.files().len());
        Self { layout, files, windows }
    }

    /// The torrent's files.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The output directory, for others that work in it.
    pub fn directory(&self) -> Directory {
        self.files.directory.share()
    }

    /// From now on nothing takes room that would leave fewer than so many bytes free.
    pub fn keep_free(&mut self, bytes: u64) {
        self.files.kept = bytes;
    }

    /// Fails with [`Fatal::DiskFull`] if the file system has no room for the `missing` bytes of
    /// the torrent, less what the files have allocated already.
    pub fn check_room(&self, missing: u64) -> Result<(), Fatal> {
        let Files { directory, kept, .. } = &self.files;
        allocate::check_room(directory, &self.layout, missing, *kept)
    }

    /// Writes `bytes` at byte `offset` of the torrent. Those that are padding go nowhere.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fatal> {
        self.write_parts(offset, &[bytes])
    }

    /// Writes `parts`, one right behind the other, from byte `offset` of the torrent on. What
    /// comes at once is written at once: give all there is.
    pub fn write_parts(&mut self, offset: u64, parts: &[&[u8]]) -> Result<(), Fatal> {
        let Self { layout, files, windows } = self;
        let stretch = Stretch(parts);
        let segments = layout.segments(offset, stretch.length());
        for segment in segments.filter(|segment| !segment.file.is_pad()) {
            write_segment(files, windows, &segment, stretch)?;
        }
        Ok(())
    }

    /// Reads from byte `offset` of the torrent on. Padding is zeros.
    pub fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Fatal> {
        let Self { layout, files, .. } = self;
        for segment in layout.segments(offset, into.len()) {
            let to = segment.from..segment.from + segment.length;
            let Some(part) = into.get_mut(to) else { continue };
            if segment.file.is_pad() {
                part.fill(0);
                continue;
            }
            let file = files.readable(segment.index, segment.file)?;
            let read = file.read_exact_at(part, segment.offset);
            let path = || files.directory.path_of(&segment.file.path);
            read.map_err(|error| Fatal::FileIo("read", path(), error))?;
        }
        Ok(())
    }

    /// Fails if somebody deleted, moved, replaced or cut one of the files that these bytes are in,
    /// or a directory above it, since it was opened. A file that is closed meanwhile was looked at
    /// when that was done.
    pub fn check_in_place(&mut self, offset: u64, length: usize) -> Result<(), Fatal> {
        let Self { layout, files, .. } = self;
        let mut segments = layout.segments(offset, length);
        segments.try_for_each(|segment| files.check_in_place(|open| open == segment.index))
    }

    /// The same for every file that is open.
    pub fn check_all_in_place(&mut self) -> Result<(), Fatal> {
        self.files.check_in_place(|_| true)
    }

    /// Unmaps everything, flushes what has no reserved room, and sees to it that every file is there
    /// and has exactly its length, the empty ones too; but for those that were not selected. For a
    /// torrent of which every piece that is wanted was verified: a file that is not where it was, or is short, was moved or cut by somebody else,
    /// and is an error.
    pub fn finish(&mut self) -> Result<(), Fatal> {
        let Self { layout, files, windows } = self;
        windows.clear();
        files.directory.let_go();
        if !files.directory.is_in_place() {
            return Err(files::lost(files.directory.path().to_path_buf()));
        }
        files.check_in_place(|_| true)?;
        // Where no room could be reserved, only this may tell that the disk is full.
        let unreserved = files.unreserved().collect();
        files.with_descriptors(|directory| flush::flush(directory, layout, &unreserved))?;
        let whole = |output: &OutputFile| output.kind == OutputKind::Data;
        for (index, output) in layout.on_disk().filter(|(_, output)| whole(output)) {
            let found = files.with_descriptors(|directory| directory.look(&output.path))?;
            let found = found.map(|found| found.length);
            match found {
                Some(length) if length == output.length => {}
                Some(length) if length > output.length => {
                    let (file, found) = files.directory.open_to_write(&output.path)?;
                    allocate::cut(&files.directory, output, &file, found.length)?;
                }
                None if output.length == 0 => {
                    files.writable(index, output)?;
                }
                _ => return Err(files.changed(output)),
            }
        }
        Ok(())
    }
}

fn write_segment(
    files: &mut Files,
    windows: &mut Windows,
    segment: &Segment<'_>,
    stretch: Stretch<'_>,
) -> Result<(), Fatal> {
    let (file, backing) = files.writable(segment.index, segment.file)?;
    if backing == Backing::Reserved {
        let Segment { index, file: output, .. } = *segment;
        let target = Target { index, file, name: &output.path, length: output.length };
        match windows.store(target, segment, stretch) {
            Ok(()) => return Ok(()),
            Err(Refused::Unmappable) => files.set_backing(segment.index, Backing::Positioned),
            Err(Refused::Unbacked | Refused::Costly) => {}
        }
    }
    if backing == Backing::Unreserved {
        files.check_free(segment.file, segment.length)?;
    }
    write_positioned(files, segment, stretch)
}

/// The way that is always open, and whose errors say what is wrong.
fn write_positioned(
    files: &mut Files,
    segment: &Segment<'_>,
    stretch: Stretch<'_>,
) -> Result<(), Fatal> {
    let output = segment.file;
    let (file, _) = files.writable(segment.index, output)?;
    let written = match file.metadata() {
        // Writing would bring a file that somebody cut back to its length, but not its bytes.
        Ok(found) if found.len() < output.length => return Err(files.changed(output)),
        _ => write_all(file, segment, stretch),
    };
    let needed = segment.length as u64;
    written.map_err(|error| allocate::failed(&files.directory, output, "write", error, needed))
}

fn write_all(file: &File, segment: &Segment<'_>, stretch: Stretch<'_>) -> io::Result<()> {
    let mut done = 0;
    while done < segment.length {
        let mut slices = [IoSlice::new(&[]); STRETCH_PARTS_MAX];
        let parts = stretch.range(segment.from + done, segment.length - done);
        let count = slices.iter_mut().zip(parts).map(|(slice, part)| *slice = IoSlice::new(part));
        let count = count.count();
        let slices = slices.get(..count).unwrap_or_default();
        match pwritev(file, slices, segment.offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::limits::{
        WINDOW_LENGTH_BYTES, WINDOW_LENGTH_MIN_BYTES, WINDOW_STALE_BYTES, WINDOWS_MAX,
    };

    /// A directory of one test's own that goes with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("rusty_torrent-storage-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// One file `f` of this length, there already with its whole length and not a byte in it.
    fn sparse(dir: &Path, length: u64) -> Storage {
        File::create(dir.join("f")).unwrap().set_len(length).unwrap();
        let file = OutputFile { path: "f".into(), length, kind: OutputKind::Data };
        let mut storage = Storage::create(dir, Layout::new(vec![file])).unwrap();
        storage.files.set_backing(0, Backing::Reserved);
        storage
    }

    fn written(storage: &mut Storage, offset: u64, length: usize) {
        let bytes: Vec<u8> = (1..=250u8).cycle().take(length).collect();
        storage.write(offset, &bytes).unwrap();
        let mut read = vec![0; length];
        storage.read(offset, &mut read).unwrap();
        assert!(read == bytes, "{length} bytes at {offset}");
    }

    const WINDOW: usize = 2 << 20;
    const _: () = assert!(WINDOW as u64 == WINDOW_LENGTH_BYTES);

    #[test]
    fn every_way_to_a_file_ends_with_the_same_bytes() {
        let mib = 1u64 << 20;
        for populates in [true, false] {
            for backing in [Backing::Reserved, Backing::Positioned] {
                let scratch = Scratch::new(&format!("ways-{populates}-{backing:?}"));
                let mut storage = sparse(&scratch.0, 5 * mib + 17);
                storage.files.set_backing(0, backing);
                if !populates {
                    storage.windows.forget_populating();
                }
                written(&mut storage, 2 * mib - 5000, 10_000);
                written(&mut storage, 5 * mib, 17);
                written(&mut storage, 1, 1);
                written(&mut storage, mib, 4 << 20);
                let mapped = backing == Backing::Reserved;
                assert_eq!(storage.windows.count() > 0, mapped, "{populates} {backing:?}");
                storage.finish().unwrap();
                assert_eq!(fs::metadata(scratch.0.join("f")).unwrap().len(), 5 * mib + 17);
            }
        }
    }

    #[test]
    fn a_stretch_in_parts_reaches_the_places_of_its_bytes() {
        let length = 5 << 20;
        let bytes: Vec<u8> = (0..=250u8).cycle().take(length).collect();
        for backing in [Backing::Reserved, Backing::Positioned] {
            let scratch = Scratch::new(&format!("parts-{backing:?}"));
            let mut storage = sparse(&scratch.0, length as u64);
            storage.files.set_backing(0, backing);
            // Parts of all lengths, more than one system call writes, over windows' borders.
            let mut parts = Vec::new();
            let (mut rest, mut next) = (bytes.as_slice(), 0);
            while !rest.is_empty() {
                let (part, behind) = rest.split_at(next.min(rest.len()));
                parts.push(part);
                (rest, next) = (behind, (next * 2 + 1) % 100_003);
            }
            assert!(parts.len() > 2 * STRETCH_PARTS_MAX);
            storage.write_parts(0, &parts).unwrap();
            storage.finish().unwrap();
            assert!(fs::read(scratch.0.join("f")).unwrap() == bytes, "{backing:?}");
        }
    }

    #[test]
    fn offsets_past_four_gib_reach_their_place() {
        let scratch = Scratch::new("large");
        let mut storage = sparse(&scratch.0, (5 << 30) + 100);
        for offset in [(4 << 30) - 3, (5 << 30) + 90, 10] {
            written(&mut storage, offset, 10);
        }
        let mut low = [9; 10];
        storage.read((5 << 30) - (4 << 30) + 90, &mut low).unwrap();
        assert_eq!(low, [0; 10]);
    }

    #[test]
    fn windows_are_few_and_full_ones_go_at_once() {
        let scratch = Scratch::new("windows");
        let count = WINDOWS_MAX as u64 * 2;
        let mut storage = sparse(&scratch.0, count * WINDOW_LENGTH_BYTES);
        let whole = vec![7; WINDOW];
        for number in 0..count {
            storage.write(number * WINDOW_LENGTH_BYTES, &whole).unwrap();
            assert_eq!(storage.windows.count(), 0);
        }
        for number in 0..count {
            written(&mut storage, number * WINDOW_LENGTH_BYTES, 1);
        }
        assert_eq!(storage.windows.count(), WINDOWS_MAX);
    }

    #[test]
    fn what_is_short_is_not_mapped() {
        let scratch = Scratch::new("short");
        let least = WINDOW_LENGTH_MIN_BYTES;
        for (length, mapped) in [(1, 0), (least - 1, 0), (least + 1, 1)] {
            let mut storage = sparse(&scratch.0, WINDOW_LENGTH_BYTES + length);
            written(&mut storage, WINDOW_LENGTH_BYTES, 1);
            assert_eq!(storage.windows.count(), mapped, "{length}");
        }
    }

    #[test]
    fn a_window_in_use_stays_and_a_stale_one_makes_room() {
        let scratch = Scratch::new("stale");
        let count = WINDOWS_MAX as u64 + 2;
        let mut storage = sparse(&scratch.0, count * WINDOW_LENGTH_BYTES);
        for number in 0..count {
            written(&mut storage, number * WINDOW_LENGTH_BYTES, 1);
        }
        let in_use = (0..WINDOWS_MAX as u64).collect::<Vec<_>>();
        assert_eq!(storage.windows.places(), in_use);
        // All but the first are used again, now and then.
        for _ in 0..2 * WINDOW_STALE_BYTES / WINDOW_LENGTH_BYTES {
            for number in &in_use[1..] {
                storage.write(number * WINDOW_LENGTH_BYTES, &[1]).unwrap();
            }
            storage.write((count - 1) * WINDOW_LENGTH_BYTES, &vec![2; WINDOW - 1]).unwrap();
        }
        let mut left = storage.windows.places();
        left.sort_unstable();
        assert_eq!(left, [&in_use[1..], &[count - 1]].concat());
    }

    #[test]
    fn a_store_that_fails_all_the_same_ends_with_a_sentence() {
        const CHILD: &str = "RUSTY_TORRENT_TEST_FAILED_STORE";
        if let Some(dir) = std::env::var_os(CHILD).map(PathBuf::from) {
            catch_failed_stores().unwrap();
            let mut storage = sparse(&dir, 2 * WINDOW_LENGTH_BYTES);
            // The kernel is not asked for the pages, and somebody cuts the file.
            storage.windows.forget_populating();
            storage.write(0, &[1]).unwrap();
            File::options().write(true).open(dir.join("f")).unwrap().set_len(0).unwrap();
            let _never = storage.write(100_000, &[1]);
            unreachable!();
        }
        let name = "system::storage::tests::a_store_that_fails_all_the_same_ends_with_a_sentence";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let scratch = Scratch::new("sigbus");
        let child = child.args(["--exact", name, "--nocapture"]).env(CHILD, &scratch.0);
        let ended = child.output().unwrap();
        assert_eq!(ended.status.code(), Some(17), "{ended:?}");
        let said = String::from_utf8(ended.stderr).unwrap();
        let expected = format!("error: can't write {}: it was cut", scratch.0.join("f").display());
        assert!(said.contains(&expected), "{said}");
    }

    #[test]
    fn a_file_cut_under_a_window_is_an_error() {
        let scratch = Scratch::new("cut");
        for left in [0, 1, WINDOW_LENGTH_BYTES + 1] {
            let mut storage = sparse(&scratch.0, 2 * WINDOW_LENGTH_BYTES);
            written(&mut storage, WINDOW_LENGTH_BYTES - 100, 200);
            written(&mut storage, 2 * WINDOW_LENGTH_BYTES - 5000, 100);
            File::options().write(true).open(scratch.0.join("f")).unwrap().set_len(left).unwrap();
            let error = storage.write(2 * WINDOW_LENGTH_BYTES - 4900, &[1; 4900]).unwrap_err();
            assert!(matches!(error, Fatal::FileIo("write", ..)), "{error}");
        }
    }
}
