//! Owns every bound: lengths, counts, queues, retries and times, each with its unit last.
//! A number that limits what a file, a tracker or a peer can make us do stands here and nowhere
//! else.

// ---- memory ------------------------------------------------------------------------------------

/// Bytes that the process takes of its own at most, unless `--max-memory` says otherwise.
pub const MEMORY_DEFAULT_BYTES: u64 = 32 << 20;
/// What `--max-memory` may say at least: enough for an ordinary torrent with few peers.
pub const MEMORY_MIN_BYTES: u64 = 10 << 20;
/// The program itself with what is too small to be counted apart: its data, the first thread's
/// stack, the log, open directories, and what the allocator keeps to itself.
pub const PROCESS_BYTES: usize = 1 << 20;
/// A thread besides its stack.
pub const THREAD_OTHER_BYTES: usize = 16 << 10;

// ---- torrent files -----------------------------------------------------------------------------

/// Torrents that may be named at once: a file that waits for its turn is open.
pub const TORRENTS_MAX: usize = 256;
/// A torrent file larger than this is not read. The largest real ones have some 20 MiB.
pub const TORRENT_LENGTH_MAX_BYTES: u64 = 64 << 20;
/// Lists and dictionaries inside each other, in any bencode from anywhere.
pub const BENCODE_DEPTH_MAX: usize = 32;
/// Files in a torrent.
pub const FILES_MAX: usize = 1 << 20;
/// Directories above a file, its own name counted.
pub const PATH_DEPTH_MAX: usize = 100;
/// Bytes of one path component: the limit of Linux's file systems.
pub const NAME_LENGTH_MAX_BYTES: usize = 255;
/// Bytes of a path below the output directory, under Linux's PATH_MAX of 4096 with room for it.
pub const PATH_LENGTH_MAX_BYTES: usize = 3072;
/// The longest piece. Real torrents end at 64 MiB; offsets in a piece must fit a `u32`.
pub const PIECE_LENGTH_MAX_BYTES: u32 = 1 << 30;
/// The shortest piece of a torrent that is made. Blocks have as many bytes, in every client.
pub const PIECE_LENGTH_MADE_MIN_BYTES: u32 = BLOCK_LENGTH;
/// The longest one: as long as any that is found in the wild.
pub const PIECE_LENGTH_MADE_MAX_BYTES: u32 = 64 << 20;
/// The longest one that is chosen where nobody said how long: some clients keep a piece in memory.
pub const PIECE_LENGTH_DEFAULT_MAX_BYTES: u32 = 16 << 20;
/// Pieces that there are then, unless that would make them too short or too long.
pub const PIECES_DEFAULT_MAX: u64 = 2_048;
/// Bytes of a whole torrent: what a file offset can say.
pub const TOTAL_LENGTH_MAX_BYTES: u64 = i64::MAX as u64;
/// Tracker tiers that are kept.
pub const TIERS_MAX: usize = 32;
/// Trackers that are kept, in all tiers.
pub const TRACKERS_MAX: usize = 200;
/// Mirrors that are kept, those that were typed included.
pub const MIRRORS_MAX: usize = 300;
/// Bytes of a file's path as it is asked for on a mirror: three for one that is escaped.
pub const ESCAPED_PATH_MAX_BYTES: usize = 3 * PATH_LENGTH_MAX_BYTES + PATH_DEPTH_MAX;
/// Bytes of a tracker's or mirror's URL; longer ones are passed over.
pub const URL_LENGTH_MAX_BYTES: usize = 4096;
/// Text from a torrent, tracker or peer is cut to this many characters before it is shown.
pub const FOREIGN_TEXT_MAX_CHARS: usize = 200;

// ---- magnet links and metadata -----------------------------------------------------------------

/// Bytes of a magnet link.
pub const MAGNET_LENGTH_MAX_BYTES: usize = 256 << 10;
/// Peers that a magnet link may name.
pub const MAGNET_PEERS_MAX: usize = 100;
/// Web seeds that a magnet link may name.
pub const MAGNET_WEB_SEEDS_MAX: usize = 300;
/// Ranges of files, or patterns, that may be selected.
pub const SELECTIONS_MAX: usize = 1_000;
/// Bytes of a block of an info dictionary (BEP 9).
pub const METADATA_BLOCK_BYTES: usize = 16 << 10;
/// Blocks of it that are asked of one peer at a time.
pub const METADATA_ASKED_MAX: usize = 4;
/// A block that did not come for this long is asked of another peer as well.
pub const METADATA_LATE_MS: u32 = 3_000;
/// When no block came for this long, those who were believed may have lied.
pub const METADATA_STALL_MS: u32 = 5_000;
/// Bytes of a message that is read while nothing but the info-hash is known: a block, and what
/// stands before it. Longer ones are passed over.
pub const INQUIRY_MESSAGE_MAX_BYTES: usize = METADATA_BLOCK_BYTES + 1024;
/// Bytes of the longest info dictionary that is taken from peers, if there is memory for it.
pub const METADATA_MAX_BYTES: usize = 16 << 20;
/// And if there is not even memory for one like this, they are not asked.
pub const METADATA_ROOM_MIN_BYTES: usize = 256 << 10;
/// Peers that are asked for it at once.
pub const INQUIRIES_MAX: usize = 16;
/// When it is there, those who were asked for it have so much time to end.
pub const INQUIRIES_END_MS: u32 = 300;
/// Requests for blocks of our info dictionary that wait, of one peer.
pub const METADATA_QUEUED_MAX: usize = 128;
/// So many times the whole of it is given to one peer.
pub const METADATA_LENT_TIMES_MAX: usize = 3;

