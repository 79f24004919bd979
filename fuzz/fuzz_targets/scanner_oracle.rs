//! Do the frame scanner and tungstenite hear the same, and refuse the same?
//!
//! First byte: whose bytes. The rest is the stream.
#![no_main]

use greenroom_core::wire::Sender;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/greenroom-core/tests/wire/oracle.rs"]
mod oracle;

fuzz_target!(|data: &[u8]| {
    let [flags, bytes @ ..] = data else { return };
    let sender = if flags & 1 == 0 {
        Sender::Client
    } else {
        Sender::Backend
    };
    oracle::check_oracle(sender, bytes);
});
