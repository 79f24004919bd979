//! What a restart of a running server does to its clients: who is dropped, what is lost, how long until the last is back.
//!
//! Here the clients are those that people have: each sends a message every 50 ms, and connects
//! again, every 50 ms, when it is dropped. CMD gets its signal once all are in; by itself it is started again as soon
//! as it has ended, behind greenroom that does it. A message is lost when its connection ended before its answer came.
//!
//! Bounds: the clients of the audit, [`limits::AUDIT_RESTART_EVERY`], the time for a start.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use greenroom::supervise::{Signal, procfs};
use http::Uri;
use rustix::process::kill_process;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_websockets::{ClientBuilder, CloseCode, Message};

use super::process::{Program, Running, StartError};
use super::run::Manner;
use super::stage::{PortError, Stage, Way};
use super::stats::{Quantiles, Share};
use super::target::{Expect, Words};
use crate::{clock, limits};

/// What the restart of one side did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartReport {
    /// Which side.
    pub way: Way,
    /// With which signal.
    pub signal: String,
    /// Clients that were in before it, and how many of them were dropped.
    pub dropped: Share,
    /// Messages lost, of all that were sent on connections that were ended by it.
    pub lost: Share,
    /// By which codes they were closed; `None`: without a Close.
    pub codes: Vec<(Option<u16>, u64)>,
    /// From a client's last answer before it to its first after it.
    pub away: Quantiles,
    /// From the signal until the last client had an answer again; `None`: not all came back.
    pub last_back_ns: Option<u64>,
}

/// Why it could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// CMD could not be executed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// It did not come so far.
    #[error("the restart could not be measured: {0}")]
    NotReady(&'static str),
}

/// What one client went through.
#[derive(Clone, Debug, Default)]
struct Life {
    /// When it had answers.
    answers: Vec<u64>,
    /// When a connection ended that had been answered before, with which code, and what was still unanswered then.
    ends: Vec<(u64, Option<u16>, u64)>,
    /// Messages sent.
    sent: u64,
}

/// Restarts CMD once, on this side, with clients connected. `None`: it was told to stop.
///
/// # Errors
/// When CMD does not start, or is not ready in time.
pub async fn restart(
    stage: &Stage,
    manner: &Manner,
    way: Way,
    signal: Signal,
    count: u32,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<RestartReport>, RestartError> {
    let port = stage.port(&manner.target, way).await?;
    let program = stage.program(way, &manner.target, port.number);
    let mut running = Running::start(&program)?;
    let scene = Scene {
        manner,
        program: &program,
        port: port.number,
        way,
        signal,
        count,
    };
    let played = tokio::select! {
        played = scene.play(&mut running) => Some(played),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    running.stop(manner.grace).await;
    played.transpose()
}

/// One restart.
struct Scene<'a> {
    manner: &'a Manner,
    program: &'a Program,
    port: u16,
    way: Way,
    signal: Signal,
    count: u32,
}

impl Scene<'_> {
    async fn play(&self, running: &mut Running) -> Result<RestartReport, RestartError> {
        let manner = self.manner;
        let (over, is_over) = watch::channel(false);
        let (news, mut heard) = watch::channel(vec![0_u64; self.count as usize]);
        let news = Arc::new(news);
        let mut set = JoinSet::new();
        for client in 0..self.count {
            let (manner, over, news, port) = (manner.clone(), is_over.clone(), Arc::clone(&news), self.port);
            set.spawn(async move { live(&manner, port, client, over, &news).await });
        }
        let all_since = |since: u64| move |last: &Vec<u64>| last.iter().all(|&at| at > since);
        let ready = timeout(manner.start_timeout, heard.wait_for(all_since(0)))
            .await
            .is_ok();
        if !ready {
            return Err(RestartError::NotReady(
                "not all clients were answered in the time for a start",
            ));
        }
        sleep(limits::AUDIT_RESTART_STEADY).await;
        let at = clock::now();
        self.again(running).await?;
        // Some may never have noticed: they go on being answered.
        sleep(limits::AUDIT_RESTART_STEADY).await;
        let noticed = clock::now();
        let back = timeout(manner.start_timeout, heard.wait_for(all_since(noticed)))
            .await
            .is_ok();
        over.send_replace(true);
        let mut lives = Vec::new();
        while let Some(joined) = set.join_next().await {
            lives.extend(joined);
        }
        Ok(summed(self.way, self.signal, &lives, at, back))
    }

    /// Ends CMD, and starts it again where nobody else does.
    async fn again(&self, running: &mut Running) -> Result<(), RestartError> {
        match self.way {
            Way::Plain => {
                running.signal_one(self.signal);
                timeout(self.manner.grace, running.ended()).await.ok();
                running.stop(self.manner.grace).await; // what it left behind, or itself where it does not end
                *running = Running::start(self.program)?;
                Ok(())
            }
            Way::Greenroom if signal_child(running.pid(), self.signal) => Ok(()),
            Way::Greenroom => Err(RestartError::NotReady("the server's process was not found")),
        }
    }
}

/// Sends the signal to the child of greenroom's warden, which is CMD.
fn signal_child(gateway: i32, signal: Signal) -> bool {
    let below = procfs::descendants(gateway, |_| false);
    let wardens: Vec<i32> = below.iter().filter(|p| p.parent == gateway).map(|p| p.pid).collect();
    let mut found = false;
    for process in below.iter().filter(|process| wardens.contains(&process.parent)) {
        found |= process.id().is_some_and(|pid| kill_process(pid, signal).is_ok());
    }
    found
}

