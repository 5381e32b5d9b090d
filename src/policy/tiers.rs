//! Decides which tracker is asked when, and with which event (BEP 12).
//!
//! All tiers are asked at once, each by itself: what happens in one never holds up another. Within
//! a tier one tracker is asked at a time, in random order. If it fails the next one follows at
//! once; when all have failed the tier pauses, longer each time. A tracker that answers moves to
//! the front of its tier and is the one asked from then on.
//!
//! A tracker hears `started` until it has answered, and nothing but regular announces afterwards.
//! Only a tracker that has answered is told about the end.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::limits::{
    ANNOUNCE_MIN_INTERVAL_DEFAULT_S, ANNOUNCE_PAUSE_MAX_S, ANNOUNCE_PAUSE_REFUSED_S,
    ANNOUNCE_PAUSE_START_S, TIERS_MAX, TRACKERS_MAX,
};
use crate::order::sort_by_key;
use crate::protocol::tracker::{AnnounceReply, Event, Scheme, TrackerError};

/// One of the trackers of a [`Tiers`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TrackerIndex(usize);

/// An announce that is due: what it says besides the numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announce {
    /// Whom it is for.
    pub tracker: TrackerIndex,
    /// The tracker's URL.
    pub url: String,
    /// `Some(Started)` until the tracker has answered.
    pub event: Option<Event>,
    /// What the tracker wants to be sent back.
    pub tracker_id: Option<Vec<u8>>,
}

/// A torrent's trackers and what is known of them.
#[derive(Debug)]
pub struct Tiers {
    trackers: Vec<Tracker>,
    tiers: Vec<Tier>,
}

#[derive(Debug)]
struct Tracker {
    url: String,
    tier: usize,
    answered: bool,
    completed: News,
    tracker_id: Option<Vec<u8>>,
    /// Why the latest announce failed.
    error: Option<TrackerError>,
}

/// Whether a tracker knows that everything is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// There is nothing to be told.
    None,
    Owed,
    UnderWay,
    Told,
}

#[derive(Debug)]
struct Tier {
    /// The order in which they are asked.
    order: Vec<TrackerIndex>,
    /// How many of `order` were asked in this round.
    asked: usize,
    /// Whether one of them refused us in this round.
    refused: bool,
    /// Rounds in which all of them failed, one after the other.
    failed_rounds: u32,
    under_way: Option<TrackerIndex>,
    /// When the next one is asked; `None` before the first.
    due: Option<Instant>,
    /// From when on the next one may be asked for want of peers.
    early: Option<Instant>,
}

impl Tiers {
    /// The trackers of `tiers` that can be spoken to, shuffled within each tier. A URL that occurs
    /// twice counts where it occurs first.
    pub fn new(tiers: &[Vec<String>], rng: &mut Rng) -> Self {
        let mut seen = HashSet::new();
        let mut all = Self { trackers: Vec::new(), tiers: Vec::new() };
        for urls in tiers {
            if all.tiers.len() == TIERS_MAX {
                break;
            }
            let mut order = Vec::new();
            for url in urls.iter().map(|url| url.trim()) {
                let is_new = Scheme::of(url).is_some() && seen.insert(url);
                if is_new && all.trackers.len() < TRACKERS_MAX {
                    order.push(TrackerIndex(all.trackers.len()));
                    all.trackers.push(Tracker::new(url, all.tiers.len()));
                }
            }
            if !order.is_empty() {
                rng.shuffle(&mut order);
                all.tiers.push(Tier::new(order));
            }
        }
        all
    }

    /// Whether a tracker of `tiers` can be spoken to.
    pub fn are_any(tiers: &[Vec<String>]) -> bool {
        tiers.iter().flatten().any(|url| Scheme::of(url.trim()).is_some())
    }

    /// Whether there is no tracker that can be spoken to.
    pub fn is_empty(&self) -> bool {
        self.trackers.is_empty()
    }

