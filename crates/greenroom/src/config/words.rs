//! The words that a setting may be, one list each.

use greenroom_core::backoff::RestartPolicy;

use greenroom_core::readiness::WhenDegraded;
use greenroom_core::users::OnLimit;

use super::Shed;
use super::model::{Hold, HttpMode, LogFormat};

pub(super) const LOG_FORMATS: [&str; 3] = ["auto", "text", "json"];
pub(super) const HOLDS: [&str; 4] = ["auto", "accept", "handshake", "refuse"];
pub(super) const HTTP_MODES: [&str; 3] = ["hold", "refuse", "pass"];
pub(super) const RESTARTS: [&str; 3] = ["never", "on-failure", "always"];
pub(super) const DEGRADED: [&str; 3] = ["serve", "hold", "refuse"];
pub(super) const SHEDS: [&str; 2] = ["late", "early"];
pub(super) const TELL_CLIENTS: [&str; 3] = ["no", "header", "message"];
pub(super) const READYZ: [&str; 2] = ["listening", "backends"];
pub(super) const ON_USER_LIMITS: [&str; 2] = ["refuse-new", "close-oldest"];
pub(super) const PROFILES: [&str; 3] = ["development", "staging", "production"];
pub(super) const KINDS: [&str; 11] = [
    "listen",
    "tcp",
    "http",
    "websocket",
    "grpc",
    "postgres",
    "redis",
    "nats",
    "exec",
    "log",
    "file",
];

/// How clients hear that their backend is degraded, without the words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    No,
    Header,
    Message,
}

/// What `/readyz` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readyz {
    Listening,
    Backends,
}

/// What a check asks, without the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Listen,
    Tcp,
    Http,
    WebSocket,
    Grpc,
    Postgres,
    Redis,
    Nats,
    Exec,
    Log,
    File,
}

/// A setting that is one of some words.
pub(super) trait Word: Copy + 'static {
    /// The words, in the order of the values.
    const WORDS: &'static [&'static str];
    /// The values.
    const ALL: &'static [Self];

    /// The word for it.
    fn word(self) -> &'static str;

    /// The value of a word.
    fn of(word: &str) -> Option<Self> {
        Self::WORDS
            .iter()
            .position(|known| *known == word)
            .and_then(|index| Self::ALL.get(index).copied())
    }
}

impl Word for LogFormat {
    const WORDS: &'static [&'static str] = &LOG_FORMATS;
    const ALL: &'static [Self] = &[Self::Auto, Self::Text, Self::Json];

    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl Word for Hold {
    const WORDS: &'static [&'static str] = &HOLDS;
    const ALL: &'static [Self] = &[Self::Auto, Self::Accept, Self::Handshake, Self::Refuse];

    fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Accept => "accept",
            Self::Handshake => "handshake",
            Self::Refuse => "refuse",
        }
    }
}

impl Word for HttpMode {
    const WORDS: &'static [&'static str] = &HTTP_MODES;
    const ALL: &'static [Self] = &[Self::Hold, Self::Refuse, Self::Pass];

    fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Refuse => "refuse",
            Self::Pass => "pass",
        }
    }
}

impl Word for RestartPolicy {
    const WORDS: &'static [&'static str] = &RESTARTS;
    const ALL: &'static [Self] = &[Self::Never, Self::OnFailure, Self::Always];

    fn word(self) -> &'static str {
        RestartPolicy::word(self)
    }
}

impl Word for WhenDegraded {
    const WORDS: &'static [&'static str] = &DEGRADED;
    const ALL: &'static [Self] = &[Self::Serve, Self::Hold, Self::Refuse];

    fn word(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Hold => "hold",
            Self::Refuse => "refuse",
        }
    }
}

impl Word for Shed {
    const WORDS: &'static [&'static str] = &SHEDS;
    const ALL: &'static [Self] = &[Self::Late, Self::Early];

    fn word(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Early => "early",
        }
    }
}

impl Word for Tell {
    const WORDS: &'static [&'static str] = &TELL_CLIENTS;
    const ALL: &'static [Self] = &[Self::No, Self::Header, Self::Message];

    fn word(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Header => "header",
            Self::Message => "message",
        }
    }
}

impl Word for OnLimit {
    const WORDS: &'static [&'static str] = &ON_USER_LIMITS;
    const ALL: &'static [Self] = &[Self::RefuseNew, Self::CloseOldest];

    fn word(self) -> &'static str {
        match self {
            Self::RefuseNew => "refuse-new",
            Self::CloseOldest => "close-oldest",
        }
    }
}

impl Word for Readyz {
    const WORDS: &'static [&'static str] = &READYZ;
    const ALL: &'static [Self] = &[Self::Listening, Self::Backends];

    fn word(self) -> &'static str {
        match self {
            Self::Listening => "listening",
            Self::Backends => "backends",
        }
    }
}

impl Word for Kind {
    const WORDS: &'static [&'static str] = &KINDS;
    const ALL: &'static [Self] = &[
        Self::Listen,
        Self::Tcp,
        Self::Http,
        Self::WebSocket,
        Self::Grpc,
        Self::Postgres,
        Self::Redis,
        Self::Nats,
        Self::Exec,
        Self::Log,
        Self::File,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Listen => "listen",
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::WebSocket => "websocket",
            Self::Grpc => "grpc",
            Self::Postgres => "postgres",
            Self::Redis => "redis",
            Self::Nats => "nats",
            Self::Exec => "exec",
            Self::Log => "log",
            Self::File => "file",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees<T: Word + PartialEq + std::fmt::Debug>() {
        assert_eq!(T::WORDS.len(), T::ALL.len());
        for value in T::ALL {
            assert_eq!(T::of(value.word()).as_ref(), Some(value));
        }
        assert_eq!(T::of("Auto"), None);
    }

    #[test]
    fn each_word_is_the_word_of_its_value() {
        agrees::<LogFormat>();
        agrees::<Hold>();
        agrees::<HttpMode>();
        agrees::<RestartPolicy>();
        agrees::<WhenDegraded>();
        agrees::<Shed>();
        agrees::<Tell>();
        agrees::<Readyz>();
        agrees::<Kind>();
    }
}
