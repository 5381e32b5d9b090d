//! A swarm on a clock of its own: our sessions against hundreds of simulated peers. No sockets, no
//! threads, no sleep: what depends on time is decided by events in a queue, what depends on chance
//! by a seed. `RUSTY_TORRENT_TEST_SEED` runs every scenario with that seed instead of its own ones.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]
#![allow(clippy::cast_possible_truncation, clippy::print_stdout, unreachable_pub)]

mod peer;
mod picker_model;
mod world;

use peer::{MS, Nature, SECOND, some_pieces};
use rusty_torrent::limits::{BLOCK_LENGTH, JOBS_MAX, PEERS_DEFAULT, PEERS_MAX};
use rusty_torrent::units::Geometry;
use world::{Plan, World, geometry};

const PERMITS: u32 = JOBS_MAX as u32;
const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// The seeds to run a scenario with.
fn seeds() -> Vec<u64> {
    match std::env::var("RUSTY_TORRENT_TEST_SEED") {
        Ok(seed) => vec![seed.parse().expect("RUSTY_TORRENT_TEST_SEED is a number")],
        Err(_) => SEEDS.to_vec(),
    }
}

/// Runs a world for each seed, and shows it to `check` when everything is there.
fn simulate(plan: impl Fn(&mut fastrand::Rng) -> Plan, mut check: impl FnMut(&World)) {
    for seed in seeds() {
        println!("RUSTY_TORRENT_TEST_SEED={seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let plan = plan(&mut rng);
        let mut world = World::new(plan, rng.u64(..));
        let began = std::time::Instant::now();
        world.run();
        let (downloaded, wasted) = (world.swarm.downloaded, world.swarm.wasted);
        println!(
            "{} ms, downloaded {downloaded}, wasted {wasted}, took {:?} {:?}",
            world.now / MS,
            began.elapsed(),
            world.tally
        );
        // Nobody honest is ever banned, and nobody gets away with a lie.
        assert_eq!(world.banned, world.liars);
        assert!(world.banned.iter().all(|peer| world.peers[*peer].sent_wrong));
        let babbles = |peer: &usize| world.peers[*peer].nature.babbles_every.is_some();
        assert!(world.too_loud.keys().all(babbles), "{:?}", world.too_loud);
        check(&world);
    }
}

/// So many honest peers, the first two of them seeds that stay.
fn honest(count: usize, geometry: Geometry, rng: &mut fastrand::Rng) -> Vec<Nature> {
    let mut peers = vec![Nature::seed(geometry); 2];
    peers.extend((2..count).map(|_| Nature::honest(geometry, rng)));
    peers
}

/// A seed that takes a quarter of a second for a block.
fn slow_seed(geometry: Geometry) -> Nature {
    Nature { rate: 4 * u64::from(BLOCK_LENGTH), ..Nature::seed(geometry) }
}

fn assert_wasted_per_mille(world: &World, most: u64) {
    let (wasted, downloaded) = (world.swarm.wasted, world.swarm.downloaded);
    assert!(wasted * 1_000 <= downloaded * most, "{wasted} of {downloaded} were wasted");
}

#[test]
fn honest_peers_waste_next_to_nothing() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(512, 16);
        let peers = honest(200, geometry, rng);
        Plan { geometry, peers, slots: PEERS_DEFAULT, permits: PERMITS, patience: 600 * SECOND }
    };
    simulate(plan, |world| {
        assert_wasted_per_mille(world, 20);
        assert_eq!(world.tally.failed_pieces, 0);
    });
}

#[test]
fn two_hundred_peers_at_a_time_waste_three_blocks_each_at_most() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(512, 16);
        let peers = honest(200, geometry, rng);
        Plan { geometry, peers, slots: 200, permits: PERMITS, patience: 600 * SECOND }
    };
    simulate(plan, |world| {
        let blocks = world.swarm.wasted / u64::from(BLOCK_LENGTH);
        // What is on their lines when the end game's cancels reach them.
        assert!(blocks <= 3 * 200, "{blocks} blocks were wasted");
    });
}

#[test]
fn a_swarm_of_everybody_is_downloaded() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(100, 16);
        let mut peers = honest(100, geometry, rng);
        peers.extend((0..120).map(|_| Nature::vicious(geometry, rng)));
        rng.shuffle(&mut peers);
        Plan { geometry, peers, slots: PEERS_DEFAULT, permits: PERMITS, patience: 3_600 * SECOND }
    };
    simulate(plan, |_| {});
}

