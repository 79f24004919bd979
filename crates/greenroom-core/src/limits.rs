//! Every bound and default of greenroom, in one place, each with its reason.
//!
//! A queue, buffer, wait or retry that is not bounded by a line of this file is
//! a defect. Hitting a bound is never silent: it is a [`crate::event::Refusal`]
//! or a [`crate::event::CloseCause`] with a name and a count.

mod acts;
mod drain;
mod gate;
mod measuring;
mod watch;

use core::time::Duration;

pub use acts::*;
pub use drain::*;
pub use gate::*;
pub use measuring::*;
pub use watch::*;

/// One kibibyte.
pub const KIB: usize = 1024;

// ── Holding ────────────────────────────────────────────────────────────────

/// How long a client is held: longer than most clients wait, so that it is the
/// client's patience that decides, and short enough to end a hopeless wait.
pub const HOLD_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest hold that may be configured.
pub const HOLD_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The shortest hold that may be configured; `--hold refuse` is the way to hold nobody.
pub const HOLD_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// Clients held for one backend: at 2 KiB + head each, some 40 MiB at the most.
pub const HELD_MAX: usize = 10_000;

/// How long after the beginning of its backend's hold period a client is accepted (`hold = "auto"`): before the first
/// clients give up (httpx-ws after 5 s), and as late as that allows, since only the server's own 101 is transparent.
pub const ACCEPT_AFTER: Duration = Duration::from_secs(4);
/// The longest `accept_after` that may be configured.
pub const ACCEPT_AFTER_MAX: Duration = HOLD_TIMEOUT_MAX;
/// Addresses that are remembered as accepted in a hold period: as many as may be held, unless `held_max` was raised.
/// Browsers of another address then wait their time.
pub const ACCEPTED_ADDRESSES_MAX: usize = HELD_MAX;
/// Bytes kept of what one accepted client sends before its backend is ready; then it is not read any more.
pub const EARLY_MAX: usize = 64 * KIB;
/// The least and the most that may be configured for that.
pub const EARLY_MAX_RANGE: (u64, u64) = (KIB as u64, 16 * 1024 * KIB as u64);
/// Bytes kept of all accepted clients together.
pub const EARLY_BUDGET: usize = 256 * 1024 * KIB;
/// The least and the most that may be configured for that.
pub const EARLY_BUDGET_RANGE: (u64, u64) = (64 * KIB as u64, 1 << 40);
/// At so many hundredths of the budget nobody new is accepted …
pub const EARLY_REFUSES_AT: usize = 80;
/// … at so many the newest held ones that have sent something are closed, until it is less …
pub const EARLY_CLOSES_AT: usize = 90;
/// … and at so many nobody is read any more.
pub const EARLY_STOPS_AT: usize = 95;
/// Data frames kept of one accepted client: as many as Python `websockets` takes for one message.
pub const EARLY_FRAMES_MAX: usize = 4_096;
/// The first piece of memory for an accepted client's bytes, and the least that is added to it.
pub const EARLY_PIECE: usize = 512;
/// Bytes of an accepted client that are looked at before they are read, where frames begin among them.
pub const EARLY_LOOK: usize = 4 * KIB;
/// How long an accepted client that has sent all that is kept may wait to send on; then it is closed. Less than the
/// 40 s after which Python's clients give up a ping that nobody reads.
pub const EARLY_PATIENCE: Duration = Duration::from_secs(30);
/// Pings of an accepted client within [`HOLD_PINGS_WINDOW`]; with more it is closed. Of those that come together
/// only the last is answered (RFC 6455 §5.5.3).
pub const HOLD_PINGS_MAX: u32 = 1_000;
/// See [`HOLD_PINGS_MAX`].
pub const HOLD_PINGS_WINDOW: Duration = Duration::from_secs(1);
/// How often an accepted client is pinged while it is held: proxies in front close idle connections after 60 s.
pub const HOLD_PING_EVERY: Duration = Duration::from_secs(25);
/// Pings in a row that an accepted client may leave unanswered; then it is gone.
pub const HOLD_PINGS_MISSED: u32 = 2;
/// Bytes of a `waiting_message`, before values are put in.
pub const WAITING_MESSAGE_MAX: usize = KIB;
/// How often an accepted client hears again how long it will take.
pub const WAITING_EVERY: Duration = Duration::from_secs(5);
/// The least time between two looks at the line for those who are told how long they wait, however often the phase
/// changes and whoever was accepted just now: a look costs as much as many wait.
pub const WAITING_GATHER: Duration = Duration::from_millis(250);
/// Offers of subprotocols of which it is remembered what the backend selected, for each route: clients of one program
/// offer the same, and there are few programs.
pub const OFFERS_KEPT: usize = 16;
/// Subprotocols of a route.
pub const SUBPROTOCOLS_MAX: usize = TOKENS_MAX;
/// How long the messages of an accepted client wait after the backend's 101: many servers attach their handler
/// a few milliseconds later, and lose what comes before. Nobody hurries who sends to a server directly: its
/// messages are a round trip later than the 101.
pub const FORWARD_AFTER: Duration = Duration::from_millis(20);
/// The most that may be configured for that; also how long a backend's first frame is waited for.
pub const FORWARD_AFTER_MAX: Duration = Duration::from_secs(10);
/// Refusals of browsers that are kept back at one time; more are answered at once.
pub const TARPIT_MAX: usize = 1_000;
/// How long a browser's refusal is kept back, least and most: Chromium tries again 24 times in 0.3 s otherwise.
pub const TARPIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(1));
/// Refusals whose hold ends together are spread over at most this.
pub const EXPIRY_SPREAD: Duration = Duration::from_secs(1);
/// Origins of a route, and hosts of a listener.
pub const ALLOWED_MAX: usize = 100;

