//! What holds for any bytes: nothing panics, cuts do not matter, and what is forwarded is clean.

use super::{Is, crlf, forward, is, to_backend, upgrade, valid_and};
use crate::head::UNCHANGED;
use crate::head::{After, Answer, BodyFraming, BodyReader, Fault, head_end, parse_response};
use greenroom_core::limits::HEAD_MAX;
use proptest::collection::vec;
use proptest::prelude::*;

/// Lines that a client may add, legal or hostile.
pub(super) fn line() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        "[A-Za-z][A-Za-z0-9-]{0,12}",
        "[A-Za-z_]{1,8}",
        proptest::sample::select(vec![
            "X-Forwarded-For",
            "x-forwarded-proto",
            "X-Forwarded-Host",
            "Forwarded",
            "X-Real-IP",
            "Greenroom-Session",
            "greenroom-attempt",
            "X_Forwarded_For",
            "TE",
            "Keep-Alive",
            "Connection",
            "Cookie",
            "Origin",
            "Host",
            "Upgrade",
            "Content-Length",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Protocol",
        ])
        .prop_map(str::to_owned),
    ];
    let value = prop_oneof![
        "[ -~]{0,20}",
        "[a-zA-Z-]{1,15}(, [a-zA-Z-]{1,15}){0,3}",
        proptest::sample::select(vec!["0", "6.6.6.6", "upgrade, x-forwarded-for", "websocket"]).prop_map(str::to_owned),
    ];
    (name, value).prop_map(|(name, value)| format!("{name}: {value}"))
}

/// The fields of a head, by their names in lower case.
fn fields(head: &str) -> Vec<(String, String)> {
    head.split("\r\n")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim_matches([' ', '\t']).to_owned())
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in vec(any::<u8>(), 0..400), at in 0usize..200) {
        let _ = is(&bytes);
        let mut head = valid_and("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n");
        let request = upgrade(&head);
        let _ = parse_response(&bytes, &request);
        for framing in [BodyFraming::Chunked, BodyFraming::Length(7), BodyFraming::UntilClose] {
            let _ = BodyReader::new(framing).take(&bytes);
        }
        // Nearly valid heads reach further than noise.
        head.splice(at..(at + bytes.len() % 4).min(head.len()), bytes.iter().copied().take(3));
        let _ = is(&head);
        let mut answer = crlf("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\n");
        answer.splice(at..(at + bytes.len() % 4).min(answer.len()), bytes.iter().copied().take(3));
        if let Answer::Status(status) = parse_response(&answer, &request) {
            status.to_client(UNCHANGED, After::Close, false, &mut Vec::new());
        }
    }

    #[test]
    fn where_a_head_ends_does_not_depend_on_the_cuts(mut bytes in vec(proptest::sample::select(b"GET \r\n\r\n\r\n\tA:".to_vec()), 0..60), cuts in vec(1usize..20, 1..20)) {
        if !bytes.is_empty() {
            bytes[0] = b'G';
        }
        let whole = head_end(&bytes, 0, HEAD_MAX);
        let (mut seen, mut pieces) = (0, Ok(None));
        for cut in cuts.iter().cycle() {
            let now = (seen + cut).min(bytes.len());
            pieces = head_end(&bytes[..now], seen, HEAD_MAX);
            seen = now;
            if pieces != Ok(None) || seen == bytes.len() {
                break;
            }
        }
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn where_a_body_ends_does_not_depend_on_the_cuts(bytes in vec(proptest::sample::select(b"0123\r\n\r\n\r\nT:;a".to_vec()), 0..40), cut in 1usize..8) {
        let mut whole = BodyReader::new(BodyFraming::Chunked);
        let mut pieces = whole.clone();
        let expected = whole.take(&bytes);
        let mut sum = 0;
        let mut fault = None;
        for piece in bytes.chunks(cut) {
            match pieces.take(piece) {
                Ok(taken) => sum += taken.bytes,
                Err(error) => { fault = Some(error); break; }
            }
        }
        match expected {
            Ok(taken) => prop_assert_eq!((fault, sum, pieces.is_done()), (None, taken.bytes, taken.done)),
            Err(error) => prop_assert_eq!(fault, Some(error)),
        }
    }

    /// Invariant 20 of the simulator: header hygiene.
    #[test]
    fn what_is_forwarded_is_clean(before in vec(line(), 0..6), after in vec(line(), 0..6)) {
        let lines = |lines: &[String]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let head = crlf(&format!("GET /x HTTP/1.1\n{}{}{}", lines(&before), super::VALID, lines(&after)));
        prop_assume!(is(&head) == Is::Upgrade);
        let client = String::from_utf8(head.clone()).unwrap();
        let sent = to_backend(&upgrade(&head), &forward());

        // It is a head that greenroom itself would take, and taking it again changes nothing but its own fields and one more Via.
        let again = upgrade(sent.as_bytes());
        prop_assert_eq!(again.head().len(), sent.len());
        prop_assert_eq!(to_backend(&again, &forward()).replacen("Via: 1.1 greenroom\r\n", "", 1), sent.clone());

        let sent = fields(&sent);
        let count = |name: &str| sent.iter().filter(|(sent, _)| sent == name).count();
        for name in [
            "host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "x-forwarded-for",
            "x-forwarded-proto", "x-forwarded-host", "greenroom-session", "greenroom-attempt",
        ] {
            prop_assert_eq!(count(name), 1, "{}", name);
        }
        let value = |name: &str| sent.iter().find(|(sent, _)| sent == name).unwrap().1.clone();
        prop_assert_eq!(value("x-forwarded-for"), "192.0.2.7");
        prop_assert_eq!(value("greenroom-session"), "42");
        prop_assert_eq!(value("connection"), "Upgrade");
        prop_assert!(!sent.iter().any(|(name, _)| name.contains('_') || name == "forwarded" || name == "x-real-ip"));

        // All else is the client's, in its order: a subsequence of what it sent.
        let own = sent.len() - 8;
        let mut client = fields(&client).into_iter();
        for field in &sent[..own] {
            prop_assert!(client.any(|from| from == *field), "{:?}", field);
        }
    }
}

#[test]
fn every_fault_is_answered_by_4xx_and_says_a_sentence() {
    for fault in [Fault::TooLong, Fault::Version, Fault::LineEnd, Fault::Extensions] {
        assert!((400..500).contains(&fault.refusal().status()));
        assert!(!fault.to_string().is_empty());
    }
}
