//! The announcer against a tracker that misbehaves: every fault ends as the right error, soon, and
//! harms nobody else.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rusty_torrent::engine::announcer::{Announced, Announcer, Job, Patience};
use rusty_torrent::limits::{
    FAREWELL_THREADS_MAX, FOREIGN_TEXT_MAX_CHARS, TRACKER_REDIRECTS_MAX, TRACKER_REPLY_MAX_BYTES,
};
use rusty_torrent::policy::tiers::Tiers;
use rusty_torrent::protocol::tracker::{AnnounceReply, AnnounceRequest, Event, TrackerError};
use rusty_torrent::units::{InfoHash, PeerId};
use support::tracker::{Fault, Tracker};

/// Long enough for an answer over loopback on a busy machine, however it is run.
const SOON: Duration = Duration::from_secs(20);

/// Waits that leave a tracker that answers all the time it needs.
fn patience() -> Patience {
    Patience { udp_waits: [SOON / 4; 3], total: SOON, ..Patience::default() }
}

/// Waits that end soon, for trackers that never answer.
fn impatience() -> Patience {
    let short = Duration::from_secs(1);
    Patience { receive: short, udp_waits: [short / 3; 3], total: 2 * short, ..Patience::default() }
}

fn request(event: Option<Event>) -> AnnounceRequest {
    AnnounceRequest {
        info_hash: InfoHash(*b"\x00\x01 /?&=%abcXYZ09-._~"),
        peer_id: PeerId(*b"-RU0100-\xff\xfe9012345678"),
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: 6 << 30,
        event,
        key: 0xbeef,
        numwant: 80,
        tracker_id: None,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Announces `started` to every URL, each in a tier of its own, and returns the outcomes by URL.
fn announce_all(
    urls: &[String],
    patience: Patience,
) -> HashMap<String, Result<AnnounceReply, TrackerError>> {
    let tiers: Vec<Vec<String>> = urls.iter().map(|url| vec![url.clone()]).collect();
    let mut tiers = Tiers::new(&tiers, &mut Rng::with_seed(1));
    let announcer = Announcer::spawn(tiers.width(), patience, &Arc::default()).unwrap();
    let mut names = HashMap::new();
    while let Some(announce) = tiers.take_due(Instant::now()) {
        names.insert(announce.tracker, announce.url.clone());
        let request = request(announce.event);
        announcer.submit(Job { tracker: announce.tracker, url: announce.url, request }).unwrap();
    }
    (0..urls.len())
        .map(|_| {
            let Announced { tracker, result } =
                announcer.outcomes().recv_timeout(2 * SOON).expect("an outcome for each job");
            (names[&tracker].clone(), result)
        })
        .collect()
}

fn announce(url: &str, patience: Patience) -> Result<AnnounceReply, TrackerError> {
    announce_all(&[url.to_owned()], patience).remove(url).unwrap()
}

fn good() -> Vec<u8> {
    b"d8:intervali900e5:peers6:\xc0\0\x02\x01\x1a\xe1e".to_vec()
}

#[test]
fn an_announce_over_http_says_everything_and_nothing_more() {
    let tracker = Tracker::start();
    tracker.add_peer(address("192.0.2.1:6881"));
    tracker.add_peer(address("[2001:db8::1]:80"));
    tracker.set_intervals(900, Some(60));
    tracker.set_tracker_id(b"x&y");
    let url = tracker.http_url() + "?passkey=secret";
    let reply = announce(&url, patience()).unwrap();
    assert_eq!(reply.peers, [address("192.0.2.1:6881"), address("[2001:db8::1]:80")]);
    assert_eq!(reply.interval, Duration::from_secs(900));
    assert_eq!(reply.min_interval, Some(Duration::from_secs(60)));
    assert_eq!(reply.tracker_id.as_deref(), Some(&b"x&y"[..]));

    let [heard] = &tracker.announces()[..] else { panic!("one announce") };
    let expected = request(Some(Event::Started));
    assert!(heard.target.starts_with("/announce?passkey=secret&info_hash=%00%01%20%2F"));
    assert_eq!(heard.info_hash, expected.info_hash.0);
    assert_eq!(heard.peer_id, expected.peer_id.0);
    assert_eq!((heard.port, heard.key, heard.numwant), (6881, 0xbeef, 80));
    assert_eq!((heard.uploaded, heard.downloaded, heard.left), (1, 2, 6 << 30));
    assert_eq!(heard.event, "started");

    let mut headers: Vec<(String, &str)> = heard
        .headers
        .iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
        .collect();
    headers.sort();
    let host = url.split('/').nth(2).unwrap();
    let user_agent = concat!("rusty_torrent/", env!("CARGO_PKG_VERSION"));
    let expected = [
        ("accept", "*/*"),
        ("accept-encoding", "gzip"),
        ("host", host),
        ("user-agent", user_agent),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn an_announce_over_udp_says_the_same() {
    let tracker = Tracker::start();
    tracker.add_peer(address("192.0.2.1:6881"));
    tracker.set_intervals(900, None);
    let url = tracker.udp_url() + "?passkey=secret";
    let reply = announce(&url, patience()).unwrap();
    assert_eq!(reply.peers, [address("192.0.2.1:6881")]);
    assert_eq!(reply.interval, Duration::from_secs(900));

    let [heard] = &tracker.announces()[..] else { panic!("one announce") };
    let expected = request(Some(Event::Started));
    assert_eq!(heard.info_hash, expected.info_hash.0);
    assert_eq!(heard.peer_id, expected.peer_id.0);
    assert_eq!((heard.port, heard.key, heard.numwant), (6881, 0xbeef, 80));
    assert_eq!((heard.uploaded, heard.downloaded, heard.left), (1, 2, 6 << 30));
    assert_eq!(heard.event, "started");
    assert_eq!(heard.options, [&[2, 24][..], b"/announce?passkey=secret"].concat());
}

#[test]
fn trackers_over_ipv6_name_ipv6_peers() {
    let Ok(tracker) = Tracker::start_at(Ipv6Addr::LOCALHOST.into()) else {
        println!("this machine has no IPv6");
        return;
    };
    tracker.add_peer(address("[2001:db8::1]:80"));
    for url in [tracker.http_url(), tracker.udp_url()] {
        let reply = announce(&url, patience()).unwrap();
        assert_eq!(reply.peers, [address("[2001:db8::1]:80")], "{url}");
    }
}

#[test]
fn odd_answers_that_are_answers_count() {
    let faults = [
        Fault::Body(good()),
        Fault::Gzip(good()),
        Fault::Chunked(good()),
        Fault::CutBody(good()),
        Fault::Status(404, good()),
        Fault::Status(503, good()),
        Fault::Raw([b"HTTP/1.0 200 OK\r\n\r\n", &good()[..]].concat()),
        Fault::Redirects(TRACKER_REDIRECTS_MAX as usize),
    ];
    let trackers: Vec<Tracker> = faults.iter().cloned().map(Tracker::with_fault).collect();
    trackers.iter().for_each(|tracker| tracker.add_peer(address("192.0.2.1:6881")));
    let urls: Vec<String> = trackers.iter().map(Tracker::http_url).collect();
    let outcomes = announce_all(&urls, patience());
    for (url, fault) in urls.iter().zip(faults) {
        let peers = outcomes[url].clone().map(|reply| reply.peers);
        assert_eq!(peers, Ok(vec![address("192.0.2.1:6881")]), "{fault:?}");
    }
}

#[test]
fn every_fault_over_http_is_an_error_of_that_tracker_alone() {
    let refused = |text: &str| TrackerError::Refused(text.into());
    let deep = "l".repeat(100_000).into_bytes();
    let html = b"<html>404</html>".to_vec();
    let cases = [
        (Fault::Status(500, html.clone()), TrackerError::HttpStatus(500)),
        (Fault::Status(404, Vec::new()), TrackerError::HttpStatus(404)),
        (Fault::Status(200, html), TrackerError::NotBencode),
        (Fault::Body(Vec::new()), TrackerError::NotBencode),
        (Fault::Body(deep), TrackerError::NotBencode),
        (Fault::Body(b"d5:peers6:abce".to_vec()), TrackerError::NotBencode),
        (Fault::Gzip(vec![b'x'; 16 << 20]), TrackerError::TooLarge),
        (Fault::EndlessBody, TrackerError::TooLarge),
        (Fault::EndlessHead, TrackerError::TooLarge),
        (Fault::EndlessHeaders, TrackerError::NotHttp),
        (
            Fault::CutBody(b"d5:peers6:ab".to_vec()),
            TrackerError::Connection(ErrorKind::UnexpectedEof),
        ),
        (Fault::RedirectLoop, TrackerError::Redirect),
        (Fault::RedirectTo("file://127.0.0.1/etc/passwd".into()), TrackerError::Redirect),
        (Fault::RedirectTo("gopher://127.0.0.1/".into()), TrackerError::Redirect),
        (Fault::RedirectTo("udp://127.0.0.1:1/".into()), TrackerError::Redirect),
        (Fault::Raw(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), TrackerError::NotHttp),
        (
            Fault::Raw(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"
                    .to_vec(),
            ),
            TrackerError::NotHttp,
        ),
        (
            Fault::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1152921504606846976\r\n\r\nd".to_vec()),
            TrackerError::Connection(ErrorKind::UnexpectedEof),
        ),
        (
            Fault::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nd".to_vec(),
            ),
            TrackerError::NotHttp,
        ),
        (
            Fault::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nd".to_vec()),
            TrackerError::NotHttp,
        ),
        (
            Fault::Raw(
                b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08garbage".to_vec(),
            ),
            TrackerError::NotBencode,
        ),
        (Fault::Failure(b"unregistered torrent".to_vec()), refused("unregistered torrent")),
        (Fault::Failure(b"\x1b[2J\x07no".to_vec()), refused(r"\u{1b}[2J\u{7}no")),
        (Fault::Close, TrackerError::Connection(ErrorKind::UnexpectedEof)),
    ];
    let trackers: Vec<Tracker> =
        cases.iter().map(|(fault, _)| Tracker::with_fault(fault.clone())).collect();
    let fine = Tracker::start();
    let mut urls: Vec<String> = trackers.iter().map(Tracker::http_url).collect();
    urls.push(fine.http_url());
    let began = Instant::now();
    let outcomes = announce_all(&urls, patience());
    for (url, (fault, error)) in urls.iter().zip(cases) {
        let shown = format!("{fault:?}");
        assert_eq!(outcomes[url], Err(error), "{shown:.100}");
    }
    assert!(outcomes[&fine.http_url()].is_ok());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn a_long_refusal_is_cut() {
    for url in [Tracker::http_url, Tracker::udp_url] {
        let tracker = Tracker::with_fault(Fault::Failure(vec![b'x'; 4000]));
        let Err(TrackerError::Refused(reason)) = announce(&url(&tracker), patience()) else {
            panic!("refused");
        };
        assert_eq!(reason.chars().count(), FOREIGN_TEXT_MAX_CHARS);
    }
}

#[test]
fn an_answer_may_be_as_long_as_the_limit_and_no_longer() {
    let limit = usize::try_from(TRACKER_REPLY_MAX_BYTES).unwrap();
    let body = |length: usize| [b"de".to_vec(), vec![b' '; length - 2]].concat();
    let tracker = Tracker::with_fault(Fault::Body(body(limit)));
    assert!(announce(&tracker.http_url(), patience()).is_ok());
    tracker.set_fault(Fault::Body(body(limit + 1)));
    assert_eq!(announce(&tracker.http_url(), patience()), Err(TrackerError::TooLarge));
}

#[test]
fn who_never_answers_holds_nobody_up() {
    let fine = Tracker::start();
    let silent = Tracker::with_fault(Fault::Silent);
    let slow = Tracker::with_fault(Fault::Slow(Duration::from_millis(100)));
    let wrong = Tracker::with_fault(Fault::WrongTransaction);
    let elsewhere = Tracker::with_fault(Fault::FromElsewhere);
    let failing = [
        silent.http_url(),
        slow.http_url(),
        silent.udp_url(),
        wrong.udp_url(),
        elsewhere.udp_url(),
    ];
    let mut urls = failing.to_vec();
    urls.extend([fine.http_url(), fine.udp_url()]);
    let began = Instant::now();
    let outcomes = announce_all(&urls, impatience());
    for url in &failing {
        assert_eq!(outcomes[url], Err(TrackerError::Timeout), "{url}");
    }
    assert!(outcomes[&fine.http_url()].is_ok() && outcomes[&fine.udp_url()].is_ok());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(wrong.datagrams(), impatience().udp_waits.len());
}

#[test]
fn nobody_listens() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let refused = Err(TrackerError::Connection(ErrorKind::ConnectionRefused));
    assert_eq!(announce(&format!("http://127.0.0.1:{port}/"), patience()), refused);
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    assert_eq!(announce(&format!("udp://127.0.0.1:{port}/"), patience()), refused);
}

#[test]
fn urls_that_lead_nowhere() {
    let cases = [
        ("http://", None),
        ("wss://127.0.0.1/announce", None),
        ("http://:80/announce", Some(TrackerError::BadUrl)),
        ("http://a b/announce", Some(TrackerError::BadUrl)),
        ("http://127.0.0.1:99999/announce", Some(TrackerError::BadUrl)),
        ("udp://127.0.0.1/announce", Some(TrackerError::BadUrl)),
        ("udp://:6969", Some(TrackerError::BadUrl)),
    ];
    for (url, error) in cases {
        let tiers = Tiers::new(&[vec![url.to_owned()]], &mut Rng::with_seed(1));
        match error {
            None => assert!(tiers.is_empty(), "{url}"),
            Some(error) => assert_eq!(announce(url, patience()), Err(error), "{url}"),
        }
    }
}

/// A server that shows a certificate nobody vouches for. It serves one connection.
#[cfg(feature = "tls")]
fn serve_self_signed() -> SocketAddr {
    let certificate = include_bytes!("../fixtures/self_signed.der").to_vec().into();
    let key = include_bytes!("../fixtures/self_signed_key.der").to_vec().try_into().unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let mut session = rustls::ServerConnection::new(config.into()).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while session.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
    });
    address
}

#[cfg(feature = "tls")]
#[test]
fn https_is_refused_without_a_good_certificate() {
    let error = announce(&format!("https://{}/announce", serve_self_signed()), patience());
    let shown = error.unwrap_err().to_string();
    assert!(shown.starts_with("TLS error (invalid peer certificate"), "{shown}");

    let plain = Tracker::start();
    let error = announce(&plain.http_url().replace("http:", "https:"), patience());
    assert!(matches!(error, Err(TrackerError::Tls(_))), "{error:?}");
    assert!(plain.announces().is_empty());
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_needs_tls() {
    let plain = Tracker::start();
    let error = announce(&plain.http_url().replace("http:", "https:"), patience());
    assert_eq!(error, Err(TrackerError::NoTls));
    assert!(plain.announces().is_empty());
}

/// Everything that the library logged in this process.
struct Logged(Mutex<Vec<String>>);

static LOGGED: Logged = Logged(Mutex::new(Vec::new()));

impl log::Log for Logged {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with("rusty_torrent")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[test]
fn no_password_and_no_passkey_is_logged() {
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let fine = Tracker::start();
    let refusing = Tracker::with_fault(Fault::Status(500, Vec::new()));
    let leading_away = Tracker::with_fault(Fault::RedirectTo("gopher://a/secret".into()));
    let secret = |url: String| {
        url.replace("://", "://secret:secret@").replace("announce", "secret?passkey=secret")
    };
    let urls = [fine.http_url(), fine.udp_url(), refusing.http_url(), leading_away.http_url()];
    let outcomes = announce_all(&urls.clone().map(secret), patience());
    assert_eq!(outcomes.values().filter(|result| result.is_ok()).count(), 2);
    let logged = LOGGED.0.lock().unwrap();
    for url in urls {
        let shown = url.strip_suffix("/announce").unwrap();
        assert!(logged.iter().any(|line| line.contains(shown)), "{shown}: {logged:#?}");
    }
    assert!(!logged.iter().any(|line| line.contains("secret")), "{logged:#?}");
}

#[test]
fn datagrams_that_are_lost_are_sent_again() {
    for lost in [1, 2] {
        let tracker = Tracker::with_fault(Fault::Drop(lost));
        let wait = Duration::from_millis(300);
        let patience = Patience { udp_waits: [wait, wait, SOON], ..patience() };
        assert!(announce(&tracker.udp_url(), patience).is_ok());
        assert!(tracker.datagrams() >= lost + 2, "{}", tracker.datagrams());
    }
}

#[test]
fn datagrams_that_answer_nothing_are_ignored() {
    let tracker = Tracker::with_fault(Fault::Strays);
    tracker.add_peer(address("192.0.2.1:6881"));
    let reply = announce(&tracker.udp_url(), patience()).unwrap();
    assert_eq!(reply.peers, [address("192.0.2.1:6881")]);
    assert_eq!(tracker.announces().len(), 1);
}

#[test]
fn a_refusal_over_udp_is_final() {
    let tracker = Tracker::with_fault(Fault::Failure(b"un\x1bregistered".to_vec()));
    let refused = Err(TrackerError::Refused(r"un\u{1b}registered".into()));
    assert_eq!(announce(&tracker.udp_url(), patience()), refused);
    assert_eq!(tracker.datagrams(), 2);
}

/// Announces to `url` one time after the other.
fn announce_repeatedly(announcer: &Announcer, url: &str, times: usize) {
    let mut tiers = Tiers::new(&[vec![url.to_owned()]], &mut Rng::with_seed(1));
    let tracker = tiers.take_due(Instant::now()).unwrap().tracker;
    for _ in 0..times {
        announcer.submit(Job { tracker, url: url.to_owned(), request: request(None) }).unwrap();
        assert!(announcer.outcomes().recv_timeout(SOON).unwrap().result.is_ok());
    }
}

#[test]
fn a_connection_id_is_used_again_until_the_tracker_forgets_it() {
    let announcer = Announcer::spawn(1, patience(), &Arc::default()).unwrap();
    let tracker = Tracker::start();
    announce_repeatedly(&announcer, &tracker.udp_url(), 3);
    assert_eq!((tracker.connects(), tracker.datagrams()), (1, 4));

    let tracker = Tracker::with_fault(Fault::ForgetsConnections);
    announce_repeatedly(&announcer, &tracker.udp_url(), 3);
    assert_eq!(tracker.connects(), 3);
    assert_eq!(tracker.announces().len(), 3);
}

#[test]
fn more_tiers_than_threads_are_all_asked() {
    let trackers: Vec<Tracker> = (0..32).map(|_| Tracker::start()).collect();
    let urls: Vec<String> = trackers.iter().map(Tracker::http_url).collect();
    let outcomes = announce_all(&urls, patience());
    assert_eq!(outcomes.values().filter(|result| result.is_ok()).count(), 32);
}

fn goodbye() -> Vec<AnnounceRequest> {
    let stopped = AnnounceRequest { numwant: 0, ..request(Some(Event::Stopped)) };
    vec![request(Some(Event::Completed)), stopped]
}

#[test]
fn a_farewell_tells_everybody_in_order_and_is_over_when_all_have_heard() {
    let trackers: Vec<Tracker> = (0..FAREWELL_THREADS_MAX).map(|_| Tracker::start()).collect();
    let mut farewells = Vec::new();
    for tracker in &trackers {
        farewells.push((tracker.http_url(), goodbye()));
        farewells.push((tracker.udp_url(), goodbye()));
    }
    let announcer = Announcer::spawn(0, patience(), &Arc::default()).unwrap();
    let began = Instant::now();
    assert_eq!(announcer.farewell(farewells, 2 * SOON), 2 * trackers.len());
    assert!(began.elapsed() < SOON);
    for tracker in &trackers {
        let heard = tracker.announces();
        for udp in [false, true] {
            let events: Vec<&str> =
                heard.iter().filter(|a| a.udp == udp).map(|a| a.event.as_str()).collect();
            assert_eq!(events, ["completed", "stopped"]);
        }
        assert_eq!(tracker.connects(), 1);
    }
    assert_eq!(announcer.farewell(Vec::new(), SOON), 0);
}

#[test]
fn a_farewell_waits_for_nobody_beyond_its_budget() {
    let fine = Tracker::start();
    let silent = Tracker::with_fault(Fault::Silent);
    let mut farewells = vec![(fine.http_url(), goodbye()), (fine.udp_url(), goodbye())];
    farewells.extend([(silent.http_url(), goodbye()), (silent.udp_url(), goodbye())]);
    let announcer = Announcer::spawn(0, patience(), &Arc::default()).unwrap();
    let budget = Duration::from_secs(3);
    let began = Instant::now();
    assert_eq!(announcer.farewell(farewells, budget), 2);
    assert!((budget..budget + SOON).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(fine.announces().len(), 4);
}
