//! haproxy.cfg: what is made of it and said about it, judged by HAProxy 2.6.
//!
//! Every folder of `tests/doors` holds a file and what is said about it; `UPDATE_GOLDEN=1` rewrites what is expected. The
//! configurations of the corpus are found through `VIPD_CORPUS` (`skip` leaves them out); `NETNS_TESTS=skip` does
//! without HAProxy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::users::Users;
use config::{LoadOptions, load, load_in_part, to_toml, without_places};

fn options() -> LoadOptions {
    LoadOptions {
        config_id: Some("lb1".into()),
        host_name: Some("lb1.example.org".into()),
        users: Users::Fixed(Vec::new()),
        ..LoadOptions::default()
    }
}

fn files(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path().join(name))
        .filter(|path| path.exists())
        .collect();
    files.sort();
    files
}

fn cases() -> Vec<PathBuf> {
    let cases = files(Path::new("tests/doors"), "haproxy.cfg");
    assert!(cases.len() > 10, "{} cases", cases.len());
    cases
}

fn corpus() -> Vec<PathBuf> {
    let folder = match std::env::var("VIPD_CORPUS") {
        Ok(skip) if skip == "skip" => return Vec::new(),
        Ok(folder) => PathBuf::from(folder).join("wild/haproxy"),
        Err(_) => panic!("VIPD_CORPUS must name the folder of the corpus (or be `skip` to leave it out)"),
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 30, "{} files in {}", files.len(), folder.display());
    files
}

/// What is said about a file, and what it becomes as far as it is understood.
fn told(path: &Path) -> String {
    let (config, diagnostics) = load_in_part(&[path], &options());
    let mut text = String::new();
    for finding in diagnostics.iter() {
        let _ = writeln!(text, "{finding} (length {})", finding.location.length);
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "    {help}");
        }
    }
    let _ = write!(
        text,
        "---{}\n{}",
        if refusals(path).is_empty() { "" } else { " does not run" },
        to_toml(&config, &Default::default())
    );
    text
}

#[test]
fn every_case_says_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let found = told(&case);
        assert!(!found.contains("secretpw"), "{}", case.display());
        let golden = case.with_file_name("expected.txt");
        if update {
            std::fs::write(&golden, &found).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != found {
            differing.push(format!("=== {}\n{found}", case.display()));
        }
    }
    assert!(differing.is_empty(), "what is said differs from expected.txt:\n{}", differing.join("\n"));
}

/// What keeps it from running.
fn refusals(path: &Path) -> Vec<String> {
    let (_, diagnostics) = load_in_part(&[path], &options());
    let lines = diagnostics.iter().map(ToString::to_string);
    lines.filter(|line| line.contains(": error[")).collect()
}

#[test]
fn what_runs_is_the_same_when_written_as_toml() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.toml");
    let mut running = 0;
    for file in cases().into_iter().chain(corpus()) {
        if !refusals(&file).is_empty() {
            continue;
        }
        let (config, diagnostics) = load_in_part(&[&file], &options());
        let written = to_toml(&config, &diagnostics);
        std::fs::write(&path, &written).unwrap();
        let (again, said) = load_in_part(&[&path], &options());
        let wrong: Vec<_> =
            said.iter().map(ToString::to_string).filter(|line| line.contains(": error[")).collect();
        assert_eq!(wrong, [""; 0], "{}\n{written}", file.display());
        assert_eq!(without_places(again), without_places(config), "{}\n{written}", file.display());
        running += 1;
    }
    assert!(running >= 6, "{running} files run");
}

