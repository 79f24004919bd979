//! Where the clients go, what they say, and what answer they expect: as it was written, checked. Pure but for
//! the one file of `--message @FILE`, which the caller reads.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{HeaderName, HeaderValue};
use regex::bytes::{Regex, RegexBuilder};

use super::wire;
use crate::limits;

/// What stands for the number of a message in its text.
pub const NUMBER: &str = "{n}";
/// What stands for the port in `--url`.
const PORT: &str = "{port}";

/// Why what was asked for makes no sense.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Not a `ws://` address of this machine.
    #[error("--url is {found:?}: {why}; write for example ws://127.0.0.1:{{port}}/ws")]
    Url {
        /// What was written.
        found: String,
        /// What is wrong.
        why: String,
    },
    /// Not a regular expression.
    #[error("--expect is {found:?}: neither echo, any or none, nor a regular expression: {why}")]
    Expect {
        /// What was written.
        found: String,
        /// What is wrong.
        why: String,
    },
    /// Not a header field.
    #[error("--header is {found:?}: {why}; write it as 'Name: value'")]
    Header {
        /// What was written.
        found: String,
        /// What is wrong.
        why: String,
    },
    /// A message that is longer than one may be.
    #[error(
        "--message has {found} bytes, with numbers for each {{n}}; a message has at most {}",
        limits::MESSAGE_MAX
    )]
    Message {
        /// Its bytes at the most.
        found: usize,
    },
}

/// Where the clients go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    ip: IpAddr,
    port: Option<u16>,
    authority_host: String,
    path: String,
    /// Header fields that are added to the handshake.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Target {
    /// Reads `ws://host:port/path`, where `{port}`, or no port, is the port that CMD is given.
    ///
    /// # Errors
    /// When it is another scheme, another machine, or no address.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let wrong = |why: &str| TargetError::Url {
            found: url.to_owned(),
            why: why.to_owned(),
        };
        let rest = url
            .strip_prefix("ws://")
            .ok_or_else(|| wrong("it must begin with ws://"))?;
        if rest.contains('#') {
            return Err(wrong("a fragment (#…) is never sent to a server"));
        }
        let slash = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let (host, port) = match authority.rfind(':') {
            Some(colon) if !authority.ends_with(']') => (&authority[..colon], Some(&authority[colon + 1..])),
            Some(_) | None => (authority, None),
        };
        let port = match port {
            None | Some(PORT) => None,
            Some(number) => match number.parse::<u16>() {
                Ok(0) | Err(_) => return Err(wrong("the port must be {port} or a number from 1 to 65535")),
                Ok(number) => Some(number),
            },
        };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let ip = match bare {
            "localhost" => IpAddr::from(Ipv4Addr::LOCALHOST),
            _ => bare
                .parse()
                .map_err(|_| wrong("the host must be localhost or an IP address"))?,
        };
        if !ip.is_loopback() {
            return Err(wrong("CMD runs on this machine: the host must be a loopback address"));
        }
        let path = match path.chars().next() {
            None => "/".to_owned(),
            Some('?') => format!("/{path}"),
            Some(_) => path.to_owned(),
        };
        if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(wrong("the path holds a blank or a control character"));
        }
        let target = Self {
            ip,
            port,
            authority_host: host.to_owned(),
            path,
            headers: Vec::new(),
        };
        match wire::check(&target) {
            Ok(()) => Ok(target),
            Err(why) => Err(wrong(&why)),
        }
    }

    /// The same for one client, whose number is its query.
    #[must_use]
    pub fn for_client(mut self, client: u32) -> Self {
        self.path += &format!("?client={client}");
        self
    }

    /// Adds a header field, as `Name: value`.
    ///
    /// # Errors
    /// When it is none.
    pub fn add_header(&mut self, line: &str) -> Result<(), TargetError> {
        let wrong = |why: &str| TargetError::Header {
            found: line.to_owned(),
            why: why.to_owned(),
        };
        let (name, value) = line.split_once(':').ok_or_else(|| wrong("it has no colon"))?;
        let name = name.trim().parse().map_err(|_| wrong("that is no name of a field"))?;
        let value = value.trim().parse().map_err(|_| wrong("that is no value of a field"))?;
        self.headers.push((name, value));
        wire::check(self).map_err(|why| {
            self.headers.pop();
            wrong(&why)
        })
    }

    /// The port of its own, if it has one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The address, where CMD got `port`.
    #[must_use]
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, port)
    }

    /// Path and query, as they are asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What Host says at `port`.
    #[must_use]
    pub fn authority(&self, port: u16) -> String {
        format!("{}:{port}", self.authority_host)
    }
}

impl Default for Target {
    fn default() -> Self {
        Self {
            ip: Ipv4Addr::LOCALHOST.into(),
            port: None,
            authority_host: Ipv4Addr::LOCALHOST.to_string(),
            path: "/".into(),
            headers: Vec::new(),
        }
    }
}

/// What a client says. `{n}` in a text stands for `RUN.CLIENT.NUMBER`, which no other message has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Words {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
}

