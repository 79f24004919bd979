//! Decides which codes may stand in a Close frame (RFC 6455 §7.4), in both
//! directions: one that may not be received can also not be built.

use core::fmt;

/// A code that may stand in a Close frame: to have one is proof that it is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: done.
    pub const NORMAL: Self = Self(1000);
    /// 1001: this end goes away.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the other end broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1008: the other end broke a rule that has no code of its own.
    pub const POLICY: Self = Self(1008);
    /// 1007: a text is no UTF-8.
    pub const NOT_UTF8: Self = Self(1007);
    /// 1009: too big.
    pub const TOO_BIG: Self = Self(1009);
    /// 1011: this end failed.
    pub const INTERNAL: Self = Self(1011);
    /// 1012: this end restarts; come back.
    pub const RESTART: Self = Self(1012);
    /// 1013: not now; come back later.
    pub const TRY_LATER: Self = Self(1013);

    /// The code, if it may be sent: 1000 to 1014 without 1004, 1005 and 1006, and
    /// 3000 to 4999.
    ///
    /// 1005, 1006 and 1015 are what an API says when there was no code (RFC 6455
    /// §7.4.1), 1004 has no meaning, below 1000 and 1016 to 2999 nothing is defined
    /// (§7.4.2), from 5000 on nothing ever will be. 1012 to 1014 are registered with IANA.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            0..=999 | 1004..=1006 | 1015..=2999 | 5000..=u16::MAX => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A Close frame that went by. Its reason is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CloseSeen {
    /// The code; `None` if the frame had no payload (an API calls that 1005).
    pub code: Option<CloseCode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_legal_codes_can_be_made() {
        let legal = |code: u16| {
            (1000..1015).contains(&code) && ![1004, 1005, 1006].contains(&code) || (3000..5000).contains(&code)
        };
        for code in 0..=u16::MAX {
            assert_eq!(
                CloseCode::new(code).map(CloseCode::get),
                legal(code).then_some(code),
                "{code}"
            );
        }
    }

    #[test]
    fn the_named_codes_are_legal() {
        use CloseCode as C;
        for code in [
            C::NORMAL,
            C::GOING_AWAY,
            C::PROTOCOL_ERROR,
            C::POLICY,
            C::TOO_BIG,
            C::INTERNAL,
            C::RESTART,
            C::TRY_LATER,
        ] {
            assert_eq!(CloseCode::new(code.get()), Some(code));
        }
    }
}
