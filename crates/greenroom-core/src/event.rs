//! The words for what happens to a connection: states, causes, refusals.
//!
//! One word per thing, the same in code, logs and docs (`docs/lexicon.md`).
//! A refusal is a value: it knows its HTTP status before the 101, and its close
//! code after it, so that no caller chooses one by itself.

use core::fmt;

/// A session's sequence number: given when its head is complete, in the order
/// of arrival, and sent to the backend as `Greenroom-Session` on each dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One life of a backend's process: 1 for the first, then counting up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident => $word:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[$vmeta])* $variant ),+
        }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for it in logs and counters.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }
    };
}

words! {
    /// Where a connection is. Every accepted connection is in exactly one.
    pub enum State {
        /// Accepted, head not yet complete.
        Opening => "opening",
        /// A plain HTTP request.
        Http => "http",
        /// At the gate.
        Held => "held",
        /// Its head is written to the backend; the 101 has not been passed on.
        Dialing => "dialing",
        /// Both sides are open.
        Relaying => "relaying",
        /// Client kept, backend lost.
        Parked => "parked",
        /// A Close or a refusal is on its way.
        Closing => "closing",
        /// Over: one cause in the close ledger.
        Closed => "closed",
    }
}

words! {
    /// Why a client is sent away. See [`Refusal::status`] and [`Refusal::close_code`].
    pub enum Refusal {
        /// The hold time is over.
        HoldTimeout => "hold_timeout",
        /// The hold queue is full.
        HeldFull => "held_full",
        /// The route holds nobody (`--hold refuse`) and the backend is not ready.
        NotReady => "not_ready",
        /// The backend's start-up failed and nobody starts it again.
        StartFailed => "start_failed",
        /// The backend runs without something that the route does not do without.
        Degraded => "degraded",
        /// By all that is known of its starts the backend will not be ready in the client's time.
        Shed => "shed",
        /// Too many of its address wait for the backend.
        HeldOfAddress => "held_of_address",
        /// Too many of its key (`fair = "header:NAME"`) wait for the backend.
        HeldOfKey => "held_of_key",
        /// The budget of bytes for messages that come before their backend is used up.
        EarlyBudget => "early_budget",
        /// It sent more before its backend was ready than is kept, and waited to send on.
        EarlyTooMuch => "early_too_much",
        /// While it was held it sent more pings than are answered.
        EarlyPings => "early_pings",
        /// The backend selected another subprotocol than the one that the client was accepted with.
        Subprotocol => "subprotocol",
        /// Its Origin is not allowed.
        Origin => "origin",
        /// Its Host is not allowed.
        Host => "host",
        /// As many connections as may be are open.
        Connections => "connections",
        /// As many connections of its address as may be are open.
        ConnectionsOfAddress => "connections_of_address",
        /// Its address begins more handshakes than it may.
        HandshakeRate => "handshake_rate",
        /// As many connections of its user as may be are open.
        ConnectionsOfUser => "connections_of_user",
        /// It is closed by hand while it waits.
        ByHand => "by_hand",
        /// greenroom is stopping.
        Draining => "draining",
        /// No file descriptor is left for another client.
        Descriptors => "descriptors",
        /// The request is malformed or not a valid opening handshake.
        BadRequest => "bad_request",
        /// The head did not arrive in time.
        HeadTimeout => "head_timeout",
        /// The head is over its limits.
        HeadTooLarge => "head_too_large",
        /// Another WebSocket version than 13.
        Version => "version",
        /// CONNECT: greenroom is no forward proxy.
        Method => "method",
        /// No route is for this host and path.
        NoRoute => "no_route",
        /// The request's body is larger than its route allows.
        BodyTooLarge => "body_too_large",
        /// The request's body stopped coming.
        BodyTimeout => "body_timeout",
        /// The backend's answer is no HTTP, or a 101 that is none.
        BadAnswer => "bad_answer",
        /// The backend took the connection and did not answer by the deadline.
        Unanswered => "unanswered",
    }
}

words! {
    /// Why a message of greenroom's own is not sent to a client.
    pub enum Unsent {
        /// A message of the backend was not complete in time, and no other can stand within it (RFC 6455 §5.4).
        UnfinishedMessage => "unfinished_message",
        /// It has no WebSocket of which both sides are open: it waits for its 101, it is for plain HTTP, or it ends.
        NotRelaying => "not_relaying",
        /// It takes too little of what is sent to it: as much as is kept waits already.
        Slow => "slow",
        /// It is over.
        Gone => "gone",
    }
}

