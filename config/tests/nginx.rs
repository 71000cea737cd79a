//! nginx.conf: what is made of its `stream` block and said about it, judged by nginx 1.22.
//!
//! As for haproxy.cfg: `tests/doors` holds files and what is said about them, the corpus is found through `VIPD_CORPUS`,
//! and `NETNS_TESTS=skip` does without nginx.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::users::Users;
use config::{LoadOptions, load_in_part, to_toml, without_places};

fn options() -> LoadOptions {
    LoadOptions {
        config_id: Some("lb1".into()),
        host_name: Some("lb1.example.org".into()),
        users: Users::Fixed(Vec::new()),
        ..LoadOptions::default()
    }
}

fn cases() -> Vec<PathBuf> {
    let folders = std::fs::read_dir("tests/doors").unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        folders.map(|folder| folder.join("nginx.conf")).filter(|path| path.exists()).collect();
    cases.sort();
    assert!(cases.len() > 5, "{} cases", cases.len());
    cases
}

fn corpus() -> Vec<PathBuf> {
    let folder = match std::env::var("VIPD_CORPUS") {
        Ok(skip) if skip == "skip" => return Vec::new(),
        Ok(folder) => PathBuf::from(folder).join("wild/nginx"),
        Err(_) => panic!("VIPD_CORPUS must name the folder of the corpus (or be `skip` to leave it out)"),
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{} files in {}", files.len(), folder.display());
    files
}

/// What the kernel cannot carry is no matter of this door.
const OTHERS: [&str; 1] = ["kernel-mode"];

fn refusals(path: &Path) -> Vec<String> {
    let (_, diagnostics) = load_in_part(&[path], &options());
    let ours = diagnostics.iter().filter(|finding| !OTHERS.contains(&finding.code));
    ours.map(ToString::to_string).filter(|line| line.contains(": error[")).collect()
}

fn told(path: &Path) -> String {
    let (config, diagnostics) = load_in_part(&[path], &options());
    let mut text = String::new();
    for finding in diagnostics.iter().filter(|finding| !OTHERS.contains(&finding.code)) {
        let _ = writeln!(text, "{finding} (length {})", finding.location.length);
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "    {help}");
        }
    }
    let runs = if refusals(path).is_empty() { "" } else { " does not run" };
    let _ = write!(text, "---{runs}\n{}", to_toml(&config, &Default::default()));
    text
}

#[test]
fn every_case_says_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    for case in cases() {
        let found = told(&case);
        let golden = case.with_file_name("expected.txt");
        if update {
            std::fs::write(&golden, &found).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&golden).unwrap_or_default(), found, "{}", case.display());
    }
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
        let (again, _) = load_in_part(&[&path], &options());
        assert_eq!(without_places(again), without_places(config), "{}\n{written}", file.display());
        running += 1;
    }
    assert!(running >= 2, "{running} files run");
}

/// Found by the fuzz target. nginx compares the first three as paths; the others are an expression, a name, and no request's.
#[test]
fn only_a_path_becomes_a_health_page() {
    for (location, path) in [
        ("/healthz", Some("/healthz")),
        ("= /healthz", Some("/healthz")),
        ("^~ /healthz", Some("/healthz")),
        ("~ ^/healthz$", None),
        ("~ /healthz", None),
        ("@named", None),
        ("healthz", None),
        ("\"/a b\"", None),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nginx.conf");
        let text = format!(
            "events {{}}\nhttp {{\n  server {{ listen 8081; location {location} {{ return 200; }} }}\n}}\n\
             stream {{\n  server {{ listen 6443; proxy_pass 10.0.0.1:6443; }}\n}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let (config, diagnostics) = load_in_part(&[file.as_path()], &options());
        let paths: Vec<_> = config.health_pages.iter().map(|page| page.path.as_str()).collect();
        assert_eq!(paths, Vec::from_iter(path), "{location}");
        let is_told = diagnostics.iter().any(|finding| finding.location.place.line == 3);
        assert!(path.is_some() || is_told, "{location}: dropped without a word");
    }
}

/// The localhost proxy that Kubespray puts on every node.
#[test]
fn kubesprays_proxy_becomes_a_listener_and_a_health_page() {
    let (config, _) = load_in_part(&[&cases()[0]], &options());
    let [listener] = config.listeners.as_slice() else { panic!("{:?}", config.listeners) };
    assert_eq!(listener.bind, ["127.0.0.1:6443".parse().unwrap()]);
    assert_eq!(listener.backends.len(), 3);
    assert_eq!(listener.balance, config::ready::Balance::LeastConn);
    assert_eq!((listener.connect_timeout.as_secs(), listener.idle_timeout.unwrap().as_secs()), (1, 600));
    let [page] = config.health_pages.as_slice() else { panic!("{:?}", config.health_pages) };
    assert_eq!((page.bind, page.path.as_str()), ("0.0.0.0:8081".parse().unwrap(), "/healthz"));
}

/// What `nginx -t` stops at, if it is in the file and no matter of this host. None without nginx.
fn emergency(path: &Path) -> Option<Option<(u32, String)>> {
    if std::env::var("NETNS_TESTS").is_ok_and(|skip| skip == "skip") {
        return None;
    }
    let text = std::fs::read_to_string(path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("nginx.conf");
    // The module is a package of its own, and `events` must be there.
    let module = if text.contains("load_module") {
        ""
    } else {
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so; "
    };
    let events = if text.contains("events") { "" } else { "events {} " };
    std::fs::write(&copy, format!("{module}{events}{text}")).unwrap();
    let output = Command::new("nginx")
        .arg("-t")
        .arg("-c")
        .arg(&copy)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("nginx cannot be run ({error}); NETNS_TESTS=skip does without"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.contains("[emerg]"));
    let here = [
        "host not found in upstream",
        "cannot load certificate",
        "No such file",
        "Permission denied",
        "getpwnam",
        "dlopen",
        "already loaded",
    ];
    Some(line.filter(|line| !here.iter().any(|known| line.contains(known))).and_then(|line| {
        let number = line.rsplit(':').next()?.trim().parse().ok()?;
        Some((number, line.to_owned()))
    }))
}

#[test]
fn what_nginx_refuses_is_refused_too() {
    let mut refused = 0;
    for file in cases().into_iter().chain(corpus()) {
        let Some(emergency) = emergency(&file) else { return };
        let ours = refusals(&file);
        let Some((number, line)) = emergency else {
            let carried =
                |line: &&String| line.contains("error[refused]") || line.contains("error[unknown-name]");
            let wrong: Vec<_> = ours.iter().filter(|line| !carried(line)).collect();
            assert!(wrong.is_empty(), "{}: nginx starts with it, and here: {wrong:#?}", file.display());
            continue;
        };
        let near = |found: &String| {
            let lines = number.saturating_sub(2)..=number + 1;
            lines.into_iter().any(|line| found.starts_with(&format!("{}:{line}:", file.display())))
        };
        assert!(ours.iter().any(near), "nginx: {line}\nhere: {ours:#?}");
        refused += 1;
    }
    assert!(refused >= 1, "{refused} files refused by nginx");
}