    /// How many trackers can be spoken to.
    pub fn len(&self) -> usize {
        self.trackers.len()
    }

    /// How many announces can be under way at the same time: one a tier.
    pub fn width(&self) -> usize {
        self.tiers.len()
    }

    /// When [`Tiers::take_due`] will next have something, given that it has nothing at `now`.
    /// `None` while every tier has an announce under way.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let idle = self.tiers.iter().filter(|tier| tier.under_way.is_none());
        idle.map(|tier| tier.due.unwrap_or(now)).min()
    }

    /// An announce that is due at `now`. It is under way until its outcome is reported, by
    /// [`Tiers::on_reply`] or [`Tiers::on_failure`].
    pub fn take_due(&mut self, now: Instant) -> Option<Announce> {
        let tier = self.tiers.iter_mut().find(|tier| tier.is_due(now))?;
        let index = *tier.order.get(tier.asked)?;
        tier.under_way = Some(index);
        let tracker = self.trackers.get_mut(index.0)?;
        Some(Announce {
            tracker: index,
            url: tracker.url.clone(),
            event: match (tracker.answered, tracker.completed) {
                (false, _) => Some(Event::Started),
                (true, News::Owed | News::UnderWay) => {
                    tracker.completed = News::UnderWay;
                    Some(Event::Completed)
                }
                (true, News::None | News::Told) => None,
            },
            tracker_id: tracker.tracker_id.clone(),
        })
    }

    /// Everything is there, and it goes on: trackers that know us are told at once, the others
    /// after `started`.
    pub fn on_completed(&mut self, now: Instant) {
        for tracker in &mut self.trackers {
            tracker.completed = News::Owed;
        }
        for tier in &mut self.tiers {
            let first = tier.order.get(tier.asked).and_then(|index| self.trackers.get(index.0));
            if first.is_some_and(|tracker| tracker.answered) {
                tier.due = Some(now);
            }
        }
    }

    /// `tracker` has answered: it goes to the front of its tier and is asked again after its
    /// interval.
    pub fn on_reply(&mut self, tracker: TrackerIndex, reply: &AnnounceReply, now: Instant) {
        let Some((tier, state)) = self.finish(tracker) else { return };
        state.answered = true;
        state.error = None;
        if reply.tracker_id.is_some() {
            state.tracker_id.clone_from(&reply.tracker_id);
        }
        if let Some(place) = tier.order.get_mut(..=tier.asked) {
            place.rotate_right(1);
        }
        let least = reply.min_interval.unwrap_or_else(|| {
            Duration::from_secs(ANNOUNCE_MIN_INTERVAL_DEFAULT_S).min(reply.interval)
        });
        tier.start_round();
        tier.failed_rounds = 0;
        tier.early = Some(now + least);
        tier.due = Some(now + reply.interval.max(least));
        match state.completed {
            News::UnderWay => state.completed = News::Told,
            News::Owed => tier.due = Some(now),
            News::None | News::Told => {}
        }
    }

    /// The announce to `tracker` has failed: the next one of its tier is due at once, or the first
    /// one after a pause.
    pub fn on_failure(&mut self, tracker: TrackerIndex, error: TrackerError, now: Instant) {
        let Some((tier, state)) = self.finish(tracker) else { return };
        tier.refused |= matches!(error, TrackerError::Refused(_));
        state.error = Some(error);
        if state.completed == News::UnderWay {
            state.completed = News::Owed;
        }
        tier.asked += 1;
        tier.early = None;
        tier.due = Some(now);
        if tier.asked == tier.order.len() {
            tier.due = Some(now + tier.pause());
            tier.failed_rounds = tier.failed_rounds.saturating_add(1);
            tier.start_round();
        }
    }

    /// We are short of peers: trackers that answered are asked again as early as they allow.
    pub fn want_peers(&mut self, now: Instant) {
        for tier in &mut self.tiers {
            if let Some(early) = tier.early {
                tier.due = tier.due.map(|due| due.min(early.max(now)));
            }
        }
    }

    /// The trackers that have answered and so count on hearing `stopped`. The event is what they
    /// are to hear before.
    pub fn answered(&self) -> impl Iterator<Item = Announce> {
        self.trackers.iter().enumerate().filter(|(_, tracker)| tracker.answered).map(
            |(index, tracker)| Announce {
                tracker: TrackerIndex(index),
                url: tracker.url.clone(),
                event: matches!(tracker.completed, News::Owed | News::UnderWay)
                    .then_some(Event::Completed),
                tracker_id: tracker.tracker_id.clone(),
            },
        )
    }

    /// What is wrong, in one line: `2 trackers: TLS error, 1: unregistered torrent`. Trackers that
    /// answer, or were not asked yet, are not in it; it is empty if nothing is wrong.
    pub fn summary(&self) -> String {
        let mut causes: Vec<(usize, String)> = Vec::new();
        for error in self.trackers.iter().filter_map(|tracker| tracker.error.as_ref()) {
            let cause = error.to_string();
            match causes.iter_mut().find(|(_, known)| *known == cause) {
                Some((count, _)) => *count += 1,
                None => causes.push((1, cause)),
            }
        }
        sort_by_key(&mut causes, |(count, _)| std::cmp::Reverse(*count));
        let mut unit =
            causes.first().map_or("", |(n, _)| if *n == 1 { " tracker" } else { " trackers" });
        let parts: Vec<String> = causes
            .iter()
            .map(|(count, cause)| format!("{count}{}: {cause}", std::mem::take(&mut unit)))
            .collect();
        parts.join(", ")
    }

    /// Ends the announce to `tracker`, if it is the one its tier has under way.
    fn finish(&mut self, tracker: TrackerIndex) -> Option<(&mut Tier, &mut Tracker)> {
        let state = self.trackers.get_mut(tracker.0)?;
        let tier = self.tiers.get_mut(state.tier)?;
        tier.under_way.take_if(|under_way| *under_way == tracker)?;
        Some((tier, state))
    }
}

