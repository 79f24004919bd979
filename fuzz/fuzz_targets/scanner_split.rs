//! Does the frame scanner say the same however its bytes are split?
//!
//! First byte: whose bytes, and whether RSV1 is agreed. Second: how many of the next
//! bytes are lengths of pieces. The rest is the stream.
#![no_main]

use greenroom_core::wire::Sender;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/greenroom-core/tests/wire/split.rs"]
mod split;

fuzz_target!(|data: &[u8]| {
    let [flags, count, rest @ ..] = data else { return };
    let sender = if flags & 1 == 0 {
        Sender::Client
    } else {
        Sender::Backend
    };
    let (pieces, bytes) = rest.split_at(usize::from(*count).min(rest.len()));
    let pieces: Vec<_> = pieces.iter().map(|&piece| usize::from(piece)).collect();
    split::check_split(sender, flags & 2 != 0, bytes, &pieces);
});
