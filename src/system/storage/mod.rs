//! Owns the output files: where the torrent's bytes lie, and how they get there.
//!
//! Bytes are copied into mapped windows of files whose room is reserved; where a file system or a
//! kernel can't offer that, they go to the same place by positioned writes. Reading goes by
//! positioned reads always: they cost less, and a file that somebody cut is an ordinary error.

mod allocate;
pub mod directory;
mod files;
pub mod layout;
mod map;

use std::os::unix::fs::FileExt;
use std::path::Path;

use directory::Directory;
use files::{Backing, Files};
use layout::{Layout, OutputFile, Segment};
use map::{Refused, Target, Windows};

use crate::error::Fatal;

/// A torrent's files below the output directory. One thread owns it.
#[derive(Debug)]
pub struct Storage {
    layout: Layout,
    files: Files,
    windows: Windows,
}

impl Storage {
    /// Makes the output directory and nothing else yet.
    pub fn create(dir: &Path, layout: Layout) -> Result<Self, Fatal> {
        let files = Files::new(Directory::create(dir)?, layout.files().len());
        Ok(Self { layout, files, windows: Windows::new() })
    }

    /// The torrent's files.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Fails with [`Fatal::DiskFull`] if the file system has no room for the `missing` bytes of
    /// the torrent, less what the files have allocated already.
    pub fn check_room(&mut self, missing: u64) -> Result<(), Fatal> {
        allocate::check_room(&mut self.files.directory, &self.layout, missing)
    }

    /// Writes `bytes` at byte `offset` of the torrent. Those that are padding go nowhere.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Fatal> {
        self.write_before(offset, bytes, 0)
    }

    /// Writes `bytes` when the `following` bytes of the torrent right behind them are written
    /// next: what can be made ready for all of them at once is.
    pub fn write_before(
        &mut self,
        offset: u64,
        bytes: &[u8],
        following: usize,
    ) -> Result<(), Fatal> {
        let Self { layout, files, windows } = self;
        for segment in layout.segments(offset, bytes.len()).filter(|segment| !segment.file.pad) {
            let part = bytes.get(segment.from..segment.from + segment.length).unwrap_or_default();
            write_segment(files, windows, &segment, part, following)?;
        }
        Ok(())
    }

    /// Reads from byte `offset` of the torrent on. Padding is zeros.
    pub fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), Fatal> {
        let Self { layout, files, .. } = self;
        for segment in layout.segments(offset, into.len()) {
            let to = segment.from..segment.from + segment.length;
            let Some(part) = into.get_mut(to) else { continue };
            if segment.file.pad {
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

    /// Unmaps everything and sees to it that every file is there and has exactly its length, the
    /// empty ones too. For a torrent of which every piece was verified: a file that is missing or
    /// short now was deleted or cut by somebody else, and is an error.
    pub fn finish(&mut self) -> Result<(), Fatal> {
        let Self { layout, files, windows } = self;
        windows.clear();
        for (index, output) in layout.on_disk() {
            let found = files.directory.look(&output.path)?.map(|found| found.length);
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
    bytes: &[u8],
    following: usize,
) -> Result<(), Fatal> {
    let Segment { index, file: output, offset, .. } = *segment;
    let (file, backing) = files.writable(index, output)?;
    if backing != Backing::Positioned {
        let reserved = backing == Backing::Reserved;
        let target = Target { index, file, length: output.length, reserved };
        match windows.store(target, offset, bytes, following) {
            Ok(()) => return Ok(()),
            Err(Refused::Unmappable) => files.set_backing(index, Backing::Positioned),
            Err(Refused::Unbacked) => {}
        }
    }
    write_positioned(files, index, output, offset, bytes)
}

/// The way that is always open, and whose errors say what is wrong.
fn write_positioned(
    files: &mut Files,
    index: usize,
    output: &OutputFile,
    offset: u64,
    bytes: &[u8],
) -> Result<(), Fatal> {
    let (file, _) = files.writable(index, output)?;
    let written = match file.metadata() {
        // Writing would bring a file that somebody cut back to its length, but not its bytes.
        Ok(found) if found.len() < output.length => return Err(files.changed(output)),
        _ => file.write_all_at(bytes, offset),
    };
    let needed = bytes.len() as u64;
    written.map_err(|error| allocate::failed(&files.directory, output, "write", error, needed))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::PathBuf;

    use super::*;
    use crate::limits::{WINDOW_LENGTH_BYTES, WINDOWS_MAX};

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
        let file = OutputFile { path: "f".into(), length, pad: false };
        let mut storage = Storage::create(dir, Layout::new(vec![file])).unwrap();
        storage.files.set_backing(0, Backing::Sparse);
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
            for backing in [Backing::Reserved, Backing::Sparse, Backing::Positioned] {
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
                let mapped =
                    backing != Backing::Positioned && (populates || backing == Backing::Reserved);
                assert_eq!(storage.windows.count() > 0, mapped, "{populates} {backing:?}");
                storage.finish().unwrap();
                assert_eq!(fs::metadata(scratch.0.join("f")).unwrap().len(), 5 * mib + 17);
            }
        }
    }

    #[test]
    fn bytes_that_were_announced_may_come_late_or_never() {
        let (scratch, length) = (Scratch::new("announced"), 5 << 20);
        let mut storage = sparse(&scratch.0, length as u64);
        let bytes: Vec<u8> = (0..=250u8).cycle().take(length).collect();
        // Begin, end, and what is said to follow: more or less than does, over windows' borders.
        let stretches = [
            (0, 1 << 20, 3 << 20),
            (1 << 20, 2 << 20, 1),
            (4 << 20, (4 << 20) + 7, usize::MAX),
            (2 << 20, 4 << 20, 0),
            ((4 << 20) + 7, 5 << 20, 1 << 20),
        ];
        for (begin, end, following) in stretches {
            storage.write_before(begin as u64, &bytes[begin..end], following).unwrap();
        }
        storage.finish().unwrap();
        assert!(fs::read(scratch.0.join("f")).unwrap() == bytes);
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
            storage.write(number * WINDOW_LENGTH_BYTES, &[8]).unwrap();
        }
        assert_eq!(storage.windows.count(), WINDOWS_MAX);
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