// ── Letting in ─────────────────────────────────────────────────────────────

/// Dials that wait for the backend's answer at one time. A slot is free again at the answer, or after
/// [`DIAL_PATIENCE`].
pub const DIALS_MAX: usize = 64;
/// A dial that is unanswered for so long waits on, but its slot is another's: so long do requests that are
/// answered late hold up the others. Longer than [`CONNECT_TIMEOUT`], so that it is the application that is silent.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(2);
/// The dial window shrinks to this on failures, and not below: one slow handshake must not stop the others.
pub const DIALS_MIN: usize = 8;
/// The dial window after a restart: it widens by one with each answer, so it doubles with each round.
pub const DIALS_START: usize = DIALS_MIN;
/// A handshake that takes so long is slow: the dial window shrinks as by a failure, once for all that were dialled before.
pub const SLOW_HANDSHAKE: Duration = Duration::from_millis(500);
/// The most that `release_rate` may be, in clients a second.
pub const RELEASE_RATE_MAX: usize = 100_000;
/// Clients that may be let in together under a `release_rate`, as time: so much of it in one go.
pub const RELEASE_BURST: Duration = Duration::from_millis(100);
/// Dials begun between two looks at what came in meanwhile, so that the first that are let in
/// do not wait for the last: a connect takes the kernel some 30 µs.
pub const DIALS_PER_TURN: usize = 8;
/// How long a TCP or Unix connect may take. Longer than the kernel's first retransmission of a SYN,
/// which comes after one second: one lost packet must not shut the gate.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often a Unix socket whose backlog is full (EAGAIN) is tried again: busy, not gone.
pub const BUSY_RETRY: Duration = Duration::from_millis(5);
/// How long a backend that said 101 must keep the connection before that proves anything.
pub const SETTLE: Duration = Duration::from_millis(25);
/// What the gate waits beyond [`SETTLE`]: a Close that a backend sends just within it is read
/// later, by the coarseness of both sides' timers and the way. Measured with Node: 1 to 4 ms.
pub const SETTLE_SLACK: Duration = Duration::from_millis(5);
/// A backend that was seen to close late, so long after its 101, may be as late again and
/// twice: timers of a busy machine scatter by as much as they are late. The first canary, of which
/// nothing was seen yet, stands so many times the settle too: what a server does for the first time
/// is slow (Node's first Close after 24 ms was measured at 33).
pub const SETTLE_FACTOR: u32 = 2;
/// The least settle of a backend that was seen to close after its 101, however quick it was: a canary
/// that is rejected costs as much time. Measured with Node on two busy cores: a Close due after 5 ms
/// comes after 57 now and then.
pub const SETTLE_WARNED: Duration = CANARY_EVERY;
/// The most that a learned settle may be. It delays each client of a trial, so it stays where a
/// person hardly notices; a backend that closes later than this is outside of the promise.
pub const SETTLE_MAX: Duration = Duration::from_millis(250);
/// How long after an inferred opening each session still waits its own [`SETTLE`]:
/// other workers of the same backend may lag behind the first.
pub const PROVE_FOR: Duration = Duration::from_secs(2);
/// The least time between two canaries.
pub const CANARY_EVERY: Duration = Duration::from_millis(100);
/// A canary unanswered for so long no longer keeps the next one from trying, so
/// that one request that hangs delays the others by this much and no more.
pub const CANARY_PATIENCE: Duration = Duration::from_secs(1);
/// After so many rejections a session is no longer used as a canary, while others are there.
pub const REJECTIONS_MAX: u8 = 3;
/// After so many times that, all but the first so many when another had proved the gate, it waits until the trial is over.
pub const REJECTIONS_FACTOR: u8 = 2;
/// After so many deaths of the backend's process while a session was alone with it, the session is refused:
/// it is what kills the server. One death is no proof, as an unlucky moment happens once.
pub const DEATHS_MAX: u8 = 2;
/// A pushed READY is doubted when the first dial after it is unanswered for so long.
pub const READY_DOUBT: Duration = Duration::from_millis(250);

