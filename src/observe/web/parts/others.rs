//! Checks, BFD sessions, health pages, what this daemon noticed, and what happened.

use super::{Drawing, SECTION, Tone, badge, cell};
use crate::observe::event::{Health, Kind, State};
use crate::observe::history::Recorded;
use crate::observe::render::forward::streak;
use crate::observe::sentence::sentence;
use crate::observe::status::{CheckStatus, Status};
use crate::observe::words::{short, utc};

pub(super) fn draw(drawing: &mut Drawing, status: &Status) {
    if !status.checks.is_empty() {
        drawing.frame("<h2>Checks</h2>");
        checks(drawing, &status.checks);
    }
    if !status.bfd.is_empty() {
        drawing.frame("<h2>BFD sessions</h2>");
        bfd(drawing, status);
    }
    if !status.pages.is_empty() {
        drawing.frame("<h2>Health pages</h2>");
        pages(drawing, status);
    }
    if !status.discarded.is_empty() {
        drawing.frame("<h2>Adverts for none of the instances</h2>");
        drawing.part(SECTION, Tone::Doubtful, |html| {
            let reasons: Vec<_> =
                status.discarded.iter().map(|(word, count)| format!("{word} {count}")).collect();
            html.put("<p>", reasons.join(", "), "</p>");
        });
    }
}

fn checks(drawing: &mut Drawing, checks: &[CheckStatus]) {
    let now = drawing.now;
    drawing.part(SECTION, Tone::Plain, |html| {
        html.raw("<table><thead><tr><th>Check<th>Health<th>Last answer<th>Took<th>Runs</tr></thead><tbody>");
        for check in checks {
            let tone = Tone::of_health(check.health);
            html.raw("<tr class=\"").raw(tone.class()).raw("\"><th scope=\"row\">").text(&check.name);
            html.put(" <small>", &check.kind, "</small></th><td data-label=\"Health\">");
            badge(html, tone, check.health);
            html.raw(" for ").ago(now, check.since).raw("</td><td data-label=\"Last answer\">");
            html.text(&check.detail);
            if let Some(streak) = streak(check) {
                html.put(" (", streak, ")");
            }
            if let Some(value) = check.value {
                html.put(", value ", value, "");
            }
            for finding in &check.findings {
                html.put(" <span class=\"warn\">", finding, "</span>");
            }
            html.raw("</td>");
            cell(html, "Took", check.last_duration.map_or_else(|| "–".to_owned(), short));
            let mut runs = format!("{} good, {} failed", check.succeeded, check.failed);
            if check.skipped > 0 {
                runs += &format!(", {} left out", check.skipped);
            }
            cell(html, "Runs", runs);
            html.raw("</tr>");
        }
        html.raw("</tbody></table>");
    });
}

fn bfd(drawing: &mut Drawing, status: &Status) {
    let now = drawing.now;
    drawing.part(SECTION, Tone::Plain, |html| {
        html.raw("<table><thead><tr><th>Session<th>State<th>Why<th>Detection</tr></thead><tbody>");
        for session in &status.bfd {
            let tone = if session.up { Tone::Good } else { Tone::Bad };
            html.raw("<tr class=\"").raw(tone.class()).raw("\"><th scope=\"row\">").text(&session.name);
            html.put(" <code>", session.neighbor, "</code></th><td data-label=\"State\">");
            badge(html, tone, &session.state);
            html.raw(" for ").ago(now, session.since).raw("</td>");
            cell(html, "Why", &session.detail);
            cell(html, "Detection", session.detection_time.map_or_else(|| "–".to_owned(), short));
            html.raw("</tr>");
        }
        html.raw("</tbody></table>");
    });
}

fn pages(drawing: &mut Drawing, status: &Status) {
    drawing.part(SECTION, Tone::Plain, |html| {
        html.raw("<table><thead><tr><th>Page<th>Answer<th>Why</tr></thead><tbody>");
        for page in &status.pages {
            let (tone, code) = if page.healthy { (Tone::Good, 200) } else { (Tone::Bad, 503) };
            html.raw("<tr class=\"").raw(tone.class()).raw("\"><th scope=\"row\"><code>");
            html.text(format_args!("http://{}{}", page.bind, page.path)).raw("</code></th>");
            html.raw("<td data-label=\"Answer\">");
            badge(html, tone, code);
            html.raw("</td>");
            cell(html, "Why", &page.why);
            html.raw("</tr>");
        }
        html.raw("</tbody></table>");
    });
}

/// The newest first.
pub(super) fn history(drawing: &mut Drawing, events: &[Recorded]) {
    drawing.frame("<h2>What happened</h2>");
    drawing.part(SECTION, Tone::Plain, |html| {
        if events.is_empty() {
            html.raw("<p>nothing yet</p>");
            return;
        }
        html.raw("<ol class=\"history\">");
        for Recorded { event, .. } in events.iter().rev() {
            html.raw("<li class=\"").raw(tone(&event.kind).class()).raw("\"><time datetime=\"").text(utc(event.at));
            html.raw("\">").text(utc(event.at)[..19].replace('T', " ")).raw("</time> ");
            html.put("<span>", sentence(&event.kind), "</span></li>");
        }
        html.raw("</ol><p class=\"facts\">times are UTC, the newest first; <code>vipd events</code> shows more</p>");
    });
}

fn tone(kind: &Kind) -> Tone {
    match kind {
        Kind::Transition { to, .. } | Kind::Group { to, .. } => Tone::of_state(*to),
        Kind::Check { to, .. } | Kind::Backend { to, .. } => match to {
            Health::Down => Tone::Bad,
            Health::Up => Tone::Good,
            Health::Unknown => Tone::Plain,
        },
        Kind::AddressRestored { .. } | Kind::AddressRemoved { .. } => Tone::Doubtful,
        Kind::AddressFailed { .. } | Kind::AddressClaimed { .. } => Tone::Bad,
        _ => Tone::of_state(State::Backup),
    }
}
