//! The checks of a backend: what each asks, how often, and what its answer means.
//!
//! Each kind of probe has its own keys; one that belongs to another kind is told so,
//! as it would have no effect. The same with what two settings make impossible.

use greenroom_core::check::Rule;
use greenroom_core::limits::{
    CHECK_EVERY, CHECK_TIMEOUT_MAX, CHECK_TIMEOUT_MIN, CHECKS_MAX, EXEC_EVERY, FALL, LISTEN_EVERY, PROBE_EVERY,
    PROBE_TIMEOUT, RISE, RISE_MAX, WEIGHT_MAX,
};
use greenroom_core::phase;

use super::super::problem::Problem;
use super::super::source::Place;
use super::super::suggest::{closest, listed};
use super::super::units::show;
use super::super::words::{Kind, Word};
use super::super::written::{self, Field, Named, Written, join};
use super::super::{Address, Check};
use super::{Checker, Placed};

/// What the checks of a backend are looked at with.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) address: Option<&'a Placed<Address>>,
    pub(super) has_process: bool,
    pub(super) phases: &'a [phase::Rule],
}

/// What `probe` says.
pub(super) struct Asked {
    pub(super) kind: Kind,
    /// What follows its colon.
    pub(super) short: Option<Written<String>>,
}

/// The keys about what an answer means.
struct Answers {
    phase: Field<String>,
    critical: Field<bool>,
    weight: Field<written::Number>,
    rise: Field<written::Number>,
    fall: Field<written::Number>,
}

/// The keys that not every kind has, and the kinds that have them.
const FOR: [(&str, &[Kind]); 19] = {
    use Kind::{Exec, File, Grpc, Http, Listen, Log, Nats, Postgres, Redis, Tcp, WebSocket};
    const ASKED: &[Kind] = &[Listen, Tcp, Http, WebSocket, Grpc, Postgres, Redis, Nats, Exec, File];
    [
        ("address", &[Listen, Tcp, Http, WebSocket, Grpc, Postgres, Redis, Nats]),
        ("path", &[Http, WebSocket]),
        ("host", &[Http, WebSocket]),
        ("status", &[Http]),
        ("body", &[Http]),
        ("pointer", &[Http]),
        ("ping", &[WebSocket]),
        ("service", &[Grpc]),
        ("user", &[Postgres, Nats]),
        ("database", &[Postgres]),
        ("password", &[Postgres, Redis, Nats]),
        ("recovery", &[Postgres]),
        ("command", &[Exec]),
        ("line", &[Log]),
        ("file", &[File]),
        ("rise", ASKED),
        ("fall", ASKED),
        ("interval", ASKED),
        ("timeout", ASKED),
    ]
};