// ── Readiness ──────────────────────────────────────────────────────────────

/// Probe interval: fixed, on a grid, never a growing back-off.
pub const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Probe interval of `listen`, which asks the kernel's socket table and opens no connection.
pub const LISTEN_EVERY: Duration = Duration::from_millis(10);
/// So long before a hold ends the probe looks once more: half of [`PROBE_EVERY`], as a later look
/// would leave no time for the backend's answer, and an earlier one is the grid's own.
pub const LAST_LOOK: Duration = Duration::from_millis(50);
/// How long one probe may take; a probe that hangs is a bad verdict.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a backend is not ready before the log says what its probe found: longer than a quick start takes.
pub const UNREADY_AFTER: Duration = Duration::from_secs(1);
/// The least time between two such lines: a server that starts says one thing after the other.
pub const UNREADY_EVERY: Duration = Duration::from_secs(10);
/// How long a child listens elsewhere before greenroom says so.
pub const ELSEWHERE_AFTER: Duration = Duration::from_secs(1);
/// How often the child's sockets are looked through for that.
pub const ELSEWHERE_EVERY: Duration = Duration::from_millis(250);
/// Other places that are remembered while a child listens elsewhere; a server has a handful.
pub const ELSEWHERE_PLACES_MAX: usize = 64;
/// How long the addresses of a name are used before the name is looked up again:
/// short enough to follow a failover, long enough to spare the resolver.
pub const RESOLVE_EVERY: Duration = Duration::from_secs(1);
/// How long a look-up may take before it counts as failed; who waits for its answer is held meanwhile.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a `websocket` probe waits for the answer to its Close, after its verdict.
pub const PROBE_CLOSE: Duration = Duration::from_secs(1);
/// Answers read for one question to the kernel's socket table: some 200 listeners
/// each, so more than a machine has.
pub const SOCKET_TABLE_READS_MAX: usize = 4096;
/// Each so many looks that find no listener, the whole socket table is asked
/// instead of the one place: it also shows a listener bound to one device.
pub const WHOLE_TABLE_EACH: u32 = 10;
/// Bytes of one notify datagram: systemd's own payloads are far smaller.
pub const NOTIFY_MAX: usize = 4 * KIB;
/// Descriptors taken (and closed) from one notify datagram; the kernel's own limit is 253.
pub const NOTIFY_FDS_MAX: usize = 253;
/// Notify datagrams read per second and generation; the rest wait in the socket.
pub const NOTIFY_PER_SECOND: u32 = 1_000;
/// The time over which they are counted.
pub const NOTIFY_WINDOW: Duration = Duration::from_secs(1);
/// Characters kept of a STATUS text.
pub const STATUS_MAX: usize = 256;
/// Characters of a phase's name in a notify message; a longer one is no name.
pub const PHASE_NAME_MAX: usize = 64;
/// Phases of one backend: more than a person tells apart.
pub const PHASES_MAX: usize = 64;
/// Checks of one backend: each is a task and, for most kinds, a connection at a time.
pub const CHECKS_MAX: usize = 64;
/// Different needs of the routes to one backend: one bit each.
pub const NEEDS_MAX: usize = 64;
/// The heaviest that a check may be.
pub const WEIGHT_MAX: u32 = 1_000;
/// The most that `rise` and `fall` may be.
pub const RISE_MAX: u32 = 1_000;
/// Good verdicts in a row that make a check good: with one, nothing waits longer than the backend does.
pub const RISE: u32 = 1;
/// Bad verdicts in a row that make it bad: one slow answer is no reason to hold everybody.
pub const FALL: u32 = 3;
/// The least and the most between two looks of a check.
pub const CHECK_EVERY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));
/// How often an `exec` check is asked unless it says so: each look is a process.
pub const EXEC_EVERY: Duration = Duration::from_secs(1);
/// The shortest that one look of a check may be allowed to take.
pub const CHECK_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The longest that one look of a check may be allowed to take.
pub const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The shortest timeout that a phase may have.
pub const PHASE_TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// The longest timeout that a phase may have.
pub const PHASE_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Bytes of an answer that a check reads: of a body, of a greeting, of what a command says.
pub const CHECK_BODY_MAX: usize = 64 * KIB;
/// Rounds of SCRAM that a check makes for a PostgreSQL server, which chooses them; it takes 4,096 unless told
/// otherwise. So many take a core some 50 ms, once for each salt.
pub const SCRAM_ROUNDS_MAX: u32 = 100_000;
/// Ends of children that are kept while a check's command is being started: it may be one of them.
pub const EARLY_ENDS_MAX: usize = 1_024;
/// Changes of one check that are told within [`FLAPS_WINDOW`]; of more it is said that they are not told.
pub const FLAPS_TOLD: u32 = 10;
/// See [`FLAPS_TOLD`].
pub const FLAPS_WINDOW: Duration = Duration::from_secs(10);
/// How long a backend that said it stops is believed over good looks at it, if none shows it away: as long as
/// systemd waits for a stop. It may never be seen away, where its listener is somebody else's (socket activation).
pub const STOPPING_MAX: Duration = Duration::from_secs(90);
/// Characters of the reason of a failed start that a client is told.
pub const REASON_MAX: usize = 100;
/// Bytes of a file of start-up times; one of ours has far less.
pub const STARTS_FILE_MAX: u64 = 4 * KIB as u64;
/// Start-up times without which nothing is said of the present one.
pub const STARTS_NEEDED: usize = 3;
/// The most that a Retry-After says, whatever start-ups took until now, in seconds.
pub const RETRY_AFTER_MAX_SECONDS: u32 = 300;
/// The most by which one EXTEND_TIMEOUT_USEC may extend: a wait stays a wait.
pub const EXTEND_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// The shortest silence that a watchdog may be told not to bear: servers give their sign at half of it.
pub const WATCHDOG_MIN: Duration = Duration::from_millis(100);
/// The longest silence that a watchdog may be told to bear: as long as an extension.
pub const WATCHDOG_MAX: Duration = EXTEND_TIMEOUT_MAX;
/// Parents looked at on the way from a notify message's sender up to the child;
/// real process trees are a few levels deep.
pub const ANCESTORS_MAX: usize = 64;

