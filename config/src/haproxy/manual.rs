//! `docs/haproxy.md`, from the tables that the reader uses.

use std::fmt::Write as _;

use super::keywords::{BIND, GLOBAL, Keyword, OPTIONS, PROXY, SERVER, Status};

const HEAD: &str = "\
# haproxy.cfg

    vipd run -c haproxy.cfg
    vipd run -c keepalived.conf -c haproxy.cfg
    vipd run -c /etc/haproxy/conf.d
    vipd check haproxy.cfg
    vipd convert haproxy.cfg

The language is that of HAProxy 2.6: quotes, escapes, variables, `.if`, `defaults` with names and `from`. A folder stands for its
`*.cfg` files in the order of their names, as in HAProxy. What HAProxy does not start with is refused with its reason and the mend.
What it starts with runs, or is named with its file, line and column and what to write instead; nothing is dropped without a word.

A `frontend` with its `default_backend`, or a `listen`, becomes a listener with backends; `check` becomes a check named
`BACKEND/SERVER`. A server is up until its first check, and down after the first one that fails, as in HAProxy. Frontends of `mode http`
that only have `stats` become vipd's own page, those with `monitor-uri` a health page, those with `http-request use-service
prometheus-exporter` the metrics. Other frontends of `mode http` are carried as TCP where nothing in them looks at requests,
and refused otherwise. Names are resolved by the host's resolver, again at their TTL, and all addresses are used.

Differences that no line shows:

- A connect that fails is tried at another server at once; HAProxy tries the same one first, a second later. As in HAProxy none
  goes to a `backup` while a server that is none is up (with `option allbackups` one that has failed at all others does).
- A client that `stick on src` has sent to a `backup` goes back when another server is up; HAProxy leaves it there.
- Keepalive and TCP_USER_TIMEOUT (20 s) are on, so that a dead peer is found before any timeout.
- Resets are passed on as resets.
- `maxconn` of `global` counts for each listener, and without any it is 10 000.
- Sessions of a server that its check calls down go on, as in HAProxy, unless `on-marked-down shutdown-sessions` is written.

`vipd check` also says what never had an effect, what is never checked, which check passes on a broken server, and what cuts idle
watches; the codes are in [check.md](check.md).

The tables are written from those that the reader uses; a test fails when they are out of date (`UPDATE_GOLDEN=1 cargo test -p
config --test manual` rewrites them). A keyword is

- **supported**: it means what it means in HAProxy,
- **supported with a difference**: the sentence behind it says which,
- **not needed**: nothing is lost without it; said in a notice,
- **of mode http**: HAProxy ignores it in `mode tcp`, so nothing is lost; said in a notice. Marked *needs HTTP*, it keeps a
  frontend of `mode http` from being carried as TCP,
- **not carried**: a warning with what to do instead; the rest runs,
- **refused**: an error with what to write instead,
- **gone**: HAProxy 2.6 does not start with it.

Any other word is unknown to HAProxy 2.6 as well, and refused with the word that was probably meant.
";

/// The whole page.
pub(crate) fn page() -> String {
    let mut text = HEAD.to_owned();
    table(&mut text, "`defaults`, `frontend`, `listen`, `backend`", PROXY);
    table(&mut text, "`option`", OPTIONS);
    table(&mut text, "`bind`", BIND);
    table(&mut text, "`server`, `server-template`, `default-server`", SERVER);
    table(&mut text, "`global`", GLOBAL);
    text.push_str(
        "\n## Other sections\n\n| section | here | |\n|---|---|---|\n\
         | `resolvers` | not carried | names are resolved by the host's resolver |\n\
         | `peers` | not carried | clients are remembered on each host by itself |\n\
         | `mailers` | not carried | write `[mail]`, and `mail = true` at the backends, in TOML |\n\
         | `program` | not carried | let the service manager run the program |\n\
         | `log-forward` | refused | vipd carries no syslog |\n\
         | `ring` | not needed | vipd logs to its standard output or the journal |\n\
         | `userlist`, `cache`, `http-errors`, `fcgi-app` | of mode http | |\n",
    );
    text
}

fn table(text: &mut String, title: &str, keywords: &[Keyword]) {
    let _ = write!(text, "\n## {title}\n\n| keyword | here | |\n|---|---|---|\n");
    for keyword in keywords {
        let (here, remark) = told(keyword.status);
        let name =
            if keyword.name.ends_with('.') { format!("{}*", keyword.name) } else { keyword.name.to_owned() };
        let _ = writeln!(text, "| `{name}` | {here} | {remark} |");
    }
}

fn told(status: Status) -> (&'static str, &'static str) {
    match status {
        Status::Carried => ("supported", ""),
        Status::Differs(how) => ("supported with a difference", how),
        Status::NotNeeded(why) => ("not needed", why),
        Status::Http => ("of mode http", "needs HTTP"),
        Status::HttpOnly => ("of mode http", ""),
        Status::Dropped(instead) => ("not carried", instead),
        Status::Refused(instead) => ("refused", instead),
        Status::Gone(why) => ("gone", why),
    }
}
