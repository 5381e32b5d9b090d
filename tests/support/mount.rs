//! Small file systems of one test's own. The test runs itself again in a mount namespace, so that
//! nothing is left behind.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::scratch::Scratch;

/// Set for the second run, to where the file system is mounted.
const MOUNTED: &str = "RUSTY_TORRENT_TEST_MOUNTED";

/// Runs `test`, which is called `name`, with the file system that `mount` puts at `$dir`, given a
/// directory `$scratch` and a file `$image` of so many bytes in it.
pub fn mounted(name: &str, image_length: u64, mount: &str, test: impl FnOnce(&Path)) {
    if let Some(dir) = env::var_os(MOUNTED) {
        return test(&PathBuf::from(dir));
    }
    let scratch = Scratch::new(name);
    let (dir, image) = (scratch.join("dir"), scratch.join("image"));
    fs::create_dir(&dir).unwrap();

    File::create(&image).unwrap().set_len(image_length).unwrap();
    let script = format!("set -e; {mount}; exec \"$@\"");
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--ignored", "--exact", name, "--nocapture"])
        .env(MOUNTED, &dir)
        .env("scratch", scratch.path())
        .env("dir", &dir)
        .env("image", &image)
        .status()
        .expect("unshare (util-linux) is needed");
    // A signal's death, SIGBUS above all, is a failure as well.
    let dir = scratch.path().display();
    assert!(status.success(), "{name} in {dir}: {status}; root and mount(8) are needed");
}
