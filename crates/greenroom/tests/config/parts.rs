//! Strategies for what tells how far a start has come: phases, checks, needs, the admin address.

use std::collections::BTreeSet;
use std::time::Duration;

use greenroom::config::{Address, Admin, Backend, Check, HttpProbe, Pattern, ProbeKind, Secret, TellClients, Tracing};
use greenroom_core::readiness::{Item, Need, WhenDegraded};
use greenroom_core::{check, phase};
use proptest::prelude::*;

use super::round_trip::{milliseconds, name, text};

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) fn phases() -> impl Strategy<Value = Vec<phase::Rule>> {
    let timeout = prop::option::of(milliseconds(1, 86_400_000));
    prop::collection::vec(("[a-zA-Z_.-]{0,4}", timeout), 1..5).prop_map(|phases| {
        let rule = |(index, (begin, timeout))| phase::Rule {
            name: format!("{begin}{index}").into(),
            timeout,
        };
        phases.into_iter().enumerate().map(rule).collect()
    })
}

fn anywhere() -> impl Strategy<Value = Address> {
    let text = prop_oneof![
        Just("127.0.0.1:5432"),
        Just("[::1]:6379"),
        Just("db.internal:4222"),
        Just("unix:/run/a \"b\".sock"),
    ];
    text.prop_map(|text| text.parse().unwrap())
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![Just("^a+$"), Just("\\d\"é\\."), Just("(?i)ready|up")]
        .prop_map(|text| Pattern(regex::Regex::new(text).unwrap()))
}

fn secret() -> impl Strategy<Value = Secret> {
    "[ -~é]{1,12}".prop_map(Secret)
}

fn http() -> impl Strategy<Value = HttpProbe> {
    (
        prop::option::of(anywhere()),
        "/[a-z?=&\"%]{0,8}",
        prop::option::of("[a-z]{1,8}(:80)?"),
        (200..=400_u16, 400..=599_u16),
        prop::option::of(pattern()),
        prop::option::of("(/([a-z0-9 \"]|~0|~1){0,4}){0,3}"),
    )
        .prop_map(|(address, path, host, status, body, pointer)| HttpProbe {
            address,
            path,
            host,
            status,
            body,
            pointer,
        })
}

fn probe() -> impl Strategy<Value = ProbeKind> {
    let here = prop_oneof![Just("127.0.0.1:85"), Just("unix:/run/x")].prop_map(|text| text.parse().unwrap());
    let word = || "[a-z é\"]{1,8}";
    prop_oneof![
        prop::option::of(here).prop_map(ProbeKind::Listen),
        prop::option::of(anywhere()).prop_map(ProbeKind::Tcp),
        http().prop_map(ProbeKind::Http),
        (http(), any::<bool>()).prop_map(|(http, ping)| ProbeKind::WebSocket {
            address: http.address,
            path: http.path,
            host: http.host,
            ping,
        }),
        (prop::option::of(anywhere()), "([a-z.]{1,8})?")
            .prop_map(|(address, service)| ProbeKind::Grpc { address, service }),
        (anywhere(), word(), word(), prop::option::of(secret()), any::<bool>()).prop_map(
            |(address, user, database, password, recovery)| ProbeKind::Postgres {
                address,
                user,
                database,
                password,
                recovery,
            }
        ),
        (anywhere(), prop::option::of(secret())).prop_map(|(address, password)| ProbeKind::Redis { address, password }),
        (anywhere(), prop::option::of((word(), secret())))
            .prop_map(|(address, login)| ProbeKind::Nats { address, login }),
        ("[a-z./\"]{1,8}", prop::collection::vec(text(), 0..3)).prop_map(|(program, words)| ProbeKind::Exec {
            command: std::iter::once(program)
                .chain(words)
                .map(|word| word.replace("{port}", "").into())
                .collect(),
        }),
        pattern().prop_map(|line| ProbeKind::Log { line }),
        "/?[a-z \"]{1,8}".prop_map(|path| ProbeKind::File { path: path.into() }),
    ]
}

prop_compose! {
    fn check(index: usize)(
        name in name(index),
        (probe, proves) in (probe(), any::<bool>()),
        (rise, fall, weight) in (1..=1_000_u32, 1..=1_000_u32, 1..=1_000_u32),
        critical in any::<bool>(),
        (interval, timeout) in (milliseconds(1, 60_000), milliseconds(1, 60_000)),
    ) -> Check {
        let is_log = matches!(probe, ProbeKind::Log { .. });
        let reads = matches!(&probe, ProbeKind::Http(http) if http.pointer.is_some());
        Check {
            rule: check::Rule {
                name: name.into(),
                rise: if is_log { 1 } else { rise },
                fall: if is_log { 1 } else { fall },
                // One check at the most for each phase, which may not be there; see `fitted`.
                phase: (proves && !reads).then_some(index),
                critical,
                weight: if critical { 1 } else { weight },
            },
            probe,
            interval: if is_log { Duration::from_millis(100) } else { interval },
            timeout: if is_log { Duration::from_secs(5) } else { timeout },
        }
    }
}