/// Alerts of `haproxy -c`, by line (0: of none), names that do not resolve here left out. None without HAProxy.
fn alerts(path: &Path) -> Option<BTreeMap<u32, String>> {
    if std::env::var("NETNS_TESTS").is_ok_and(|skip| skip == "skip") {
        return None;
    }
    let output = Command::new("haproxy")
        .arg("-c")
        .arg("-f")
        .arg(path)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("haproxy cannot be run ({error}); NETNS_TESTS=skip does without"));
    let mut alerts = BTreeMap::new();
    let text =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| line.starts_with("[ALERT]")) {
        let summary = ["Fatal errors found", "Error(s) found", "Failed to initialize server(s) addr"];
        let unresolved =
            line.contains("could not resolve address") && !line.contains('<') && !line.contains('$');
        if unresolved
            || line.contains("No such file or directory")
            || line.contains("unable to load")
            || line.contains("failed to open pattern file")
            || summary.iter().any(|part| line.contains(part))
        {
            continue;
        }
        let name = path.display().to_string();
        let number = line.split(&format!("{name}:")).nth(1).map_or(0, |rest| {
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0)
        });
        alerts.entry(number).or_insert_with(|| line.to_owned());
    }
    Some(alerts)
}

#[test]
fn what_haproxy_refuses_is_refused_at_the_same_line() {
    let mut refused = 0;
    for file in cases().into_iter().chain(corpus()) {
        let Some(alerts) = alerts(&file) else { return };
        let ours = refusals(&file);
        for (number, alert) in &alerts {
            // Lines behind a section that did not begin, and lines that HAProxy says nothing of.
            if *number == 0 || alert.contains("'listen' or 'defaults' expected") {
                continue;
            }
            let place = format!("{}:{number}:", file.display());
            assert!(ours.iter().any(|line| line.starts_with(&place)), "haproxy: {alert}\nhere: {ours:#?}");
        }
        if alerts.is_empty() {
            let carried = ["refused", "needs-http", "unknown-name"];
            let known = |line: &String| carried.iter().any(|code| line.contains(&format!("error[{code}]")));
            let wrong: Vec<_> = ours.iter().filter(|line| !known(line)).collect();
            assert!(wrong.is_empty(), "{}: HAProxy starts with it, and here: {wrong:#?}", file.display());
        } else {
            assert!(!ours.is_empty(), "{}: HAProxy refuses it: {alerts:#?}", file.display());
            refused += 1;
        }
    }
    assert!(refused >= 10, "{refused} files refused by HAProxy");
}

/// Words whose line may say what is the case without it.
const MAY_REPEAT: [&str; 19] = [
    "mode",
    "default_backend",
    "balance",
    "timeout",
    "retries",
    "acl",
    "enabled",
    "default-server",
    "option tcp-check",
    "option httpchk",
    "option tcplog",
    "maxconn",
    "presetenv",
    "tcp-check connect",
    "setenv",
    "ca-base",
    "crt-base",
    "ssl-server-verify",
    "log",
];

const SECTIONS: [&str; 7] = ["global", "defaults", "frontend", "backend", "listen", "resolvers", "peers"];
/// Sections that are named as a whole.
const OTHERS: [&str; 6] = ["peers", "mailers", "userlist", "program", "log-forward", "cache"];

fn codes(findings: &config::diagnostic::Diagnostics) -> Vec<&'static str> {
    let mut codes: Vec<_> = findings.iter().map(|finding| finding.code).collect();
    codes.sort_unstable();
    codes
}

