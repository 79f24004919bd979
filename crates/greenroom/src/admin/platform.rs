//! Recognises the platform that greenroom runs on, to show it, and to warn where it kills before a stop is over. No
//! number ever changes for it.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use greenroom_core::limits::{GRACE, platform_grace as usual};

use crate::config::{self, Config, Drain};

/// The platform by what it sets in the environment, in words; `None`: none that is known.
#[must_use]
pub fn platform(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
    if let Some(service) = text("K_SERVICE") {
        return Some(match text("K_REVISION") {
            Some(revision) => format!("Cloud Run (service {service}, revision {revision})"),
            None => format!("Cloud Run (service {service})"),
        });
    }
    if variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Some(match text("HOSTNAME") {
            Some(pod) => format!("Kubernetes (pod {pod})"),
            None => "Kubernetes".into(),
        });
    }
    if let Some(dyno) = text("DYNO") {
        return Some(format!("Heroku (dyno {dyno})"));
    }
    text("FLY_APP_NAME").map(|app| format!("Fly (app {app})"))
}

/// How long the platform waits before it kills, unless it is told otherwise; and what tells it so.
fn grace(
    variable: impl Fn(&str) -> Option<OsString>,
    is_there: impl Fn(&str) -> bool,
) -> Option<(&'static str, Duration, &'static str)> {
    let is_set = |name: &str| variable(name).is_some();
    let known = [
        (
            is_set("K_SERVICE"),
            "Cloud Run",
            usual::CLOUD_RUN,
            "nothing can raise it",
        ),
        (
            is_set("KUBERNETES_SERVICE_HOST"),
            "Kubernetes",
            usual::KUBERNETES,
            "terminationGracePeriodSeconds of the pod",
        ),
        (is_set("DYNO"), "Heroku", usual::HEROKU, "nothing can raise it"),
        (is_set("FLY_APP_NAME"), "Fly", usual::FLY, "kill_timeout in fly.toml"),
        (
            is_there("/.dockerenv"),
            "Docker",
            usual::DOCKER,
            "--stop-timeout of docker run, stop_grace_period of Compose",
        ),
        (
            is_set("INVOCATION_ID"),
            "systemd",
            usual::SYSTEMD,
            "TimeoutStopSec of the unit",
        ),
    ];
    let found = known.into_iter().find(|(is, ..)| *is)?;
    Some((found.1, found.2, found.3))
}

/// What to say where the platform's usual time is less than a stop may take, and the configuration says how long that is to be
/// and not how long there is. Of who has said nothing about stopping a start should have nothing to say either.
#[must_use]
pub fn too_little_time(config: &Config) -> Option<String> {
    if config.drain.within.is_some() {
        return None; // then it was checked
    }
    if config.drain == Drain::plain(config.grace) && config.grace == GRACE {
        return None;
    }
    let (name, time, raise) = grace(|name| std::env::var_os(name), |path| Path::new(path).exists())?;
    let starts = config.backends.iter().any(|backend| backend.process.is_some());
    let why = config::too_long(&config.drain, config.grace, starts, time)?;
    Some(format!(
        "this seems to be {name}, which kills {} after TERM unless it is told to wait longer ({raise}): {why}; \
         say how long it waits as `within` of [drain], or let `grace` be shorter",
        config::units::show(time)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(variables: &[(&str, &str)]) -> Option<String> {
        platform(|name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).into())
        })
    }

    #[test]
    fn how_long_a_platform_waits_is_known_by_what_it_sets() {
        let of = |set: &[&str], file: &str| {
            let found = grace(|name| set.contains(&name).then(|| "1".into()), |path| path == file);
            found.map(|(name, time, _)| (name, time.as_secs()))
        };
        assert_eq!(of(&[], ""), None);
        assert_eq!(
            of(&["KUBERNETES_SERVICE_HOST"], "/.dockerenv"),
            Some(("Kubernetes", 30))
        );
        assert_eq!(of(&["INVOCATION_ID"], "/.dockerenv"), Some(("Docker", 10)));
        assert_eq!(of(&["INVOCATION_ID"], ""), Some(("systemd", 90)));
    }

    #[test]
    fn platforms_are_known_by_what_they_set() {
        assert_eq!(on(&[]), None);
        assert_eq!(on(&[("K_SERVICE", "chat")]).unwrap(), "Cloud Run (service chat)");
        let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("HOSTNAME", "chat-7f9")];
        assert_eq!(on(&kubernetes).unwrap(), "Kubernetes (pod chat-7f9)");
        assert_eq!(on(&[("HOSTNAME", "laptop")]), None);
    }
}