// ---- peers' wire -------------------------------------------------------------------------------

/// Bytes that one request asks for. Every client answers 16 KiB; some refuse more.
pub const BLOCK_LENGTH: u32 = 16 << 10;
/// Bytes of an extension message (BEP 10). Longer ones end the session.
pub const EXTENDED_LENGTH_MAX_BYTES: u32 = 1 << 20;
/// A message with more bytes than this, its id counted, is passed over without being stored,
/// unless it is a bitfield: as many as a whole block has. A peer says hello in some 200.
pub const MESSAGE_KEPT_MAX_BYTES: u32 = 9 + BLOCK_LENGTH;
/// Requests that are out to one peer at most, however fast it is and whatever its `reqq` allows.
pub const REQUESTS_IN_FLIGHT_MAX: u32 = 500;
/// Requests that are out to a peer of which nothing is known yet.
pub const REQUESTS_IN_FLIGHT_START: u32 = 16;
/// Requests that are out to the slowest peer.
pub const REQUESTS_IN_FLIGHT_MIN: u32 = 2;
/// The `reqq` we announce: requests of a peer that we would queue.
pub const REQUESTS_QUEUED_MAX: u32 = 250;
/// Pieces of a peer's allowed-fast set that are remembered (BEP 6 recommends 10).
pub const ALLOWED_FAST_MAX: usize = 64;
/// Bytes of each of the pads of an encrypted handshake (MSE, "PadA" to "PadD").
pub const ENCRYPTION_PAD_MAX_BYTES: usize = 512;
/// Bytes that are encrypted at a time: what of them can't be sent was encrypted for nothing.
pub const ENCRYPTED_AT_ONCE_BYTES: usize = 16 << 10;

// ---- choosing pieces ---------------------------------------------------------------------------

/// Piece jobs that are under way at once, in all sessions: the permits in the work queue.
pub const JOBS_MAX: usize = 4096;
/// Pieces that are begun and not yet verified. Past it, only begun ones are gone on with.
pub const OPEN_PIECES_MAX: usize = 4096;
/// The first pieces are picked at random, so that not everybody begins with the same rare one.
pub const RANDOM_FIRST_PIECES: u32 = 4;
/// Among equally rare pieces those near one already begun come first: as near as this, so that
/// the disk is written in stretches.
pub const EXTENT_LENGTH_BYTES: u32 = 4 << 20;
/// Pieces that failed their hash with several senders, whose block digests are remembered.
pub const SUSPECT_PIECES_MAX: usize = 64;
/// Blocks whose digests are remembered, in all these pieces.
pub const SUSPECT_BLOCKS_MAX: usize = 8 << 10;

// ---- one peer ----------------------------------------------------------------------------------

/// A request may wait this much longer than an unhurried one: the queue that keeps a peer busy.
pub const QUEUE_TARGET_MS: u32 = 250;
/// A session with requests enough out leaves what comes in the socket until about this much has
/// gathered: fewer turns, and stretches of a piece that are written at once.
pub const NAP_BYTES: u32 = 192 << 10;
const _: () = assert!((NAP_BYTES as usize) < CHUNK_LENGTH_BYTES, "a read would leave some behind");
/// But no longer than this: a choke or the end of a connection waits as long.
pub const NAP_MAX_MS: u32 = 60;
/// And not at all for less than this, which a fast peer fills a read in anyway.
pub const NAP_MIN_MS: u32 = 3;
/// A peer that owes blocks and sends none for this long is snubbed: others are asked.
pub const SNUB_MS: u32 = 4_000;
/// Requests that are out to a peer that was snubbed, until it sends again.
pub const REQUESTS_WHILE_SNUBBED: u32 = 1;
/// Blocks that were asked of somebody else meanwhile, but are still taken if they come.
pub const OVERDUE_MAX: usize = 2 * REQUESTS_IN_FLIGHT_MAX as usize;
/// Pieces that a peer tells one by one in a turn; past it they are gathered in a bitfield.
pub const NEW_HAVES_MAX: usize = 1024;
/// Blocks nobody asked for that a peer may send before its session ends. Some are honest: a
/// cancel can cross the block it cancels.
pub const UNASKED_BLOCKS_MAX: u32 = 2 * REQUESTS_IN_FLIGHT_MAX;
/// Requests a peer may reject while it does not choke us before its session ends.
pub const REJECTS_MAX: u32 = 200;
/// After a rejected request nothing is asked of the peer for this long, or it would be a loop.
pub const REJECT_PAUSE_MS: u32 = 500;
/// A peer that says nothing at all for this long is gone.
pub const SILENCE_MAX_MS: u32 = 180_000;
/// And this long if it was asked for something.
pub const SILENCE_ASKED_MAX_MS: u32 = 60_000;
/// A keep-alive is sent when nothing was said for this long.
pub const KEEP_ALIVE_MS: u32 = 100_000;
/// While other addresses wait for a free place, a peer that could send must bring a block this
/// often.
pub const USELESS_MS: u32 = 10_000;
/// And a peer that chokes us must let us in within this time: clients take turns every 10 to 30 s.
pub const CHOKED_MS: u32 = 35_000;
/// Answers to a peer wait, or are left out, when this much waits for it to read already.
pub const OUTBOX_MAX_BYTES: usize = 8 << 10;
/// Noise is what a peer says without bringing anything: a message without use counts 1, and so does
/// a read of its socket. In the long run it may make so much of it in a second; a block that was
/// wanted and a piece that is news make up for some.
pub const NOISE_PER_S_MAX: u32 = 100;
/// And on top of it, at any moment: a choke turns down as many requests as are out, one by one.
pub const NOISE_BURST_MAX: u32 = 20_000;
/// In a message without use as many bytes count 1 more. A block makes up for as many: a read that
/// brings a part of one brings more than this, on whatever line.
pub const NOISE_BYTES: u32 = 256;
/// A session with room for work that finds none looks again after this long.
pub const HUNGRY_LOOK_MS: u32 = 500;
/// And a peer is late if another one would bring the block this much sooner: with less to gain, it
/// is more often sent twice than here sooner.
pub const LATE_GAIN_MS: u32 = 50;
/// Requests of the end game, for blocks that another peer is late with, that one session makes
/// at a time.
pub const LATE_REQUESTS_MAX: usize = 16;

