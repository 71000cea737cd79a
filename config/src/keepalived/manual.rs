//! The page on keepalived's keywords, from the tables that the parser uses.

use std::fmt::Write as _;

use super::keywords::{self, Context, Keyword, Status};

const HEAD: &str = "\
# Keywords of keepalived.conf

Every keyword of keepalived 2.4.3 and what becomes of it. The page is written from the tables that the
parser uses; a test fails when it is out of date (`UPDATE_GOLDEN=1 cargo test -p config --test manual`
rewrites it).

A keyword is

- **supported**: it means what it means in keepalived,
- **supported with a difference**: the sentence behind it says which,
- **accepted without effect**: read, checked for its place, and said in a notice or a warning,
- **refused**: an error, with what to write instead.

Any other word is unknown: a warning at its place, with the word that was probably meant.
";

/// The whole page.
pub(crate) fn page() -> String {
    let mut text = HEAD.to_owned();
    let mut done = Vec::new();
    section(&mut text, &mut done, Context::Top, "Top level");
    for (title, words) in keywords::line::SECTIONS {
        table(&mut text, title, words);
    }
    text
}

/// A table of one context, then those of the blocks in it. A block that is known already is left out.
fn section(text: &mut String, done: &mut Vec<Context>, context: Context, title: &str) {
    let keywords = keywords::table(context);
    if keywords.is_empty() || done.contains(&context) {
        return;
    }
    done.push(context);
    table(text, title, keywords);
    for keyword in keywords {
        if let Some(inside) = keyword.block {
            let title = title_of(keyword.name, inside);
            section(text, done, inside, &title);
        }
    }
}

fn table(text: &mut String, title: &str, keywords: &[Keyword]) {
    let _ = write!(text, "\n## {title}\n\n| keyword | here | |\n|---|---|---|\n");
    for keyword in keywords {
        let (here, remark) = told(keyword.status);
        let _ = writeln!(text, "| `{}` | {here} | {remark} |", keyword.name);
    }
}

fn title_of(name: &str, inside: Context) -> String {
    match inside {
        Context::Checker => "`TCP_CHECK`, `PING_CHECK`".to_owned(),
        Context::HttpChecker => "`HTTP_GET`, `SSL_GET`".to_owned(),
        Context::TrackFile => "`track_file`".to_owned(),
        _ => format!("`{name}`"),
    }
}

fn told(status: Status) -> (&'static str, &'static str) {
    const ACCEPTED: &str = "accepted without effect";
    match status {
        Status::Meaning => ("supported", ""),
        Status::Differs(how) => ("supported with a difference", how),
        Status::NotNeeded => {
            (ACCEPTED, "it sets keepalived's own processes, files or buffers; vipd does without it")
        }
        Status::Instead(instead) | Status::Later(instead) => (ACCEPTED, instead),
        Status::Refused(why) => ("refused", why),
    }
}
