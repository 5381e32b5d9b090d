//! Owns the look at what the user lets this process take (`ulimit`, `prlimit`, `LimitAS=`).

use std::fs;

use rustix::param::page_size;
use rustix::process::{Resource, getrlimit};

/// Bytes of memory that this process may still take; `None` if nobody limited it.
pub fn memory_left() -> Option<u64> {
    let limit = |resource| getrlimit(resource).current;
    let (in_all, data) = (limit(Resource::As), limit(Resource::Data));
    if in_all.is_none() && data.is_none() {
        return None;
    }
    // What can't be read counts as nothing: it is little, and the limit is far away then.
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let taken = taken(&statm, page_size() as u64);
    let left = |limit: Option<u64>, taken| limit.map(|limit| limit.saturating_sub(taken));
    [left(in_all, taken.0), left(data, taken.1)].into_iter().flatten().min()
}

/// What the kernel's line `statm` says, in bytes: all that is mapped, and what of it is data
/// (proc(5), "/proc/pid/statm").
fn taken(statm: &str, page_bytes: u64) -> (u64, u64) {
    let number = |place| {
        let pages = statm.split_whitespace().nth(place).and_then(|pages| pages.parse::<u64>().ok());
        pages.unwrap_or(0).saturating_mul(page_bytes)
    };
    (number(0), number(5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_read_from_the_kernels_line() {
        let cases = [
            ("900 300 200 100 0 50 0\n", (900 * 4096, 50 * 4096)),
            ("", (0, 0)),
            ("many 1 2 3 4 99999999999999999999", (0, 0)),
            ("18446744073709551615 1 1 1 1 1", (u64::MAX, 4096)),
        ];
        for (line, bytes) in cases {
            assert_eq!(taken(line, 4096), bytes, "{line:?}");
        }
    }

    #[test]
    fn the_kernel_has_such_a_line() {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        let (in_all, data) = taken(&statm, page_size() as u64);
        assert!(in_all > data && data > 0, "{statm}");
    }
}
