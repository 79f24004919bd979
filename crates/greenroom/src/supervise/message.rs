//! Reads one sd_notify datagram.
//!
//! Lines `NAME=value`, as `sd_notify(3)` has them. What is not understood is
//! passed over in silence, as the protocol wants it: newer programs send names
//! that older receivers do not know. Of systemd's own names these are of no use to
//! greenroom, and passed over too: `MONOTONIC_USEC`, `NOTIFYACCESS`, `FDSTORE` and its
//! kin, `BUSERROR`, `VARLINKERROR`, `EXIT_STATUS`, `MAINPIDFDID`. Pure; bounded by the
//! size of a datagram ([`limits::NOTIFY_MAX`]), [`limits::STATUS_MAX`] and
//! [`limits::PHASE_NAME_MAX`].

use std::time::Duration;

use greenroom_core::limits;
use greenroom_core::phase::is_name;

use crate::telemetry::is_safe;

/// What a backend said in one datagram. Of a name that occurs twice the last counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `READY=1`: start-up is finished.
    pub ready: bool,
    /// `STOPPING=1`: it is about to end.
    pub stopping: bool,
    /// `RELOADING=1`: it reads its configuration again; READY follows.
    pub reloading: bool,
    /// `STATUS=…`, cut and without control characters: fit for a log.
    pub status: Option<String>,
    /// `MAINPID=n`: the process that matters from now on.
    pub main_pid: Option<i32>,
    /// `EXTEND_TIMEOUT_USEC=n`, at the most [`limits::EXTEND_TIMEOUT_MAX`].
    pub extend_timeout: Option<Duration>,
    /// `BARRIER=1`: the sender waits until we close the descriptor that came with it.
    pub barrier: bool,
    /// `X_GREENROOM_PHASE=name`: these phases are finished, in this order.
    pub phases: Vec<String>,
    /// `X_GREENROOM_REASON=…`: why the phase is `failed`; as fit for a log as the status.
    pub reason: Option<String>,
    /// `ERRNO=n`: it has failed with this error number. `ERRNO=0` says that it has not.
    pub errno: Option<u32>,
    /// `WATCHDOG=…`.
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC=n`: from now on it may be silent for so long; zero: as long as it likes.
    /// At the most [`limits::WATCHDOG_MAX`].
    pub watchdog_interval: Option<Duration>,
}

/// What a backend says to its watchdog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Watchdog {
    /// `WATCHDOG=1`: it is well.
    Ping,
    /// `WATCHDOG=trigger`: it is not, and wants to be treated as if it had gone silent.
    Trigger,
}

impl Message {
    /// Reads a datagram; never fails.
    #[must_use]
    pub fn parse(datagram: &[u8]) -> Self {
        let mut message = Self::default();
        for line in datagram.split(|&byte| byte == b'\n') {
            let Some(equals) = line.iter().position(|&byte| byte == b'=') else {
                continue;
            };
            message.take(&line[..equals], &line[equals + 1..]);
        }
        message
    }

    /// Whether it says nothing that greenroom knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"READY" => self.ready |= value == b"1",
            b"STOPPING" => self.stopping |= value == b"1",
            b"RELOADING" => self.reloading |= value == b"1",
            b"BARRIER" => self.barrier |= value == b"1",
            b"STATUS" => self.status = Some(printable(value)),
            b"MAINPID" => {
                self.main_pid = number(value)
                    .and_then(|n| i32::try_from(n).ok())
                    .filter(|&n| n > 0)
                    .or(self.main_pid);
            }
            b"EXTEND_TIMEOUT_USEC" => {
                let extension = number(value).map(|n| Duration::from_micros(n).min(limits::EXTEND_TIMEOUT_MAX));
                self.extend_timeout = extension.or(self.extend_timeout);
            }
            b"ERRNO" => {
                if let Some(number) = number(value).and_then(|n| u32::try_from(n).ok()) {
                    self.errno = (number != 0).then_some(number);
                }
            }
            b"WATCHDOG" => {
                let said = match value {
                    b"1" => Some(Watchdog::Ping),
                    b"trigger" => Some(Watchdog::Trigger),
                    _ => None,
                };
                // Whatever else stands beside it: who asks for help is not well.
                self.watchdog = match (self.watchdog, said) {
                    (Some(Watchdog::Trigger), _) | (_, None) => self.watchdog,
                    (_, Some(said)) => Some(said),
                };
            }
            b"WATCHDOG_USEC" => {
                let interval = number(value).map(|n| Duration::from_micros(n).min(limits::WATCHDOG_MAX));
                self.watchdog_interval = interval.or(self.watchdog_interval);
            }
            b"X_GREENROOM_PHASE" => self.phases.extend(phase(value)),
            b"X_GREENROOM_REASON" => self.reason = Some(printable(value)).filter(|text| !text.is_empty()),
            _ => {}
        }
    }
}

/// Decimal digits and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None; // `parse` alone would take "+7"
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// The name of a phase, if it is one.
fn phase(value: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(value).ok()?;
    is_name(value).then(|| name.to_owned())
}

/// Drops what could write over a terminal or turn a line around.
fn printable(value: &[u8]) -> String {
    String::from_utf8_lossy(value)
        .chars()
        .filter(|&c| is_safe(c))
        .take(limits::STATUS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_known_name_is_read() {
        let datagram = b"READY=1\nSTATUS=Warming the cache\nMAINPID=4242\nEXTEND_TIMEOUT_USEC=1500000\n\
            X_GREENROOM_PHASE=database\nX_GREENROOM_PHASE=cache\nSTOPPING=1\nRELOADING=1\nBARRIER=1\nFDSTORE=1\n\
            MONOTONIC_USEC=77\nNOTIFYACCESS=all\nERRNO=98\nWATCHDOG=1\nWATCHDOG_USEC=20000000\n\
            X_GREENROOM_REASON=no \x1bdatabase\n";
        assert_eq!(
            Message::parse(datagram),
            Message {
                ready: true,
                stopping: true,
                reloading: true,
                status: Some("Warming the cache".into()),
                main_pid: Some(4242),
                extend_timeout: Some(Duration::from_millis(1500)),
                barrier: true,
                phases: vec!["database".into(), "cache".into()],
                reason: Some("no database".into()),
                errno: Some(98),
                watchdog: Some(Watchdog::Ping),
                watchdog_interval: Some(Duration::from_secs(20)),
            }
        );
    }

    #[test]
    fn what_is_malformed_or_unknown_says_nothing() {
        for line in [
            "",
            "=",
            "READY",
            "READY=",
            "READY=0",
            "READY=11",
            "READY =1",
            " READY=1",
            "ready=1",
            "READY=1\r",
            "MAINPID=0",
            "MAINPID=-1",
            "MAINPID=+1",
            "MAINPID=99999999999",
            "EXTEND_TIMEOUT_USEC=1s",
            "X_GREENROOM_PHASE=",
            "X_GREENROOM_PHASE=two words",
            "X_GREENROOM_PHASE=ü",
            "WATCHDOG=0",
            "WATCHDOG=TRIGGER",
            "WATCHDOG_USEC=",
            "WATCHDOG_USEC=-1",
            "ERRNO=0",
            "ERRNO=-5",
            "ERRNO=4294967296",
            "X_GREENROOM_REASON=",
            "MONOTONIC_USEC=1",
            "NOTIFYACCESS=all",
            "BUSERROR=x",
            "MAINPIDFDID=1",
        ] {
            assert!(Message::parse(line.as_bytes()).is_empty(), "{line:?}");
        }
        let long = format!("X_GREENROOM_PHASE={}", "x".repeat(limits::PHASE_NAME_MAX + 1));
        assert!(Message::parse(long.as_bytes()).is_empty());
    }

    #[test]
    fn an_extension_is_never_longer_than_its_limit() {
        let message = Message::parse(format!("EXTEND_TIMEOUT_USEC={}", u64::MAX).as_bytes());
        assert_eq!(message.extend_timeout, Some(limits::EXTEND_TIMEOUT_MAX));
        let message = Message::parse(format!("WATCHDOG_USEC={}", u64::MAX).as_bytes());
        assert_eq!(message.watchdog_interval, Some(limits::WATCHDOG_MAX));
    }

    #[test]
    fn the_last_error_number_counts_and_a_cry_for_help_is_not_taken_back() {
        assert_eq!(Message::parse(b"ERRNO=5\nERRNO=x").errno, Some(5));
        assert_eq!(Message::parse(b"ERRNO=5\nERRNO=0").errno, None);
        for both in ["WATCHDOG=1\nWATCHDOG=trigger", "WATCHDOG=trigger\nWATCHDOG=1"] {
            assert_eq!(
                Message::parse(both.as_bytes()).watchdog,
                Some(Watchdog::Trigger),
                "{both:?}"
            );
        }
        assert_eq!(
            Message::parse(b"WATCHDOG_USEC=0").watchdog_interval,
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn a_status_cannot_drive_a_terminal() {
        let message = Message::parse("STATUS=\u{1b}[2Jred\r\u{202e}der\u{9b}31m\0 ok".as_bytes());
        assert_eq!(message.status.as_deref(), Some("[2Jredder31m ok"));
        let long = format!("STATUS={}", "ü".repeat(limits::STATUS_MAX + 50));
        assert_eq!(
            Message::parse(long.as_bytes()).status.map(|s| s.chars().count()),
            Some(limits::STATUS_MAX)
        );
    }

    proptest! {
        #[test]
        fn no_datagram_breaks_the_reader(datagram in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::parse(&datagram);
        }

        #[test]
        fn no_known_name_with_any_value_breaks_the_reader(
            name in "(READY|STATUS|MAINPID|EXTEND_TIMEOUT_USEC|X_GREENROOM_(PHASE|REASON)|BARRIER|ERRNO|WATCHDOG(_USEC)?)", value in ".{0,400}",
        ) {
            let message = Message::parse(format!("{name}={value}").as_bytes());
            let status = message.status.unwrap_or_default();
            prop_assert!(status.chars().count() <= limits::STATUS_MAX);
            prop_assert!(!status.chars().any(char::is_control));
        }
    }
}