impl Tracker {
    fn new(url: &str, tier: usize) -> Self {
        Self {
            url: url.to_owned(),
            tier,
            answered: false,
            completed: News::None,
            tracker_id: None,
            error: None,
        }
    }
}

impl Tier {
    fn new(order: Vec<TrackerIndex>) -> Self {
        Self {
            order,
            asked: 0,
            refused: false,
            failed_rounds: 0,
            under_way: None,
            due: None,
            early: None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.under_way.is_none() && self.due.is_none_or(|due| due <= now)
    }

    fn start_round(&mut self) {
        self.asked = 0;
        self.refused = false;
    }

    /// The pause after a round in which all failed. A tracker that refuses is alive and has its
    /// reasons, so it is not asked again within seconds.
    fn pause(&self) -> Duration {
        let least = if self.refused { ANNOUNCE_PAUSE_REFUSED_S } else { ANNOUNCE_PAUSE_START_S };
        let doubled = 1_u64
            .checked_shl(self.failed_rounds)
            .map_or(u64::MAX, |factor| ANNOUNCE_PAUSE_START_S.saturating_mul(factor));
        Duration::from_secs(doubled.clamp(least, ANNOUNCE_PAUSE_MAX_S))
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind::ConnectionRefused;

    use super::*;

    const REFUSED: TrackerError = TrackerError::Connection(ConnectionRefused);

    fn tiers(urls: &[&[&str]]) -> Tiers {
        let urls: Vec<Vec<String>> =
            urls.iter().map(|tier| tier.iter().map(ToString::to_string).collect()).collect();
        Tiers::new(&urls, &mut Rng::with_seed(7))
    }

    fn reply(interval: u64, min_interval: Option<u64>) -> AnnounceReply {
        AnnounceReply {
            peers: Vec::new(),
            interval: Duration::from_secs(interval),
            min_interval: min_interval.map(Duration::from_secs),
            tracker_id: None,
            warning: None,
            seeders: None,
            leechers: None,
        }
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn unregistered() -> TrackerError {
        TrackerError::Refused("unregistered torrent".into())
    }

    #[test]
    fn trackers_that_nobody_speaks_to_are_passed_over() {
        let cases: [(&[&[&str]], usize, usize); 6] = [
            (&[], 0, 0),
            (&[&[], &[""]], 0, 0),
            (&[&["wss://a/", "file:///etc/passwd", "nonsense"]], 0, 0),
            (&[&["wss://a/", "http://b/"], &["udp://c:1", " HTTPS://d/ \r\n"]], 3, 2),
            (&[&["http://a/", "http://a/"], &["http://a/"]], 1, 1),
            (&[&["http://a/"], &["wss://b/"], &["http://c/"]], 2, 2),
        ];
        for (urls, trackers, width) in cases {
            let all = tiers(urls);
            assert_eq!((all.len(), all.width(), all.is_empty()), (trackers, width, trackers == 0));
        }
        let endless: Vec<Vec<String>> = (0..1000).map(|n| vec![format!("http://{n}/")]).collect();
        assert_eq!(Tiers::new(&endless, &mut Rng::with_seed(1)).width(), TIERS_MAX);
        let wide: Vec<String> = (0..1000).map(|n| format!("http://{n}/")).collect();
        assert_eq!(Tiers::new(&[wide], &mut Rng::with_seed(1)).len(), TRACKERS_MAX);
    }

    #[test]
    fn all_tiers_are_asked_at_once_with_one_tracker_each() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/", "http://b/"], &["http://c/"], &["udp://d:1"]]);
        assert_eq!(all.next_due(now), Some(now));
        let asked: Vec<Announce> = std::iter::from_fn(|| all.take_due(now)).collect();
        assert_eq!(asked.len(), 3);
        assert!(asked.iter().all(|announce| announce.event == Some(Event::Started)));
        assert_eq!(all.next_due(now), None);
        assert_eq!(all.take_due(now + seconds(9999)), None);
    }

    #[test]
    fn who_knows_us_hears_at_once_that_all_is_there_and_once_only() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/"], &["http://b/"]]);
        let first = all.take_due(now).unwrap();
        let second = all.take_due(now).unwrap();
        all.on_reply(first.tracker, &reply(1800, None), now);
        all.on_completed(now);
        // The one that has not answered yet hears it after that.
        let told = all.take_due(now).unwrap();
        assert_eq!((told.tracker, told.event), (first.tracker, Some(Event::Completed)));
        assert_eq!(all.take_due(now), None);
        all.on_failure(told.tracker, REFUSED, now);
        all.on_reply(second.tracker, &reply(1800, None), now);
        let told = all.take_due(now).unwrap();
        assert_eq!((told.tracker, told.event), (second.tracker, Some(Event::Completed)));
        all.on_reply(told.tracker, &reply(1800, None), now);
        // What failed is tried again.
        let later = now + seconds(60);
        let again = all.take_due(later).unwrap();
        assert_eq!((again.tracker, again.event), (first.tracker, Some(Event::Completed)));
        all.on_reply(again.tracker, &reply(1800, None), later);
        let regular = all.take_due(later + seconds(1800)).unwrap();
        assert_eq!(regular.event, None);
    }

    #[test]
    fn the_order_within_a_tier_is_random_and_between_tiers_kept() {
        let urls: Vec<Vec<String>> =
            vec![(0..8).map(|n| format!("http://{n}/")).collect(), vec!["http://last/".into()]];
        let firsts: HashSet<String> = (0..50)
            .map(|seed| {
                let now = Instant::now();
                let mut all = Tiers::new(&urls, &mut Rng::with_seed(seed));
                let first = all.take_due(now).unwrap().url;
                assert_eq!(all.take_due(now).unwrap().url, "http://last/");
                first
            })
            .collect();
        assert!(firsts.len() >= 6, "{firsts:?}");
    }

    #[test]
    fn a_failure_brings_the_next_at_once_and_an_answer_promotes() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/", "http://b/", "http://c/"]]);
        let first = all.take_due(now).unwrap();
        all.on_failure(first.tracker, REFUSED, now);
        let second = all.take_due(now).unwrap();
        assert_ne!(first.url, second.url);
        all.on_failure(second.tracker, REFUSED, now);
        let third = all.take_due(now).unwrap();
        all.on_reply(third.tracker, &reply(900, None), now);
        assert_eq!(all.next_due(now), Some(now + seconds(900)));
        assert_eq!(all.take_due(now + seconds(899)), None);

        let later = now + seconds(900);
        let again = all.take_due(later).unwrap();
        assert_eq!((again.url.as_str(), again.event), (third.url.as_str(), None));
        // It fails: the others follow, in the order they had, and hear `started`.
        all.on_failure(again.tracker, TrackerError::Timeout, later);
        let next = all.take_due(later).unwrap();
        assert_eq!((&next.url, next.event), (&first.url, Some(Event::Started)));
    }

