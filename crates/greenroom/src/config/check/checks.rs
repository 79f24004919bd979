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

/// The keys that not every kind has, and the kinds that have them.
const FOR: [(&str, &[Kind]); 18] = {
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
    ]
};

impl Checker<'_> {
    pub(super) fn checks(&mut self, path: &str, field: Field<Named<written::Check>>, about: About<'_>) -> Vec<Check> {
        let path = join(path, "check");
        let mut named = field.present().map(|written| written.value.0).unwrap_or_default();
        self.at_most(&format!("checks in `{path}`"), &mut named, CHECKS_MAX, |(key, _)| {
            Some(key.place.clone())
        });
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
        if probe.is_absent() {
            let help = "say what is asked, such as probe = \"tcp\" or probe = \"http:/health\"";
            self.missing(&join(path, "probe"), Some(table), help);
        }
        let asked = probe
            .present()
            .and_then(|probe| self.kind(&join(path, "probe"), &probe));
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
        let rule = self.rule(path, name, &mut check, about.phases);
        let kind = asked.as_ref().map(|(kind, ..)| *kind);
        let default = match kind {
            Some(Kind::Listen) => LISTEN_EVERY,
            Some(Kind::Exec) => EXEC_EVERY,
            _ => PROBE_EVERY,
        };
        let is_log = kind == Some(Kind::Log);
        let strangers = kind.is_some_and(|kind| self.strangers(path, kind, &check));
        let (interval, timeout) = (std::mem::take(&mut check.interval), std::mem::take(&mut check.timeout));
        let timeout_place = timeout.place().cloned();
        let interval_place = interval.place().cloned();
        let (mut every, mut limit) = (default, PROBE_TIMEOUT);
        if !is_log {
            let key = join(path, "interval");
            every = self.duration(&key, interval, default, CHECK_EVERY.0, CHECK_EVERY.1);
            let key = join(path, "timeout");
            limit = self.duration(&key, timeout, PROBE_TIMEOUT, CHECK_TIMEOUT_MIN, CHECK_TIMEOUT_MAX);
        }
        let check = Check {
            rule,
            probe: match asked {
                Some((kind, short, place)) if !strangers => self.probe(
                    path,
                    kind,
                    short.map(|short| Written { value: short, place }),
                    check,
                    table,
                    about,
                )?,
                _ => return None,
            },
            interval: every,
            timeout: limit,
        };
        if !is_log {
            self.in_time(
                path,
                &check,
                about.phases,
                interval_place.as_ref(),
                timeout_place.as_ref(),
            );
        }
        Some(check)
    }

    /// The kind, and what follows its colon.
    fn kind(&mut self, key: &str, probe: &Written<String>) -> Option<(Kind, Option<String>, Place)> {
        let (word, short) = match probe.value.split_once(':') {
            Some((word, short)) => (word, Some(short)),
            None => (probe.value.as_str(), None),
        };
        let problem = match (Kind::of(word), short) {
            (Some(kind), None) => {
                self.note(key, word, Some(&probe.place));
                return Some((kind, None, probe.place.clone()));
            }
            (Some(kind @ (Kind::Http | Kind::WebSocket | Kind::Grpc | Kind::File)), Some(short)) => {
                self.note(key, &probe.value, Some(&probe.place));
                return Some((kind, Some(short.to_owned()), probe.place.clone()));
            }
            (Some(kind), Some(short)) => {
                let word = kind.word();
                let own = FOR
                    .iter()
                    .find(|(key, kinds)| kinds.contains(&kind) && !matches!(*key, "rise" | "fall"));
                let own = own.map_or("address", |(key, _)| key);
                Problem::new(format!("`{key}` is {:?}, and nothing can follow {word}", probe.value))
                    .help(format!("write probe = \"{word}\" and {own} = {short:?}"))
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

    /// What the answers mean.
    fn rule(&mut self, path: &str, name: &str, check: &mut written::Check, phases: &[phase::Rule]) -> Rule {
        let phase_key = join(path, "phase");
        let phase = std::mem::take(&mut check.phase).present();
        let phase = phase.and_then(|phase| self.proved(&phase_key, &phase, phases));
        let critical_place = check.critical.place().cloned();
        let critical = self.flag(&join(path, "critical"), std::mem::take(&mut check.critical), true);
        let weight_key = join(path, "weight");
        let weight = std::mem::take(&mut check.weight);
        let mut rule = Rule {
            name: name.into(),
            rise: RISE,
            fall: FALL,
            phase,
            critical,
            weight: 1,
        };
        if !critical {
            rule.weight = self.count(&weight_key, weight, 1, WEIGHT_MAX);
        } else if let Some(place) = weight.place()
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
        // A `log` check has neither; that is told by `strangers`.
        if check.rise.get().is_some() {
            rule.rise = self.count(&join(path, "rise"), check.rise.clone(), RISE, RISE_MAX);
        }
        if check.fall.get().is_some() {
            rule.fall = self.count(&join(path, "fall"), check.fall.clone(), FALL, RISE_MAX);
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
        ];
        let mut found = false;
        let timeout = (("timeout", FOR[FOR.len() - 1].1), check.timeout.place());
        for ((key, kinds), place) in FOR.into_iter().zip(places).chain([timeout]) {
            let Some(place) = place.filter(|_| !kinds.contains(&kind)) else {
                continue;
            };
            found = true;
            let path = join(path, key);
            let problem = if kind == Kind::Log && kinds.contains(&Kind::Exec) && kinds.contains(&Kind::File) {
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
                .help(format!("take it away, or use another `probe`"))
            };
            self.problems.add(problem.at(place));
        }
        found
    }

    /// Whether a check can prove its phase before that has lasted too long.
    fn in_time(
        &mut self,
        path: &str,
        check: &Check,
        phases: &[phase::Rule],
        interval: Option<&Place>,
        timeout: Option<&Place>,
    ) {
        let Some(phase) = check.rule.phase.and_then(|index| phases.get(index)) else {
            return;
        };
        let Some(limit) = phase.timeout else { return };
        let all = check.interval.saturating_mul(check.rule.rise);
        if all >= limit {
            let problem = Problem::new(format!(
                "`{path}` needs {} for {} good answer{}, and the phase `{}`, which it proves, fails after {}",
                show(all),
                check.rule.rise,
                if check.rule.rise == 1 { "" } else { "s" },
                phase.name,
                show(limit)
            ));
            self.problems.add(
                problem
                    .near(interval)
                    .help("ask more often, ask for a smaller `rise`, or give the phase more time"),
            );
        } else if let (Some(place), true) = (timeout, check.timeout > limit) {
            let problem = Problem::new(format!(
                "`{path}.timeout` is {}, and the phase `{}`, which it proves, fails after {}",
                show(check.timeout),
                phase.name,
                show(limit)
            ));
            self.problems.add(
                problem
                    .at(place)
                    .help("a look must end within the phase: make it shorter"),
            );
        }
    }
}
