//! A headless Chromium on a host of the lab, driven over the DevTools protocol through a pipe.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use serde_json::{Value, json};

use crate::host::Host;
use crate::process::Process;
use crate::{Outcome, ensure};

/// For one answer. A browser that starts on a busy machine takes its time.
const ANSWER: Duration = Duration::from_secs(40);

/// One tab.
#[derive(Debug)]
pub struct Browser {
    _process: Process,
    to: RefCell<File>,
    from: Receiver<Value>,
    number: Cell<u64>,
    session: String,
    events: RefCell<Vec<Value>>,
}

impl Browser {
    /// Starts it, with an empty page.
    ///
    /// # Errors
    ///
    /// It does not start, or says something else than it should.
    pub fn start(host: &Host) -> Outcome<Self> {
        let pipe = || nix::unistd::pipe().map_err(|error| format!("no pipe: {error}"));
        let ((its_input, to), (from, its_output)) = (pipe()?, pipe()?);
        let profile = host.directory.join("browser");
        let mut command = host.command("chromium");
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-extensions",
            "--no-first-run",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
            "--remote-debugging-pipe",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display())).env("HOME", &host.directory);
        command.arg("about:blank");
        speak_through(&mut command, &its_input, &its_output);
        let process = Process::start(command, &host.directory.join("browser.log"))
            .map_err(|error| format!("chromium does not start: {error}"))?;
        drop((its_input, its_output));
        let mut browser = Self {
            _process: process,
            to: RefCell::new(to.into()),
            from: listen(from),
            number: Cell::new(0),
            session: String::new(),
            events: RefCell::default(),
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach)?;
        browser.session = attached["sessionId"].as_str().unwrap_or_default().to_owned();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Asks for something, and waits for the answer.
    ///
    /// # Errors
    ///
    /// The browser refuses, or gives no answer.
    pub fn call(&self, method: &str, parameters: Value) -> Outcome<Value> {
        self.number.set(self.number.get() + 1);
        let number = self.number.get();
        let mut message = json!({"id": number, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.borrow_mut().write_all(&bytes).map_err(|error| format!("the browser is gone: {error}"))?;
        let deadline = Instant::now() + ANSWER;
        loop {
            let answer = self.hear(deadline).map_err(|why| format!("{method}: {why}"))?;
            if answer["id"] != number {
                self.events.borrow_mut().push(answer);
                continue;
            }
            return match answer.get("error") {
                Some(error) => Err(format!("{method}: {error}").into()),
                None => Ok(answer["result"].clone()),
            };
        }
    }

    fn hear(&self, deadline: Instant) -> Result<Value, String> {
        self.from.recv_timeout(deadline.saturating_duration_since(Instant::now())).map_err(
            |error| match error {
                RecvTimeoutError::Timeout => format!("no answer within {ANSWER:?}"),
                RecvTimeoutError::Disconnected => "the browser has ended".to_owned(),
            },
        )
    }

    /// Events of this kind since they were last asked for.
    ///
    /// # Errors
    ///
    /// The browser is gone.
    pub fn events(&self, method: &str) -> Outcome<Vec<Value>> {
        // An answer comes behind all events before it.
        self.call("Page.getNavigationHistory", json!({}))?;
        let mut events = self.events.borrow_mut();
        let (found, rest) = events.drain(..).partition(|event| event["method"] == method);
        *events = rest;
        Ok(found)
    }

    /// What was said on the console, and what failed to load or run.
    ///
    /// # Errors
    ///
    /// The browser is gone.
    pub fn complaints(&self) -> Outcome<Vec<Value>> {
        let mut found = self.events("Runtime.exceptionThrown")?;
        found.extend(self.events("Runtime.consoleAPICalled")?);
        found.extend(self.events("Log.entryAdded")?);
        Ok(found)
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    ///
    /// It throws.
    pub fn value(&self, expression: &str) -> Outcome<Value> {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", asked)?;
        ensure(answer.get("exceptionDetails").is_none(), || format!("{expression}: {answer}"))?;
        Ok(answer["result"]["value"].clone())
    }

    /// Waits until an expression in the page is true.
    ///
    /// # Errors
    ///
    /// It does not become true in time.
    pub fn wait_for(&self, what: &str, limit: Duration, expression: &str) -> Outcome {
        let deadline = Instant::now() + limit;
        while self.value(expression)? != true {
            if Instant::now() > deadline {
                let text = self.value("document.body ? document.body.innerText : ''")?;
                return Err(format!("{what}: not within {limit:?}; the page says: {text}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Goes to a page and waits until it is loaded.
    ///
    /// # Errors
    ///
    /// It cannot be loaded.
    pub fn open(&self, url: &str) -> Outcome {
        self.events("Page.loadEventFired")?;
        let answer = self.call("Page.navigate", json!({"url": url}))?;
        ensure(answer.get("errorText").is_none(), || format!("{url}: {answer}"))?;
        crate::wait_for("the page is loaded", ANSWER, || {
            self.events("Page.loadEventFired").ok().filter(|events| !events.is_empty())
        })?;
        Ok(())
    }

    /// A screen of this size, in the light or in the dark.
    ///
    /// # Errors
    ///
    /// The browser refuses.
    pub fn screen(&self, width: u32, height: u32, scheme: &str) -> Outcome {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500});
        self.call("Emulation.setDeviceMetricsOverride", size)?;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features)?;
        Ok(())
    }

    /// The screen as a PNG.
    ///
    /// # Errors
    ///
    /// The browser refuses, or the file cannot be written.
    pub fn picture(&self, file: &Path) -> Outcome {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}))?;
        let odd = |error: std::io::Error| format!("{}: {error}", file.display());
        let out = File::create(file).map_err(odd)?;
        let mut decoder =
            Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(out).spawn().map_err(odd)?;
        let mut input = decoder.stdin.take().ok_or("no pipe to base64")?;
        input.write_all(answer["data"].as_str().unwrap_or_default().as_bytes()).map_err(odd)?;
        drop(input);
        let status = decoder.wait().map_err(odd)?;
        ensure(status.success(), || format!("base64: {status}"))
    }
}

impl From<&str> for crate::Failure {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

/// The browser reads commands from descriptor 3 and writes to 4.
fn speak_through(command: &mut Command, input: &OwnedFd, output: &OwnedFd) {
    let (input, output) = (input.as_raw_fd(), output.as_raw_fd());
    // SAFETY: only system calls between fork and exec; both descriptors are open until the command has started.
    unsafe {
        command.pre_exec(move || {
            // Out of the way first: either may be 3 or 4 itself.
            let (input, output) =
                (libc::fcntl(input, libc::F_DUPFD, 10), libc::fcntl(output, libc::F_DUPFD, 10));
            for (from, to) in [(input, 3), (output, 4)] {
                if from < 0 || libc::dup2(from, to) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                libc::close(from);
            }
            Ok(())
        });
    }
}

/// Messages end with a zero.
fn listen(from: OwnedFd) -> Receiver<Value> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(File::from(from));
        let mut bytes = Vec::new();
        while from.read_until(0, &mut bytes).is_ok_and(|count| count > 0) {
            bytes.pop();
            let Ok(message) = serde_json::from_slice(&bytes) else { return };
            if sender.send(message).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}
