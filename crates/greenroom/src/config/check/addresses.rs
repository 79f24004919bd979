//! Listeners, and which addresses get in each other's way.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use greenroom_core::limits::LISTENERS_MAX;

use super::super::model::Backend;
use super::super::problem::Problem;
use super::super::tree::Key;
use super::super::written::{Field, Listener, Named};
use super::super::{Address, AddressError};
use super::{Checker, Door, Placed};

/// Where greenroom listens when nobody says anything.
const ALONE: u16 = 8080;

impl Checker<'_> {
    pub(super) fn listeners(&mut self, field: Field<Named<Listener>>) -> Vec<Door> {
        let mut named = field.present().map(|written| written.value.0).unwrap_or_default();
        self.at_most("listeners", &mut named, LISTENERS_MAX, |(key, _)| {
            Some(key.place.clone())
        });
        self.alike("listener", named.iter().map(|(key, _)| key));
        named
            .into_iter()
            .map(|(key, listener)| self.listener(key, listener))
            .collect()
    }

    fn listener(&mut self, key: Key, listener: Listener) -> Door {
        self.name("listener", &key.name, Some(&key.place));
        let path = format!("listener.{}.address", key.name);
        let address = if !listener.address.is_absent() {
            self.text(&path, listener.address, listen_address)
        } else if listener.place.is_none() {
            self.default_address(&path)
        } else {
            let help = "say where clients come to, such as address = \"127.0.0.1:8080\"";
            self.missing(&path, listener.place.as_ref(), help);
            None
        };
        let hosts = self.hosts(&format!("listener.{}.hosts", key.name), listener.hosts);
        Door {
            name: key.name,
            place: key.place,
            address,
            hosts,
        }
    }

    /// PORT is how Cloud Run, Heroku and Fly say where to listen: on all addresses.
    fn default_address(&mut self, path: &str) -> Option<Placed<Address>> {
        let tcp = |host: &str, port| Address::Tcp {
            host: host.into(),
            port,
        };
        let Some(port) = self.around.port.clone() else {
            let value = tcp("127.0.0.1", ALONE);
            self.note(path, &value, None);
            return Some(Placed { value, place: None });
        };
        let place = self.sources.variable("PORT", &port.to_string_lossy());
        let Some(number) = port_number(&port) else {
            self.problems.add(
                Problem::new(format!(
                    "PORT is {port:?} in the environment; it must be a number from 0 to 65535"
                ))
                .at(&place)
                .help("set it right, or say where to listen: --listen ADDR, or `address` of a [listener.NAME]"),
            );
            return None;
        };
        let value = tcp("0.0.0.0", number);
        self.note(path, &value, Some(&place));
        let place = Some(place);
        Some(Placed { value, place })
    }

    /// Two listeners at one address, or a backend that is greenroom itself.
    pub(super) fn neighbours(&mut self, doors: &[Door], backends: &[Placed<Backend>]) {
        let open: Vec<(&str, &Placed<Address>)> = doors
            .iter()
            .filter_map(|door| Some((door.name.as_str(), door.address.as_ref()?)))
            .collect();
        for (index, (name, address)) in open.iter().enumerate() {
            let earlier = open[..index].iter();
            for (other, taken) in earlier.filter(|(_, other)| overlap(&other.value, &address.value)) {
                self.problems.add(
                    Problem::new(format!(
                        "listeners `{other}` and `{name}` cannot both have {}",
                        address.value
                    ))
                    .near(address.place.as_ref())
                    .related(taken.place.as_ref(), format!("`{other}` listens here"))
                    .help("give one of them another port; 0.0.0.0 and [::] are every address of the machine"),
                );
            }
            for backend in backends {
                let Some(behind) = &backend.value.address else { continue };
                if leads_to(&address.value, behind) {
                    self.problems.add(
                        Problem::new(format!(
                            "listener `{name}` and backend `{}` are both at {behind}: greenroom would call itself",
                            backend.value.name
                        ))
                        .near(backend.place.as_ref())
                        .related(address.place.as_ref(), "greenroom listens here")
                        .help("let the server listen on another port, and give that as the backend's address"),
                    );
                }
            }
        }
    }
}

/// An address that clients can come to.
pub(super) fn listen_address(text: &str) -> Result<Address, String> {
    match text.parse().map_err(|error: AddressError| error.to_string())? {
        Address::Unix(path) => Err(format!(
            "\"unix:{}\" is a Unix socket, and clients come over TCP: write host:port, such as 127.0.0.1:8080",
            path.display()
        )),
        address => Ok(address),
    }
}

/// The number that PORT is.
fn port_number(port: &OsString) -> Option<u16> {
    port.to_str()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
}

/// Whether one socket at each is one too many.
pub(super) fn overlap(a: &Address, b: &Address) -> bool {
    let (
        Address::Tcp { host, port },
        Address::Tcp {
            host: other,
            port: same,
        },
    ) = (a, b)
    else {
        return false;
    };
    let all = |address: &Address| address.ip().is_some_and(|ip| ip.is_unspecified());
    port == same && *port != 0 && (host == other || a.ip().is_some() && a.ip() == b.ip() || all(a) || all(b))
}

/// Whether who dials `behind` arrives at `front`.
pub(super) fn leads_to(front: &Address, behind: &Address) -> bool {
    let here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    let on_this_machine = behind.ip().is_some_and(here);
    let same_host =
        matches!((front, behind), (Address::Tcp { host, .. }, Address::Tcp { host: other, .. }) if host == other);
    // A name may lead to several addresses, of which the listener has one.
    let dialled = behind.numbers();
    let met = |at: &SocketAddr| at.port() != 0 && dialled.contains(at);
    front.numbers().first().is_some_and(met) || overlap(front, behind) && (same_host || on_this_machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn port_is_the_contract_of_the_platforms() {
        assert_eq!(port_number(&"5000".into()), Some(5000));
        for bad in ["", "http", "-1", "70000", "+80", " 80"] {
            assert_eq!(port_number(&bad.into()), None, "{bad}");
        }
    }

    #[test]
    fn two_listeners_overlap_where_the_kernel_would_say_in_use() {
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "localhost:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", true),
            ("10.0.0.1:80", "[::]:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("a.example:80", "b.example:80", false),
        ] {
            assert_eq!(overlap(&at(a), &at(b)), expected, "{a} {b}");
            assert_eq!(overlap(&at(b), &at(a)), expected, "{b} {a}");
        }
    }

    #[test]
    fn greenroom_calls_itself_only_on_its_own_machine() {
        for (front, behind, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::1]:80", "localhost:80", true),
            ("[::]:80", "localhost:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("app:80", "app:80", true),
            ("0.0.0.0:80", "10.0.0.1:80", false),
            ("0.0.0.0:80", "app.internal:80", false),
            ("0.0.0.0:80", "unix:/run/app.sock", false),
            ("127.0.0.1:80", "127.0.0.1:8000", false),
        ] {
            assert_eq!(leads_to(&at(front), &at(behind)), expected, "{front} {behind}");
        }
    }
}