pub(crate) fn checks() -> impl Strategy<Value = Vec<Check>> {
    (0..4_usize).prop_flat_map(|count| (0..count).map(check).collect::<Vec<_>>())
}

/// Makes the parts of a backend fit one another.
pub(crate) fn fitted(mut backend: Backend) -> Backend {
    let local = backend.process.is_some() || backend.address.as_ref().is_some_and(Address::is_local);
    for check in &mut backend.checks {
        let fits = match check.probe {
            ProbeKind::Listen(None) => local,
            ProbeKind::Log { .. } => backend.process.is_some(),
            _ => true,
        };
        if !fits {
            check.probe = ProbeKind::Tcp(None);
        }
        check.rule.phase = check.rule.phase.filter(|&index| index < backend.phases.len());
        if let Some(index) = check.rule.phase {
            // Every interval, `rise` times, fits in a day.
            backend.phases[index].timeout = backend.phases[index].timeout.map(|_| DAY);
        }
    }
    backend
}

/// What a route wishes, before it is known what its backend has.
pub(crate) type Wish = (Option<Vec<(bool, usize)>>, WhenDegraded);

pub(crate) fn wish() -> impl Strategy<Value = Wish> {
    let degraded = prop_oneof![
        Just(WhenDegraded::Serve),
        Just(WhenDegraded::Hold),
        Just(WhenDegraded::Refuse)
    ];
    let items = prop::collection::vec((any::<bool>(), 0..8_usize), 0..4);
    (prop::option::of(items), degraded)
}

/// The wish as a need of this backend.
pub(crate) fn need((require, degraded): &Wish, backend: &Backend) -> Need {
    let item = |&(is_check, index): &(bool, usize)| {
        let check = |index: usize| (0, index % backend.checks.len().max(1));
        if is_check && !backend.checks.is_empty() {
            return check(index);
        }
        let phase = index % backend.phases.len();
        // A check of the same name is what is meant by it.
        let name = &backend.phases[phase].name;
        match backend.checks.iter().position(|check| check.rule.name == *name) {
            Some(index) => (0, index),
            None => (1, phase),
        }
    };
    let require = require.as_ref().map(|items| {
        let items: BTreeSet<_> = items.iter().map(item).collect();
        let items = items.into_iter();
        items
            .map(|(kind, index)| {
                if kind == 0 {
                    Item::Check(index)
                } else {
                    Item::Phase(index)
                }
            })
            .collect()
    });
    Need {
        require,
        degraded: *degraded,
    }
}

pub(crate) fn tell_clients() -> impl Strategy<Value = TellClients> {
    prop_oneof![
        Just(TellClients::No),
        Just(TellClients::Header),
        "[ -z|~é]{1,12}(\\{level\\})?[\"\\\\]?(\\{missing\\})?".prop_map(TellClients::Message),
    ]
}

pub(crate) fn tracing() -> impl Strategy<Value = Tracing> {
    let endpoint = prop::option::of("http://[a-z]{1,8}:4318/[a-z]{1,8}");
    (endpoint, 1..=1_000_usize).prop_map(|(endpoint, sample_per_mille)| Tracing {
        endpoint,
        sample_per_mille,
    })
}

pub(crate) fn admin() -> impl Strategy<Value = Admin> {
    let token = || "[a-zA-Z0-9._~+/=-]{16,20}".prop_map(Secret);
    let reached = prop_oneof![
        Just((None, None)),
        prop::option::of(token()).prop_map(|token| (Some("127.0.0.1:3000"), token)),
        token().prop_map(|token| (Some("0.0.0.0:3000"), Some(token))),
    ];
    let path = || "/[a-z \"]{1,12}";
    let prefix = prop::option::of("(/[a-z-]{1,6}){1,3}");
    (prop::option::of(path()), reached, prefix, any::<bool>()).prop_map(
        |(socket, (address, token), health_prefix, readyz_waits)| Admin {
            socket: socket.map(Into::into),
            address: address.map(|text| text.parse().unwrap()),
            token,
            token_file: None,
            health_prefix,
            readyz_waits,
        },
    )
}