// ── Heads ──────────────────────────────────────────────────────────────────

/// Bytes of a client's head (request line and fields); more is 431.
pub const HEAD_MAX: usize = 16 * KIB;
/// Header fields in a head; more is 431.
pub const HEADERS_MAX: usize = 100;
/// Time for the whole head, not per read; more is 408.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a backend's answer head.
pub const BACKEND_HEAD_MAX: usize = 16 * KIB;
/// Interim (1xx) answers of a backend before its final one.
pub const INTERIM_MAX: usize = 8;
/// Tokens in Sec-WebSocket-Protocol and -Extensions together.
/// Also in Connection and in Upgrade, which are searched once for each field.
pub const TOKENS_MAX: usize = 32;
/// Bytes of Sec-WebSocket-Protocol and -Extensions together. Not 1 KiB: bearer tokens
/// travel as subprotocols (Kubernetes), and one in base64 twice takes some 2 KiB.
pub const NEGOTIATION_MAX: usize = 4 * KIB;
/// Bytes of one chunk's size line in a backend's answer, extensions included.
pub const CHUNK_LINE_MAX: usize = 256;
/// Bytes of the trailer fields after a chunked answer.
pub const TRAILER_MAX: usize = 4 * KIB;
/// How long the rest of a non-101 answer may take to pass.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes read at once while the head of an answer is not complete: most are shorter.
pub const ANSWER_PIECE: usize = 8 * KIB;

// ── Plain HTTP ─────────────────────────────────────────────────────────────

