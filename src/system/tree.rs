//! Owns the walk through a directory: which files are in it, in an order that is the same whatever
//! the file system. It follows no symbolic link.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Fatal;
use crate::limits::FILES_MAX;

/// What is in a directory.
#[derive(Default, Debug)]
pub struct Tree {
    /// The regular files, by their paths below it, with their bytes: in order of the paths, which are
    /// compared component by component, each as bytes.
    pub files: Vec<(PathBuf, u64)>,
    /// Paths of what is neither a regular file nor a directory: links, devices and such.
    pub others: Vec<PathBuf>,
}

impl Tree {
    /// Walks through everything below `root`.
    ///
    /// # Errors
    /// What can't be read, and more than [`FILES_MAX`] files.
    pub fn below(root: &Path) -> Result<Self, Fatal> {
        let mut tree = Self::default();
        // A directory's content comes behind it and before what follows it, since that is how paths
        // are compared. So the least one that is known is always the next.
        let mut pending = BinaryHeap::from([Reverse((PathBuf::new(), true))]);
        while let Some(Reverse((path, is_directory))) = pending.pop() {
            let whole = root.join(&path);
            let failed = |error| Fatal::FileIo("read", whole.clone(), error);
            if !is_directory {
                let found = fs::symlink_metadata(&whole).map_err(failed)?;
                tree.files.push((path, found.len()));
                continue;
            }
            for entry in fs::read_dir(&whole).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let below = path.join(entry.file_name());
                let kind = entry.file_type().map_err(failed)?;
                if kind.is_dir() || kind.is_file() {
                    pending.push(Reverse((below, kind.is_dir())));
                } else {
                    tree.others.push(below);
                }
                if pending.len() + tree.files.len() + tree.others.len() > FILES_MAX {
                    let why = format!("there is more in it than {FILES_MAX} files");
                    return Err(Fatal::FileIo("read", root.to_owned(), io::Error::other(why)));
                }
            }
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_come_in_order_of_their_components() {
        let root = std::env::temp_dir().join(format!("rusty_torrent-{}-tree", std::process::id()));
        let _left = fs::remove_dir_all(&root);
        for directory in ["a/b", "empty", "z/y/x"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        // `.` and `-` come before `/` in a string.
        for file in ["a.txt", "a-", "a/c", "a/b/d", "a/b.e", "B", "z/y/x/w", "\u{e9}"] {
            fs::write(root.join(file), file).unwrap();
        }
        symlink("a", root.join("link to a directory")).unwrap();
        symlink("a.txt", root.join("z/link to a file")).unwrap();
        let found = Tree::below(&root);
        let tree = found.unwrap();
        let files: Vec<_> = tree.files.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(files, ["B", "a/b/d", "a/b.e", "a/c", "a-", "a.txt", "z/y/x/w", "\u{e9}"]);
        assert!(tree.files.iter().all(|(path, length)| path.as_os_str().len() as u64 == *length));
        assert_eq!(tree.others.len(), 2);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(Tree::below(&root).unwrap_err().status(), crate::error::Status::FileIo);
    }
}
