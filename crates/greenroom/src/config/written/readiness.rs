//! What can be written about readiness: phases, checks, the admin address, profiles.

use greenroom_core::limits::{
    CHECK_EVERY, CHECK_TEXT_MAX, CHECK_TIMEOUT_MAX, CHECK_TIMEOUT_MIN, EXEC_EVERY, FALL, LISTEN_EVERY,
    PHASE_TIMEOUT_MAX, PHASE_TIMEOUT_MIN, PROBE_EVERY, PROBE_TIMEOUT, RISE, RISE_MAX, ROUTES_MAX, WEIGHT_MAX,
};
use schemars::JsonSchema;

use super::super::source::Place;
use super::super::tree::Table;
use super::super::units::show;
use super::super::words;
use super::kinds::{Field, Hidden, Number, Numbers, Read, Reader, Shape, Span, Words, join, range_of};
use super::tables::{Keys, Many, Named};
use super::{Backend, Drain, Limits, Route};

written! {
    /// Where greenroom itself is asked and told things.
    struct Admin {
        /// The Unix socket of `greenroom status` and `greenroom phase`: a path, such as `/run/greenroom/admin.sock`. A relative one
        /// is seen from the folder of this file.
        #[schemars(extend("x-default" = "one of its own, which `greenroom status` finds"))]
        socket: String,
        /// A TCP address beside the socket, `host:port`; never that of a listener. One that is not a loopback address needs a `token`.
        #[schemars(extend("x-default" = "none", "examples" = ["127.0.0.1:9090"]))]
        address: String,
        /// What requests to `address` must bring: `Authorization: Bearer TOKEN`. 16 to 1024 letters, digits and `-._~+/=`. Never shown. Only the
        /// health paths `/livez`, `/readyz` and `/startupz` need none.
        #[schemars(extend("x-default" = "none"))]
        token: Hidden,
        /// The same from a file, which holds the token alone. It must be a file of greenroom's own user or of root that others can neither read nor write (`chmod 600`). A relative
        /// path is seen from the folder of this file.
        #[schemars(extend("x-default" = "none", "examples" = ["/etc/greenroom/token"]))]
        token_file: String,
        /// Answers the health paths below this one at all listeners too, for a platform that knows one port only: with
        /// `/-/greenroom` they are `/-/greenroom/livez` and so on, and no backend sees them.
        #[schemars(extend("x-default" = "none", "pattern" = "^/", "examples" = ["/-/greenroom"]))]
        health_prefix: String,
        /// When `/readyz` says yes: `listening`, as soon as greenroom can hold clients; `backends`, when these are ready too, as `/startupz`.
        #[schemars(extend("default" = "listening", "enum" = words::READYZ))]
        readyz: String,
    }
}

written! {
    /// One of the backend's `phases`, by its name.
    struct Phase {
        /// How long it may take, from the end of the one before. When it is over, the start has failed: who is held hears it, and a process is
        /// started again as its `restart` says. The server can ask for more by `EXTEND_TIMEOUT_USEC`.
        #[schemars(extend("x-default" = "as long as it likes", "x-values" = range_of(PHASE_TIMEOUT_MIN, PHASE_TIMEOUT_MAX)))]
        timeout: Span,
    }
}

