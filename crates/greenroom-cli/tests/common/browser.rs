//! Chromium, driven over its DevTools protocol: what a person would see of a page, and what went wrong on it.
//!
//! The protocol is spoken over two pipes (`--remote-debugging-pipe`): JSON objects, each
//! ended by a NUL. A shell makes the browser's descriptors 3 and 4 of our pipes. Each
//! [`Browser`] has an empty profile of its own, each [`Page`] a context of its own: no
//! cache, cookie or socket is shared between two pages.
//!
//! Every wait has a deadline, and is woken by the browser's next word.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::process::remove_folder;

/// For a page, an answer or a condition: a browser on a busy machine takes seconds for its first page.
const PATIENCE: Duration = Duration::from_secs(30);
/// A condition on a page is looked at again at each event of the browser, and after this time.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A browser. Ended, by its own process id, when dropped.
pub struct Browser {
    child: Child,
    to: Mutex<ChildStdin>,
    heard: Arc<(Mutex<Heard>, Condvar)>,
    profile: PathBuf,
}

#[derive(Default)]
struct Heard {
    last: u64,
    answers: BTreeMap<u64, Value>,
    events: Vec<Value>,
    ended: bool,
}

impl Browser {
    /// Starts Debian's Chromium, without a window.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with more switches.
    pub fn start_with(switches: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let profile = std::env::temp_dir().join(format!("greenroom-browser-{}-{number}", std::process::id()));
        fs::create_dir(&profile).unwrap();
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>\"$0/stderr\"",
            profile.to_str().unwrap(),
            "chromium",
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--no-default-browser-check",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--remote-debugging-pipe",
        ]);
        command.args(switches);
        command.arg(format!("--user-data-dir={}", profile.join("profile").display()));
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = started.expect("sh starts");
        let heard = listen(child.stdout.take().unwrap());
        let to = Mutex::new(child.stdin.take().unwrap());
        Self {
            child,
            to,
            heard,
            profile,
        }
    }

    /// An empty page, 1280 × 800, in a context of its own.
    pub fn page(&self) -> Page<'_> {
        let context = self.call(None, "Target.createBrowserContext", &json!({}));
        let target = json!({"url": "about:blank", "browserContextId": context["browserContextId"]});
        let target = self.call(None, "Target.createTarget", &target);
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call(None, "Target.attachToTarget", &attach)["sessionId"].clone();
        let page = Page {
            browser: self,
            session: session.as_str().unwrap().to_owned(),
        };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.size(1280, 800);
        page
    }

    fn call(&self, session: Option<&str>, method: &str, params: &Value) -> Value {
        self.try_call(session, method, params)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_call(&self, session: Option<&str>, method: &str, params: &Value) -> Result<Value, String> {
        let (heard, changed) = &*self.heard;
        let id = {
            let mut heard = heard.lock().unwrap();
            heard.last += 1;
            heard.last
        };
        let mut message = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        if let Err(error) = self.to.lock().unwrap().write_all(&bytes) {
            panic!("{method}: {error}; the browser says:\n{}", self.stderr());
        }
        let deadline = Instant::now() + PATIENCE;
        let mut heard = heard.lock().unwrap();
        loop {
            if let Some(answer) = heard.answers.remove(&id) {
                return match answer.get("error") {
                    Some(error) => Err(error.to_string()),
                    None => Ok(answer["result"].clone()),
                };
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let why = if heard.ended { "it ended" } else { "no answer" };
            if heard.ended || left.is_zero() {
                drop(heard);
                panic!("{method}: {why}; the browser says:\n{}", self.stderr());
            }
            heard = changed.wait_timeout(heard, left).unwrap().0;
        }
    }

    fn stderr(&self) -> String {
        fs::read_to_string(self.profile.join("stderr")).unwrap_or_default()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers end with it: their channel to it is closed.
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove_folder(&self.profile);
    }
}

fn listen(from: impl Read + Send + 'static) -> Arc<(Mutex<Heard>, Condvar)> {
    let shared: Arc<(Mutex<Heard>, Condvar)> = Arc::default();
    let both = Arc::clone(&shared);
    thread::spawn(move || {
        let (heard, changed) = &*both;
        for message in BufReader::new(from).split(0).map_while(Result::ok) {
            let message: Value = serde_json::from_slice(&message).expect("DevTools speaks JSON");
            let mut heard = heard.lock().unwrap();
            match message["id"].as_u64() {
                Some(id) => drop(heard.answers.insert(id, message)),
                None => heard.events.push(message),
            }
            changed.notify_all();
        }
        heard.lock().unwrap().ended = true;
        changed.notify_all();
    });
    shared
}

/// One page.
pub struct Page<'b> {
    browser: &'b Browser,
    session: String,
}