// ---- whom we upload to -------------------------------------------------------------------------

/// Whom we upload to is chosen this often (BEP 3): as long as a connection needs to get going, and
/// the other side to answer in kind.
pub const CHOKE_ROUND_MS: u32 = 10_000;
/// Slots for peers that we upload to at once, at least, however slow the line.
pub const UPLOAD_SLOTS_MIN: usize = 4;
/// And at most, however fast.
pub const UPLOAD_SLOTS_MAX: usize = 50;
/// A slot that was given without being earned goes to another peer after this long (BEP 3).
pub const OPTIMISTIC_MS: u32 = 30_000;
/// Optimistic slots, while peers snub us. Otherwise there is one.
pub const OPTIMISTIC_SLOTS_MAX: usize = 4;
/// Who owes us blocks and has sent none for this long earns no slot (BEP 3, "anti-snubbing").
pub const SNUBS_MS: u32 = 60_000;
/// A seed's slot goes to who waits after this long.
pub const SEED_TURN_MS: u32 = 60_000;

// ---- rate limits -------------------------------------------------------------------------------

/// The least that a rate limit may say.
pub const RATE_MIN_BYTES_PER_S: u64 = 1 << 10;
/// Under a rate limit a session reads, or sends, at most a quantum of bytes at a time. All of them
/// in a row, there are so many turns in a second at a low rate, and more only at a high one.
pub const QUANTA_PER_S_MAX: u64 = 20;
/// A quantum at the least: a read costs the same, however little it brings.
pub const QUANTUM_MIN_BYTES: u32 = 1 << 10;
/// A quantum at most.
pub const QUANTUM_MAX_BYTES: u32 = 64 << 10;
const _: () = assert!(QUANTUM_MIN_BYTES > NOISE_BYTES, "a part of a block would be noise");
/// What a limit would have let pass in so much time without anything to pass is made up for: it
/// may pass at once.
pub const RATE_SAVED_MAX_MS: u32 = 100;
const _: () = assert!(RATE_SAVED_MAX_MS > NAP_MAX_MS, "a nap would cost some of the rate");

// ---- peers of peers ----------------------------------------------------------------------------

/// Addresses that one message of a peer's may tell (BEP 11 says 50, but not everybody keeps to it).
pub const EXCHANGED_MAX: usize = 200;
/// When so many addresses are known, no more are taken from peers: trackers may know better ones.
pub const HEARSAY_ADDRESSES_MAX: usize = ADDRESSES_MAX / 2;
/// Addresses that are believed of one peer in all.
pub const EXCHANGE_HEARD_MAX: usize = 400;
/// Messages of a peer's that come sooner than this after the last are not heard.
pub const EXCHANGE_HEAR_MS: u32 = 30_000;
/// Peers that came, and as many that left, which one message tells (BEP 11).
pub const EXCHANGE_TOLD_MAX: usize = 50;
/// A peer is told this often (BEP 11).
pub const EXCHANGE_TELL_MS: u32 = 60_000;
/// Comings and goings that are remembered, for those who have not been told.
pub const CONTACT_CHANGES_MAX: usize = 128;
/// Addresses that peers told and nobody has looked at yet.
pub const HEARD_WAITING_MAX: usize = 500;

/// Nodes of the DHT that peers told and nobody has looked at yet.
pub const NODES_WAITING_MAX: usize = 64;
/// Torrents of one local announce that are looked at.
pub const LOCAL_TORRENTS_MAX: usize = 32;
/// Bytes of a local announce that are read.
pub const LOCAL_DATAGRAM_MAX_BYTES: usize = 2 << 10;
/// The local network is told of us this often (BEP 14).
pub const LOCAL_ANNOUNCE_MS: u32 = 5 * 60 * 1_000;
/// Peers that are heard of on it in that time.
pub const LOCAL_PEERS_MAX: usize = 100;
/// Interfaces on which it is told.
pub const LOCAL_INTERFACES_MAX: usize = 16;
/// The highest number that an interface may have to be found.
pub const LOCAL_INTERFACE_NUMBERS_MAX: u32 = 1_024;
/// Whether it is over is looked at this often.
pub const LOCAL_LOOK_MS: u32 = 1_000;
/// The stack of the thread that listens there.
pub const LOCAL_STACK_BYTES: usize = 64 << 10;
/// Peers' addresses that were found and nobody has looked at yet: messages, of one or many.
pub const FOUND_WAITING_MAX: usize = 64;

// ---- all peers ---------------------------------------------------------------------------------