written! {
    /// A probe with a name, asked for ever, about a backend or what it depends on.
    #[schemars(extend("required" = ["probe"]))]
    struct Check {
        /// What is asked. `listen`: the kernel's socket table shows a listener, on this machine · `tcp`: a connection is accepted · `http`: GET
        /// is answered as expected · `websocket`: an opening handshake gets a 101 · `grpc`: `grpc.health.v1` says SERVING · `postgres`,
        /// `redis`, `nats`: it answers, and is neither starting nor loading · `exec`: a command ends with code 0 · `log`: a line of the process's
        /// output matches · `file`: it is there. Short forms: `http:/path`, `websocket:/path`, `grpc:service`, `file:/path`.
        #[schemars(extend("x-values" = words::KINDS.map(|kind| format!("`{kind}`")).join(", ")))]
        #[schemars(extend("pattern" = format!("^({})$|^(http|websocket):/|^(grpc|file):", words::KINDS.join("|"))))]
        probe: String,
        /// Where: `host:port` or `unix:/path`. Required for `postgres`, `redis` and `nats`; also for `listen`, `tcp`, `http`, `websocket`, `grpc`.
        #[schemars(extend("x-default" = "the backend's own"))]
        address: String,
        /// The request's path. Required for `http` and `websocket`.
        path: String,
        /// The request's Host, for `http` and `websocket`.
        #[schemars(extend("x-default" = "the address"))]
        host: String,
        /// The statuses that are good, for `http`: one, or the first and the last. No redirect is followed.
        #[schemars(extend("default" = "200-399", "x-values" = "`200` to `599`, or two of them such as `\"200-299\"`"))]
        status: Numbers,
        /// A regular expression that must match somewhere in the first 64 KiB of the body, for `http`.
        #[schemars(extend("x-default" = "any body"))]
        body: String,
        /// A JSON pointer (RFC 6901) to where the body says the name of the phase that was finished last, for `http`.
        #[schemars(extend("examples" = ["/startup/phase"]))]
        pointer: String,
        /// Whether a ping is sent after the 101, and its pong waited for, for `websocket`.
        #[schemars(extend("default" = false))]
        ping: bool,
        /// The service that is asked for, for `grpc`.
        #[schemars(extend("x-default" = "the whole server"))]
        service: String,
        /// The user, for `postgres` and `nats`.
        #[schemars(extend("x-default" = "`postgres`; for `nats` none"))]
        user: String,
        /// The database, for `postgres`.
        #[schemars(extend("x-default" = "the user's name"))]
        database: String,
        /// The password, for `postgres`, `redis` and `nats`. Never shown. Better than in this file: in the environment, as
        /// `GREENROOM__BACKEND__NAME__CHECK__NAME__PASSWORD`.
        #[schemars(extend("x-default" = "none"))]
        password: Hidden,
        /// Whether a server in recovery, such as a standby, is good too, for `postgres`.
        #[schemars(extend("default" = false))]
        recovery: bool,
        /// Program and arguments, one word each, for `exec`. It is killed when the time of the look is over.
        #[schemars(extend("examples" = [["./migrated", "--check"]]))]
        command: Words,
        /// A regular expression that must match somewhere in a line of the process's output, for `log`. Once it was seen, the check is good
        /// for that life of the process.
        #[schemars(extend("x-values" = format!("string of at most {CHECK_TEXT_MAX} bytes"), "examples" = ["Application startup complete"]))]
        line: String,
        /// A path, for `file`. A relative one is seen from the folder of this file.
        file: String,
        /// The phase that is finished when this check is good.
        #[schemars(extend("x-default" = "none"))]
        phase: String,
        /// Whether the backend is not ready without it. Without one that is not critical it is ready and degraded.
        #[schemars(extend("default" = true))]
        critical: bool,
        /// How much is missing without it, beside the other checks that are not critical: the level of the degradation is
        /// the missing part of all weights, up to 25 % `minimal`, 50 % `moderate`, 75 % `severe`, else `emergency`.
        #[schemars(extend("default" = 1, "minimum" = 1, "maximum" = WEIGHT_MAX))]
        weight: Number,
        /// Good answers in a row that make it good.
        #[schemars(extend("default" = RISE, "minimum" = 1, "maximum" = RISE_MAX))]
        rise: Number,
        /// Bad answers in a row that make a good one bad.
        #[schemars(extend("default" = FALL, "minimum" = 1, "maximum" = RISE_MAX))]
        fall: Number,
        /// Time from one look to the next, on a fixed grid; not for `log`. A look that takes longer leaves out the next.
        #[schemars(extend("x-values" = range_of(CHECK_EVERY.0, CHECK_EVERY.1), "x-default" = intervals()))]
        interval: Span,
        /// How long a look may take; longer is a bad answer. Not for `log`.
        #[schemars(extend("default" = show(PROBE_TIMEOUT), "x-values" = range_of(CHECK_TIMEOUT_MIN, CHECK_TIMEOUT_MAX)))]
        timeout: Span,
    }
}

fn intervals() -> String {
    let [listen, exec, other] = [LISTEN_EVERY, EXEC_EVERY, PROBE_EVERY].map(show);
    format!("`{other}`; `listen`: `{listen}`; `exec`: `{exec}`")
}

written! {
    /// Other values for a place where the configuration is used.
    #[allow(dead_code, reason = "what a profile says is put over the file before it is read")]
    struct Profiles {
        /// Other values where it is developed.
        development: Profile,
        /// Other values where it is tried out.
        staging: Profile,
        /// Other values where it is in earnest.
        production: Profile,
    }
}

written! {
    /// Other values, put over those of the file if this profile is chosen, by `--profile NAME` or `GREENROOM_PROFILE`. Variables and flags win over it.
    ///
    /// It has the tables and keys of the file, but names only what is there: `[profile.production.backend.app.check.database]` changes
    /// a check of `[backend.app]`, and makes none. A `[[profile.production.route]]` is for the route of the same `name`, or the only one. An array is
    /// replaced as a whole. Where greenroom listens, is asked, and keeps its state is not a matter of profiles.
    #[allow(dead_code, reason = "what a profile says is put over the file before it is read")]
    struct Profile {
        /// As at the top.
        #[schemars(extend("x-values" = "as at the top"))]
        grace: Span,
        /// As at the top.
        #[schemars(extend("enum" = words::LOG_FORMATS))]
        log_format: String,
        /// As at the top.
        drain: Drain,
        /// As at the top.
        limits: Limits,
        /// Other values for backends, by name.
        backend: Named<Backend>,
        /// Other values for routes.
        #[schemars(extend("maxItems" = ROUTES_MAX))]
        route: Many<Route>,
    }
}