    #[test]
    fn a_tier_that_fails_pauses_longer_each_time() {
        let mut now = Instant::now();
        let mut all = tiers(&[&["http://a/", "http://b/"]]);
        for pause in [5, 10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800] {
            for _ in 0..2 {
                let announce = all.take_due(now).unwrap();
                assert_eq!(announce.event, Some(Event::Started));
                all.on_failure(announce.tracker, REFUSED, now);
            }
            assert_eq!(all.next_due(now), Some(now + seconds(pause)));
            assert_eq!(all.take_due(now + seconds(pause - 1)), None);
            now += seconds(pause);
        }
        for _ in 0..200 {
            now += seconds(1800);
            let announce = all.take_due(now).unwrap();
            all.on_failure(announce.tracker, REFUSED, now);
        }
        // An answer makes the next failure the first one again.
        now += seconds(1800);
        let announce = all.take_due(now).unwrap();
        all.on_reply(announce.tracker, &reply(30, None), now);
        now += seconds(30);
        for _ in 0..2 {
            let announce = all.take_due(now).unwrap();
            all.on_failure(announce.tracker, REFUSED, now);
        }
        assert_eq!(all.next_due(now), Some(now + seconds(5)));
    }

    #[test]
    fn a_refusal_pauses_a_minute_at_least() {
        let mut now = Instant::now();
        let mut all = tiers(&[&["http://a/", "http://b/"]]);
        for pause in [60, 60, 60, 60, 80, 160] {
            let announce = all.take_due(now).unwrap();
            all.on_failure(announce.tracker, unregistered(), now);
            let announce = all.take_due(now).unwrap();
            all.on_failure(announce.tracker, TrackerError::Timeout, now);
            assert_eq!(all.next_due(now), Some(now + seconds(pause)));
            now += seconds(pause);
        }
    }

