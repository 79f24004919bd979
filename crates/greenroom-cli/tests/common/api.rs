//! What the admin API has, for tests that try all of it: what it lists itself (`/v1/openapi.json`), where it does; else what is
//! known to be there.

use serde_json::Value;

use super::rig::Rig;

/// Something of the API.
pub struct Target {
    pub method: String,
    pub path: String,
    /// The two halves of a body that changes something there; the name and the value of a form's field.
    pub body: (&'static str, &'static str),
}

fn a_change(path: &str) -> (&'static str, &'static str) {
    let before = match path {
        path if path.ends_with("/phases") => "{\"phase\":\"failed\",\"reason\":\"",
        "/v1/connections/close" => "{\"all\":true,\"reason\":\"",
        "/v1/connections/send" => "{\"all\":true,\"text\":\"",
        "/v1/drain" => "{\"all\":true,\"window\":\"1s\",\"reason\":\"",
        path if path.ends_with("/gate") => return ("{\"gate\":\"refuse\"", "}"),
        "/v1/reload" => return ("{", "}"),
        _ => "{\"reason\":\"",
    };
    (before, "\"}")
}

/// All that the API has, but for health, which is told to everybody; values stand for the names in paths.
pub fn targets(rig: &Rig) -> Vec<Target> {
    of_description(&rig.ask("/v1/openapi.json"))
}

/// The same, from the answer to a request for the description.
pub fn of_description(answer: &str) -> Vec<Target> {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let listed: Value = serde_json::from_str(body).unwrap_or_default();
    let one = |method: &str, path: &str| Target {
        body: a_change(path),
        method: method.to_ascii_uppercase(),
        path: path
            .replace("{name}", "app")
            .replace("{number}", "1")
            .replace("{id}", "1"),
    };
    let mut all = vec![
        one("GET", "/v1/status"),
        one("GET", "/v1/connections"),
        one("GET", "/metrics"),
        one("POST", "/v1/backends/app/phases"),
        one("POST", "/v1/connections/send"),
        one("POST", "/v1/connections/1/close"),
        one("POST", "/v1/connections/close"),
    ];
    for (path, item) in listed["paths"].as_object().into_iter().flatten() {
        if ["/livez", "/readyz", "/startupz"].contains(&path.as_str()) {
            continue;
        }
        let known = ["get", "post", "put", "delete", "patch"];
        let methods = item.as_object().into_iter().flatten();
        let methods = methods.filter(|(method, _)| known.contains(&method.as_str()));
        all.extend(methods.map(|(method, _)| one(method, path)));
    }
    all
}