impl Refusal {
    /// The HTTP status before the 101.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::HoldTimeout
            | Self::HeldFull
            | Self::NotReady
            | Self::StartFailed
            | Self::Degraded
            | Self::Shed
            | Self::EarlyBudget
            | Self::Connections
            | Self::ByHand
            | Self::Draining
            | Self::Descriptors => 503,
            Self::HeldOfAddress
            | Self::HeldOfKey
            | Self::ConnectionsOfAddress
            | Self::ConnectionsOfUser
            | Self::HandshakeRate => 429,
            Self::Origin | Self::Host => 403,
            Self::BadRequest | Self::EarlyPings => 400,
            Self::HeadTimeout | Self::BodyTimeout => 408,
            Self::NoRoute => 404,
            Self::BodyTooLarge | Self::EarlyTooMuch => 413,
            Self::HeadTooLarge => 431,
            Self::Version => 426,
            Self::Method => 501,
            Self::BadAnswer | Self::Subprotocol => 502,
            Self::Unanswered => 504,
        }
    }

    /// The close code after the 101 (RFC 6455 §7.4; 1012 and 1013 as registered with IANA).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::HoldTimeout
            | Self::HeldFull
            | Self::NotReady
            | Self::StartFailed
            | Self::Degraded
            | Self::Shed
            | Self::EarlyBudget
            | Self::Connections
            | Self::ByHand
            | Self::Descriptors => 1013,
            Self::HeldOfAddress
            | Self::HeldOfKey
            | Self::EarlyPings
            | Self::Origin
            | Self::Host
            | Self::ConnectionsOfAddress
            | Self::ConnectionsOfUser
            | Self::HandshakeRate => 1008,
            Self::EarlyTooMuch => 1009,
            Self::Draining => 1001,
            Self::BadRequest
            | Self::HeadTimeout
            | Self::HeadTooLarge
            | Self::Version
            | Self::Method
            | Self::NoRoute
            | Self::Subprotocol
            | Self::BodyTooLarge
            | Self::BodyTimeout => 1002,
            Self::BadAnswer | Self::Unanswered => 1011,
        }
    }

    /// Whether the client is told when to come back (`Retry-After`).
    #[must_use]
    pub const fn retry_after(self) -> bool {
        matches!(self.status(), 429 | 503)
    }

    /// One line for the person who meets it. Never holds internals.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::HoldTimeout => "the server did not become ready in time; try again later",
            Self::HeldFull => "too many clients are waiting for the server; try again later",
            Self::NotReady => "the server is starting; try again later",
            Self::StartFailed => "the server could not start; try again later",
            Self::Degraded => "the server runs without a part that is needed here; try again later",
            Self::Shed => "the server will not be ready in time; try again later",
            Self::HeldOfAddress => "too many clients of this address are waiting for the server; try again later",
            Self::HeldOfKey => "too many clients of this kind are waiting for the server; try again later",
            Self::EarlyBudget => "too much is waiting for the server; try again later",
            Self::EarlyTooMuch => "more was sent than is kept until the server is ready",
            Self::EarlyPings => "too many pings",
            Self::Subprotocol => "the server selected another subprotocol than was promised",
            Self::Origin => "pages of this origin may not connect here",
            Self::Host => "nothing is served under this host",
            Self::Connections => "too many clients are connected; try again later",
            Self::ConnectionsOfAddress => "too many connections of this address; try again later",
            Self::HandshakeRate => "too many handshakes of this address; try again later",
            Self::ConnectionsOfUser => "too many connections of this user; try again later",
            Self::ByHand => "the server asks to try again later",
            Self::Draining => "the server is stopping; try again later",
            Self::Descriptors => "the server has no room for another connection; try again later",
            Self::BadRequest => "the request is malformed",
            Self::HeadTimeout => "the request did not arrive in time",
            Self::HeadTooLarge => "the request header is too large",
            Self::Version => "only WebSocket version 13 is spoken here",
            Self::Method => "this method is not served here",
            Self::NoRoute => "nothing is served at this host and path",
            Self::BodyTooLarge => "the request's body is too large",
            Self::BodyTimeout => "the request's body did not arrive in time",
            Self::BadAnswer => "the server gave an invalid answer",
            Self::Unanswered => "the server did not answer in time",
        }
    }
}

words! {
    /// Why a connection ended: each closed one has exactly one, in the close ledger.
    pub enum CloseCause {
        /// Closed by its client without a byte sent: a health check, a browser's spare connection.
        Silent => "silent",
        /// The client left before its head was complete.
        LeftOpening => "left_opening",
        /// The client left while held or dialling.
        LeftHeld => "left_held",
        /// greenroom refused it: see the refusal.
        Refused => "refused",
        /// Its plain requests were answered, and it is over.
        Served => "served",
        /// The backend's own answer (not a 101) was passed on.
        PassedOn => "passed_on",
        /// The client began the close handshake, or ended its side.
        Client => "client",
        /// The client's connection was reset or timed out.
        ClientLost => "client_lost",
        /// The backend began the close handshake with an application's code.
        Backend => "backend",
        /// The backend refused the handshake of a client that was accepted before: 1008 was sent.
        BackendRefused => "backend_refused",
        /// The backend was lost: 1012 was sent.
        BackendLost => "backend_lost",
        /// The backend was lost in the middle of a frame over 64 KiB: cut.
        LostMidFrame => "lost_mid_frame",
        /// The client broke the protocol: 1002.
        ClientViolation => "client_violation",
        /// The backend broke the protocol: 1002 to it, 1001 to the client.
        BackendViolation => "backend_violation",
        /// greenroom was stopping, or its backend, its route or a part of the clients was drained.
        Drained => "drained",
        /// Somebody closed it through the admin API.
        Admin => "admin",
        /// It sent and got nothing for `idle_timeout`: 1001.
        Idle => "idle",
        /// Its `max_lifetime` was over: 1001.
        Lifetime => "lifetime",
        /// It took too little for too long (`slow = "close"`): 1013.
        Slow => "slow",
        /// It sent a message that is too large (1009), or too many (1008).
        Limit => "limit",
        /// A newer connection of its user took its place: 1008.
        Replaced => "replaced",
        /// A limit of time while half-closed or closing.
        TimedOut => "timed_out",
        /// A fault of greenroom itself; always worth a bug report.
        Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_legal_status_and_close_code() {
        for &refusal in Refusal::ALL {
            assert!((400..600).contains(&refusal.status()), "{refusal}");
            assert!(
                matches!(refusal.close_code(), 1001 | 1002 | 1008 | 1009 | 1011 | 1013),
                "{refusal}"
            );
            assert!(refusal.sentence().len() <= 123, "{refusal}");
        }
    }

    #[test]
    fn words_are_unique() {
        let mut words: Vec<_> = CloseCause::ALL.iter().map(|c| c.word()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), CloseCause::ALL.len());
    }
}