/// How long a client's connection waits for its next request.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a plain request is held: browsers and proxies in front give up soon after.
pub const HTTP_HOLD: Duration = Duration::from_secs(10);
/// Plain requests held for one backend: each is a socket and its head.
pub const HTTP_HELD_MAX: usize = 1_000;
/// A plain request that cannot go first on trial is let in at the limited gate after this
/// time, if nobody waits who can.
pub const HTTP_ALONE: Duration = Duration::from_secs(1);
/// How long a backend may take until its answer begins, from when it has the whole request: longer
/// than long polls last. Also how long it may take nothing of a body that comes before its answer.
pub const HTTP_ANSWER: Duration = Duration::from_secs(300);
/// Silence within a body, of whoever sends it, or of whoever should take it. Events that
/// are streamed may be rare; dead peers are found by TCP long before.
pub const HTTP_IDLE: Duration = Duration::from_secs(3600);
/// Idle backend connections kept for plain requests, for each backend.
pub const POOL_MAX: usize = 64;
/// How long one is kept: less than the 5 s of uvicorn and Node, so that a request hardly
/// ever goes out on a connection that its backend closes at that moment.
pub const POOL_IDLE: Duration = Duration::from_secs(4);
/// After this time at the gate a browser is shown a page.
pub const PAGE_AFTER: Duration = Duration::from_secs(1);
/// How often the page is told how things stand.
pub const PAGE_EVERY: Duration = Duration::from_secs(1);
/// The least time between two lines of the page, however much a backend says of its phases.
pub const PAGE_PAUSE: Duration = Duration::from_millis(100);
/// How long one page is kept open; then the browser asks again.
pub const PAGE_MAX: Duration = Duration::from_secs(600);
/// When a browser asks again whose page ended without a word, in seconds.
pub const PAGE_AGAIN_SECONDS: u32 = 3;
/// Start-up times that are remembered for each backend, to say what is usual.
pub const STARTS_KEPT: usize = 64;

// ── Relay and closing ──────────────────────────────────────────────────────

/// Bytes kept per direction while a peer is slow; then backpressure. Also the
/// largest backend frame that passes only when complete.
pub const RELAY_BUFFER: usize = 64 * KIB;
/// Reads of one direction, or pieces of a body, in one turn, so that a busy direction does not
/// starve the other, nor a large body those who share its thread.
pub const READS_PER_TURN: usize = 16;
/// How long the answer to a Close may take (RFC 6455 §7.1.1).
pub const CLOSE_HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a half-closed relay may live.
pub const HALF_CLOSED: Duration = Duration::from_secs(30);
/// A connection that greenroom itself chooses to close is not closed before this age.
pub const FIRST_SECOND: Duration = Duration::from_secs(1);
/// WebSockets of one user that are told to go when another comes, as they are more than it may have since a reload: others of
/// them go when the next one comes.
pub const USER_EXCESS_MAX: usize = 64;
/// Closes of many are spread over at most this …
pub const SPREAD_MAX: Duration = Duration::from_secs(5);
/// … and over this for each of them, if that is less.
pub const SPREAD_EACH: Duration = Duration::from_millis(2);
/// Bytes of a refused client that are read and dropped while it reads its answer.
pub const LINGER_BYTES: usize = 256 * KIB;
/// How long a refused client has to take its answer before the socket is closed.
pub const LINGER: Duration = Duration::from_secs(2);
/// Retry-After before start-up times are known, in seconds, least and most.
pub const RETRY_AFTER_SECONDS: (u32, u32) = (1, 5);

// ── Clients by address ─────────────────────────────────────────────────────

/// Addresses of which something is remembered: connections that are open, handshakes of late. For one more the
/// one that was idle longest is forgotten. As many as there can be connections, if that is more.
pub const ADDRESSES_MAX: usize = 65_536;
/// Addresses of which nothing is to be remembered any more that are forgotten when another is heard of: more than come.
pub const ADDRESSES_FORGOTTEN: usize = 2;
/// The most that `handshakes_per_address` may be, in a second.
pub const HANDSHAKES_MAX: usize = 100_000;
/// What may happen together under a rate (handshakes of an address, messages of a client), as time: so much of it in one go.
pub const RATE_BURST: Duration = Duration::from_secs(2);
/// The same of handshakes: after so long nothing need be remembered of an address.
pub const HANDSHAKE_BURST: Duration = RATE_BURST;
/// Clients beyond a limit that are given the time to read their refusal ([`LINGER`]); more are closed at once.
pub const TURNED_AWAY_MAX: usize = 64;
/// Leading bits of an address by which clients are told apart: all of IPv4, and of IPv6 what one site has.
pub const ADDRESS_BITS: (u8, u8) = (32, 64);