impl Page<'_> {
    /// A method of the DevTools protocol.
    pub fn call(&self, method: &str, params: &Value) -> Value {
        self.browser.call(Some(&self.session), method, params)
    }

    /// Sets the size of the window.
    pub fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Emulates what a person has set: `prefers-color-scheme`, `prefers-reduced-motion`.
    pub fn prefers(&self, features: &[(&str, &str)]) {
        let features: Vec<_> = features
            .iter()
            .map(|(name, value)| json!({"name": format!("prefers-{name}"), "value": value}))
            .collect();
        self.call("Emulation.setEmulatedMedia", &json!({"features": features}));
    }

    /// No page's script runs from now on; [`Page::eval`] still does.
    pub fn without_javascript(&self) {
        self.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    }

    /// Goes there. Comes back when the answer has begun.
    pub fn goto(&self, url: &str) {
        let went = self.call("Page.navigate", &json!({"url": url}));
        assert!(went.get("errorText").is_none(), "{url}: {went}");
    }

    /// The value of an expression, or of the promise that it is.
    pub fn eval(&self, expression: &str) -> Value {
        self.try_eval(expression)
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    fn try_eval(&self, expression: &str) -> Result<Value, String> {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let result = self
            .browser
            .try_call(Some(&self.session), "Runtime.evaluate", &params)?;
        match result.get("exceptionDetails") {
            Some(thrown) => Err(thrown.to_string()),
            None => Ok(result["result"]["value"].clone()),
        }
    }

    /// Waits until an expression is true. While the page changes it has no value.
    pub fn until(&self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        let (heard, changed) = &*self.browser.heard;
        loop {
            let seen = self.try_eval(expression);
            if seen == Ok(Value::Bool(true)) {
                return;
            }
            if Instant::now() > deadline {
                let page = self.try_eval("document.documentElement.outerHTML");
                panic!(
                    "never true: {expression}: {seen:?}\n{page:?}\n{:#?}",
                    self.problems_from(0)
                );
            }
            let heard = heard.lock().unwrap();
            drop(changed.wait_timeout(heard, LOOK_AGAIN).unwrap());
        }
    }

    /// A mark for [`Page::problems_from`].
    pub fn mark(&self) -> usize {
        self.browser.heard.0.lock().unwrap().events.len()
    }

    /// The events of this page from a mark on.
    pub fn events_from(&self, mark: usize) -> Vec<Value> {
        let heard = self.browser.heard.0.lock().unwrap();
        let events = heard.events.iter().skip(mark);
        events
            .filter(|event| event["sessionId"] == *self.session)
            .cloned()
            .collect()
    }

    /// What went wrong on this page since a mark: uncaught errors, errors on the console, requests that failed.
    pub fn problems_from(&self, mark: usize) -> Vec<String> {
        let is_problem = |event: &Value| {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.exceptionThrown" | "Network.webSocketFrameError" => true,
                // What the page itself let go of, an answer of which it wants no body included, has not failed.
                "Network.loadingFailed" => params["canceled"] != true,
                "Runtime.consoleAPICalled" => params["type"] == "error" || params["type"] == "assert",
                "Log.entryAdded" => params["entry"]["level"] == "error",
                "Network.responseReceived" => params["response"]["status"].as_u64() >= Some(400),
                _ => false,
            }
        };
        let events = self.events_from(mark).into_iter().filter(is_problem);
        events.map(|event| event.to_string()).collect()
    }

    /// A picture of it, as a PNG. For whoever works on a page; no test compares pictures.
    pub fn screenshot(&self, into: &std::path::Path) {
        use std::process::Stdio as To;
        let shot = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let file = fs::File::create(into).unwrap();
        let mut base64 = Command::new("base64")
            .arg("-d")
            .stdin(To::piped())
            .stdout(file)
            .spawn()
            .unwrap();
        let data = shot["data"].as_str().unwrap();
        base64.stdin.take().unwrap().write_all(data.as_bytes()).unwrap();
        assert!(base64.wait().unwrap().success());
    }
}
