//! The web page of a real daemon in a real browser, and its metrics through a parser that is not ours.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netns_tests::browser::Browser;
use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::vipd;
use netns_tests::process::Process;
use netns_tests::{Outcome, enabled, ensure, wait_until};
use serde_json::json;

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Names in the pictures for the documentation.
const NAMES: [&str; 2] = ["cp2", "uplink"];

/// As long as names get.
const LONG: &str =
    "kube-apiserver-ip-10-77-0-12.eu-central-1.compute.internal.cluster-of-a-long-name.example.org";

/// Shown as it is, never run.
const EVIL: &str = "<script>document.title='run'</script>";

fn configuration(name: &str, [backend, check]: [&str; 2], priorities: [u8; 2], web: &str) -> String {
    let [priority, others] = priorities;
    format!(
        r#"
router_id = "{name}"

[control]
socket = "/run/vipd/control.sock"
{web}

[[instance]]
name = "apiserver"
interface = "eth0"
vrid = 51
priority = {priority}
addresses = ["10.77.0.100/32"]

[[instance]]
name = "storage"
interface = "eth0"
vrid = 52
priority = {others}
addresses = ["10.77.0.101/32", "10.77.0.102/32"]

[[check]]
name = "{check}"
script = ["/bin/false"]
interval = "1s"

[[listener]]
name = "apiserver"
bind = ["10.77.0.100:6443"]
instances = ["apiserver"]
max_sessions = 4000
check = {{ http = {{ path = "/readyz" }}, interval = "300ms", rise = 2, fall = 2 }}
backends = [
    {{ name = "cp1", address = "10.77.0.11:6443" }},
    {{ name = "{backend}", address = "10.77.0.12:6443" }},
    {{ name = "cp3", address = "10.77.0.13:6443", weight = 2 }},
]

[[listener]]
name = "etcd"
bind = ["127.0.0.1:2379"]
max_sessions = 1000
check = {{ tcp = {{}}, interval = "300ms", rise = 1, fall = 1 }}
backends = [{{ name = "cp1", address = "10.77.0.11:6443" }}]
"#
    )
}

