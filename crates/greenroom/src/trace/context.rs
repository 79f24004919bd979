//! Which trace and which span: `traceparent` of W3C Trace Context, read and written.

use std::fmt;

/// A place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// Bit 0: sampled. Bit 1: the trace's id is random (level 2).
    pub flags: u8,
}

/// What a backend hears of its client's trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Our span.
    pub context: Context,
    /// The trace begins here: what the client says in `tracestate` is of none.
    pub is_root: bool,
}

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

impl Context {
    /// The place that a `traceparent` names (W3C Trace Context §3.2.2). `None`: it is broken, and as good as none.
    /// A later version may have more behind the flags.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (version, rest) = (hex::<1>(value.get(..2)?)?[0], value.get(55..)?);
        let is_whole = match version {
            0 => rest.is_empty(),
            255 => return None,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let dashes = [2, 35, 52].iter().all(|&at| value.get(at) == Some(&b'-'));
        let (trace, span) = (hex(value.get(3..35)?)?, hex(value.get(36..52)?)?);
        let flags = hex::<1>(value.get(53..55)?)?[0];
        let is_some = trace != [0; 16] && span != [0; 8];
        (is_whole && dashes && is_some).then_some(Self { trace, span, flags })
    }

    /// A span of its own: of the parent's trace, or the first of a new one. `random` are bytes that nobody can guess.
    #[must_use]
    pub(super) fn new(parent: Option<Self>, random: [u8; 24]) -> Self {
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&random[..16]);
        span.copy_from_slice(&random[16..]);
        // All zero is none: nobody will ever see that.
        span[7] |= u8::from(span == [0; 8]);
        trace[15] |= u8::from(trace == [0; 16]);
        match parent {
            Some(parent) => Self {
                trace: parent.trace,
                span,
                flags: SAMPLED | (parent.flags & RANDOM),
            },
            None => Self {
                trace,
                span,
                flags: SAMPLED | RANDOM,
            },
        }
    }

    /// Whether whoever began it wants it recorded.
    #[must_use]
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Lower case only, as the specification has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_the_same_and_what_is_broken_is_none() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(Context::parse(good.as_bytes()).unwrap().to_string(), good);
        let later = good.replacen("00", "01", 1);
        for (text, is_good) in [
            (good.to_owned(), true),
            (later.clone(), true),
            (format!("{later}-more"), true),
            (format!("{later}more"), false),
            (format!("{good}-more"), false),
            (good.replacen("00", "ff", 1), false),
            (good.to_uppercase(), false),
            (good.replace("b7ad6b7169203331", "0000000000000000"), false),
            (good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)), false),
            (good.replace('-', "_"), false),
            (good[..54].to_owned(), false),
            (good.replace("-01", "-0g"), false),
            (String::new(), false),
        ] {
            assert_eq!(Context::parse(text.as_bytes()).is_some(), is_good, "{text}");
        }
        assert!(Context::parse(&[0xff; 60]).is_none());
    }

    #[test]
    fn a_span_of_ones_own_is_of_the_parents_trace_and_keeps_what_it_said_of_it() {
        let parent = Context::parse(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff").unwrap();
        let own = Context::new(Some(parent), [7; 24]);
        assert_eq!((own.trace, own.span, own.flags), (parent.trace, [7; 8], 3));
        let root = Context::new(None, [0; 24]);
        assert!(root.trace != [0; 16] && root.span != [0; 8] && root.is_sampled());
        assert!(Context::parse(root.to_string().as_bytes()).is_some());
    }
}
