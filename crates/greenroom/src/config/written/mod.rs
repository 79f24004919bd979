//! What can be written in a configuration: its tables and keys, each with what it means.
//!
//! These types are the one place where a key is declared. From them come the reader
//! with its "did you mean", the JSON Schema, `docs/configuration.md`, and the names
//! that `GREENROOM__A__B` may have. A value here has the right type and a place, and
//! nothing more: whether it makes sense is decided by `check`.

mod kinds;
mod tables;

use schemars::JsonSchema;

use greenroom_core::backoff::RestartPolicy;
use greenroom_core::limits::{
    ACCEPT_AFTER, ACCEPT_AFTER_MAX, ADDRESS_BITS, ALLOWED_MAX, BACKENDS_MAX, BODY_MAX_MOST, CHECKS_MAX,
    DEGRADED_MESSAGE_MAX, DESCRIPTORS_MAX, DIALS_MAX, DIALS_MAX_MOST, EARLY_BUDGET, EARLY_BUDGET_RANGE, EARLY_MAX,
    EARLY_MAX_RANGE, FORWARD_AFTER, FORWARD_AFTER_MAX, GRACE, GRACE_MAX, HANDSHAKES_MAX, HEAD_MAX, HEAD_MAX_RANGE,
    HEAD_TIMEOUT, HEAD_TIMEOUT_RANGE, HEADER_EDITS_MAX, HELD_MAX, HELD_MAX_MOST, HOLD_TIMEOUT, HOLD_TIMEOUT_MAX,
    HOLD_TIMEOUT_MIN, HTTP_HELD_MAX, HTTP_HOLD, LISTENERS_MAX, MESSAGE_MAX_RANGE, MESSAGE_RATE_MAX, PHASES_MAX,
    RELEASE_RATE_MAX, ROUTES_MAX, SUBPROTOCOLS_MAX, TAGS_MAX, WAITING_MESSAGE_MAX, WATCHDOG_MAX, WATCHDOG_MIN,
};
use greenroom_core::limits::{LIFETIME_RANGE, PING_TIMEOUT, SLOW_AFTER, SLOW_BYTES, SLOW_BYTES_RANGE, WATCH_TIMES};
use greenroom_core::phase::DEFAULT_PHASES;

pub(super) use drain::{Drain, Manner};
use kinds::hide;
pub(super) use kinds::{
    Field, Hidden, Names, Number, Numbers, Read, Reader, Shape, Size, Span, State, Texts, Words, Written, join,
};
pub(super) use readiness::{Admin, Check, Phase, Profile, Profiles};
pub(super) use tables::{Keys, Many, Named, TextTable};
pub(super) use tracing::Tracing;

use super::problem::Problem;
use super::source::Place;
use super::suggest::{closest, listed};
use super::tree::{Key, Node, Table};
use super::units::{show, show_size};

/// The word for a key: its field's, unless another is said.
macro_rules! word {
    ($key:ident) => {
        stringify!($key)
    };
    ($key:ident $word:literal) => {
        $word
    };
}