/// Answers `ok` over HTTP, and keeps other connections, until it is dropped.
struct Backend {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Backend {
    fn start(host: &Host, sick: bool) -> Self {
        let socket = host.inside(|| TcpListener::bind("0.0.0.0:6443").expect("the port is free"));
        socket.set_nonblocking(true).expect("an option of every socket");
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = stop.clone();
            move || {
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((stream, _)) = socket.accept()
                        && let Ok(end) = stream.try_clone()
                    {
                        held.push(end);
                        thread::spawn(move || attend(stream, sick));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
                for stream in held {
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn attend(mut stream: TcpStream, sick: bool) {
    let mut bytes = [0; 4096];
    while let Ok(count) = stream.read(&mut bytes) {
        if count == 0 {
            return;
        }
        if bytes.starts_with(b"GET ") {
            let status = if sick { "500 Internal Server Error" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\nok\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    }
}

/// Everything is inside the width of the screen.
fn fits(browser: &Browser, width: u32) -> Outcome {
    let wide = browser.value(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 0.5 \
         && !(innerWidth < 821 && e.closest('thead'))) \
         .map(e => e.outerHTML.slice(0, 200))",
    )?;
    ensure(wide == json!([]), || format!("wider than {width}: {wide}"))?;
    let scroll = browser.value("document.documentElement.scrollWidth <= innerWidth")?;
    ensure(scroll == true, || format!("{width}: it scrolls sideways"))
}

fn silent(browser: &Browser, when: &str) -> Outcome {
    let complaints = browser.complaints()?;
    ensure(complaints.is_empty(), || format!("{when}: the browser complains: {complaints:?}"))
}

/// Pictures for the documentation go there, if somebody wants them.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("WEB_PICTURES").map(PathBuf::from)
}

fn has(text: &str) -> String {
    format!("document.body.innerText.includes({})", json!(text))
}

fn the_page(lab: &Lab) -> Outcome {
    let [cp1, cp2, cp3] = [&lab.others[0], &lab.others[1], &lab.others[2]];
    let mut first = Some(Backend::start(cp1, false));
    let second = Backend::start(cp2, false);
    let _third = Backend::start(cp3, true);
    let web = "web = \"10.77.0.1:9280\"\nmetrics = \"10.77.0.1:9273\"";
    let [backend, check] = if pictures().is_some() { NAMES } else { [LONG, EVIL] };
    let mut here = start(&lab.lb1, &configuration("lb1", [backend, check], [200, 90], web))?;
    let mut there = start(&lab.lb2, &configuration("lb2", [backend, check], [100, 120], ""))?;
    let holds = |host: &Host, address: &str| host.addresses().iter().any(|one| one == address);
    wait_until("both hosts hold theirs", SOON, || {
        holds(&lab.lb1, "10.77.0.100") && holds(&lab.lb2, "10.77.0.101")
    })?;
    let _sessions: Vec<TcpStream> = lab.client.inside(|| {
        let at: SocketAddr = "10.77.0.100:6443".parse().expect("an address");
        (0..5).filter_map(|_| TcpStream::connect(at).ok()).collect()
    });

    let browser = Browser::start(&lab.client)?;
    let url = "http://10.77.0.1:9280/";
    browser.screen(1280, 900, "light")?;
    browser.open(url)?;
    browser.wait_for("it is live", SOON, "document.getElementById('live').textContent === 'live'")?;
    for text in ["this host (lb1)", "10.77.0.2, priority 120", "Works, but look at this", backend, check] {
        browser.wait_for(&format!("the page says {text}"), SOON, &has(text))?;
    }
    browser.wait_for("cp3 is down, with its answer", SOON, &has("serves with 2 of 3 backends: cp3 down"))?;
    browser.wait_for("the sessions are seen", SOON, &has("sessions: 5 now"))?;
    ensure(browser.value("document.title !== 'run'")? == true, || "a name was run as a script".to_owned())?;
    for (width, height, scheme, file) in [
        (1280, 960, "light", "web-desktop.png"),
        (1280, 960, "dark", "web-desktop-dark.png"),
        (390, 1240, "light", "web-phone.png"),
        (390, 1240, "dark", "web-phone-dark.png"),
    ] {
        browser.screen(width, height, scheme)?;
        fits(&browser, width)?;
        let dark = "getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0] < 128";
        ensure(browser.value(dark)? == (scheme == "dark"), || format!("{scheme} is not {scheme}"))?;
        if let Some(directory) = pictures() {
            browser.picture(&directory.join(file))?;
        }
    }
    silent(&browser, "at rest")?;

    // What happens is seen without a reload.
    browser.value("window.mark = 'the same page'")?;
    drop(second);
    let both = format!("serves with 1 of 3 backends: {backend} down");
    browser.wait_for("a backend that goes down is seen", SOON, &has(&both))?;
    drop(first.take());
    browser.wait_for("that clients are refused is seen", SOON, &has("apiserver refuses: cp1 down"))?;
    browser.wait_for(
        "it is the first thing",
        SOON,
        "document.querySelector('h1').textContent === 'Trouble'",
    )?;
    browser.wait_for("the tab says it", SOON, "document.title.startsWith('TROUBLE')")?;
    fits(&browser, 390)?;
    let _first = Backend::start(cp1, false);
    browser.wait_for("it comes back", SOON, &has("serves with 1 of 3 backends"))?;
    ensure(browser.value("window.mark")? == "the same page", || "the page was loaded again".to_owned())?;
    silent(&browser, "after the changes")?;

    metrics(lab)?;
    without_javascript(lab, url)?;
    here.terminate(SOON)?;
    browser.wait_for("it says that it is not live", SOON, &has("not live: the daemon does not answer"))?;
    there.terminate(SOON)?;
    Ok(())
}

/// A daemon whose file has the name that it would have elsewhere.
fn start(host: &Host, configuration: &str) -> Outcome<Process> {
    let (file, place) = (host.directory.join("vipd.toml"), "/run/vipd/vipd.toml");
    std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
    host.try_run(&["install", "-D", &file.to_string_lossy(), place])?;
    let mut command = host.daemon(vipd());
    command.args(["run", "-c", place]);
    Ok(Process::start(command, &host.directory.join("vipd.log")).map_err(|error| error.to_string())?)
}

/// It can be read, and comes again by itself.
fn without_javascript(lab: &Lab, url: &str) -> Outcome {
    let browser = Browser::start(&lab.stranger)?;
    browser.screen(390, 1500, "light")?;
    browser.call("Emulation.setScriptExecutionDisabled", json!({"value": true}))?;
    browser.open(url)?;
    let root = browser.call("DOM.getDocument", json!({}))?;
    let html = browser.call("DOM.getOuterHTML", json!({"nodeId": root["root"]["nodeId"]}))?;
    let html = html["outerHTML"].as_str().unwrap_or_default().to_owned();
    for text in ["this host (lb1)", "reloads every 5 s", "serves with 1 of 3 backends"] {
        ensure(html.contains(text), || format!("without JavaScript {text} is missing in {html}"))?;
    }
    browser.events("Page.loadEventFired")?;
    wait_until("it is loaded again", SOON, || {
        browser.events("Page.loadEventFired").is_ok_and(|events| !events.is_empty())
    })?;
    silent(&browser, "without JavaScript")
}

/// Every line of the metrics, read by the Python library of Prometheus, which Debian has for its own Python.
fn metrics(lab: &Lab) -> Outcome {
    let text = lab.lb1.try_run(&["curl", "-sf", "http://10.77.0.1:9273/metrics"])?;
    let file = lab.lb1.directory.join("metrics");
    std::fs::write(&file, text).map_err(|error| error.to_string())?;
    let read = "import sys\n\
                from prometheus_client.openmetrics.parser import text_string_to_metric_families as read\n\
                for family in read(open(sys.argv[1]).read()):\n\
                \x20   assert family.documentation, family.name\n\
                \x20   for sample in family.samples: print(sample.name, sample.labels.get('backend', ''), sample.value)\n";
    let file = file.to_string_lossy();
    let said = lab.lb1.try_run(&["/usr/bin/python3", "-c", read, &file])?;
    for wanted in
        ["vipd_backend_connect_seconds_count cp1 ", "vipd_listener_refused_total", "vipd_backend_bytes_total"]
    {
        ensure(said.contains(wanted), || format!("{wanted} is missing in {said}"))?;
    }
    Ok(())
}

#[test]
fn the_web_page_shows_what_is_as_it_changes_in_a_browser() {
    if !enabled(&["chromium", "curl", "base64"]) {
        return;
    }
    let lab = Lab::new(&["cp1", "cp2", "cp3"]);
    if let Err(failure) = the_page(&lab) {
        panic!("{}\n{}", failure.text, lab.report());
    }
}