// ── Users ──────────────────────────────────────────────────────────────────

/// Bytes of a user's name, and of a tag's value, as a header says it: an address of a mailbox fits, a token does not.
pub const USER_MAX: usize = 128;
/// Tags of a route: each is kept with each of its connections.
pub const TAGS_MAX: usize = 8;

// ── Sockets and descriptors ────────────────────────────────────────────────

/// Backlog of the client listener.
pub const LISTEN_BACKLOG: u32 = 4096;
/// Descriptors kept back for everything that is not a session.
pub const DESCRIPTOR_RESERVE: usize = 256;
/// When this share of the clients' descriptors is left (1/8), each new client sends one away that only waits for
/// another request: idle connections must not keep others out.
pub const CROWDED_SHARE: usize = 8;
/// Descriptors that greenroom counts on where the system sets no limit.
pub const DESCRIPTORS_MAX: usize = 1_048_576;
/// Descriptors for which the kernel's table has room from the start: all that may be held, and
/// their backend connections. A table that grows under several threads makes the one that opened
/// the descriptor wait until every core has let go of the old one: 5 to 20 ms, amid a release. 8 bytes each.
pub const DESCRIPTOR_ROOM: usize = 2 * HELD_MAX + DESCRIPTOR_RESERVE;
/// How long accepting rests after the kernel had no descriptor.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);
/// TCP_USER_TIMEOUT of client and backend sockets: unacknowledged data for so long ends the connection.
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle time before the first keepalive probe, and the time between two.
pub const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Connections that are a crowd: when three quarters of so many have gone, or have gone in, memory is given back to the system.
pub const CROWD_LEAST: usize = 1_000;
/// The same of bytes that accepted clients have sent early.
pub const CROWD_LEAST_BYTES: usize = 16 * 1024 * KIB;
/// How long after that, and the least time between two times.
pub const TRIM_AFTER: Duration = Duration::from_secs(1);

/// Threads for all that is not a client's own. Two, so that a long look at the kernel's tables
/// on one does not stop the gate on the other. Clients have a thread for each core beside them.
pub const HOUSE_THREADS: usize = 2;

// ── Books ──────────────────────────────────────────────────────────────────

/// Parts of the table of open connections, each with a lock of its own: more than there are threads that come and go.
pub const BOOK_SHARDS: usize = 16;
/// Closed connections of which it is kept why they ended: some 300 bytes each.
pub const CLOSES_KEPT: usize = 10_000;
/// Notices of the house that wait for one connection's task: it takes them at its next turn, so few ever wait.
pub const NOTICES_MAX: usize = 64;
/// Connections in one answer of the admin API; for more it is asked again.
pub const CONNECTIONS_SHOWN_MAX: usize = 10_000;
/// The same unless it is said.
pub const CONNECTIONS_SHOWN: usize = 1_000;
/// Records that a request of the admin API goes through before others have their turn: well under a millisecond.
pub const RECORDS_AT_ONCE: usize = 2_000;

// ── Telling ────────────────────────────────────────────────────────────────

/// Events that wait for standard error; of more the oldest are let go and counted.
pub const LOG_QUEUE: usize = 16_384;
/// Events that are kept for event streams, to go on behind one of them: some 200 bytes each.
pub const EVENTS_KEPT: usize = 4_096;
/// Event streams that are open at one time.
pub const EVENT_STREAMS_MAX: usize = 16;
/// Events that one stream takes at once from what is kept: so long is the lock held.
pub const EVENTS_TAKEN: usize = 64;
/// How long events are gathered before a stream is written to again: a crowd does not wake it for each word.
pub const EVENTS_GATHER: Duration = Duration::from_millis(10);
/// How often a stream without events is given a sign of life: proxies in front close idle connections after 60 s.
pub const EVENTS_BEAT: Duration = Duration::from_secs(15);
/// How long the reader of a stream may take nothing; then it is dead, and its connection is closed.
pub const EVENTS_STALL: Duration = Duration::from_secs(60);
/// When a reader whose stream broke off comes again, unless it knows better.
pub const EVENTS_AGAIN: Duration = Duration::from_secs(1);
/// Bytes that wait in greenroom for the reader of an admin answer, beside what the kernel holds.
pub const ADMIN_WRITE_MAX: usize = 64 * KIB;
/// How long the program waits at its end for streams to have its last word.
pub const EVENT_STREAMS_FLUSH: Duration = Duration::from_millis(200);
/// How long lost relays are counted before the log tells of them: a process that dies loses all of its own at once.
pub const LOST_GATHER: Duration = Duration::from_millis(100);
/// Characters of a request's Host, and of its path, in a log line.
pub const LOG_TEXT_MAX: usize = 100;
/// Characters of what was changed from outside, and of its details, in a log line.
pub const AUDIT_TEXT_MAX: usize = 300;
/// Changes from outside that were refused as nobody could make sense of them, and that the log tells of …
pub const AUDIT_REFUSED_MAX: usize = 20;
/// … in this time; the next that is told says how many were not.
pub const AUDIT_WINDOW: Duration = Duration::from_secs(10);
/// How long log lines are gathered before they are written.
pub const LOG_GATHER: Duration = Duration::from_millis(2);
/// Log lines that are gathered for one write: some 32 KiB.
pub const LOG_BATCH: usize = 256;
/// How long the program waits at its end for the log to be written.
pub const LOG_FLUSH: Duration = Duration::from_secs(5);