#[test]
fn what_only_a_leaver_has_is_got_before_it_leaves() {
    const ONLY: u32 = 20;
    // Its own pieces take 1.25 s at best, and no order but the right one gets them in this time:
    // it could have sent a tenth of the whole.
    const STAYS: u64 = 5 * SECOND;
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(800, 4);
        let leaver = Nature { leaves_after: Some(STAYS), returns: false, ..Nature::seed(geometry) };
        let mut have = leaver.have.clone();
        for piece in geometry.all_pieces().take(ONLY as usize) {
            have.remove(piece);
        }
        let other = |rng: &mut fastrand::Rng| Nature {
            have: have.clone(),
            gains_every: None,
            rate: 64 << 10,
            ..Nature::honest(geometry, rng)
        };
        let peers = std::iter::once(leaver).chain((0..30).map(|_| other(rng))).collect();
        Plan { geometry, peers, slots: 50, permits: PERMITS, patience: 600 * SECOND }
    };
    simulate(plan, |world| {
        assert!(world.now > 2 * STAYS, "it was too easy");
        let lonely = world.verified_at.iter().filter(|(piece, _)| **piece < ONLY);
        let last = lonely.map(|(_, at)| *at).max();
        println!("the last of them came after {} ms", last.unwrap_or(0) / MS);
    });
}

#[test]
fn liars_are_banned_and_nobody_else() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(100, 8);
        let mut peers = honest(30, geometry, rng);
        peers.push(Nature { wrong_per_mille: 1_000, ..Nature::seed(geometry) });
        for _ in 0..10 {
            let wrong_per_mille = *rng.choice(&[5, 50, 500, 1_000]).unwrap();
            peers.push(Nature { wrong_per_mille, ..Nature::honest(geometry, rng) });
        }
        Plan { geometry, peers, slots: 50, permits: PERMITS, patience: 3_600 * SECOND }
    };
    simulate(plan, |world| assert!(!world.liars.is_empty()));
}

#[test]
fn who_babbles_is_left_for_long_and_nobody_else_is() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(1_500, 1);
        // It takes minutes.
        let mut peers = vec![Nature { rate: 128 << 10, ..Nature::seed(geometry) }];
        let none = some_pieces(geometry, 0, rng);
        // Each gets a piece a millisecond, and says so.
        peers.extend((0..2).map(|_| Nature {
            have: none.clone(),
            gains_every: Some(MS),
            never_unchokes: true,
            ..Nature::honest(geometry, rng)
        }));
        peers.extend((0..10).map(|_| Nature {
            rate: 64 << 10,
            babbles_every: Some(20 * MS),
            ..Nature::seed(geometry)
        }));
        Plan { geometry, peers, slots: PEERS_MAX, permits: PERMITS, patience: 3_600 * SECOND }
    };
    simulate(plan, |world| {
        let babblers: Vec<_> = (3..13).map(|peer| (peer, 1)).collect();
        assert_eq!(world.too_loud.clone().into_iter().collect::<Vec<_>>(), babblers);
        assert!(world.peers[..3].iter().all(|peer| peer.connection == 2), "each was kept");
    });
}

#[test]
fn few_permits_are_enough() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(60, 16);
        let peers = honest(60, geometry, rng);
        Plan { geometry, peers, slots: 50, permits: 5, patience: 3_600 * SECOND }
    };
    simulate(plan, |_| {});
}

#[test]
fn a_single_seed_that_flaps_is_enough() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(60, 16);
        let flaps = Some((rng.u64(SECOND..3 * SECOND), rng.u64(MS..5 * SECOND)));
        let seed = Nature { flaps, fast: rng.bool(), allowed_fast: 5, ..Nature::seed(geometry) };
        let peers = vec![seed];
        Plan { geometry, peers, slots: 50, permits: PERMITS, patience: 3_600 * SECOND }
    };
    simulate(plan, |world| assert_wasted_per_mille(world, 20));
}

#[test]
fn a_seed_that_falls_silent_now_and_then_sends_little_twice() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(60, 16);
        let sleeps = Some((rng.u64(SECOND..4 * SECOND), rng.u64(4 * SECOND..20 * SECOND)));
        let peers = vec![Nature { sleeps, fast: rng.bool(), ..Nature::seed(geometry) }];
        Plan { geometry, peers, slots: 50, permits: PERMITS, patience: 3_600 * SECOND }
    };
    simulate(plan, |world| assert_wasted_per_mille(world, 40));
}

#[test]
fn everybody_leaves_in_mid_block_and_comes_again() {
    let plan = |rng: &mut fastrand::Rng| {
        let geometry = geometry(100, 16);
        let peers = (0..100)
            .map(|_| {
                let leaves_after = Some(rng.u64(2 * SECOND..8 * SECOND));
                let rate = 1 << rng.u32(14..17);
                let have = some_pieces(geometry, 500, rng);
                Nature { leaves_after, have, rate, ..Nature::honest(geometry, rng) }
            })
            .chain([Nature { leaves_after: Some(5 * SECOND), ..slow_seed(geometry) }])
            .collect();
        Plan { geometry, peers, slots: 50, permits: PERMITS, patience: 3_600 * SECOND }
    };
    simulate(plan, |world| assert!(world.tally.cut_short > 10));
}