/// Sessions at once: the threads of the pool, unless `--max-peers` says otherwise.
pub const PEERS_DEFAULT: usize = 50;
/// What `--max-peers` may say at most.
pub const PEERS_MAX: usize = 500;
/// Sessions that there is memory for at least, or it is an error.
pub const PEERS_MIN: usize = 4;
/// A session besides its thread, its messages and its tables of requests.
pub const PEER_OTHER_BYTES: usize = 8 << 10;
/// Addresses that are kept.
pub const ADDRESSES_MAX: usize = 2_000;
/// Addresses that are kept as banned.
pub const BANNED_MAX: usize = 10_000;
/// Ended sessions whose address is remembered, in case their blocks prove wrong later.
pub const SESSIONS_REMEMBERED_MAX: usize = 4_096;
/// A dead address costs a thread of the pool this long.
pub const DIAL_TIMEOUT_MS: u32 = 4_000;
/// The other side's handshake must be there whole within this time.
pub const HANDSHAKE_TIMEOUT_MS: u32 = 8_000;
/// An address that failed is tried again after this long; twice as long after each failure more.
pub const REDIAL_MIN_MS: u32 = 3_000;
/// But never later than this. Whoever makes too much noise has to wait so long at once.
pub const REDIAL_MAX_MS: u32 = 15 * 60 * 1_000;
/// And this long while there is no session with anybody.
pub const REDIAL_LONELY_MAX_MS: u32 = 60 * 1_000;
/// Stack of a session's thread: it keeps its buffers elsewhere.
pub const SESSION_STACK_BYTES: usize = 96 << 10;

// ---- bytes on their way ------------------------------------------------------------------------

/// Bytes that one chunk holds: what one read of a socket may bring.
pub const CHUNK_LENGTH_BYTES: usize = 256 << 10;
/// Chunks there are: bytes that have arrived and are not in the files yet are in one of them.
/// When all are in use, sockets are not read, and TCP holds the rest.
pub const CHUNKS_MAX: usize = 4;
/// And at least, however little memory there may be.
pub const CHUNKS_MIN: usize = 2;
/// Bytes that are read back from the files at once, to be hashed.
pub const READ_BACK_BYTES: usize = 64 << 10;
/// Bytes that are handed to standard output at a time.
pub const OUTLET_BUFFER_BYTES: usize = 64 << 10;
/// Stack of the thread that does so.
pub const OUTLET_STACK_BYTES: usize = 64 << 10;
/// Stack of the thread that waits for signals.
pub const SIGNALS_STACK_BYTES: usize = 64 << 10;
/// Stack of the writer's thread.
pub const WRITER_STACK_BYTES: usize = 128 << 10;
/// What the status line says is brought up to date this often.
pub const TICK_MS: u32 = 1_000;
/// While there is no peer, what stands in the way is said this often.
pub const COMPLAINT_MS: u32 = 30_000;
/// The rate that is shown is the mean of the last ticks, this many.
pub const RATE_TICKS: usize = 10;
/// A run that was asked to stop waits this long for the writer.
pub const FINISH_TIMEOUT_MS: u32 = 1_500;
/// Events for the coordinator that may wait. It reads them all before it sleeps.
pub const EVENTS_QUEUED_MAX: usize = 1_024;
// ---- names -------------------------------------------------------------------------------------

/// What follows the last dot of a name is kept as its extension if it has no more bytes, the dot
/// counted, when the name is shortened.
pub const EXTENSION_LENGTH_MAX_BYTES: usize = 32;
/// Changed names of which the user is told; the rest is only counted.
pub const RENAMED_MAX: usize = 20;
// ---- trackers ----------------------------------------------------------------------------------