/// Deleting a line changes what runs, or the line is named: nothing is dropped without a word.
#[test]
fn every_line_has_its_effect_or_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("haproxy.cfg");
    let mut judged = 0;
    let mut silent = Vec::new();
    // What a condition leaves out has no effect.
    let conditional = |file: &PathBuf| file.ends_with("conditions/haproxy.cfg");
    for file in cases().into_iter().filter(|file| !conditional(file)).chain(corpus()) {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        std::fs::write(&path, text.trim_end().to_owned() + "\n").unwrap();
        // What is refused hides what stands beside it.
        if !refusals(&path).is_empty() {
            continue;
        }
        let (whole, said) = load_in_part(&[&path], &options());
        let whole = without_places(whole);
        let named: Vec<u32> = said.iter().map(|finding| finding.location.place.line).collect();
        let mut as_a_whole = false;
        for (number, line) in lines.iter().enumerate() {
            let line = line.trim();
            let repeats = MAY_REPEAT.iter().any(|words| {
                let mut words = words.split(' ').zip(line.split_whitespace());
                words.all(|(wanted, word)| wanted == word)
            });
            let first = line.split_whitespace().next().unwrap_or("");
            let section = SECTIONS.contains(&first) || OTHERS.contains(&first);
            if section {
                as_a_whole = OTHERS.contains(&first);
            }
            if line.is_empty()
                || line.starts_with(['#', '.'])
                || section
                || as_a_whole
                || repeats
                || named.contains(&(number as u32 + 1))
            {
                continue;
            }
            let without: String = lines
                .iter()
                .enumerate()
                .filter(|(n, _)| *n != number)
                .map(|(_, l)| format!("{l}\n"))
                .collect();
            std::fs::write(&path, without).unwrap();
            let (less, less_said) = load_in_part(&[&path], &options());
            let same = without_places(less) == whole && codes(&less_said) == codes(&said);
            if same {
                silent.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
            judged += 1;
        }
    }
    assert!(silent.is_empty(), "these lines change nothing and are not named: {silent:#?}");
    assert!(judged > 100, "{judged} lines");
}

/// Kubeadm's guide, filled in: what its owner wants is what is made.
#[test]
fn kubeadms_guide_becomes_three_checked_apiservers() {
    let (config, said) =
        load_in_part(&[Path::new("tests/doors/seed-kubeadm-filled/haproxy.cfg")], &options());
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!(
        (listener.name.as_str(), listener.bind.as_slice()),
        ("apiserver", ["0.0.0.0:8443".parse().unwrap()].as_slice())
    );
    assert_eq!(listener.backends.len(), 3);
    assert_eq!(config.checks.len(), 3);
    assert!(said.iter().any(|finding| finding.code == "idle-watches"));
    let config::ready::Probe::Http(probe) = &config.checks[0].probe else { panic!("{:?}", config.checks[0]) };
    assert_eq!(
        (probe.target.to_string().as_str(), probe.requests[0].path.as_str()),
        ("192.0.2.11:6443", "/healthz")
    );
    assert!(probe.tls.as_ref().unwrap().insecure);
    assert_eq!(probe.requests[0].status, [(200, 200)]);
}

/// `-f A -f B`: one configuration, the defaults of the first count in the second.
#[test]
fn several_files_and_folders_are_one_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("1.cfg", "defaults\n timeout connect 7s\n timeout client 1h\n timeout server 1h\n");
    write("2.cfg", "listen l\n bind 127.0.0.1:1\n server s 192.0.2.1:1 check\n");
    write("3.txt", "nonsense\n");
    let files = config::matching_files(folder.path());
    let names: Vec<_> = files.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["1.cfg", "2.cfg"]);
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let loaded = load(&files, &options());
    assert_eq!(loaded.config.unwrap().listeners[0].connect_timeout.as_secs(), 7);
}

#[test]
fn beside_a_keepalived_conf_a_listener_belongs_to_its_instance() {
    let folder = tempfile::tempdir().unwrap();
    let (vrrp, proxy) = (folder.path().join("keepalived.conf"), folder.path().join("haproxy.cfg"));
    std::fs::write(&vrrp, "vrrp_instance V {\n interface eth0\n virtual_router_id 5\n virtual_ipaddress {\n 192.0.2.100\n }\n}\n").unwrap();
    std::fs::write(&proxy, "listen l\n bind 192.0.2.100:6443\n server s 192.0.2.1:6443 check\n").unwrap();
    let loaded = load(&[&vrrp, &proxy], &options());
    assert_eq!(loaded.config.unwrap().listeners[0].instances, ["V"]);
}