/// What all lives show of what happened at `at`.
fn summed(way: Way, signal: Signal, lives: &[Life], at: u64, back: bool) -> RestartReport {
    let (mut dropped, mut lost, mut sent) = (0, 0, 0);
    let mut codes: Vec<(Option<u16>, u64)> = Vec::new();
    let (mut away, mut last) = (Vec::new(), 0);
    for life in lives {
        let ends: Vec<_> = life.ends.iter().filter(|end| end.0 >= at).collect();
        dropped += u64::from(!ends.is_empty());
        lost += ends.iter().map(|end| end.2).sum::<u64>();
        sent += life.sent;
        for (_, code, _) in &ends {
            match codes.iter_mut().find(|known| known.0 == *code) {
                Some(known) => known.1 += 1,
                None => codes.push((*code, 1)),
            }
        }
        // The longest time without an answer around the restart.
        let gaps = life.answers.windows(2).filter(|pair| pair[1] >= at);
        if let Some((gap, to)) = gaps.map(|pair| (pair[1] - pair[0], pair[1])).max() {
            away.push(gap);
            last = last.max(to);
        }
    }
    RestartReport {
        way,
        signal: if signal == Signal::KILL { "KILL" } else { "TERM" }.to_owned(),
        dropped: Share::new(dropped, lives.len() as u64),
        lost: Share::new(lost, sent),
        codes,
        away: Quantiles::of(away),
        last_back_ns: back.then(|| last.saturating_sub(at)),
    }
}

/// One client, until it is over.
async fn live(
    manner: &Manner,
    port: u16,
    client: u32,
    mut over: watch::Receiver<bool>,
    news: &watch::Sender<Vec<u64>>,
) -> Life {
    let mut life = Life::default();
    while !*over.borrow() {
        let talk = talk(manner, port, client, &mut life, news);
        tokio::select! {
            () = talk => {}
            _ = over.wait_for(|over| *over) => break,
        }
        tokio::select! {
            () = sleep(limits::AUDIT_RESTART_EVERY) => {}
            _ = over.wait_for(|over| *over) => break,
        }
    }
    life
}

/// One connection, until it ends.
async fn talk(manner: &Manner, port: u16, client: u32, life: &mut Life, news: &watch::Sender<Vec<u64>>) {
    let opening = async {
        let stream = TcpStream::connect(manner.target.address(port)).await.ok()?;
        stream.set_nodelay(true).ok();
        let uri: Uri = manner.target.uri(port).parse().ok()?;
        let mut builder = ClientBuilder::from_uri(uri);
        for (name, value) in &manner.target.headers {
            builder = builder.add_header(name.clone(), value.clone()).ok()?;
        }
        Some(builder.connect_on(stream).await.ok()?.0)
    };
    let Ok(Some(mut socket)) = timeout(manner.patience, opening).await else {
        return;
    };
    let mut ticks = interval(limits::AUDIT_RESTART_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut waiting, mut answered) = (std::collections::VecDeque::new(), false);
    let mut silent = Instant::now();
    let code = loop {
        tokio::select! {
            _ = ticks.tick() => {
                let number = usize::try_from(life.sent).unwrap_or(usize::MAX);
                let words = manner.words.filled(0, client, number);
                let message = match words.clone() {
                    Words::Text(text) => Message::text(text),
                    Words::Binary(bytes) => Message::binary(bytes),
                };
                if socket.send(message).await.is_err() {
                    break None;
                }
                life.sent += 1;
                if !matches!(manner.expect, Expect::Nothing) {
                    waiting.push_back(words);
                }
                if waiting.len() > 1 && silent.elapsed() > manner.patience {
                    break None;
                }
            }
            message = socket.next() => match message {
                Some(Ok(message)) if message.is_close() => {
                    break message.as_close().map(|(code, _)| u16::from(code));
                }
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    let payload: &[u8] = message.as_payload();
                    // Whoever was asked before and is not the one that is answered may still come.
                    if let Some(at) = waiting.iter().position(|words| manner.expect.takes(words, payload)) {
                        waiting.remove(at);
                        (answered, silent) = (true, Instant::now());
                        let now = clock::now();
                        life.answers.push(now);
                        news.send_modify(|last| last[client as usize] = now);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break None,
            }
        }
    };
    if answered {
        life.ends.push((clock::now(), code, waiting.len() as u64));
    }
    let close = Message::close(Some(CloseCode::NORMAL_CLOSURE), "");
    timeout(Duration::from_millis(100), socket.send(close)).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_dropped_lost_and_away_is_counted_from_the_signal_on() {
        let ms = |n: u64| n * 1_000_000;
        let kept = Life {
            answers: (0..40).map(|n| ms(n * 50)).collect(),
            ends: vec![],
            sent: 40,
        };
        let dropped = Life {
            answers: vec![ms(900), ms(950), ms(1_900), ms(1_950)],
            ends: vec![(ms(10), Some(1011), 9), (ms(1_001), Some(1012), 2)],
            sent: 50,
        };
        let report = summed(Way::Plain, Signal::TERM, &[kept, dropped], ms(1_000), true);
        assert_eq!((report.dropped.hits, report.dropped.of), (1, 2));
        assert_eq!((report.lost.hits, report.lost.of), (2, 90));
        assert_eq!(report.codes, [(Some(1012), 1)]);
        assert_eq!((report.away.min_ns, report.away.max_ns), (ms(50), ms(950)));
        assert_eq!(report.last_back_ns, Some(ms(950)));
    }
}