// ── Supervision ────────────────────────────────────────────────────────────

/// Time between TERM and KILL.
pub const GRACE: Duration = Duration::from_secs(10);
/// What a stop without grace leaves for answers that only have to be written.
pub const QUICK_STOP: Duration = Duration::from_millis(100);
/// The longest grace that may be configured.
pub const GRACE_MAX: Duration = Duration::from_secs(3600);
/// Delay before a dead child is started again: fixed, so that a deploy is never slowed by an earlier failure.
pub const RESTART_DELAY: Duration = Duration::from_millis(500);
/// A life that ended within this time and never listened may not have got its port, if greenroom keeps that: long
/// enough for a server that loads a lot before it binds.
pub const PORT_DOUBT: Duration = Duration::from_secs(60);
/// Restarts within [`RESTART_WINDOW`] before greenroom gives up.
pub const RESTARTS_MAX: usize = 5;
/// See [`RESTARTS_MAX`].
pub const RESTART_WINDOW: Duration = Duration::from_secs(60);
/// How long greenroom waits for processes to vanish after KILL: one that sleeps
/// uninterruptibly in the kernel must not keep greenroom from ending.
pub const SWEEP_MAX: Duration = Duration::from_secs(2);
/// What a child without a supervisor may take from its warden's start to its own exec: two execs on a busy machine.
pub const WARDEN_START: Duration = Duration::from_secs(10);
/// Time between two looks for processes that were born while the others were killed.
pub const SWEEP_EVERY: Duration = Duration::from_millis(10);
/// Names looked at in one place for notify folders that killed greenrooms have left:
/// a crowded `/tmp` must not keep a start busy.
pub const STALE_LOOKS_MAX: usize = 4_096;
/// Bytes of one entry in the system's databases of users and groups; a group may have thousands of members.
pub const ACCOUNT_MAX: usize = 1024 * KIB;
/// Bytes of a line of a child's output in which a `log` check looks; the rest of it passes unread.
pub const OUTPUT_LINE_MAX: usize = 16 * KIB;
/// Bytes of a child's output that are read, and looked through, ahead of whoever reads
/// greenroom's own: then the child waits for him, as it would without greenroom.
pub const OUTPUT_AHEAD: usize = 256 * KIB;
/// Bytes read of it at once.
pub const OUTPUT_PIECE: usize = 16 * KIB;
/// Bytes that a piece of it counts for at the least, however short.
pub const OUTPUT_PIECE_LEAST: usize = 256;
/// How long greenroom waits at its end for the last of it to be written.
pub const OUTPUT_FLUSH: Duration = Duration::from_secs(1);
/// Ctrl-C and Ctrl-\ that wait to be acted on: the second hurries, a third says nothing new.
pub const KEYS_MAX: usize = 4;

// ── Admin ──────────────────────────────────────────────────────────────────