impl Words {
    /// Text where it is UTF-8, else binary.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(error) => Self::Binary(error.into_bytes()),
        }
    }

    /// Whether each message differs from all others.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        matches!(self, Self::Text(text) if text.contains(NUMBER))
    }

    /// Message `number` of `client` in `run`.
    #[must_use]
    pub fn filled(&self, run: u32, client: u32, number: usize) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.replace(NUMBER, &format!("{run}.{client}.{number}"))),
            Self::Binary(bytes) => Self::Binary(bytes.clone()),
        }
    }

    /// Checks that no message is longer than one may be, its numbers filled in.
    ///
    /// # Errors
    /// When one is.
    pub fn check(&self) -> Result<(), TargetError> {
        let longest = self.filled(limits::AUDIT_RUNS, limits::AUDIT_CLIENTS, limits::AUDIT_MESSAGES);
        let found = longest.bytes().len();
        if found > limits::MESSAGE_MAX {
            return Err(TargetError::Message { found });
        }
        Ok(())
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) => bytes,
        }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::Text(format!("greenroom-audit {NUMBER}"))
    }
}

/// Which answer is the right one.
#[derive(Clone, Debug)]
pub enum Expect {
    /// What was sent.
    Echo,
    /// Any message.
    Any,
    /// None: it is enough that the connection stands.
    Nothing,
    /// A message that this matches, in its first [`limits::AUDIT_REGEX_BYTES`].
    Matches(Regex),
}

impl Expect {
    /// `echo`, `any`, `none`, or a regular expression.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        match text {
            "echo" => Ok(Self::Echo),
            "any" => Ok(Self::Any),
            "none" => Ok(Self::Nothing),
            _ => RegexBuilder::new(text)
                .size_limit(limits::AUDIT_REGEX_SIZE)
                .build()
                .map(Self::Matches)
                .map_err(|error| TargetError::Expect {
                    found: text.to_owned(),
                    why: error.to_string(),
                }),
        }
    }

    /// Whether `answer` is right for a message of these words.
    #[must_use]
    pub fn takes(&self, sent: &Words, answer: &[u8]) -> bool {
        match self {
            Self::Echo => sent.bytes() == answer,
            Self::Any => true,
            Self::Nothing => false,
            Self::Matches(regex) => regex.is_match(&answer[..answer.len().min(limits::AUDIT_REGEX_BYTES)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_read() {
        for (url, uri, own) in [
            ("ws://127.0.0.1:{port}/ws", "ws://127.0.0.1:7/ws", None),
            ("ws://localhost/a/b?c=d", "ws://localhost:7/a/b?c=d", None),
            ("ws://[::1]:9000", "ws://[::1]:7/", Some(9000)),
            ("ws://127.0.0.1:8000?x", "ws://127.0.0.1:7/?x", Some(8000)),
            // No path by the book: it is asked for as it was written.
            ("ws://127.0.0.1/a\"b<c>^{", "ws://127.0.0.1:7/a\"b<c>^{", None),
        ] {
            let target = Target::parse(url).unwrap();
            let asked = format!("ws://{}{}", target.authority(7), target.path());
            assert_eq!((asked.as_str(), target.port()), (uri, own), "{url}");
        }
    }

    #[test]
    fn what_is_no_such_address_is_refused_with_its_text() {
        for url in [
            "",
            "http://127.0.0.1",
            "ws://example.org/",
            "ws://10.0.0.1/",
            "ws://127.0.0.1:0",
            "ws://127.0.0.1:x",
            "ws://127.0.0.1/a b",
            "ws://127.0.0.1/ws#part",
            "ws://127.0.0.1/größe",
            "wss://127.0.0.1",
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(&format!("{url:?}")), "{error}");
        }
        let mut target = Target::default();
        target.add_header("Origin: https://a.example").unwrap();
        for line in [
            "nonsense",
            "a b: c",
            "Sec-WebSocket-Key: x",
            "Host: a.example",
            "Content-Length: 5",
            "Upgrade: h2c",
        ] {
            let error = target.add_header(line).unwrap_err().to_string();
            assert!(error.contains(&format!("{line:?}")), "{error}");
        }
        assert_eq!(target.headers.len(), 1);
        assert!(Expect::parse("(").is_err());
        assert!(Expect::parse(r"^\w{2000}$").is_err(), "too large to be looked for");
    }

    #[test]
    fn numbered_words_differ_and_only_their_own_echo_is_right() {
        let words = Words::default();
        assert!(words.is_numbered() && !Words::new(b"hello".to_vec()).is_numbered());
        let (one, other) = (words.filled(1, 2, 3), words.filled(1, 23, 0));
        assert_ne!(one, other);
        assert!(Expect::Echo.takes(&one, b"greenroom-audit 1.2.3") && !Expect::Echo.takes(&other, one.bytes()));
        assert!(
            Expect::parse("^ok$").unwrap().takes(&one, b"ok") && !Expect::parse("^ok$").unwrap().takes(&one, b"no")
        );
        assert_eq!(Words::new(vec![0xff]), Words::Binary(vec![0xff]));
        let text = |text: String| Words::new(text.into_bytes()).check();
        assert_eq!(text("a".repeat(limits::MESSAGE_MAX)), Ok(()));
        let numbered = text(format!("{NUMBER}{}", "a".repeat(limits::MESSAGE_MAX - NUMBER.len())));
        let found = limits::MESSAGE_MAX + "1000.5000.9".len() - NUMBER.len();
        assert_eq!(numbered, Err(TargetError::Message { found }), "{found}");
    }
}
