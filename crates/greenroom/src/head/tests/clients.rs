//! Heads as real clients send them: all are let in.

use super::{crlf, forward, to_backend, upgrade};

const CLIENTS: &[(&str, &str)] = &[
    (
        "Chromium",
        "GET /ws HTTP/1.1\nHost: 127.0.0.1:8080\nConnection: Upgrade\nPragma: no-cache\nCache-Control: no-cache\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/140.0.0.0 Safari/537.36\n\
         Upgrade: websocket\nOrigin: http://127.0.0.1:3000\nSec-WebSocket-Version: 13\nAccept-Encoding: gzip, deflate, br, zstd\n\
         Accept-Language: en-US,en;q=0.9\nCookie: session=abc\nSec-WebSocket-Key: 3qTvVbxVgRRTGa0LZEdm5A==\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n",
    ),
    (
        "Firefox",
        "GET /ws HTTP/1.1\nHost: localhost:8080\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\n\
         Accept: */*\nAccept-Language: en-US,en;q=0.5\nAccept-Encoding: gzip, deflate, br, zstd\nSec-WebSocket-Version: 13\n\
         Origin: http://localhost:3000\nSec-WebSocket-Extensions: permessage-deflate\nSec-WebSocket-Key: 0uOqA0V7pUjqFw8Bs9lT0w==\n\
         DNT: 1\nConnection: keep-alive, Upgrade\nSec-Fetch-Dest: empty\nSec-Fetch-Mode: websocket\nSec-Fetch-Site: same-site\n\
         Pragma: no-cache\nCache-Control: no-cache\nUpgrade: websocket\n",
    ),
    (
        "Python websockets",
        "GET /ws HTTP/1.1\nHost: 127.0.0.1:8080\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Key: hJ6OUQxZ8Rvzp9mRyuBQ1Q==\n\
         Sec-WebSocket-Version: 13\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n\
         User-Agent: Python/3.11 websockets/15.0\n",
    ),
    (
        "aiohttp",
        "GET /ws HTTP/1.1\nHost: 127.0.0.1:8080\nUpgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13\n\
         Sec-WebSocket-Key: hJ6OUQxZ8Rvzp9mRyuBQ1Q==\nAccept: */*\nAccept-Encoding: gzip, deflate\nUser-Agent: Python/3.11 aiohttp/3.12\n",
    ),
    (
        "Node ws",
        "GET /ws HTTP/1.1\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: vUK2wwrKgYBPuUDHv3b9eg==\nConnection: Upgrade\n\
         Upgrade: websocket\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\nSec-WebSocket-Protocol: chat,superchat\n\
         Host: localhost:8080\n",
    ),
    (
        "undici",
        "GET /ws HTTP/1.1\nhost: localhost:8080\nconnection: upgrade\nupgrade: websocket\nsec-websocket-key: vUK2wwrKgYBPuUDHv3b9eg==\n\
         sec-websocket-version: 13\nsec-websocket-extensions: permessage-deflate; client_max_window_bits\naccept: */*\naccept-language: *\n\
         sec-fetch-mode: websocket\nuser-agent: node\npragma: no-cache\ncache-control: no-cache\naccept-encoding: gzip, deflate\n",
    ),
    (
        "Java HttpClient",
        "GET /ws HTTP/1.1\nConnection: Upgrade\nContent-Length: 0\nHost: 127.0.0.1:8080\nSec-WebSocket-Key: vUK2wwrKgYBPuUDHv3b9eg==\n\
         Sec-WebSocket-Version: 13\nUpgrade: websocket\nUser-Agent: Java-http-client/17.0.12\n",
    ),
    (
        "curl",
        "GET /ws HTTP/1.1\nHost: localhost:8080\nUser-Agent: curl/8.14.1\nAccept: */*\nUpgrade: websocket\nConnection: Upgrade\n\
         Sec-WebSocket-Version: 13\nSec-WebSocket-Key: Tv4yWPQT7GV2cZCBi8o4XQ==\n",
    ),
    (
        "Go gorilla",
        "GET /ws HTTP/1.1\nHost: localhost:8080\nUser-Agent: Go-http-client/1.1\nConnection: Upgrade\n\
         Sec-WebSocket-Key: Tv4yWPQT7GV2cZCBi8o4XQ==\nSec-WebSocket-Version: 13\nUpgrade: websocket\n",
    ),
    (
        "kubectl",
        "GET /ws HTTP/1.1\nHost: [::1]:8080\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
         Sec-WebSocket-Key: Tv4yWPQT7GV2cZCBi8o4XQ==\n\
         Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.ZXlKaGJHY2lPaUpTVXpJMU5pSXNJ\n",
    ),
];

#[test]
fn real_clients_are_let_in_and_their_fields_arrive() {
    for (client, lines) in CLIENTS {
        let upgrade = upgrade(&crlf(lines));
        assert_eq!(upgrade.path(), "/ws", "{client}");
        let forwarded = to_backend(&upgrade, &forward());
        for line in lines.lines().skip(1) {
            let name = line.split(':').next().unwrap().to_lowercase();
            if !matches!(&*name, "connection" | "upgrade" | "content-length") {
                assert!(forwarded.contains(&format!("\r\n{line}\r\n")), "{client}: {line}");
            }
        }
    }
}

#[test]
fn a_java_client_asking_for_h2c_is_plain_http() {
    let head = crlf(
        "GET / HTTP/1.1\nConnection: Upgrade, HTTP2-Settings\nContent-Length: 0\nHost: localhost:8080\n\
         HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\nUpgrade: h2c\nUser-Agent: Java-http-client/17\n",
    );
    assert_eq!(super::is(&head), super::Is::Http);
}