/// Connections served at one admin door at a time; for one more the first from the address with the most of them is closed.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// Wrong tokens of one address within [`GUESS_WINDOW`]; then nobody of it is listened to for the rest of that. One a second is no
/// way to guess 16 letters, and a wrong scraper is let in again soon after it was put right.
pub const GUESSES_MAX: u32 = 10;
/// See [`GUESSES_MAX`].
pub const GUESS_WINDOW: Duration = Duration::from_secs(10);
/// Addresses whose wrong tokens are remembered.
pub const GUESSERS_MAX: usize = 1_024;
/// How long an admin door rests after the kernel had no descriptor or memory for a connection.
pub const ADMIN_REST: Duration = Duration::from_secs(1);
/// How long one admin connection may last.
pub const ADMIN_IDLE: Duration = Duration::from_secs(60);
/// Bytes of an admin request's body, and of an answer that the command line reads: one line for each backend and check.
pub const ADMIN_BODY_MAX: usize = 8 * 1024 * KIB;
/// Bytes of what is pushed over the admin API: a phase and a reason.
pub const ADMIN_PUSH_MAX: usize = 16 * KIB;
/// How long the command line waits for an answer of greenroom.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(5);

// ── Configuration ──────────────────────────────────────────────────────────

/// Bytes of a configuration file: some 5,000 lines, more than anybody reads.
pub const CONFIG_MAX: usize = 256 * KIB;
/// Problems of a configuration that are shown at once; more are counted.
pub const CONFIG_PROBLEMS_MAX: usize = 100;
/// Characters of one message about a configuration: it repeats values, and those may be long.
pub const CONFIG_MESSAGE_MAX: usize = 1_000;
/// Bytes of a name in a configuration: it is printed in logs and is a label of metrics.
pub const CONFIG_NAME_MAX: usize = 64;
/// Changes that a reload shows; more are counted.
pub const RELOAD_CHANGES_MAX: usize = 1_000;
/// Reloads that wait while one is under way; more are told to come again.
pub const RELOADS_WAITING: usize = 1;
/// A change of the file is taken when it was left alone for so long: editors write in several steps …
pub const RELOAD_QUIET: Duration = Duration::from_millis(200);
/// … and after this time in any case.
pub const RELOAD_QUIET_MAX: Duration = Duration::from_secs(2);
/// How long a reload waits until a new backend is known to serve; then its clients are held, as at a start.
pub const RELOAD_WARM_UP: Duration = Duration::from_millis(500);
/// How long it takes until a folder that could not be watched is tried again.
pub const RELOAD_WATCH_AGAIN: Duration = Duration::from_secs(5);
/// Listeners: each is a socket and a task.
pub const LISTENERS_MAX: usize = 64;
/// Backends: each has a gate, an owner task and a prober.
pub const BACKENDS_MAX: usize = 256;
/// Routes: a request looks through all of them in the worst case, some 10 µs for so many.
pub const ROUTES_MAX: usize = 1_000;
/// Header fields that one route sets in one direction, and as many that it removes: half of a legal head ([`HEADERS_MAX`]).
pub const HEADER_EDITS_MAX: usize = 50;
/// Bytes of the value of a header field that a route sets.
pub const HEADER_VALUE_MAX: usize = 4 * KIB;
/// Bytes of a route's path, of its rewrite, and of the path of a probe.
pub const ROUTE_PATH_MAX: usize = KIB;
/// Bytes of a text that a check sends or looks for: a user, a password, a service, a regular expression.
pub const CHECK_TEXT_MAX: usize = KIB;
/// Bytes that a regular expression may take once it is compiled, and again while it searches: `\w{10}` fits, a trap does not.
pub const PATTERN_MEMORY_MAX: usize = 1024 * KIB;
/// Bytes of the message that tells clients of a degraded backend, before names are put in.
pub const DEGRADED_MESSAGE_MAX: usize = KIB;
/// Bytes of the token of the admin address, least and most: 16 random letters cannot be guessed over
/// a network, and the most fits in a head several times.
pub const ADMIN_TOKEN: (usize, usize) = (16, KIB);
/// Bytes of the file with the token: the token and the end of its line.
pub const TOKEN_FILE_MAX: u64 = 2 * KIB as u64;
/// The most that `held_max` and `http_held_max` may be: no process has more descriptors.
pub const HELD_MAX_MOST: usize = DESCRIPTORS_MAX;
/// The least and the most that `head_max` may be: where things are in a head is counted in 16 bits.
pub const HEAD_MAX_RANGE: (u64, u64) = (KIB as u64, 63 * KIB as u64);
/// The least and the most that `head_timeout` may be.
pub const HEAD_TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(120));
/// The most that `dials_max` may be; beyond it a backend's backlog is what waits.
pub const DIALS_MAX_MOST: usize = 10_000;
/// The most that `body_max` may be: 1 TiB; no limit at all is said by leaving it out.
pub const BODY_MAX_MOST: u64 = 1 << 40;
