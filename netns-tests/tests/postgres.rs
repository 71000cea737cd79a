//! pgbench through the forwarder to two PostgreSQL servers, one of which is killed; vipd's check asks them over TLS.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use netns_tests::certificates::Certificates;
use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::process::Process;
use netns_tests::turn::Turn;
use netns_tests::{Outcome, Stamp, enabled, ensure, now, wait_until};

const LIMIT: Duration = Duration::from_secs(30);
/// Sessions of the long pgbench: half of them on either server.
const LASTING: usize = 8;

/// Where Debian keeps the server's programs, which are in nobody's path.
fn program(name: &str) -> String {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin").join(name)).find(|path| path.is_file());
    found.map_or_else(|| format!("/usr/lib/postgresql/{name}"), |path| path.to_string_lossy().into_owned())
}

/// PostgreSQL refuses to run as root.
fn as_postgres(host: &Host, words: &[&str]) -> std::process::Command {
    let mut command = host.command("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"]).args(words);
    command.current_dir("/");
    command
}

fn start_server(host: &Host, tls: &Certificates) -> Outcome<Process> {
    let directory = host.directory.join("pg");
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    // The way there is for root alone otherwise.
    for place in directory.ancestors().skip(1).take(2) {
        std::fs::set_permissions(place, PermissionsExt::from_mode(0o755))
            .map_err(|error| error.to_string())?;
    }
    std::fs::create_dir(&directory).map_err(|error| error.to_string())?;
    for name in ["cert.pem", "key.pem"] {
        std::fs::copy(tls.path(name), path(name)).map_err(|error| error.to_string())?;
    }
    std::fs::set_permissions(path("key.pem"), PermissionsExt::from_mode(0o600))
        .map_err(|error| error.to_string())?;
    host.run(&["chown", "-R", "postgres", &directory.to_string_lossy()]);
    let data = path("data");
    let made = as_postgres(host, &[&program("initdb"), "--no-sync", "-A", "trust", "-D", &data]).output();
    let made = made.map_err(|error| error.to_string())?;
    ensure(made.status.success(), || String::from_utf8_lossy(&made.stderr).into_owned())?;
    let lines = format!(
        "listen_addresses = '{}'\nunix_socket_directories = ''\nfsync = off\nshared_buffers = '16MB'\n\
         ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nlog_connections = off\n",
        host.ipv4(),
        path("cert.pem"),
        path("key.pem")
    );
    let append = |name: &str, text: &str| {
        let file = Path::new(&data).join(name);
        std::fs::read_to_string(&file).and_then(|before| std::fs::write(&file, before + text))
    };
    append("postgresql.conf", &lines)
        .and_then(|()| append("pg_hba.conf", "host all all 10.77.0.0/24 trust\n"))
        .map_err(|error| error.to_string())?;
    let command = as_postgres(host, &[&program("postgres"), "-D", &data]);
    let server =
        Process::start(command, &host.directory.join("postgres.log")).map_err(|error| error.to_string())?;
    let address = host.ipv4();
    let tables = ["pgbench", "-h", &address, "-U", "postgres", "-i", "-q", "-s", "1", "postgres"];
    wait_until("PostgreSQL has its tables", LIMIT, || host.try_run(&tables).is_ok())?;
    Ok(server)
}

fn configuration(lab: &Lab, tls: &Certificates) -> String {
    let backends: Vec<String> =
        lab.others.iter().map(|host| format!("{{ address = \"{}:5432\" }}", host.ipv4())).collect();
    format!(
        "[[listener]]\nname = \"postgres\"\nbind = [\"{}:5432\"]\nbalance = \"roundrobin\"\nbackends = [{}]\n\
         check = {{ postgres = {{ user = \"vipd\", tls = true, any_name = true, ca_file = \"{}\" }}, interval = \"200ms\", \
         timeout = \"2s\", fall = 2, rise = 1 }}\n",
        lab.lb1.ipv4(),
        backends.join(", "),
        tls.path("ca.pem")
    )
}