/// Peers that one announce asks for.
pub const NUMWANT: u32 = 80;
/// Peers that are kept of one tracker's answer.
pub const PEERS_PER_REPLY_MAX: usize = 2000;
/// The shortest interval between announces that a tracker can ask of us.
pub const ANNOUNCE_INTERVAL_MIN_S: u64 = 30;
/// The longest.
pub const ANNOUNCE_INTERVAL_MAX_S: u64 = 24 * 3600;
/// The interval of a tracker that names none.
pub const ANNOUNCE_INTERVAL_DEFAULT_S: u64 = 30 * 60;
/// How early a tracker that names no `min interval` is asked again for want of peers.
pub const ANNOUNCE_MIN_INTERVAL_DEFAULT_S: u64 = 120;
/// The pause after the first round in which no tracker of a tier answered. It doubles each round.
pub const ANNOUNCE_PAUSE_START_S: u64 = 5;
/// The pause after a round in which a tracker answered that it won't serve us.
pub const ANNOUNCE_PAUSE_REFUSED_S: u64 = 60;
/// Where the doubling ends.
pub const ANNOUNCE_PAUSE_MAX_S: u64 = 30 * 60;
/// Bytes of a `tracker id` that is sent back; a longer one is forgotten.
pub const TRACKER_ID_MAX_BYTES: usize = 512;
/// Bytes of a tracker's answer, after decompression.
pub const TRACKER_REPLY_MAX_BYTES: u64 = 1 << 20;
/// Longer answers than this are taken in one at a time: 1500 peers in the longest form, 7000 of
/// IPv6 in the short one.
pub const TRACKER_REPLY_USUAL_BYTES: u64 = 128 << 10;
/// Bytes that are read from an HTTP tracker at once; the head of its answer must fit in.
pub const TRACKER_INPUT_BYTES: usize = 32 << 10;
/// Bytes that are sent to an HTTP tracker at once; the head of a request must fit in.
pub const TRACKER_OUTPUT_BYTES: usize = 16 << 10;
/// Bytes of the head of an HTTP answer.
pub const TRACKER_HEAD_MAX_BYTES: usize = 16 << 10;
/// Redirects that one announce follows.
pub const TRACKER_REDIRECTS_MAX: u32 = 5;
/// Threads that announce, at most: as many tiers are asked at the same time.
pub const ANNOUNCER_THREADS_MAX: usize = 16;
/// Announces that wait for a thread or whose outcome waits to be read. A tier has one under way,
/// so this is never full.
pub const ANNOUNCES_QUEUED_MAX: usize = TIERS_MAX;
/// The stack of a thread that announces. A TLS handshake needs the most of it.
pub const ANNOUNCER_STACK_BYTES: usize = 256 << 10;
/// What an announce takes besides its stack and the answer: buffers of HTTP, TLS and gzip.
pub const ANNOUNCER_BUFFERS_BYTES: usize = TRACKER_INPUT_BYTES + TRACKER_OUTPUT_BYTES + (192 << 10);
/// The stack of a thread that looks up one name.
pub const RESOLVER_STACK_BYTES: usize = 128 << 10;
/// Addresses of a tracker that are tried.
pub const TRACKER_ADDRESSES_MAX: usize = 4;
/// Hosts whose addresses are known to a connection that makes many requests.
pub const HOSTS_KEPT_MAX: usize = 4;
/// And for how long.
pub const HOST_LIFE_MS: u32 = 60_000;
/// Looking up a tracker's name.
pub const TRACKER_RESOLVE_TIMEOUT_MS: u64 = 10_000;
/// Connecting to an HTTP tracker, with all its addresses and the TLS handshake.
pub const TRACKER_CONNECT_TIMEOUT_MS: u64 = 10_000;
/// Sending the request to an HTTP tracker.
pub const TRACKER_SEND_TIMEOUT_MS: u64 = 10_000;
/// Waiting for the head of an HTTP tracker's answer, and again for its body.
pub const TRACKER_RECEIVE_TIMEOUT_MS: u64 = 20_000;
/// One announce in all, whatever it waits for.
pub const ANNOUNCE_TIMEOUT_MS: u64 = 30_000;
/// How long each datagram to a UDP tracker waits for its answer before it is sent again. BEP 15
/// would wait 15 s, then 30 s, up to an hour; the next tracker is worth more than that.
pub const TRACKER_UDP_WAITS_MS: [u64; 3] = [3_000, 6_000, 12_000];
/// How long a UDP tracker's connection id may be used (BEP 15).
pub const TRACKER_UDP_CONNECTION_LIFE_MS: u64 = 60_000;
/// Connection ids that are kept.
pub const TRACKER_UDP_CONNECTIONS_MAX: usize = 64;
/// Bytes of a UDP tracker's datagram that are read: an answer with some 400 peers.
pub const TRACKER_UDP_DATAGRAM_MAX_BYTES: usize = 8 << 10;
/// Datagrams that answer nothing we sent and are ignored in one announce; then it has failed.
pub const TRACKER_UDP_STRAYS_MAX: usize = 1000;
/// Saying goodbye to all trackers at the end.
pub const FAREWELL_BUDGET_MS: u64 = 3_000;
/// Threads that say goodbye, before memory is spent on more that announce.
pub const FAREWELL_THREADS_MIN: usize = 4;
/// Threads that say goodbye.
pub const FAREWELL_THREADS_MAX: usize = 16;

/// Asking all trackers whether they are there.
pub const PREFLIGHT_TIMEOUT_MS: u64 = 8_000;
/// Fetching a torrent file from a URL in all: the largest real ones over a slow line.
pub const RETRIEVAL_TIMEOUT_MS: u64 = 120_000;

// ---- mirrors -----------------------------------------------------------------------------------

