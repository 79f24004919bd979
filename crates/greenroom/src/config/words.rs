//! The words that a setting may be, one list each.

use greenroom_core::backoff::RestartPolicy;

use super::model::{Hold, HttpMode, LogFormat};

pub(super) const LOG_FORMATS: [&str; 3] = ["auto", "text", "json"];
pub(super) const HOLDS: [&str; 2] = ["handshake", "refuse"];
pub(super) const HTTP_MODES: [&str; 3] = ["hold", "refuse", "pass"];
pub(super) const RESTARTS: [&str; 3] = ["never", "on-failure", "always"];

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
    const ALL: &'static [Self] = &[Self::Handshake, Self::Refuse];

    fn word(self) -> &'static str {
        match self {
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
    }
}
