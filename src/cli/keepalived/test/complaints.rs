//! Which findings keepalived's test complains of, too.

use config::diagnostic::{Diagnostic, Diagnostics, Severity};

use super::super::exit;

/// Warnings that keepalived 2.2.7 does not have: they are shown, but a file that it is content with still passes
/// (`ExecStartPre=keepalived -t`). Each with what keepalived does instead.
const NOT_KEEPALIVEDS: [(&str, &str); 37] = [
    ("address-in-two-instances", "it does not compare the addresses of instances"),
    ("authentication-without-type", "it takes no password without a type, silently"),
    ("condition-without-id", "it drops the line silently"),
    ("counted-once", "it keeps both, or the first, silently"),
    ("fault-without-peer", "it was asked to wait in FAULT"),
    ("fifo-script-without-fifo", "it drops the script silently"),
    ("include-missing", "it names the file and goes on; with -e or `include_check` it complains"),
    ("link-local-neighbor", "it runs the session, which stays down"),
    ("large-weight", "it knows larger weights"),
    ("lvs-forwarding", "it leaves the forwarding to the kernel"),
    ("lvs-scheduler", "it has the schedulers of the kernel"),
    ("netmask-with-gaps", "it takes any mask"),
    ("no-members", "it drops the group silently"),
    ("not-supported-yet", "it supports the word"),
    ("not-tracked", "it drops the track group of an address silently"),
    ("not-utf-8", "bytes are bytes"),
    ("no-such-group", "it says so in its log"),
    ("peer-is-self", "it does not compare them"),
    ("peer-is-virtual", "it does not compare them"),
    ("regex", "it has another kind of expressions, and says what is wrong with one in its log"),
    ("regex-options", "it has more of them"),
    ("repeated", "the last one counts, silently"),
    ("script-insecure", "it says so in its log; of tracked scripts the test complains by itself"),
    ("script-missing", "it drops the script silently; of tracked scripts the test complains by itself"),
    ("script-needs-shell", "it does not look at the arguments"),
    ("script-not-executable", "it drops the script silently"),
    ("unknown-definition", "it leaves `$NAME` as it is, and complains of what that is worth where it stands"),
    ("unknown-instance", "it drops the member silently"),
    ("unknown-notify-user", "it drops the script silently"),
    ("unquoted-arguments", "it drops them silently"),
    ("file-check-reverse", "it takes the word"),
    ("virtual-address-is-only-address", "it does not look at the networks of the host"),
    ("virtual-address-outside", "it does not look at the networks of the host"),
    ("virtual-server-left-out", "it leaves the work to the kernel"),
    ("virtual-server-twice", "it does not compare them"),
    ("words-behind", "it drops them silently"),
    ("zero-byte", "it reads the line up to there"),
];

/// Notices that keepalived has as complaints.
const KEEPALIVEDS: [&str; 3] = ["defined-later", "not-tracked", "own-interface"];

/// Words without effect here that keepalived complains of too where it is built with nftables alone, as in Debian.
const NOT_BUILT: [&str; 2] = ["`vrrp_iptables`", "`vrrp_ipsets`"];

/// An interface that is missing where it is named ends the test of the VRRP side.
const INTERFACE: &str = "interface-missing";
/// One that only has delays does not.
const DELAY: &str = "interface-missing-for-delay";

/// What the findings of a configuration come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Without what is said of scripts.
    pub code: u8,
    /// keepalived gave up on the VRRP side.
    pub without_interfaces: bool,
}

/// The exit code for these findings: 2 when a parameter is missing, 5 when anything else was complained of, 4 for
/// delays of a missing interface alone. `all_config`: `-e`. `dynamic`: interfaces may be missing.
pub fn judge(diagnostics: &Diagnostics, all_config: bool, dynamic: bool) -> Judged {
    let missing = |finding: &Diagnostic| finding.code == INTERFACE && !dynamic;
    let cannot_run = diagnostics.iter().any(|finding| {
        finding.severity == Severity::Error && matches!(finding.code, "missing-parameter" | "missing-name")
    });
    let reported = diagnostics.iter().any(|finding| {
        is_complaint(finding) || missing(finding) || (all_config && finding.code == "include-missing")
    });
    let delays = diagnostics.iter().any(|finding| finding.code == DELAY && !dynamic);
    let code = match (cannot_run, reported, delays) {
        (true, ..) => exit::CANNOT_RUN,
        (_, true, _) => exit::REPORTED,
        (_, _, true) => exit::NO_SUCH_INTERFACE,
        _ => 0,
    };
    Judged { code, without_interfaces: diagnostics.iter().any(missing) }
}

fn is_complaint(finding: &Diagnostic) -> bool {
    let code = finding.code;
    match finding.severity {
        Severity::Error => true,
        // Judged by themselves.
        Severity::Warning if code == INTERFACE || code == DELAY => false,
        Severity::Warning => !NOT_KEEPALIVEDS.iter().any(|(silent, _)| *silent == code),
        Severity::Notice => {
            KEEPALIVEDS.contains(&code) || NOT_BUILT.iter().any(|word| finding.message.starts_with(word))
        }
    }
}

/// A file to include is not there.
pub fn lacks_an_include(diagnostics: &Diagnostics) -> bool {
    diagnostics.iter().any(|finding| finding.code == "include-missing")
}
