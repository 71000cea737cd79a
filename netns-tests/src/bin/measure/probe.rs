//! What one check of an apiserver costs: vipd's own probe, and a script with curl.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::process::Process;
use netns_tests::{Outcome, wait_until};

use crate::figures::{Figures, Section, Table, Verdict, ms, number};
use crate::machine::Usage;

const LASTING: Duration = Duration::from_secs(10);
const TARGET: f64 = 50.0;

/// How the apiserver is asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// `apiserver = { … }` every 20 ms.
    BuiltIn,
    /// `curl -sfk` in a shell script every 200 ms.
    Script,
    /// Not at all: what the daemon costs by itself.
    Nothing,
}

/// All ways, in turn.
pub fn measure(rounds: usize) -> Section {
    let mut section = Section {
        title: "Cost of a check".to_owned(),
        how: format!(
            "CPU time of vipd and of everything that it starts, less that of a vipd without checks, divided by the checks that it \
             made in {} s. The server is nginx with TLS 1.3 and an EC certificate, which answers `/readyz`; its own time \
             is not counted. Built in: `apiserver = {{ insecure = true }}` every 20 ms. Script: \
             `curl -sfk https://127.0.0.1:6443/readyz -o /dev/null` in a shell script, every 200 ms.",
            LASTING.as_secs()
        ),
        ..Section::default()
    };
    let mut costs = [Figures::default(), Figures::default()];
    for _ in 0..rounds {
        match [Way::Nothing, Way::BuiltIn, Way::Script].map(run) {
            [Ok((idle, _)), Ok((built_in, checks)), Ok((script, scripts))] => {
                let each = |used: Duration, runs: u64| ms(used.saturating_sub(idle)) / runs.max(1) as f64;
                costs[0].0.push(each(built_in, checks));
                costs[1].0.push(each(script, scripts));
            }
            failed => section.remarks.extend(
                failed
                    .into_iter()
                    .filter_map(Result::err)
                    .map(|failure| format!("Not measured: {}", failure.text)),
            ),
        }
    }
    let [built_in, script] = costs;
    let mut table = Table::new(&["built in, CPU-ms", "script with curl, CPU-ms", "script / built in", "n"]);
    let times = script.median() / built_in.median();
    table.add([built_in.to_string(), script.to_string(), number(times), built_in.0.len().to_string()]);
    let text = format!("a built-in check costs at most 1/{TARGET} of one by script: 1/{}.", number(times));
    section.tables.push((table, vec![Verdict { met: times >= TARGET, text }]));
    section
}

/// CPU time in [`LASTING`], and the checks that succeeded in it.
fn run(way: Way) -> Outcome<(Duration, u64)> {
    let lab = Lab::new(&[]);
    let _server = start_server(&lab)?;
    let script = lab.lb1.directory.join("check.sh");
    std::fs::write(&script, "#!/bin/sh\ncurl -sfk https://127.0.0.1:6443/readyz -o /dev/null\n")
        .and_then(|()| std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)))
        .map_err(|error| error.to_string())?;
    let check = |probe: String, interval: &str| {
        format!("[[check]]\nname = \"api\"\n{probe}\ninterval = \"{interval}\"\ntimeout = \"2s\"\n")
    };
    let configuration = match way {
        Way::BuiltIn => check("apiserver = { insecure = true }".to_owned(), "20ms"),
        Way::Script => check(format!("script = [\"{}\"]", script.display()), "200ms"),
        Way::Nothing => "router_id = \"idle\"\n".to_owned(),
    };
    let mut vipd = Peer::start_toml(&lab.lb1, &configuration, "vipd");
    let succeeded = |vipd: &Peer| -> Outcome<u64> {
        Ok(vipd.status(&lab.lb1)?["checks"][0]["succeeded"].as_u64().unwrap_or_default())
    };
    if way == Way::Nothing {
        wait_until("vipd answers", Duration::from_secs(10), || vipd.status(&lab.lb1).is_ok())?;
    } else {
        wait_until("five good checks", Duration::from_secs(20), || {
            succeeded(&vipd).is_ok_and(|runs| runs >= 5)
        })?;
    }
    let (runs, used) = (succeeded(&vipd)?, used(&vipd.process));
    let end = Instant::now() + LASTING;
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
    }
    let (more, after) = (succeeded(&vipd)?, self::used(&vipd.process));
    vipd.stop()?;
    Ok((after.saturating_sub(used), more - runs))
}

/// Of the threads that live, and of the children that have ended and were waited for.
fn used(process: &Process) -> Duration {
    let ended: u64 = process.family().into_iter().map(children).sum();
    // Clock ticks of 10 ms (USER_HZ).
    Usage::of(process).cpu + Duration::from_millis(10) * u32::try_from(ended).unwrap_or(u32::MAX)
}

/// `cutime` and `cstime` of proc(5), in clock ticks.
fn children(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = behind_name.split(' ').collect();
    // The third field comes first here; these are the 16th and 17th.
    let field = |number: usize| fields.get(number - 3).and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    field(16) + field(17)
}

fn start_server(lab: &Lab) -> Outcome<Process> {
    let directory = lab.lb1.directory.to_string_lossy().into_owned();
    lab.lb1.run(&[
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=kube-apiserver",
        "-keyout",
        &format!("{directory}/key.pem"),
        "-out",
        &format!("{directory}/cert.pem"),
    ]);
    let text = format!(
        "daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx-error.log;\nevents {{ }}\nhttp {{\n  access_log off;\n  \
         keepalive_requests 1000000;\n  client_body_temp_path {directory}/t1; proxy_temp_path {directory}/t2;\n  \
         fastcgi_temp_path {directory}/t3; uwsgi_temp_path {directory}/t4; scgi_temp_path {directory}/t5;\n  \
         server {{ listen 127.0.0.1:6443 ssl; ssl_protocols TLSv1.3; ssl_certificate cert.pem; ssl_certificate_key key.pem;\n    \
         return 200 'ok'; }}\n}}\n"
    );
    std::fs::write(lab.lb1.directory.join("nginx.conf"), text).map_err(|error| error.to_string())?;
    let mut nginx = lab.lb1.command("nginx");
    nginx.args(["-p", &directory, "-c", "nginx.conf"]);
    let server =
        Process::start(nginx, &lab.lb1.directory.join("nginx.log")).map_err(|error| error.to_string())?;
    wait_until("nginx answers", Duration::from_secs(10), || {
        lab.lb1.try_run(&["curl", "-sfk", "https://127.0.0.1:6443/readyz"]).is_ok()
    })?;
    Ok(server)
}
