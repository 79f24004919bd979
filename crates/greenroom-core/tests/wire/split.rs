//! Checks that a scanner says the same however its bytes were split, and keeps its
//! word about what it says. Runs in tests and in the fuzz target `scanner_split`.

use greenroom_core::wire::{Scan, Scanner, Sender, Stop};

/// What a scanner said about a whole stream, with offsets into the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Story {
    /// Bytes that were taken and belong to frames found legal, or not judged at the end.
    pub passed: usize,
    /// End of the last whole frame.
    pub boundary: usize,
    /// End of the last whole message.
    pub message_end: usize,
    pub frames: u32,
    pub messages: u32,
    pub pings: u32,
    pub pongs: u32,
    pub data: bool,
    pub stop: Option<Stop>,
    pub at_message_boundary: bool,
    pub frame_len: Option<u64>,
    pub frame_left: u64,
    pub unjudged: usize,
}

/// Scans `bytes` in pieces of these lengths (the rest is the last piece) and tells the
/// story. Panics where one answer contradicts another.
pub(super) fn tell(sender: Sender, rsv1: bool, bytes: &[u8], pieces: impl IntoIterator<Item = usize>) -> Story {
    let mut scanner = Scanner::new(sender, rsv1);
    let mut story = Story::default();
    let mut taken = 0;
    let mut rest = bytes;
    for piece in pieces.into_iter().chain([usize::MAX]) {
        let (slice, after) = rest.split_at(piece.min(rest.len()));
        let scan = scanner.scan(slice);
        check(&scan, slice, &scanner);
        if scan.boundary > 0 {
            story.boundary = taken + scan.boundary;
        }
        if scan.message_end > 0 {
            story.message_end = taken + scan.message_end;
        }
        taken += scan.consumed;
        story.frames += scan.frames;
        story.messages += scan.messages;
        story.pings += scan.pings;
        story.pongs += scan.pongs;
        story.data |= scan.data;
        story.stop = scan.stop;
        if scan.stop.is_some() {
            let again = scanner.scan(bytes);
            assert_eq!(
                again,
                Scan {
                    stop: scan.stop,
                    ..Scan::default()
                },
                "a stop is final"
            );
            break;
        }
        rest = after;
    }
    story.passed = taken;
    if let Some(Stop::Violation(_)) = story.stop {
        // How much of the bad frame was taken before it showed depends on the split, and only that.
        story.passed -= scanner.unjudged();
        assert_eq!(scanner.at_frame_boundary(), scanner.unjudged() == 0);
        assert_eq!(story.passed, story.boundary, "a violation is where a frame would begin");
    } else {
        story.unjudged = scanner.unjudged();
        story.at_message_boundary = scanner.at_message_boundary();
        assert_eq!(scanner.at_frame_boundary(), taken == story.boundary);
    }
    story.frame_len = scanner.frame_len();
    story.frame_left = scanner.frame_left();
    story
}

/// What must hold for every single answer.
fn check(scan: &Scan, slice: &[u8], scanner: &Scanner) {
    assert!(
        scan.boundary <= scan.consumed && scan.consumed <= slice.len(),
        "{scan:?}"
    );
    assert_eq!(scan.frames == 0, scan.boundary == 0, "{scan:?}");
    assert!(scan.messages + scan.pings + scan.pongs <= scan.frames, "{scan:?}");
    assert_eq!(scan.messages == 0, scan.message_end == 0, "{scan:?}");
    assert!(scan.message_end <= scan.boundary, "{scan:?}");
    assert!(scanner.unjudged() <= 13);
    assert_eq!(scan.stop, scanner.stop());
    match scan.stop {
        None => assert_eq!(scan.consumed, slice.len()),
        Some(Stop::Close(_)) => assert_eq!(scan.consumed, scan.boundary),
        Some(Stop::Violation(_)) => assert_eq!(scan.consumed, scan.boundary),
    }
    if let Some(len) = scanner.frame_len() {
        assert!(scanner.frame_left() <= len && len >= 2);
        assert!(!scanner.at_frame_boundary());
    }
}

/// Panics if these pieces, or single bytes, tell another story than the whole.
pub(super) fn check_split(sender: Sender, rsv1: bool, bytes: &[u8], pieces: &[usize]) -> Story {
    let whole = tell(sender, rsv1, bytes, []);
    assert_eq!(
        tell(sender, rsv1, bytes, pieces.iter().copied()),
        whole,
        "pieces {pieces:?}"
    );
    assert_eq!(
        tell(sender, rsv1, bytes, std::iter::repeat_n(1, bytes.len())),
        whole,
        "byte by byte"
    );
    whole
}