/// Connections to all mirrors together, each with a thread of its own.
pub const MIRROR_WORKERS_MAX: usize = 4;
/// Connections to one mirror: while one waits for an answer, the other one brings something.
pub const MIRROR_CONNECTIONS_MAX: usize = 2;
/// Bytes in a row that a mirror is asked for at a time, while nothing is known of it.
pub const RUN_LENGTH_START_BYTES: u64 = 1 << 20;
/// And then at least.
pub const RUN_LENGTH_MIN_BYTES: u64 = 256 << 10;
/// And at most.
pub const RUN_LENGTH_MAX_BYTES: u64 = 16 << 20;
/// In between as many as it brings in so much time: little beside that is the wait for an answer,
/// and not too much is one mirror's when the end is near.
pub const RUN_TIME_MS: u32 = 4_000;
/// Pieces in such a row.
pub const RUN_PIECES_MAX: u32 = 1024;
/// A mirror gives way to others if one of them is more than so many times as fast.
pub const MIRROR_SLOWER_MAX: u64 = 4;
/// And to any other if it brings less than these bytes
pub const MIRROR_SLOW_BYTES: u64 = 128 << 10;
/// in so much time.
pub const MIRROR_SLOW_MS: u32 = 10_000;
/// A mirror that failed is asked again after this long; twice as long after each failure more.
pub const MIRROR_PAUSE_MIN_MS: u32 = 1_000;
/// But never later than this, unless it asks for more.
pub const MIRROR_PAUSE_MAX_MS: u32 = 15 * 60 * 1_000;
/// And this long while there is nobody else.
pub const MIRROR_PAUSE_LONELY_MAX_MS: u32 = 60 * 1_000;
/// Redirects that one request follows.
pub const MIRROR_REDIRECTS_MAX: u32 = 5;
/// Looking up a mirror's name.
pub const MIRROR_RESOLVE_TIMEOUT_MS: u32 = 10_000;
/// Connecting to a mirror, with all its addresses and the TLS handshake.
pub const MIRROR_CONNECT_TIMEOUT_MS: u32 = 10_000;
/// Sending a request to a mirror.
pub const MIRROR_SEND_TIMEOUT_MS: u32 = 10_000;
/// Waiting for the whole head of its answer.
pub const MIRROR_HEAD_TIMEOUT_MS: u32 = 20_000;
/// Waiting for anything.
pub const MIRROR_READ_TIMEOUT_MS: u32 = 15_000;
/// A whole body, and that of a redirect: what is sent so slowly ends sooner, if that is a choice.
pub const MIRROR_BODY_TIMEOUT_MS: u32 = 10 * 60 * 1_000;
/// Bytes of the head of an answer.
pub const MIRROR_HEAD_MAX_BYTES: usize = 16 << 10;
/// Bytes that are read from a mirror at once.
pub const MIRROR_INPUT_BYTES: usize = 32 << 10;
/// And where a limit is set.
pub const MIRROR_INPUT_LIMITED_BYTES: usize = MIRROR_HEAD_MAX_BYTES;
/// Bytes that are sent to a mirror at once; the head of a request must fit in.
pub const MIRROR_OUTPUT_BYTES: usize = 16 << 10;
const _: () = assert!(
    URL_LENGTH_MAX_BYTES + ESCAPED_PATH_MAX_BYTES + (1 << 10) < MIRROR_OUTPUT_BYTES,
    "a request would not fit in"
);
/// What has come is looked at after this long, if the buffer is not full sooner.
pub const MIRROR_TURN_MS: u32 = 100;
/// A run that was asked to stop waits this long for what has come from mirrors.
pub const MIRROR_FINISH_TIMEOUT_MS: u32 = 200;
/// The stack of a thread that fetches from mirrors. A TLS handshake needs the most of it.
pub const MIRROR_STACK_BYTES: usize = ANNOUNCER_STACK_BYTES;
/// What its connections take besides their buffers of HTTP: TLS, roots, what is asked for.
pub const MIRROR_OTHER_BYTES: usize = 192 << 10;
/// The longest pause that a mirror can ask for.
pub const RETRY_AFTER_MAX_S: u64 = 3600;

// ---- the DHT -----------------------------------------------------------------------------------