    #[test]
    fn one_tier_never_holds_up_another() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://dead/"], &["http://alive/"]]);
        let dead = all.take_due(now).unwrap();
        let alive = all.take_due(now).unwrap();
        all.on_failure(dead.tracker, TrackerError::Timeout, now);
        all.on_reply(alive.tracker, &reply(900, None), now);
        assert_eq!(all.take_due(now + seconds(5)).unwrap().url, "http://dead/");
        assert_eq!(all.next_due(now), Some(now + seconds(900)));
        assert_eq!(all.take_due(now + seconds(900)).unwrap().url, "http://alive/");
    }

    #[test]
    fn want_of_peers_asks_early_but_not_too_early() {
        let cases = [
            // interval, min interval, wanted after, due after
            (900, Some(60), 10, 60),
            (900, Some(60), 61, 61),
            (900, None, 10, 120),
            (900, None, 300, 300),
            (60, None, 10, 60),
            (60, Some(300), 10, 300),
        ];
        for (interval, min_interval, wanted, due) in cases {
            let now = Instant::now();
            let mut all = tiers(&[&["http://a/"]]);
            let announce = all.take_due(now).unwrap();
            all.want_peers(now);
            all.on_reply(announce.tracker, &reply(interval, min_interval), now);
            all.want_peers(now + seconds(wanted));
            all.want_peers(now + seconds(wanted) + seconds(1));
            assert_eq!(all.next_due(now), Some(now + seconds(due)), "{interval} {min_interval:?}");
        }
        // A tier that pauses goes on pausing.
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/"]]);
        let announce = all.take_due(now).unwrap();
        all.on_failure(announce.tracker, REFUSED, now);
        all.want_peers(now);
        assert_eq!(all.next_due(now), Some(now + seconds(5)));
    }

    #[test]
    fn a_min_interval_above_the_interval_is_kept() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/"]]);
        let announce = all.take_due(now).unwrap();
        all.on_reply(announce.tracker, &reply(60, Some(300)), now);
        assert_eq!(all.next_due(now), Some(now + seconds(300)));
    }

    #[test]
    fn goodbye_is_for_those_that_answered_and_carries_their_id() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/"], &["http://b/"], &["http://c/"]]);
        let [a, b, _c] = [(); 3].map(|()| all.take_due(now).unwrap());
        let id = Some(b"id".to_vec());
        all.on_reply(a.tracker, &AnnounceReply { tracker_id: id.clone(), ..reply(30, None) }, now);
        all.on_failure(b.tracker, unregistered(), now);
        let later = now + seconds(30);
        let again = all.take_due(later).unwrap();
        assert_eq!((again.event, &again.tracker_id), (None, &id));
        // A later answer without an id changes nothing, and neither does a failure.
        all.on_reply(again.tracker, &reply(30, None), later);
        let again = all.take_due(later + seconds(30)).unwrap();
        all.on_failure(again.tracker, TrackerError::Timeout, later + seconds(30));
        let answered: Vec<Announce> = all.answered().collect();
        let expected =
            Announce { tracker: a.tracker, url: "http://a/".into(), event: None, tracker_id: id };
        assert_eq!(answered, [expected]);
    }

    #[test]
    fn an_outcome_that_nobody_waits_for_changes_nothing() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/"]]);
        let announce = all.take_due(now).unwrap();
        all.on_reply(announce.tracker, &reply(900, None), now);
        all.on_failure(announce.tracker, TrackerError::Timeout, now);
        all.on_reply(TrackerIndex(5), &reply(30, None), now);
        assert_eq!(all.next_due(now), Some(now + seconds(900)));
        assert_eq!(all.summary(), "");
    }

    #[test]
    fn the_summary_groups_and_counts() {
        let now = Instant::now();
        let mut all = tiers(&[&["http://a/"], &["http://b/"], &["http://c/"], &["http://d/"]]);
        assert_eq!(all.summary(), "");
        let [a, b, c, d] = [(); 4].map(|()| all.take_due(now).unwrap().tracker);
        all.on_failure(a, unregistered(), now);
        assert_eq!(all.summary(), "1 tracker: unregistered torrent");
        all.on_failure(b, TrackerError::Tls(String::new()), now);
        all.on_failure(c, TrackerError::Tls(String::new()), now);
        all.on_reply(d, &reply(900, None), now);
        assert_eq!(all.summary(), "2 trackers: TLS error, 1: unregistered torrent");
        let again = all.take_due(now + seconds(5)).unwrap();
        all.on_reply(again.tracker, &reply(900, None), now);
        assert_eq!(all.summary(), "1 tracker: unregistered torrent, 1: TLS error");
    }
}
