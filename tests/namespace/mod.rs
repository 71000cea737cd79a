//! A test in a network namespace of its own: it runs itself again under `unshare`.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

/// Set for the process that runs inside.
const INSIDE: &str = "VIPD_TEST_INSIDE_NAMESPACE";

/// Runs `body` in a fresh network namespace: as root with the privileges it has, otherwise as the root of
/// a fresh user namespace. `test` is the whole name of the test that calls.
///
/// # Panics
///
/// When the body does, and when the host permits no namespace.
pub fn in_namespace(test: &str, body: impl AsyncFnOnce()) {
    if env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return tokio::task::LocalSet::new().block_on(&runtime, body());
    }
    let flags = if nix::unistd::geteuid().is_root() { "-n" } else { "-Urn" };
    let result = Command::new("unshare")
        .arg(flags)
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap_or_else(|error| panic!("this test needs unshare (package util-linux): {error}"));
    let (out, err) = (String::from_utf8_lossy(&result.stdout), String::from_utf8_lossy(&result.stderr));
    print!("{out}");
    eprint!("{err}");
    assert!(
        result.status.success(),
        "failed inside `unshare {flags}` ({}); if it says `Operation not permitted`, this host permits no \
         namespaces: see user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns",
        result.status,
    );
    assert!(out.contains("1 passed"), "there is no test {test}");
}

/// Runs `ip` with these words, and gives what it prints.
pub fn ip(words: &str) -> String {
    let result = Command::new("ip").args(words.split_whitespace()).output().expect("iproute2 is installed");
    let error = String::from_utf8_lossy(&result.stderr);
    assert!(result.status.success(), "ip {words}: {error}");
    String::from_utf8(result.stdout).unwrap()
}

/// A veth pair, `NAME` and `NAME-peer`, that runs and has no address of its own.
pub fn add_link(name: &str) {
    let peer = format!("{name}-peer");
    ip(&format!("link add {name} type veth peer name {peer}"));
    for end in [name, &peer] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    for end in [name, &peer] {
        while !ip(&format!("link show dev {end}")).contains("state UP") {
            assert!(Instant::now() < deadline, "{end} does not come up");
        }
    }
}