/// Bytes of a datagram that are read. BEP 32 has nobody send more than 1024; some do.
pub const DHT_DATAGRAM_MAX_BYTES: usize = 2 << 10;
/// Bytes of a datagram that is sent (BEP 32, "Maximum packet size").
pub const DHT_DATAGRAM_SENT_MAX_BYTES: usize = 1 << 10;
/// Bytes of a transaction id that is repeated in an answer. Clients have 2 to 8.
pub const DHT_TRANSACTION_MAX_BYTES: usize = 32;
/// Bytes of a token that is kept, until the announce. Clients have 4 to 20.
pub const DHT_TOKEN_MAX_BYTES: usize = 64;
/// Nodes that are read of one answer, of each family. BEP 5 has 8.
pub const DHT_NODES_PER_REPLY_MAX: usize = 16;
/// Peers that are read of one answer.
pub const DHT_PEERS_PER_REPLY_MAX: usize = 100;
/// Nodes in a bucket, and as many that are closest to something (BEP 5's K).
pub const BUCKET_NODES_MAX: usize = 8;
/// Nodes that answered and wait for a place in a full bucket.
pub const BUCKET_SPARES_MAX: usize = 8;
/// Buckets: in the largest DHT there is, some 24 are full.
pub const BUCKETS_MAX: usize = 32;
/// A node is good for so long after it was heard, and a bucket is fresh (BEP 5).
pub const NODE_GOOD_S: u64 = 15 * 60;
/// A node that left so many queries in a row unanswered is bad.
pub const NODE_FAILURES_MAX: u8 = 2;
/// A node that is not good is asked again after this long; twice as long after each failure more.
pub const NODE_PAUSE_MIN_S: u64 = 30;
/// But never later than this.
pub const NODE_PAUSE_MAX_S: u64 = 15 * 60;
/// The table is looked after this often: one node is asked, and one bucket is looked at.
pub const DHT_UPKEEP_MS: u64 = 5_000;
/// A query that was not answered for this long never will be.
pub const DHT_QUERY_TIMEOUT_MS: u64 = 5_000;
/// A lookup asks somebody else as well when an answer takes longer than this.
pub const DHT_QUERY_SLOW_MS: u64 = 1_000;
/// Queries of ours that are out at once, in all.
pub const DHT_QUERIES_IN_FLIGHT_MAX: usize = 96;
/// Queries that a lookup has out at once and that are not slow (Kademlia's alpha).
pub const LOOKUP_ALPHA_MAX: usize = 3;
/// And with those that are slow.
pub const LOOKUP_IN_FLIGHT_MAX: usize = 8;
/// Queries of a lookup in all. An honest one takes some 30.
pub const LOOKUP_QUERIES_MAX: usize = 100;
/// Nodes that a lookup remembers, asked or not.
pub const LOOKUP_CANDIDATES_MAX: usize = 160;
/// Nodes that one torrent is announced to, those that don't count among the closest (BEP 42)
/// included.
pub const ANNOUNCED_NODES_MAX: usize = 12;
/// Torrents that are searched for at once.
pub const SEARCHES_MAX: usize = 4;
/// A search is repeated after this long, and the announce with it: others forget it after 30 min.
pub const SEARCH_INTERVAL_S: u64 = 15 * 60;
/// And as early as this, for want of peers.
pub const SEARCH_INTERVAL_MIN_S: u64 = 60;
/// The pause after a lookup that led to too few nodes. It doubles each time.
pub const LOOKUP_PAUSE_START_S: u64 = 5;
/// Where the doubling ends.
pub const LOOKUP_PAUSE_MAX_S: u64 = 60;
/// Peers that were found and wait to be taken.
pub const PEERS_FOUND_MAX: usize = 500;
/// Addresses of unknown nodes that wait to be asked whether there is one.
pub const STRANGERS_MAX: usize = 32;
/// One of them is asked this often: whoever invents them could have us send to anybody.
pub const STRANGER_PAUSE_MS: u64 = 200;
/// Addresses of routers that are kept: nodes that everybody knows to begin with.
pub const ROUTERS_MAX: usize = 16;
/// Addresses of nodes that are kept to begin with, as torrents and peers name them, the last ones.
pub const CONTACTS_MAX: usize = 16;
/// What others believe our address to be is remembered of so many, the last ones.
pub const ADDRESS_VOTES_MAX: usize = 16;
/// And believed if so many agree.
pub const ADDRESS_VOTES_MIN: usize = 10;
/// Our id is not changed again for this long.
pub const NODE_ID_LIFE_S: u64 = 10 * 60;
/// The secret in tokens changes this often, and the one before it counts as well: a token can be
/// used for 5 to 10 min (BEP 5).
pub const TOKEN_SECRET_LIFE_S: u64 = 5 * 60;
/// Torrents whose peers others announced to us.
pub const STORED_TORRENTS_MAX: usize = 256;
/// Peers of one such torrent.
pub const STORED_PEERS_PER_TORRENT_MAX: usize = 100;
/// Peers of all of them.
pub const STORED_PEERS_MAX: usize = 2_000;
/// Peers that one network may announce.
pub const STORED_PEERS_PER_NETWORK_MAX: usize = 16;
/// A peer that was not announced again for this long is gone.
pub const STORED_PEER_LIFE_S: u64 = 30 * 60;
/// Peers in an answer to a node that is known to be where it says.
pub const PEERS_TOLD_MAX: usize = 50;
/// The same over IPv6, where each takes three times as many bytes.
pub const PEERS_V6_TOLD_MAX: usize = 20;
/// And to anybody else: it may be somebody else's address, who asked for nothing.
pub const PEERS_TOLD_STRANGERS_MAX: usize = 8;
/// Bytes of answers that are sent in a second in the long run.
pub const ANSWERS_MAX_BYTES_PER_S: u32 = 16 << 10;
/// And on top of it, at any moment.
pub const ANSWERS_BURST_BYTES: u32 = 64 << 10;
/// Answers to one network in a second in the long run.
pub const ANSWERS_PER_NETWORK_PER_S_MAX: u32 = 4;
/// And on top of it, at any moment.
pub const ANSWERS_PER_NETWORK_BURST_MAX: u32 = 32;
/// Counters of answers that all networks are spread over.
pub const ANSWER_COUNTERS_MAX: usize = 1024;
/// Characters of a host's name, or of its address.
pub const HOST_LENGTH_MAX_BYTES: usize = 253;
/// Nodes that a torrent names, or the user, as far as they are read.
pub const DHT_ENTRIES_MAX: usize = 32;
/// Datagrams that are heard before anything else is done.
pub const DHT_DATAGRAMS_AT_ONCE_MAX: usize = 64;
/// Addresses for the nodes' thread that wait; there is no room for more.
pub const DHT_ORDERS_MAX: usize = 128;
/// The nodes are kept for another run this often, and at the end.
pub const DHT_KEEP_MS: u64 = 10 * 60_000;
/// Where it begins is looked up again after this long, if that was of no use,
pub const DHT_AGAIN_MIN_MS: u64 = 10_000;
/// and twice as long each time, but never later than this.
pub const DHT_AGAIN_MAX_MS: u64 = 10 * 60_000;
/// The stack of the nodes' thread: a datagram is read on it, and answered.
pub const DHT_STACK_BYTES: usize = 96 << 10;
/// Bytes of the file that nodes are kept in.
pub const NODE_FILE_MAX_BYTES: usize = 64 << 10;
/// Bytes that the node of one family takes at worst, with everything that was said here.
pub const DHT_NODE_BYTES: usize = 400 << 10;

// ---- uploading ---------------------------------------------------------------------------------

/// Minutes, or times the size, that a user may ask it to stay for.
pub const SEED_AMOUNT_MAX: f64 = 1e6;
/// Bytes that a peer may ask for in one request.
pub const REQUEST_LENGTH_MAX_BYTES: u32 = 128 << 10;
/// What a peer says that only takes waits so long at most to be read, while it takes no more (ms).
pub const FULL_NAP_MS: u64 = 500;
/// Bytes that are read and sent at a time.
pub const UPLOAD_BUFFER_BYTES: usize = 128 << 10;
/// Such buffers: a session has one for as long as it takes to read and to send once.
pub const UPLOAD_BUFFERS_MAX: usize = 2;

// ---- through a proxy ---------------------------------------------------------------------------

/// Until a proxy has connected us to a peer.
pub const PROXY_TIMEOUT_MS: u64 = 20_000;

// ---- who comes ---------------------------------------------------------------------------------

