//! Recognises the platform that greenroom runs on, to show it. No number ever changes for it.

use std::ffi::OsString;

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
    fn platforms_are_known_by_what_they_set() {
        assert_eq!(on(&[]), None);
        assert_eq!(on(&[("K_SERVICE", "chat")]).unwrap(), "Cloud Run (service chat)");
        let kubernetes = [("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ("HOSTNAME", "chat-7f9")];
        assert_eq!(on(&kubernetes).unwrap(), "Kubernetes (pod chat-7f9)");
        assert_eq!(on(&[("HOSTNAME", "laptop")]), None);
    }
}
