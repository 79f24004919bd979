//! What of a configuration the server can do: one listener, one backend, one route for
//! all. Anything else is refused, as to leave it out in silence would be worse.

use greenroom::config::{Config, HeaderEdits, Hold, HostPattern, LogFormat, Process};
use greenroom::server::{Child, Settings};
use greenroom::telemetry::Format;

/// The settings of the server, or what it cannot do.
pub(crate) fn settings(config: Config) -> Result<Settings, &'static str> {
    let Config {
        listeners,
        backends,
        routes,
        grace,
        log_format,
    } = config;
    let ([listener], [backend], [route]) = (listeners.as_slice(), backends.as_slice(), routes.as_slice()) else {
        return Err("more than one listener, backend or route");
    };
    let no_edits = HeaderEdits::default();
    if route.host != HostPattern::Any || route.path != "/" || route.rewrite.is_some() {
        return Err("a route by host or path, or a rewrite");
    }
    if route.request_headers != no_edits || route.response_headers != no_edits || route.body_max.is_some() {
        return Err("changes to headers, or body_max");
    }
    let child = match &backend.process {
        None => None,
        Some(Process {
            command,
            env,
            cwd: None,
            user: None,
            group: None,
            restart,
        }) if env.is_empty() => Some(Child {
            command: command.clone(),
            restart: *restart,
        }),
        Some(_) => return Err("env, cwd, user or group of a process"),
    };
    Ok(Settings {
        listen: listener.address.clone(),
        backend: backend.address.clone(),
        ready: backend.ready.clone(),
        may_wait: route.hold == Hold::Handshake,
        hold_timeout: route.hold_timeout,
        child,
        grace,
        format: match log_format {
            LogFormat::Auto => Format::auto(),
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
    })
}