/// Ports that are tried, one after the other, before any is taken.
pub const PORT_TRIES_MAX: u16 = 10;
/// Of so many threads of the pool one is kept for peers that come.
pub const THREADS_FOR_ONE_GUEST_MAX: usize = 8;
/// Bytes of an interface's name.
pub const DEVICE_NAME_MAX_BYTES: usize = 15;
/// Connections that wait to be looked at.
pub const LISTEN_QUEUE_MAX: i32 = 128;
/// Peers that came and wait for a free place.
pub const GUESTS_WAITING_MAX: usize = 8;
/// And how long they do so.
pub const GUEST_WAIT_MAX_MS: u32 = 15_000;
/// The stack of the thread that lets them in.
pub const LISTENER_STACK_BYTES: usize = 64 << 10;
/// It pauses so long when the system can't let anybody in.
pub const ACCEPT_PAUSE_MS: u64 = 500;

// ---- output files ------------------------------------------------------------------------------

/// Times that the resume record is looked for anew, when another run replaces it in between.
pub const RECORD_LOCK_TRIES_MAX: usize = 10;
/// While pieces come in, they are flushed and recorded this often.
pub const RECORD_MS: u32 = 10_000;
/// A run that ends early waits this long for what was verified to be flushed and recorded.
pub const RECORD_TIMEOUT_MS: u32 = 3_000;
/// A run that has what was selected waits this long: without its record what is aside is of no use.
pub const RECORD_KEPT_TIMEOUT_MS: u32 = 60_000;
/// More files than this are not flushed one by one, but with all that their file system holds.
pub const FLUSHED_FILES_MAX: usize = 16;
/// The stack of the thread that flushes.
pub const RECORDER_STACK_BYTES: usize = 96 << 10;
/// File descriptors that are left to files and trackers; sessions take the rest.
pub const DESCRIPTORS_SPARE_MAX: usize = 10;
/// What the nodes of the DHT take: a socket each, what wakes them, and the file that they are kept in.
pub const DESCRIPTORS_DHT_MAX: usize = 4;
/// With fewer than these, and two for one session, a download does not begin.
pub const DESCRIPTORS_SPARE_MIN: usize = 3;
/// Times that an output file is tried to be opened when all descriptors are taken.
pub const DESCRIPTOR_TRIES_MAX: usize = 50;
/// The pause before the next time: somebody else gives one back meanwhile.
pub const DESCRIPTOR_PAUSE_MS: u64 = 10;
/// Output files that are kept open, however many the torrent has.
pub const OPEN_FILES_MAX: usize = 16;
/// Bytes of a file that are mapped at a time, from a multiple of this on: what one huge page holds.
pub const WINDOW_LENGTH_BYTES: u64 = 2 << 20;
/// And the least: a smaller file, or what is left at the end of a large one, is not mapped.
pub const WINDOW_LENGTH_MIN_BYTES: u64 = 256 << 10;
/// Windows that are kept mapped. While they all are in use, what is for other places is not mapped.
pub const WINDOWS_MAX: usize = 8;
/// A window is no longer in use when so many bytes have gone elsewhere since its last one came.
pub const WINDOW_STALE_BYTES: u64 = 32 << 20;
/// Bytes of the sentence that a failed store ends with.
pub const LAST_WORDS_MAX_BYTES: usize = 1024;
/// Parts of a stretch that are written by one system call.
pub const STRETCH_PARTS_MAX: usize = 32;
/// Bytes that a thread hashing what is already there reads at a time.
pub const RECHECK_BUFFER_BYTES: usize = 256 << 10;
/// Bytes in a row that such a thread takes on at a time, or one piece if that is longer.
pub const RECHECK_EXTENT_BYTES: u32 = 16 << 20;
/// Such threads, on a machine with however many cores.
pub const RECHECK_THREADS_MAX: usize = 64;
/// The stack of such a thread; its buffer is elsewhere.
pub const RECHECK_STACK_BYTES: usize = 128 << 10;
/// Where the kernel likes a buffer to begin: a multiple of this.
pub const CACHE_LINE_BYTES: usize = 64;

// ---- the face ----------------------------------------------------------------------------------

/// Where standard error is no terminal, a line is written this often at most.
pub const PLAIN_LINE_MS: u32 = 10_000;
/// A terminal that does not say how wide it is is taken to be this wide.
pub const SCREEN_COLUMNS_DEFAULT: usize = 80;
/// And no line is longer than this.
pub const SCREEN_COLUMNS_MAX: usize = 400;
/// The same for how many lines it has.
pub const SCREEN_LINES_DEFAULT: usize = 24;
/// Columns of the status line's bar, its ends included.
pub const BAR_WIDTH_MAX: usize = 40;
/// Where there is less room, there is none.
pub const BAR_WIDTH_MIN: usize = 10;
/// It gets longer and shorter by so many columns at once.
pub const BAR_WIDTH_STEP_CHARS: usize = 5;
/// Rows of the map of the pieces.
pub const MAP_ROWS_MAX: usize = 12;
/// So many lines of a terminal are enough for a row of it.
pub const LINES_A_MAP_ROW_MIN: usize = 6;
/// Bytes of the names that the command of `--on-complete` is told: with everything else it is told
/// they fit into a pipe, so that nobody waits for it to be read.
pub const HOOK_NAMES_MAX_BYTES: usize = 48 << 10;
/// Bytes of a line in which a shell says how that command ended: 255, and its end.
pub const HOOK_ANSWER_MAX_BYTES: u64 = 4;
/// Stack of the thread that waits for that command.
pub const HOOK_STACK_BYTES: usize = 32 << 10;
