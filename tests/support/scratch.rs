//! A directory of one test's own.

use std::fs;
use std::path::{Path, PathBuf};

/// Is empty at the start and goes with its test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// `name` is the test's.
    pub(crate) fn new(name: &str) -> Self {
        let name = format!("rusty_torrent-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
