//! A backend, with or without a gateway in front of it, and loads against it.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process::{Process, Stream, cpu};
use crate::rivals::{self, Rival};
use crate::{Failure, Options};

/// How long a process may take to say what it has to.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What stands between the load and the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// Nothing.
    Direct,
    /// The least that a gateway can do (`crate::bare`).
    Bare,
    /// greenroom, which starts the backend.
    Greenroom(&'a Path),
    /// Another gateway.
    Rival(&'a Rival),
}

impl Target<'_> {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Direct => "direct".into(),
            Self::Bare => "bare".into(),
            Self::Greenroom(_) => "greenroom".into(),
            Self::Rival(rival) => rival.name().into(),
        }
    }
}

/// A target that runs.
pub(crate) struct Site {
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// The gateway, if it is a process beside the backend's.
    gateway: Option<Process>,
    /// Who passes lines to and from the backend: the backend itself, or greenroom, whose streams it has.
    backend: Process,
    through: bool,
    _files: Option<rivals::Files>,
}

impl Site {
    /// Starts it. With `ready_when_told` the backend is ready only after [`Self::tell`]`("ready")`.
    pub(crate) fn start(target: Target<'_>, ready_when_told: bool) -> Result<Self, Failure> {
        Self::start_with(target, ready_when_told, &[])
    }

    /// The same, with settings for greenroom: names of its variables, without their beginning, and values.
    pub(crate) fn start_with(
        target: Target<'_>,
        ready_when_told: bool,
        settings: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let mut arguments = vec!["backend".to_owned()];
        if ready_when_told {
            arguments.push("--ready-on-stdin".into());
        }
        if let Target::Greenroom(program) = target {
            arguments.push("--notify".into());
            let greenroom = greenroom_with(program, "notify", &arguments, settings)?;
            let address = address(&greenroom.event(Stream::Err, "listening", PATIENCE)?)?;
            greenroom.event(Stream::Out, "listening", PATIENCE)?;
            return Ok(Self {
                address,
                gateway: None,
                backend: greenroom,
                through: true,
                _files: None,
            });
        }
        let backend = Process::part(&arguments)?;
        let address = address(&backend.event(Stream::Out, "listening", PATIENCE)?)?;
        if let Target::Bare = target {
            let gateway = Process::part(&["bare".into(), "--backend".into(), address.to_string()])?;
            return Ok(Self {
                address: self::address(&gateway.event(Stream::Out, "listening", PATIENCE)?)?,
                gateway: Some(gateway),
                backend,
                through: true,
                _files: None,
            });
        }
        if let Target::Rival(rival) = target {
            let (gateway, address, files) = rival.start(address)?;
            return Ok(Self {
                address,
                gateway: Some(gateway),
                backend,
                through: true,
                _files: Some(files),
            });
        }
        Ok(Self {
            address,
            gateway: None,
            backend,
            through: false,
            _files: None,
        })
    }

    /// The process between load and backend.
    pub(crate) fn gateway(&self) -> Option<u32> {
        self.gateway
            .as_ref()
            .or_else(|| self.through.then_some(&self.backend))
            .map(Process::id)
    }

    /// Tells the backend something, and waits for the event that answers it.
    pub(crate) fn tell(&mut self, line: &str) -> Result<Value, Failure> {
        self.backend.tell(line)?;
        self.backend.event(Stream::Out, line, PATIENCE)
    }

    /// Starts a load against it.
    pub(crate) fn load(&self, arguments: &[(&str, String)]) -> Result<Process, Failure> {
        self.part("load", arguments)
    }

    /// Starts another part of this program against it.
    pub(crate) fn part(&self, name: &str, arguments: &[(&str, String)]) -> Result<Process, Failure> {
        let mut words = vec![name.to_owned(), "--addr".into(), self.address.to_string()];
        for (name, value) in arguments {
            words.push(format!("--{name}"));
            words.extend((!value.is_empty()).then(|| value.clone()));
        }
        Process::part(&words)
    }

    /// A load that echoes for some seconds.
    pub(crate) fn echo(&self, arguments: &[(&str, String)], seconds: f64) -> Result<Echoed, Failure> {
        let mut arguments = arguments.to_vec();
        arguments.push(("seconds", seconds.to_string()));
        let mut load = self.load(&arguments)?;
        load.event(Stream::Out, "open", PATIENCE)?;
        let used = |pid: Option<u32>| pid.map(cpu).transpose();
        let before = used(self.gateway())?;
        load.tell("go")?;
        let result = load.event(Stream::Out, "result", PATIENCE + Duration::from_secs_f64(seconds))?;
        let after = used(self.gateway())?;
        let number = |name: &str| result[name].as_f64().unwrap_or(f64::NAN);
        if result["failures"] != 0 {
            return Err(format!("{} connections or messages failed: {result}", result["failures"]).into());
        }
        Ok(Echoed {
            messages: number("messages"),
            per_second: number("messages") / number("seconds"),
            gateway_cpu: after.zip(before).map(|(after, before)| after - before),
            latency: result["latency_us"].clone(),
        })
    }
}

/// What an echo run measured.
pub(crate) struct Echoed {
    pub(crate) messages: f64,
    pub(crate) per_second: f64,
    /// CPU seconds of the gateway, if there is one.
    pub(crate) gateway_cpu: Option<f64>,
    /// Microseconds: p50, p99, p999, max.
    pub(crate) latency: Value,
}

/// Starts greenroom with a part of this program as its child; `ready` is how it learns that the child is ready.
pub(crate) fn greenroom(program: &Path, ready: &str, part: &[String]) -> Result<Process, Failure> {
    greenroom_with(program, ready, part, &[])
}

pub(crate) fn greenroom_with(
    program: &Path,
    ready: &str,
    part: &[String],
    settings: &[(&str, String)],
) -> Result<Process, Failure> {
    Process::start("greenroom", greenroom_command(program, ready, part, settings)?)
}

/// What starts it.
pub(crate) fn greenroom_command(
    program: &Path,
    ready: &str,
    part: &[String],
    settings: &[(&str, String)],
) -> Result<Command, Failure> {
    let mut command = Command::new(program);
    command.envs(
        settings
            .iter()
            .map(|(name, value)| (format!("GREENROOM__{name}"), value)),
    );
    command.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--ready",
        ready,
        "--log-format",
        "json",
        "--",
    ]);
    command.arg(std::env::current_exe()?).args(part);
    Ok(command)
}

/// All that stands to be measured.
pub(crate) fn targets<'a>(options: &'a Options, rivals: &'a [Rival]) -> Vec<Target<'a>> {
    let mut targets = vec![Target::Direct];
    if !options.direct_only {
        targets.extend([Target::Greenroom(&options.greenroom), Target::Bare]);
    }
    targets.extend(rivals.iter().map(Target::Rival));
    targets
}

/// The address in a `listening` event.
pub(crate) fn address(event: &Value) -> Result<SocketAddr, Failure> {
    let address = event["address"].as_str().and_then(|address| address.parse().ok());
    address.ok_or_else(|| format!("no address in {event}").into())
}