/// A pgbench through the listener: so many sessions, and further words.
fn pgbench(lab: &Lab, sessions: usize, words: &[&str]) -> std::process::Command {
    let mut command = lab.client.command("pgbench");
    command.args(["-h", &lab.lb1.ipv4(), "-U", "postgres", "-n", "-c", &sessions.to_string()]);
    command.args(words).arg("postgres");
    command
}

fn goes_on(lab: &Lab) -> Outcome {
    let names: Vec<String> = lab.others.iter().map(|host| format!("IP:{}", host.ipv4())).collect();
    let tls = Certificates::make(&lab.lb1, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let mut servers = Vec::new();
    for host in &lab.others {
        servers.push(start_server(host, &tls)?);
    }
    let mut vipd = Peer::start_toml(&lab.lb1, &configuration(lab, &tls), "vipd");
    let health = |index: usize| -> String {
        let status = vipd.status(&lab.lb1).unwrap_or_default();
        status["listeners"][0]["backends"][index]["health"].as_str().unwrap_or_default().to_owned()
    };
    wait_until("both servers are up", LIMIT, || health(0) == "up" && health(1) == "up")?;

    // Sessions that last, and beside them one new session for each transaction.
    let mut lasting = Process::start(
        pgbench(lab, LASTING, &["-T", "6", "-P", "1"]),
        &lab.client.directory.join("lasting.log"),
    )
    .map_err(|error| error.to_string())?;
    lasting.wait_for_output("progress: ", LIMIT)?;
    let mut short: Vec<(Stamp, Stamp, Result<(), String>)> = Vec::new();
    let (mut died, started) = (None, Instant::now());
    while started.elapsed() < Duration::from_secs(4) {
        if died.is_none() && started.elapsed() > Duration::from_secs(1) {
            let from = now();
            servers[0].kill_family();
            died = Some((from, now()));
        }
        let from = now();
        let output = pgbench(lab, 1, &["-C", "-t", "5"]).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        short.push((from, now(), output.status.success().then_some(()).ok_or(said)));
    }
    let (died, dead) = died.ok_or_else(|| "nobody died".to_owned())?;
    for (from, to, result) in &short {
        ensure(result.is_ok() || *from <= dead && *to >= died, || {
            format!(
                "failed though it was not in flight when the server died ({died:?} to {dead:?}): {from:?} {to:?} {result:?}"
            )
        })?;
    }
    let after = short.iter().filter(|(from, _, result)| *from > dead && result.is_ok()).count();
    ensure(after >= 3, || format!("{after} runs after the death"))?;
    wait_until("the check notices", LIMIT, || health(0) == "down" && health(1) == "up")?;

    // Of the sessions that last those of the dead server end, and no other.
    wait_until("the lasting pgbench ends", LIMIT, || lasting.ended().is_some())?;
    let said = lasting.output();
    let aborted = said.lines().filter(|line| line.contains(" aborted ")).count();
    ensure(aborted == LASTING / 2, || format!("{aborted} sessions aborted:\n{said}"))?;
    let last = said.lines().rfind(|line| line.starts_with("progress: ")).unwrap_or_default();
    ensure(!last.contains(" 0.0 tps"), || format!("nothing went on at the end:\n{said}"))?;
    let failed = short.iter().filter(|(.., result)| result.is_err()).count();
    println!("{} short runs, {failed} failed, {aborted} of {LASTING} lasting sessions ended", short.len());
    vipd.stop()
}

#[test]
fn pgbench_goes_on_without_a_server() {
    if !enabled(&["openssl", "pgbench", "setpriv", &program("initdb"), &program("postgres")]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&["pg1", "pg2"]);
    goes_on(&lab).unwrap_or_else(|failure| panic!("{}\n{}", failure.text, lab.report()));
}
