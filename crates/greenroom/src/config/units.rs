//! Durations and sizes with units: `"250ms"`, `"1m30s"`, `"64KiB"`.
//!
//! A bare number is an error, as nobody can tell whether it means seconds or
//! milliseconds, bytes or kilobytes. One parser for the command line and for files.

use std::time::Duration;

/// Why a duration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No unit: nobody can tell what was meant.
    #[error("{found:?} has no unit: write {found}s or {found}ms")]
    NoUnit {
        /// What was given.
        found: String,
    },
    /// Not a number with a unit.
    #[error(
        "{found:?} is not a duration: write a whole number and a unit (ms, s, m or h), such as \"250ms\", \"10s\" or \"1m30s\""
    )]
    Unreadable {
        /// What was given.
        found: String,
    },
    /// Outside of what this setting allows.
    #[error("{found} is out of range: it must be from {} to {}", show(*min), show(*max))]
    OutOfRange {
        /// What was given.
        found: String,
        /// The least.
        min: Duration,
        /// The most.
        max: Duration,
    },
}

/// A duration as one would write it: in the largest unit that leaves a whole number.
#[must_use]
pub fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    [(3_600_000, "h"), (60_000, "m"), (1_000, "s")]
        .into_iter()
        .find(|(unit, _)| ms.is_multiple_of(*unit) && (ms > 0 || *unit == 1_000))
        .map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

/// So many of something, as one would say it: "1 connection", "2 connections".
#[must_use]
pub fn count<N: Copy + PartialEq + From<u8> + std::fmt::Display>(number: N, of: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {of}{plural}")
}

/// Reads a duration and checks it against the range of its setting.
pub fn duration_in(text: &str, min: Duration, max: Duration) -> Result<Duration, DurationError> {
    let value = duration(text)?;
    if value < min || value > max {
        return Err(DurationError::OutOfRange {
            found: text.into(),
            min,
            max,
        });
    }
    Ok(value)
}

/// Reads a duration: one or more whole numbers, each with `ms`, `s`, `m` or `h`.
pub fn duration(text: &str) -> Result<Duration, DurationError> {
    let unreadable = || DurationError::Unreadable { found: text.into() };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(DurationError::NoUnit { found: text.into() });
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| unreadable())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit_ms: u64 = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(unreadable()),
        };
        rest = &rest[letters..];
        if unit_ms >= last_unit {
            return Err(unreadable()); // "1s2m", "1s1s": units go from large to small, each once
        }
        last_unit = unit_ms;
        let part = number.checked_mul(unit_ms).ok_or_else(unreadable)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(unreadable)?;
    }
    if last_unit == u64::MAX {
        return Err(unreadable());
    }
    Ok(total)
}

/// Why a size could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No unit: nobody can tell what was meant.
    #[error("{found:?} has no unit: write {found}KiB, {found}MiB or {found}B")]
    NoUnit {
        /// What was given.
        found: String,
    },
    /// Not a number with a unit.
    #[error(
        "{found:?} is not a size: write a whole number and a unit (B, KiB, MiB or GiB), such as \"64KiB\" or \"10MiB\""
    )]
    Unreadable {
        /// What was given.
        found: String,
    },
    /// A unit of thousands, where there are only units of 1024.
    #[error("{found:?} counts in thousands: sizes count in 1024 here; write {number}{unit}")]
    Thousands {
        /// What was given.
        found: String,
        /// Its number.
        number: String,
        /// The unit that is nearest.
        unit: &'static str,
    },
    /// Outside of what this setting allows.
    #[error("{found} is out of range: it must be from {} to {}", show_size(*min), show_size(*max))]
    OutOfRange {
        /// What was given.
        found: String,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
}

/// Units of size, the largest first.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A size as one would write it: in the largest unit that leaves a whole number.
#[must_use]
pub fn show_size(size: u64) -> String {
    SIZES
        .into_iter()
        .find(|(_, unit)| size > 0 && size.is_multiple_of(*unit))
        .map_or_else(|| format!("{size}B"), |(name, unit)| format!("{}{name}", size / unit))
}

/// Reads a size: one whole number with `B`, `KiB`, `MiB` or `GiB`; checks it against the range of its setting.
pub fn size_in(text: &str, min: u64, max: u64) -> Result<u64, SizeError> {
    let unreadable = || SizeError::Unreadable { found: text.into() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(unreadable());
    }
    if unit.is_empty() {
        return Err(SizeError::NoUnit { found: text.into() });
    }
    let thousands = [("kB", "KiB"), ("KB", "KiB"), ("MB", "MiB"), ("GB", "GiB")];
    if let Some((_, nearest)) = thousands.iter().find(|(name, _)| *name == unit) {
        return Err(SizeError::Thousands {
            found: text.into(),
            number: number.into(),
            unit: nearest,
        });
    }
    let (_, unit) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(unreadable)?;
    let number: u64 = number.parse().map_err(|_| unreadable())?;
    let out_of_range = || SizeError::OutOfRange {
        found: text.into(),
        min,
        max,
    };
    number
        .checked_mul(*unit)
        .filter(|size| (min..=max).contains(size))
        .ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("250ms", 250),
            ("4s", 4_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_what_nobody_can_be_sure_of() {
        assert!(matches!(duration("5"), Err(DurationError::NoUnit { .. })));
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1s1s",
            "1s2m",
            "1 s",
            "1S",
            "1d",
            "99999999999999999999s",
            "5ms3",
            "１s",
        ] {
            assert!(
                matches!(duration(text), Err(DurationError::Unreadable { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn durations_are_shown_as_one_would_write_them() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (60_000, "1m"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(show(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn the_range_is_named_when_it_is_missed() {
        let error = duration_in("2h", Duration::from_millis(1), Duration::from_secs(3600)).unwrap_err();
        assert_eq!(error.to_string(), "2h is out of range: it must be from 1ms to 1h");
    }

    #[test]
    fn sizes_are_read_and_shown_alike() {
        for (text, size) in [
            ("0B", 0),
            ("1B", 1),
            ("64KiB", 65_536),
            ("10MiB", 10 << 20),
            ("3GiB", 3 << 30),
        ] {
            assert_eq!(size_in(text, 0, u64::MAX), Ok(size), "{text}");
            assert_eq!(show_size(size), text);
        }
        assert_eq!(show_size(1_025), "1025B");
    }

    #[test]
    fn a_size_that_can_be_taken_for_another_is_refused() {
        let error = |text: &str| size_in(text, 1, 1 << 40).unwrap_err();
        assert!(matches!(error("64"), SizeError::NoUnit { .. }));
        assert!(error("10MB").to_string().ends_with("write 10MiB"));
        for text in [
            "",
            "KiB",
            "1.5MiB",
            "-1B",
            "1 KiB",
            "1kib",
            "1TiB",
            "1KiB1B",
            "99999999999999999999B",
        ] {
            assert!(matches!(error(text), SizeError::Unreadable { .. }), "{text}");
        }
        for text in ["0B", "1025GiB", "18446744073709551615GiB"] {
            assert!(error(text).to_string().ends_with("from 1B to 1024GiB"), "{text}");
        }
    }
}
