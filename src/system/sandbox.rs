//! Owns the sandbox: once shut in, the process can write nowhere but below the output directory,
//! read little else but what looking up names needs, and execute nothing.
//!
//! It is the kernel's Landlock (Linux 5.13 and later). It holds for the thread that asks for it
//! and for all that it starts from then on; what is open already stays open. Where the kernel has
//! none, the download goes on without.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, RulesetStatus,
};

use super::storage::directory::Directory;
use crate::error::Fatal;

/// What looking up names and knowing the network's limits takes; what is not there is left out.
const FILES: [&str; 6] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/services",
];
const DIRECTORIES: [&str; 4] =
    ["/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf", "/proc/sys/net"];
/// Whoever renews `resolv.conf` puts a new file in its place; only the right to read the whole
/// directory covers that. Nobody but root can read secrets there, so root goes without.
const SETTINGS: &str = "/etc";
/// Where a C library that is not part of the executable keeps what looks up names.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];

/// How much the kernel does of what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sandbox {
    /// All of it.
    Whole,
    /// What it knows: an older kernel can't forbid everything.
    Partial,
    /// Nothing: it has no Landlock, or that is switched off.
    Absent,
}

/// Shuts the calling thread, and all that it will start, into `dir`, which is made if need be.
///
/// # Errors
/// `dir` can't be made. That the kernel has no sandbox is no error.
pub fn enter(dir: &Path) -> Result<Sandbox, Fatal> {
    Directory::create(dir)?;
    // Without the directory itself nothing could be written at all.
    let home = PathFd::new(dir).ok();
    let inside = AccessFs::from_all(ABI::V5)
        & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    Ok(home.and_then(|home| shut_in(Some(home), inside).ok()).unwrap_or(Sandbox::Absent))
}

/// The same, but nothing can be written anywhere, and of `dir` it can be read alone. It is not made.
pub fn enter_to_look(dir: &Path) -> Sandbox {
    let home = PathFd::new(dir).ok();
    shut_in(home, AccessFs::ReadFile | AccessFs::ReadDir).unwrap_or(Sandbox::Absent)
}

fn shut_in(
    home: Option<PathFd>,
    inside: landlock::BitFlags<AccessFs>,
) -> Result<Sandbox, RulesetError> {
    let all = AccessFs::from_all(ABI::V5);
    let mut rules = Ruleset::default().handle_access(all)?.create()?;
    let is_root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let settings = (!is_root).then_some(SETTINGS);
    let libraries = if cfg!(target_env = "musl") { &[][..] } else { &LIBRARIES[..] };
    let directories = DIRECTORIES.iter().copied().chain(settings).chain(libraries.iter().copied());
    // The right to list is none that a file can have.
    let all_readable = FILES
        .map(|path| (path, AccessFs::ReadFile.into()))
        .into_iter()
        .chain(directories.map(|path| (path, AccessFs::ReadFile | AccessFs::ReadDir)));
    for (path, rights) in all_readable {
        if let Ok(path) = PathFd::new(path) {
            rules = rules.add_rule(PathBeneath::new(path, rights))?;
        }
    }
    if let Some(home) = home {
        rules = rules.add_rule(PathBeneath::new(home, inside))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Sandbox::Whole,
        RulesetStatus::PartiallyEnforced => Sandbox::Partial,
        RulesetStatus::NotEnforced => Sandbox::Absent,
    })
}