/// Declares a table: the struct, its keys, and the reader that knows no others. A key that is no name in Rust follows its
/// field: `scale_down as "scale-down": …`, and stands in its schema's `rename` too.
macro_rules! written {
    ($(#[$meta:meta])* struct $name:ident { $( $(#[$about:meta])* $key:ident $(as $word:literal)?: $kind:ty, )* }) => {
        #[derive(Debug, Default, JsonSchema)]
        #[schemars(deny_unknown_fields, default)]
        $(#[$meta])*
        pub(in crate::config) struct $name {
            $( $(#[$about])* pub(in crate::config) $key: Field<$kind>, )*
            /// Where the table begins; `None` when nobody wrote it.
            #[schemars(skip)]
            #[allow(dead_code, reason = "not every table is pointed at")]
            pub(in crate::config) place: Option<Place>,
        }

        impl Keys for $name {
            const KEYS: &'static [(&'static str, &'static Shape)] =
                &[$((word!($key $($word)?), <$kind as Read>::SHAPE)),*];

            fn read_table(table: Table, path: &str, reader: &mut Reader<'_>) -> Self {
                let mut read = Self { place: table.place.clone(), ..Self::default() };
                for (key, node) in table.entries {
                    let path = join(path, &key.name);
                    match key.name.as_str() {
                        $( word!($key $($word)?) => read.$key = Field::read(node, &path, reader), )*
                        // Who wrote `adress` has not left out `address`: one slip is one problem.
                        _ => match reader.unknown(&key, &node, &path, Self::KEYS) {
                            $( Some(word!($key $($word)?)) => read.$key.or_wrong(), )*
                            _ => {}
                        },
                    }
                }
                read
            }
        }
    };
}

mod drain;
mod readiness;
mod tracing;

written! {
    /// Where clients come to, which servers are behind, and which client goes where.
    ///
    /// Every key has a default but the addresses of servers that greenroom does not start itself.
    #[schemars(rename = "Configuration", title = "greenroom's configuration")]
    struct Root {
        /// How long stopping may take: for closing clients, and then for a process between TERM and KILL.
        #[schemars(extend("default" = show(GRACE), "x-values" = kinds::range_of(std::time::Duration::ZERO, GRACE_MAX)))]
        grace: Span,
        /// How the log is written. `auto`: `text` on a terminal, else `json`.
        #[schemars(extend("default" = "auto", "enum" = super::words::LOG_FORMATS))]
        log_format: String,
        /// The folder in which start-up times are kept over greenroom's own life, so that it knows after a restart how long a
        /// start takes. A relative one is seen from the folder of this file.
        #[schemars(extend("x-default" = "they are forgotten", "examples" = ["/var/lib/greenroom"]))]
        state_dir: String,
        /// Whether a change of this file is taken as by `greenroom reload`, without being told.
        #[schemars(extend("default" = false))]
        reload_on_change: bool,
        /// Where greenroom itself is asked and told things.
        admin: Admin,
        /// How clients are closed when greenroom stops or drains.
        drain: Drain,
        /// Bounds of the whole process, and of what one address may take of it.
        limits: Limits,
        /// Where traces of opening handshakes are sent.
        tracing: Tracing,
        /// Addresses that clients come to, by name. Without one: `main`, at `0.0.0.0:$PORT` if `PORT` is
        /// set in the environment, else at `127.0.0.1:8080`.
        #[schemars(extend("maxProperties" = LISTENERS_MAX))]
        listener: Named<Listener>,
        /// Servers behind greenroom, by name. Each has a gate of its own.
        #[schemars(extend("maxProperties" = BACKENDS_MAX))]
        backend: Named<Backend>,
        /// Which clients go to which backend. Their order does not matter: an exact host is tried before a wildcard,
        /// a long wildcard before a short one, then a long path before a short one, then a route for some
        /// listeners before one for all. Without any, all clients go to the only backend.
        #[schemars(extend("maxItems" = ROUTES_MAX))]
        route: Many<Route>,
        /// Other values for a place where the configuration is used. One is chosen by `--profile` or `GREENROOM_PROFILE`.
        profile: Profiles,
    }
}

written! {
    /// An address that clients come to.
    #[schemars(extend("required" = ["address"]))]
    struct Listener {
        /// `host:port`. The host `0.0.0.0` or `[::]` is every address of the machine, and port 0 a free one.
        #[schemars(extend("examples" = ["127.0.0.1:8080", "0.0.0.0:80", "[::1]:8080"]))]
        address: String,
        /// The hosts that a request may name, as in the `host` of a route; others are refused with 403. So no page can reach
        /// what is behind by a name of its own that leads here (DNS rebinding).
        #[schemars(extend("x-default" = "all", "minItems" = 1, "maxItems" = ALLOWED_MAX, "examples" = [["example.org", "*.example.org"]]))]
        hosts: Texts,
    }
}

written! {
    /// A server behind greenroom.
    struct Backend {
        /// Where it listens: `host:port` or `unix:/path`. May be left out with a process: then greenroom chooses a free
        /// loopback port, tells it as `PORT` in the environment, and puts it wherever the command has `{port}`.
        #[schemars(extend("examples" = ["127.0.0.1:8000", "app.internal:80", "unix:/run/app.sock"]))]
        address: String,
        /// How to learn that it is ready. `notify`: it says so (sd_notify; needs a process) · `http:/path`: GET is answered with 200
        /// to 399 · `websocket:/path`: an opening handshake is answered with a 101 · `grpc`, `grpc:service`: `grpc.health.v1` says SERVING · `listen`: the kernel's socket table
        /// shows a listener, on this machine · `tcp`: a connection is accepted · `auto`: what it says once it says
        /// anything; until then, and without a process, `listen` where that can be, else `tcp`.
        #[schemars(extend("default" = "auto", "x-values" = "`auto`, `notify`, `listen`, `tcp`, `http:/path`, `websocket:/path`, `grpc`, `grpc:service`"))]
        #[schemars(extend("pattern" = "^(auto|notify|listen|tcp|grpc|grpc:.+|(http|websocket):/.*)$"))]
        ready: String,
        /// The phases of its start, in order. It reports each when it is finished (`X_GREENROOM_PHASE=name` by sd_notify,
        /// `greenroom phase`), or a check proves it. After the last, and for a backend that reports none, it is ready as `ready` says.
        #[schemars(extend("default" = DEFAULT_PHASES, "minItems" = 1, "maxItems" = PHASES_MAX))]
        phases: Texts,
        /// How long a phase may take, by its name.
        #[schemars(extend("maxProperties" = PHASES_MAX))]
        phase: Named<Phase>,
        /// What else is asked, about it or what it depends on, by a name of your choice.
        #[schemars(extend("maxProperties" = CHECKS_MAX))]
        check: Named<Check>,
        /// WebSocket clients that wait for it at the most; more are refused with 503.
        #[schemars(extend("default" = HELD_MAX, "minimum" = 1, "maximum" = HELD_MAX_MOST))]
        held_max: Number,
        /// HTTP requests that wait for it at the most; more are refused with 503.
        #[schemars(extend("default" = HTTP_HELD_MAX, "minimum" = 1, "maximum" = HELD_MAX_MOST))]
        http_held_max: Number,
        /// Connections to it that are being opened at one time; the rest wait their turn.
        #[schemars(extend("default" = DIALS_MAX, "minimum" = 1, "maximum" = DIALS_MAX_MOST))]
        dials_max: Number,
        /// By what turns are shared among those who wait: `no`, all in one line; `address`, one after the other of each address; `header:NAME`,
        /// of each value of this header. Within one address or value they go in order. So one client with a thousand connections does not keep the others waiting. A header is
        /// what the client says: share by one that something in front of greenroom sets.
        #[schemars(extend("default" = "no", "x-values" = "`no`, `address`, `header:NAME`", "pattern" = "^(no|address|header:.+)$"))]
        fair: String,
        /// WebSocket clients of one address that wait for it at the most; more are refused with 429. What one address is: `address_bits_v4` and `address_bits_v6` of `[limits]`.
        #[schemars(extend("x-default" = "no limit", "minimum" = 1, "maximum" = HELD_MAX_MOST))]
        held_per_address: Number,
        /// The same of one value of the header that `fair` names.
        #[schemars(extend("x-default" = "no limit", "minimum" = 1, "maximum" = HELD_MAX_MOST))]
        held_per_key: Number,
        /// Clients that are let in per second at the most.
        #[schemars(extend("x-default" = "as fast as it answers", "minimum" = 1, "maximum" = RELEASE_RATE_MAX))]
        release_rate: Number,
        /// What greenroom starts for it and watches. Without it, something else starts the server.
        process: Process,
    }
}

written! {
    /// A process that greenroom starts for a backend.
    #[schemars(extend("required" = ["command"]))]
    struct Process {
        /// Program and arguments, one word each. No shell reads them: for pipes and variables write `["sh", "-c", "…"]`.
        /// `{port}` in a word becomes the port to listen on.
        #[schemars(extend("examples" = [["uvicorn", "app:app", "--port", "{port}"]]))]
        command: Words,
        /// Added to greenroom's own environment, by name. The values are never shown.
        env: TextTable,
        /// The folder it starts in. A relative one is seen from the folder of this file.
        #[schemars(extend("x-default" = "greenroom's own"))]
        cwd: String,
        /// The user it runs as, by name or number. greenroom itself must then run as root.
        #[schemars(extend("x-default" = "greenroom's own"))]
        user: String,
        /// The group it runs as, by name or number.
        #[schemars(extend("x-default" = "the user's, or greenroom's own"))]
        group: String,
        /// Whether it is started again when it ends: after 500 ms, and at most 5 times in a minute.
        #[schemars(extend("default" = RestartPolicy::OnFailure.word(), "enum" = super::words::RESTARTS))]
        restart: String,
        /// Once it has said READY, it must give a sign of life (`WATCHDOG=1`) at least so often; after a longer silence it is ended with
        /// ABRT, and started again as `restart` says. It is told as `WATCHDOG_USEC`.
        #[schemars(extend("x-default" = "none", "x-values" = kinds::range_of(WATCHDOG_MIN, WATCHDOG_MAX)))]
        watchdog: Span,
    }
}

written! {
    /// Which clients go to a backend, and how they are treated on the way.
    struct Route {
        /// Its name in logs, and in `GREENROOM__ROUTE__NAME__KEY`.
        #[schemars(extend("x-default" = "from host and path, such as `example.org/ws`"))]
        name: String,
        /// The host it is for, without port: `example.org`, or `*.example.org` for all hosts below it, or `*` for all.
        #[schemars(extend("default" = "*"))]
        host: String,
        /// The beginning of the path it is for, in whole segments: `/ws` is for `/ws` and `/ws/chat`, not for `/wsx`.
        #[schemars(extend("default" = "/", "pattern" = "^/"))]
        path: String,
        /// The listener it is for, or several as an array.
        #[schemars(extend("x-default" = "all"))]
        listener: Names,
        /// The backend that clients go to. May be left out if there is one only.
        #[schemars(extend("x-default" = "the only one"))]
        backend: String,
        /// WebSocket clients that come too early. `handshake` lets them wait, and the 101 comes from the server: nothing is between the two, but
        /// many clients give up after 5 to 20 s. `accept` sends a 101 of greenroom's own at once, and keeps what they send until the server is ready. `auto` is `handshake`
        /// until `accept_after`, then `accept`; a browser whose address was accepted before is accepted at once. Nobody is accepted whose subprotocol is not known. `refuse` sends 503 at once.
        #[schemars(extend("default" = "auto", "enum" = super::words::HOLDS))]
        hold: String,
        /// With `auto`: how long after the beginning of the hold period (the backend went away, or greenroom started; where the server listens and nobody has met it yet, the first who waits has come) clients are accepted.
        #[schemars(extend("default" = show(ACCEPT_AFTER), "x-values" = kinds::range_of(std::time::Duration::ZERO, ACCEPT_AFTER_MAX)))]
        accept_after: Span,
        /// Subprotocols that the server selects: a client is accepted with the first of its own that is here.
        #[schemars(extend("x-default" = "learned from the server", "minItems" = 1, "maxItems" = SUBPROTOCOLS_MAX, "examples" = [["graphql-transport-ws"]]))]
        subprotocols: Texts,
        /// When the client's messages go to the server, after the server's 101: `handshake`, at once; `first-frame`, once the server has sent something, or
        /// after 10 s; a time, or once the server has sent something before. Many servers attach their handler a little later than they answer, and lose what comes before.
        #[schemars(extend("x-default" = format!("`{}` for a client that was accepted, else at once", show(FORWARD_AFTER))))]
        #[schemars(extend("x-values" = format!("`handshake`, `first-frame`, {}", kinds::range_of(std::time::Duration::ZERO, FORWARD_AFTER_MAX))))]
        forward_after: String,
        /// A client from which nothing has come for so long is pinged, so that nothing on the way takes the connection for idle, and a client that is gone is noticed. Behind a load balancer that
        /// closes idle connections after 60 s (AWS), `25s` is right.
        #[schemars(extend("x-default" = "nobody is pinged", "x-values" = kinds::range_of(WATCH_TIMES.0, WATCH_TIMES.1)))]
        ping_interval: Span,
        /// A client from which not a byte comes for so long after a ping is lost: it is closed with 1001. Any byte counts, not only a pong.
        #[schemars(extend("default" = show(PING_TIMEOUT), "x-values" = kinds::range_of(WATCH_TIMES.0, WATCH_TIMES.1)))]
        ping_timeout: Span,
        /// Whether the backend is pinged in the same way. `count`: pings that it leaves unanswered are counted, no more. `close`: then its connection is lost; some
        /// servers answer none while they are busy.
        #[schemars(extend("default" = "no", "enum" = super::words::PING_BACKENDS))]
        ping_backend: String,
        /// A connection on which neither side has sent a message for so long is closed with 1001. Pings and pongs are no messages.
        #[schemars(extend("x-default" = "none", "x-values" = kinds::range_of(WATCH_TIMES.0, WATCH_TIMES.1)))]
        idle_timeout: Span,
        /// How long a connection may be open; then it is closed with 1001 and `retry-after-ms`. Each has from 90 to 100 % of it, so that those that came together do not come back together.
        #[schemars(extend("x-default" = "none", "x-values" = kinds::range_of(LIFETIME_RANGE.0, LIFETIME_RANGE.1)))]
        max_lifetime: Span,
        /// A client that takes less than is sent to it. `wait`: its backend waits for it, as without greenroom. `close`: it is closed with 1013, once something has waited for it without interruption
        /// for `slow_after`, and `slow_bytes` or more wait then.
        #[schemars(extend("default" = "wait", "enum" = super::words::ON_SLOW))]
        slow: String,
        /// See `slow`. What waits is what the kernel's buffer for this client has no room for; that buffer may have 4 MiB.
        #[schemars(extend("default" = show(SLOW_AFTER), "x-values" = kinds::range_of(WATCH_TIMES.0, WATCH_TIMES.1)))]
        slow_after: Span,
        /// See `slow`. What the kernel has not delivered counts too.
        #[schemars(extend("default" = show_size(SLOW_BYTES as u64), "x-values" = kinds::sizes(SLOW_BYTES_RANGE)))]
        slow_bytes: Size,
        /// A text message that accepted clients get while they wait, in a form that they know, at first and every 5 s. `{phase}` in it becomes the phase of the start, `{position}`
        /// the client's place in the line, and `{seconds}` how long it will take, as earlier starts tell (unknown: `null` in JSON, else `?`); each may stand in it once.
        #[schemars(extend("x-default" = "none", "x-values" = format!("string of at most {WAITING_MESSAGE_MAX} bytes")))]
        #[schemars(extend("examples" = ["{\"type\":\"waiting\",\"phase\":\"{phase}\",\"position\":{position},\"seconds\":{seconds}}"]))]
        waiting_message: String,
        /// Origins whose pages may open WebSockets here; others are refused with 403, before they take a place. `https://example.org`, `https://*.example.org` for all
        /// hosts below it, `same` for pages of the request's own host, `null` for pages without one. Clients that send no Origin are no browsers, and pass.
        #[schemars(extend("x-default" = "all", "minItems" = 1, "maxItems" = ALLOWED_MAX, "examples" = [["https://example.org", "same"]]))]
        origins: Texts,
        /// Which header says who the user is, as something in front of greenroom sets it: `header:NAME`. It is shown (`greenroom ps`), and counted for
        /// `max_connections_per_user`. A request that has it several times, or with more than 128 bytes, or with what is not printable, is refused with 400; one without it has no user. A header
        /// that clients can set themselves says nothing about who they are: what is in front must take theirs away.
        #[schemars(extend("x-default" = "nobody says so", "pattern" = "^header:", "examples" = ["header:X-Auth-Request-User"]))]
        user: String,
        /// What its connections can be found by, beside their user: `name=value`, the same for all, or `header:NAME`, with the name and the value of a header, under the rules of `user`.
        #[schemars(extend("x-default" = "none", "minItems" = 1, "maxItems" = TAGS_MAX, "examples" = [["header:X-Tenant", "plan=free"]]))]
        tags: Texts,
        /// How long a WebSocket client waits at the most; then it gets 503 with Retry-After.
        #[schemars(extend("default" = show(HOLD_TIMEOUT), "x-values" = kinds::range_of(HOLD_TIMEOUT_MIN, HOLD_TIMEOUT_MAX)))]
        hold_timeout: Span,
        /// HTTP requests that come too early: `hold` lets them wait, `refuse` sends 503 at once, `pass` sends them to the server, ready or not.
        #[schemars(extend("default" = "hold", "enum" = super::words::HTTP_MODES))]
        http: String,
        /// How long an HTTP request waits at the most; then it gets 503 with Retry-After.
        #[schemars(extend("default" = show(HTTP_HOLD), "x-values" = kinds::range_of(HOLD_TIMEOUT_MIN, HOLD_TIMEOUT_MAX)))]
        http_hold: Span,
        /// Whether a browser that waits for a page is shown, after a second, that the server is starting. The page goes to the application by itself.
        #[schemars(extend("default" = true))]
        waiting_page: bool,
        /// What is changed in the header of requests to the backend.
        request_headers: HeaderEdits,
        /// What is changed in the header of the backend's answers.
        response_headers: HeaderEdits,
        /// Replaces the matched `path` towards the backend: with `path = "/api"` and `rewrite = "/"`, `/api/users` becomes `/users`.
        #[schemars(extend("x-default" = "the path stays", "pattern" = "^/"))]
        rewrite: String,
        /// Bytes that the body of a request may have; a longer one is refused with 413.
        #[schemars(extend("x-default" = "no limit", "x-values" = format!("`0B` to `{}`", show_size(BODY_MAX_MOST))))]
        body_max: Size,
        /// Bytes that one message of a WebSocket client may have, over all its frames and as they are on the wire (compressed, where that was agreed). A client that sends a larger
        /// one is closed with 1009, before anything of the frame that makes it too large is passed on.
        #[schemars(extend("x-default" = "no limit", "x-values" = kinds::sizes(MESSAGE_MAX_RANGE)))]
        message_max: Size,
        /// Messages that one WebSocket client may send in a second, over time; those of two seconds may come at once. A client that sends more is closed with 1008.
        /// Pings, Pongs and a Close are no messages, and what an accepted client sent before its backend was there is not counted: it is bounded by its size.
        #[schemars(extend("x-default" = "no limit", "minimum" = 1, "maximum" = MESSAGE_RATE_MAX))]
        message_rate: Number,
        /// What must be there before a client is let in: names of checks that are good and of phases that are finished, of its backend.
        /// With checks only, `[]` too, the backend's own `ready` is needed beside them; a phase among them is enough of a word from the backend.
        /// If a check and a phase have the same name, the check is meant.
        #[schemars(extend("x-default" = "`ready`, and all critical checks", "examples" = [["cache", "websocket"]]))]
        require: Texts,
        /// While checks of its backend that are not critical are bad: `serve` lets clients in all the same, `hold` lets
        /// them wait, `refuse` sends 503 at once.
        #[schemars(extend("default" = "serve", "enum" = super::words::DEGRADED))]
        degraded: String,
        /// A client that would wait longer than it may, as start-ups until now tell: `late` lets it wait to the end, `early` refuses it on
        /// arrival, with a Retry-After by which it will make it.
        #[schemars(extend("default" = "late", "enum" = super::words::SHEDS))]
        shed: String,
        /// How its clients hear that the backend is degraded: `no`; `header`, by `Greenroom-Degraded` in the 101 and in answers to
        /// plain requests; `message`, by `degraded_message` after the 101.
        #[schemars(extend("default" = "no", "enum" = super::words::TELL_CLIENTS))]
        tell_clients: String,
        /// A text message for `tell_clients = "message"`, in a form that the clients know. `{level}` in it becomes `minimal`, `moderate`,
        /// `severe` or `emergency`, and `{missing}` the names of the bad checks with commas between them; each may stand in it once.
        #[schemars(extend("x-values" = format!("string of at most {DEGRADED_MESSAGE_MAX} bytes")))]
        #[schemars(extend("examples" = ["{\"type\":\"degraded\",\"level\":\"{level}\",\"missing\":\"{missing}\"}"]))]
        degraded_message: String,
    }
}

written! {
    /// Bounds of the whole process, and of what one address may take of it.
    struct Limits {
        /// Connections of clients that are open at one time; more are refused with 503.
        #[schemars(extend("x-default" = "as many as there are descriptors", "minimum" = 1, "maximum" = DESCRIPTORS_MAX))]
        connections_max: Number,
        /// The same of one address; more are refused with 429.
        #[schemars(extend("x-default" = "no limit", "minimum" = 1, "maximum" = DESCRIPTORS_MAX))]
        connections_per_address: Number,
        /// WebSocket handshakes that one address may begin in a second, over time; those of two seconds may come at once. More are refused with 429.
        #[schemars(extend("x-default" = "no limit", "minimum" = 1, "maximum" = HANDSHAKES_MAX))]
        handshakes_per_address: Number,
        /// Leading bits by which IPv4 addresses are told apart: with 24, a network of 256 addresses counts as one.
        #[schemars(extend("default" = ADDRESS_BITS.0, "minimum" = 1, "maximum" = 32))]
        address_bits_v4: Number,
        /// The same of IPv6: one customer of a provider has 64 bits and more to choose from.
        #[schemars(extend("default" = ADDRESS_BITS.1, "minimum" = 1, "maximum" = 128))]
        address_bits_v6: Number,
        /// Bytes of the head of a request; a longer one is refused with 431.
        #[schemars(extend("default" = show_size(HEAD_MAX as u64), "x-values" = kinds::sizes(HEAD_MAX_RANGE)))]
        head_max: Size,
        /// Time for the whole head of a request; then it is refused with 408.
        #[schemars(extend("default" = show(HEAD_TIMEOUT), "x-values" = kinds::range_of(HEAD_TIMEOUT_RANGE.0, HEAD_TIMEOUT_RANGE.1)))]
        head_timeout: Span,
        /// Bytes that are kept of what one accepted client sends while it waits; then it is not read any more, and closed with 1009 if that lasts.
        #[schemars(extend("default" = show_size(EARLY_MAX as u64), "x-values" = kinds::sizes(EARLY_MAX_RANGE)))]
        early_max: Size,
        /// Bytes that are kept of all accepted clients together. At 80 % of it nobody else is accepted, at 90 % those who came last are closed.
        #[schemars(extend("default" = show_size(EARLY_BUDGET as u64), "x-values" = kinds::sizes(EARLY_BUDGET_RANGE)))]
        early_budget: Size,
        /// WebSockets that one user has open at one time, over all routes that say who their users are (`user`). With more it goes as `on_user_limit` says.
        #[schemars(extend("x-default" = "no limit", "minimum" = 1, "maximum" = DESCRIPTORS_MAX))]
        max_connections_per_user: Number,
        /// Who gives way when a user has as many: `refuse-new`, the new one, with 429; `close-oldest`, the one that the user opened first, with 1008 as the new one has its 101, unless
        /// it is open for less than a second: then the new one, so that two that reconnect at once do not drive each other out for ever.
        #[schemars(extend("default" = "refuse-new", "enum" = super::words::ON_USER_LIMITS))]
        on_user_limit: String,
    }
}

written! {
    /// Changes to header fields.
    ///
    /// Fields that greenroom sets itself, or decides by, cannot be changed: those of one connection (`Connection`, `Upgrade`,
    /// `Transfer-Encoding` …), `Host`, `Content-Length`, `Via`, `Forwarded`, and all that begin with `Sec-WebSocket-`,
    /// `X-Forwarded-` or `Greenroom-`; nor can names with an underscore.
    struct HeaderEdits {
        /// Fields that are set, by name, whatever was there. The values are not shown by `check`.
        #[schemars(extend("maxProperties" = HEADER_EDITS_MAX))]
        set: TextTable,
        /// Names of fields that are taken away.
        #[schemars(extend("maxItems" = HEADER_EDITS_MAX))]
        remove: Texts,
    }
}

impl Reader<'_> {
    /// A key that nobody knows; gives the one that was meant.
    fn unknown(
        &mut self,
        key: &Key,
        node: &Node,
        path: &str,
        known: &[(&'static str, &'static Shape)],
    ) -> Option<&'static str> {
        let names = || known.iter().map(|(name, _)| *name);
        let problem = Problem::new(format!("`{path}` is no key")).at(&key.place);
        let mut tables = Vec::new();
        elsewhere(&key.name, Root::SHAPE, "", &mut tables);
        let belongs = || format!("belongs to {}", listed("or", tables.iter().map(String::as_str)));
        let meant = closest(&key.name, names());
        if is_secret(&key.name) || meant.is_some_and(is_secret) {
            hide(node, self.sources);
        }
        self.problems.add(match meant {
            Some(meant) if tables.is_empty() => problem.label(format!("did you mean `{meant}`?")),
            Some(meant) => {
                problem
                    .label(format!("did you mean `{meant}`?"))
                    .help(format!("`{}` {}", key.name, belongs()))
            }
            None if !tables.is_empty() => problem.label(format!("this key {}", belongs())),
            None => problem
                .label("unknown here")
                .help(format!("the keys here are {}", listed("and", names()))),
        });
        meant
    }
}

/// Whether what is written under this name may be a secret, wherever it stands.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    ["pass", "pwd", "secret", "token"]
        .iter()
        .any(|part| name.contains(part))
}

/// The tables that have this key. What is below a profile is there without it too.
fn elsewhere(name: &str, shape: &Shape, header: &str, found: &mut Vec<String>) {
    let Shape::Table(keys) = shape else { return };
    if keys.iter().any(|(key, _)| *key == name) {
        found.push(match header {
            "" => "the top of the file, above all tables".into(),
            "route" => "[[route]]".into(),
            header => format!("[{header}]"),
        });
    }
    for (key, below) in keys.iter().filter(|(key, _)| *key != "profile") {
        match below {
            Shape::Named(one) => elsewhere(name, one, &format!("{}.NAME", join(header, key)), found),
            Shape::Many(one) => elsewhere(name, one, &join(header, key), found),
            Shape::Table(_) => elsewhere(name, below, &join(header, key), found),
            Shape::Value | Shape::Free => {}
        }
    }
}
