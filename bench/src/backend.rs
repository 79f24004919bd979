//! The backend: an echo for WebSockets, and bytes for plain requests (`web`); one thread, nothing but what that costs.
//!
//! Says on standard output where it listens. Lines on its standard input tell
//! it to do something: `ready` (READY=1 is stamped and sent), `report` (how many
//! opened, and how many of them were overtaken, by Greenroom-Session). It ends
//! with its standard input, so that it never outlives a benchmark.
//!
//! The order of openings is exact, for the reason given in `greenroom_audit::backend`.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::ready;

use greenroom_audit::check::inversions;
use greenroom_audit::{backend::bind, clock, notify::Notifier};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::frames::{Echo, answer, head_end};
use crate::{Failure, any_port, web};

/// Bytes read at once, for all connections together.
const SCRATCH: usize = 64 * 1024;
/// Bytes of a head at the most.
pub(crate) const HEAD_MAX: usize = 16 * 1024;
/// Sessions that are remembered for the report.
const SESSIONS_MAX: usize = 1 << 20;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Sends READY=1 to $NOTIFY_SOCKET.
    #[arg(long)]
    notify: bool,
    /// … only when told to.
    #[arg(long)]
    ready_on_stdin: bool,
}

thread_local! {
    static IN: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
    /// Taken while it is being written; a slow peer keeps one for that time.
    static OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

type Sessions = Rc<RefCell<Vec<Option<u64>>>>;

pub(crate) fn main(arguments: &Arguments) -> Result<(), Failure> {
    crate::process::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = match std::env::var("PORT") {
        Ok(port) => SocketAddr::from((any_port().ip(), port.parse()?)),
        Err(_) => any_port(),
    };
    let notifier = if arguments.notify { Notifier::from_env()? } else { None };
    let (told, mut lines) = tokio::sync::mpsc::channel(16);
    std::thread::spawn(move || {
        // The channel closes when standard input ends.
        io::stdin()
            .lock()
            .lines()
            .map_while(Result::ok)
            .all(|line| told.blocking_send(line).is_ok())
    });
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async move {
        let listener = bind(address)?.listen(4_096)?;
        let sessions = Sessions::default();
        println!(
            "{}",
            json!({"event": "listening", "address": listener.local_addr()?.to_string()})
        );
        tokio::task::spawn_local(accept(listener, Rc::clone(&sessions)));
        let ready = || {
            println!("{}", json!({"event": "ready", "at": clock::now()}));
            notifier.as_ref().map_or(Ok(()), |notifier| notifier.send("READY=1"))
        };
        if !arguments.ready_on_stdin {
            ready()?;
        }
        while let Some(line) = lines.recv().await {
            match line.as_str() {
                "ready" => ready()?,
                "report" => println!("{}", report(&sessions.borrow())),
                other => return Err(Failure::from(format!("{other:?} is nothing a backend can do"))),
            }
        }
        Ok(())
    })
}

fn report(sessions: &[Option<u64>]) -> serde_json::Value {
    let numbered: Vec<u64> = sessions.iter().flatten().copied().collect();
    json!({
        "event": "report",
        "openings": sessions.len(),
        "numbered": numbered.len(),
        "inversions": inversions(&numbered).len(),
    })
}

async fn accept(listener: TcpListener, sessions: Sessions) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let sessions = Rc::clone(&sessions);
                tokio::task::spawn_local(async move { serve(stream, &sessions).await.ok() });
            }
            Err(error) => {
                eprintln!("bench backend: cannot accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}

async fn serve(mut stream: TcpStream, sessions: &Sessions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    let end = loop {
        if read(&mut stream, |bytes| head.extend_from_slice(bytes)).await? == 0 || head.len() > HEAD_MAX {
            return Ok(());
        }
        if let Some(end) = head_end(&head) {
            break end;
        }
    };
    let (key, session) = {
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        request.parse(&head).map_err(io::Error::other)?;
        let field = |name: &str| {
            request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))
        };
        let session = field("greenroom-session").and_then(|field| std::str::from_utf8(field.value).ok()?.parse().ok());
        (
            field("sec-websocket-key").map_or_else(Vec::new, |field| field.value.to_vec()),
            session,
        )
    };
    if key.is_empty() {
        return web::serve(stream, head).await;
    }
    if sessions.borrow().len() < SESSIONS_MAX {
        sessions.borrow_mut().push(session);
    }
    let mut echo = Echo::default();
    let mut out = answer(&key);
    let mut legal = echo.feed(&head[end..], &mut out);
    drop(head);
    stream.write_all(&out).await?;
    drop(out);
    while legal {
        let mut out = Vec::new();
        let taken = read(&mut stream, |bytes| {
            // Taken only now, so that a connection that waits keeps none.
            out = OUT.take();
            out.clear();
            legal = echo.feed(bytes, &mut out);
        });
        if taken.await? == 0 {
            break;
        }
        stream.write_all(&out).await?;
        OUT.set(out);
    }
    Ok(())
}

/// Waits, reads once into the scratch buffer, and hands over what was read.
pub(crate) async fn read(stream: &mut TcpStream, mut take: impl FnMut(&[u8])) -> io::Result<usize> {
    poll_fn(|cx| {
        IN.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            take(buffer.filled());
            Ok(buffer.filled().len()).into()
        })
    })
    .await
}