impl Checker<'_> {
    pub(super) fn checks(&mut self, path: &str, field: Field<Named<written::Check>>, about: About<'_>) -> Vec<Check> {
        let path = join(path, "check");
        let mut named = field.present().map(|written| written.value.0).unwrap_or_default();
        self.at_most(&format!("checks in `{path}`"), &mut named, CHECKS_MAX, |(key, _)| {
            Some(key.place.clone())
        });
        self.alike("check", named.iter().map(|(key, _)| key));
        let mut checks: Vec<Check> = Vec::new();
        let mut proofs: Vec<(usize, Place, String)> = Vec::new();
        for (key, written) in named {
            self.name("check", &key.name, Some(&key.place));
            let table = written.place.clone().unwrap_or(key.place);
            let proof = written.phase.place().cloned();
            let Some(check) = self.check(&join(&path, &key.name), &key.name, written, &table, about) else {
                continue;
            };
            if let (Some(phase), Some(place)) = (check.rule.phase, proof) {
                if let Some((_, other, name)) = proofs.iter().find(|(proved, ..)| *proved == phase) {
                    self.problems.add(
                        Problem::new(format!(
                            "checks `{name}` and `{}` cannot both prove the phase `{}`",
                            key.name, about.phases[phase].name
                        ))
                        .at(&place)
                        .related(Some(other), format!("`{name}` proves it here"))
                        .help("give each a phase of its own in `phases`, or take `phase` from one: as a critical check it is needed all the same"),
                    );
                }
                proofs.push((phase, place, key.name.clone()));
            }
            checks.push(check);
        }
        checks
    }

    fn check(
        &mut self,
        path: &str,
        name: &str,
        mut check: written::Check,
        table: &Place,
        about: About<'_>,
    ) -> Option<Check> {
        let probe = std::mem::take(&mut check.probe);
        let probe_key = join(path, "probe");
        if probe.is_absent() {
            let help = "say what is asked, such as probe = \"tcp\" or probe = \"http:/health\"";
            self.missing(&probe_key, Some(table), help);
        }
        let asked = probe.present().and_then(|probe| self.kind(&probe_key, &probe));
        let kind = asked.as_ref().map(|asked| asked.kind);
        self.phase_twice(path, &check);
        let is_its_own = kind.is_some_and(|kind| !self.strangers(path, kind, &check));
        let answers = Answers {
            phase: std::mem::take(&mut check.phase),
            critical: std::mem::take(&mut check.critical),
            weight: std::mem::take(&mut check.weight),
            rise: std::mem::take(&mut check.rise),
            fall: std::mem::take(&mut check.fall),
        };
        let (interval, timeout) = (std::mem::take(&mut check.interval), std::mem::take(&mut check.timeout));
        let probe = match asked {
            Some(asked) if is_its_own => self.probe(path, asked, check, table, about),
            _ => None,
        };
        let is_log = kind == Some(Kind::Log);
        let rule = self.rule(path, name, answers, is_log, about.phases);
        let default = match kind {
            Some(Kind::Listen) => LISTEN_EVERY,
            Some(Kind::Exec) => EXEC_EVERY,
            _ => PROBE_EVERY,
        };
        let places = (interval.place().cloned(), timeout.place().cloned());
        let (mut every, mut limit) = (default, PROBE_TIMEOUT);
        if !is_log {
            let key = join(path, "interval");
            every = self.duration(&key, interval, default, CHECK_EVERY.0, CHECK_EVERY.1);
            let key = join(path, "timeout");
            limit = self.duration(&key, timeout, PROBE_TIMEOUT, CHECK_TIMEOUT_MIN, CHECK_TIMEOUT_MAX);
        }
        let check = Check {
            rule,
            probe: probe?,
            interval: every,
            timeout: limit,
        };
        if !is_log {
            self.in_time(path, &check, about.phases, table, places);
        }
        Some(check)
    }

    fn phase_twice(&mut self, path: &str, check: &written::Check) {
        if let (Some(place), Some(phase)) = (check.pointer.place(), check.phase.place()) {
            self.problems.add(
                Problem::new(format!(
                    "`{path}.pointer` reads the phase from the body, and `{path}.phase` names one"
                ))
                .at(place)
                .related(Some(phase), "named here")
                .help("take one of them away"),
            );
        }
    }

    /// The kind, and what follows its colon.
    fn kind(&mut self, key: &str, probe: &Written<String>) -> Option<Asked> {
        let (word, short) = match probe.value.split_once(':') {
            Some((word, short)) => (word, Some(short)),
            None => (probe.value.as_str(), None),
        };
        let has_short = |kind| matches!(kind, Kind::Http | Kind::WebSocket | Kind::Grpc | Kind::File);
        let problem = match (Kind::of(word), short) {
            (_, Some(short)) if short.starts_with("//") => self.url(key, probe, word, &short[2..]),
            (Some(kind), short) if short.is_none() || has_short(kind) => {
                self.note(key, &probe.value, Some(&probe.place));
                return Some(Asked {
                    kind,
                    short: short.map(|short| Written {
                        value: short.to_owned(),
                        place: probe.place.clone(),
                    }),
                });
            }
            (Some(kind), short) => {
                let own = FOR.iter().find(|(_, kinds)| kinds.contains(&kind));
                let own = own.map_or("address", |(key, _)| key);
                let value = match kind {
                    Kind::Exec => format!("[{:?}]", short.unwrap_or_default()),
                    _ => format!("{:?}", short.unwrap_or_default()),
                };
                Problem::new(format!("`{key}` is {:?}, and nothing can follow {word}", probe.value))
                    .help(format!("write probe = \"{word}\" and {own} = {value}"))
            }
            (None, _) => {
                let problem = Problem::new(format!("`{key}` is {:?}, which is no kind of probe", probe.value));
                match closest(word, Kind::WORDS.iter().copied()) {
                    Some(meant) => problem.label(format!("did you mean \"{meant}\"?")),
                    None => problem.help(format!("use {}", listed("or", Kind::WORDS.iter().copied()))),
                }
            }
        };
        self.problems.add(problem.at(&probe.place));
        None
    }

    /// A URL says in one what is said here by several keys.
    fn url(&mut self, key: &str, probe: &Written<String>, word: &str, rest: &str) -> Problem {
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let host = host.rsplit('@').next().unwrap_or(host);
        let shown = self.without_login(&probe.value, &probe.place, probe.value.clone());
        let problem = Problem::new(format!("`{key}` is {shown:?}, and a URL is not asked"));
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let port = if has_port { "" } else { ":80" };
        let tls = match word {
            "https" | "wss" => "; checks speak no TLS",
            _ => "",
        };
        let asked =
            |kind| format!("write probe = \"{kind}:/{path}\", and with its port address = \"{host}{port}\"{tls}");
        problem.help(match word {
            "http" | "https" => asked("http"),
            "ws" | "wss" | "websocket" => asked("websocket"),
            "file" => format!("write probe = \"file:/{path}\""),
            _ => "write the kind alone, such as probe = \"postgres\", and address, user and password below it".into(),
        })
    }

    /// What the answers mean. Those of a `log` check are not counted, and if it says so that is told by `strangers`.
    fn rule(&mut self, path: &str, name: &str, answers: Answers, is_log: bool, phases: &[phase::Rule]) -> Rule {
        let phase = answers.phase.present();
        let phase = phase.and_then(|phase| self.proved(&join(path, "phase"), &phase, phases));
        let critical_place = answers.critical.place().cloned();
        let critical = self.flag(&join(path, "critical"), answers.critical, true);
        let weight_key = join(path, "weight");
        let mut rule = Rule {
            name: name.into(),
            rise: RISE,
            fall: if is_log { 1 } else { FALL }, // its end takes back what it has shown, at once
            phase,
            critical,
            weight: 1,
        };
        if !critical {
            rule.weight = self.count(&weight_key, answers.weight, 1, WEIGHT_MAX);
        } else if let Some(place) = answers.weight.place()
            && self.sources.in_one_layer(critical_place.as_ref(), Some(place))
        {
            let problem = Problem::new(format!(
                "`{weight_key}` has no effect: without a critical check the backend is not ready at all"
            ));
            self.problems.add(
                problem
                    .at(place)
                    .related(critical_place.as_ref(), "it is critical")
                    .help("add critical = false, or take the weight away"),
            );
        }
        if !is_log {
            rule.rise = self.count(&join(path, "rise"), answers.rise, RISE, RISE_MAX);
            rule.fall = self.count(&join(path, "fall"), answers.fall, FALL, RISE_MAX);
        }
        rule
    }

    fn count(&mut self, key: &str, field: Field<written::Number>, default: u32, most: u32) -> u32 {
        let wide = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        let number = self.number(key, field, wide(default), wide(most));
        u32::try_from(number).unwrap_or(most)
    }

    /// The phase that a check proves.
    fn proved(&mut self, key: &str, phase: &Written<String>, phases: &[phase::Rule]) -> Option<usize> {
        let found = phases.iter().position(|rule| *rule.name == *phase.value);
        if found.is_some() {
            self.note(key, &phase.value, Some(&phase.place));
            return found;
        }
        let names: Vec<&str> = phases.iter().map(|rule| &*rule.name).collect();
        let problem =
            Problem::new(format!("`{key}` is {:?}, and there is no such phase", phase.value)).at(&phase.place);
        self.problems.add(match closest(&phase.value, names.iter().copied()) {
            Some(meant) => problem.label(format!("did you mean \"{meant}\"?")),
            None => problem.help(format!(
                "the phases of this backend are {}; others are named in its `phases`",
                listed("and", names)
            )),
        });
        None
    }

    /// Keys of other kinds; whether there is one.
    fn strangers(&mut self, path: &str, kind: Kind, check: &written::Check) -> bool {
        let places = [
            check.address.place(),
            check.path.place(),
            check.host.place(),
            check.status.place(),
            check.body.place(),
            check.pointer.place(),
            check.ping.place(),
            check.service.place(),
            check.user.place(),
            check.database.place(),
            check.password.place(),
            check.recovery.place(),
            check.command.place(),
            check.line.place(),
            check.file.place(),
            check.rise.place(),
            check.fall.place(),
            check.interval.place(),
            check.timeout.place(),
        ];
        let mut found = false;
        for ((key, kinds), place) in FOR.into_iter().zip(places) {
            let Some(place) = place.filter(|_| !kinds.contains(&kind)) else {
                continue;
            };
            found = true;
            let path = join(path, key);
            let problem = if matches!(key, "rise" | "fall" | "interval" | "timeout") {
                Problem::new(format!(
                    "`{path}` is not for `log`: a line is seen when it is written, and then counts"
                ))
                .help("take it away; how long the start may take until then is the `timeout` of a phase")
            } else {
                let names = kinds.iter().map(|kind| kind.word());
                Problem::new(format!(
                    "`{path}` is for {}, and this check is `{}`",
                    listed("and", names),
                    kind.word()
                ))
                .help("take it away, or use another `probe`")
            };
            self.problems.add(problem.at(place));
        }
        found
    }

    /// Whether a check can prove its phase before that has lasted too long. `places`: of interval and timeout.
    fn in_time(
        &mut self,
        path: &str,
        check: &Check,
        phases: &[phase::Rule],
        table: &Place,
        places: (Option<Place>, Option<Place>),
    ) {
        let phase = check.rule.phase.and_then(|index| phases.get(index));
        let Some((phase, limit)) = phase.and_then(|phase| Some((phase, phase.timeout?))) else {
            return;
        };
        let fails = format!(
            "the phase `{}`, which it proves, fails after {}",
            phase.name,
            show(limit)
        );
        let all = check.interval.saturating_mul(check.rule.rise);
        if all >= limit {
            let what = match check.rule.rise {
                1 => "until its second look".to_owned(),
                rise => format!("for {rise} good answers in a row"),
            };
            let problem = Problem::new(format!("`{path}` needs {} {what}, and {fails}", show(all)));
            self.problems.add(
                problem
                    .at(places.0.as_ref().unwrap_or(table))
                    .help("give it a shorter `interval` or a smaller `rise`, or the phase more time"),
            );
        } else if let (Some(place), true) = (places.1, check.timeout > limit) {
            let problem = Problem::new(format!("`{path}.timeout` is {}, and {fails}", show(check.timeout)));
            self.problems.add(
                problem
                    .at(&place)
                    .help("a look must end within the phase: make it shorter"),
            );
        }
    }
}
