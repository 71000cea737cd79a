//! `docs/nginx.md`, from the tables that the reader uses.

use std::fmt::Write as _;

use super::keywords::{self, DIRECTIVES, Status};

const HEAD: &str = "\
# nginx.conf

    vipd run -c nginx.conf
    vipd check nginx.conf
    vipd convert nginx.conf

The `stream` block is carried, as nginx 1.22 reads it, with what it includes. A file `NAME.conf` is taken for an nginx.conf when it has
a block `stream`, `http` or `events`. What nginx does not start with is refused with its reason; what cannot be carried is named with its
file, line and column and what to write instead. Nothing is dropped without a word.

Each `server` becomes a listener named after its upstream. A `server` of `http` that only answers 200 (`location /healthz { return
200; }`) becomes a health page; any other one is named and not carried. `udp` is carried by the kernel (`mode = \"kernel\"`).

Differences that no line shows:

- nginx has no checks: a server is down for `fail_timeout` after `max_fails` failed connects, and so it is here. Add checks in TOML.
- Keepalive and TCP_USER_TIMEOUT (20 s) are on, so that a dead peer is found before any timeout.
- Resets are passed on as resets, and half-closed sessions go on.

The tables are written from those that the reader uses; a test fails when they are out of date (`UPDATE_GOLDEN=1 cargo test -p
config --test manual` rewrites them).
";

/// The whole page.
pub(crate) fn page() -> String {
    let mut text = HEAD.to_owned();
    for (title, upstream) in [("`stream` and its `server` blocks", false), ("`upstream`", true)] {
        let _ = write!(text, "\n## {title}\n\n| directive | here | |\n|---|---|---|\n");
        for directive in DIRECTIVES.iter().filter(|directive| directive.upstream == upstream) {
            row(&mut text, directive.name, directive.status);
        }
        for (family, status) in keywords::families().filter(|_| !upstream) {
            row(&mut text, &format!("{family}*"), status);
        }
    }
    text
}

fn row(text: &mut String, name: &str, status: Status) {
    let (here, remark) = match status {
        Status::Carried => ("supported", ""),
        Status::Differs(how) => ("supported with a difference", how),
        Status::NotNeeded(why) => ("not needed", why),
        Status::Dropped(instead) => ("not carried", instead),
        Status::Refused(instead) => ("refused", instead),
    };
    let _ = writeln!(text, "| `{name}` | {here} | {remark} |");
}
