//! Sorts short lists. The library's sorts are for long ones: each kind of list that they sort takes
//! 5 to 20 KB of the executable.

/// Puts the items in order of their keys, those with the same one as they were. For hundreds of items,
/// not for thousands: they are moved one by one.
pub fn sort_by_key<T, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    for end in 1..items.len() {
        let Some((sorted, [item, ..])) = items.split_at_checked(end) else { return };
        let own = key(item);
        let at = sorted.partition_point(|other| key(other) <= own);
        if let Some(behind) = items.get_mut(at..=end) {
            behind.rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sorts_as_the_library_does() {
        let mut rng = fastrand::Rng::with_seed(1);
        for length in 0..100_u8 {
            let items: Vec<(u8, u8)> = (0..length).map(|number| (rng.u8(..20), number)).collect();
            let (mut ours, mut theirs) = (items.clone(), items);
            sort_by_key(&mut ours, |item| item.0);
            theirs.sort_by_key(|item| item.0);
            assert_eq!(ours, theirs);
        }
    }
}
