//! Listeners, and their backends with what was checked and what they answered.

use super::super::html::Html;
use super::{ARTICLE, Drawing, Tone, badge, cell};
use crate::observe::event::Health;
use crate::observe::explain::forward::out_of_use;
use crate::observe::render::forward::{
    carrier, facts, last_check, name_words, sessions, state_words, weight,
};
use crate::observe::status::{Admin, BackendStatus, CheckStatus, ListenerStatus, Status};
use crate::observe::words::{short, size};

pub(super) fn draw(drawing: &mut Drawing, status: &Status) {
    if status.listeners.is_empty() {
        return;
    }
    drawing.frame("<h2>Listeners</h2>");
    status.listeners.iter().for_each(|one| listener(drawing, one, &status.checks));
}

fn listener(drawing: &mut Drawing, listener: &ListenerStatus, checks: &[CheckStatus]) {
    let now = drawing.now;
    let all_used = listener.backends.iter().all(|backend| out_of_use(backend, now).is_none());
    let (tone, word) = match (listener.refuses, all_used) {
        (true, _) => (Tone::Bad, "refuses"),
        (false, false) => (Tone::Doubtful, "serves"),
        (false, true) => (Tone::Good, "serves"),
    };
    drawing.part(ARTICLE, tone, |html| {
        html.put("<header><h3>", &listener.name, "</h3>");
        badge(html, tone, word);
        html.raw("<span class=\"since\">");
        for address in &listener.bind {
            html.put("<code>", address, "</code> ");
        }
        html.text(carrier(&listener.carrier)).raw("</span></header>");
        html.put("<p class=\"why\">", &listener.why, "</p>");
        for fact in facts(listener) {
            html.put("<p class=\"facts\">", fact, "</p>");
        }
        for name in &listener.names {
            let class = if name.error.is_some() { "warn" } else { "plain" };
            html.raw("<p class=\"facts ").raw(class).raw("\">").text(name_words(name, now)).raw("</p>");
        }
        if listener.backends.is_empty() {
            return;
        }
        html.raw(
            "<table><thead><tr><th>Backend<th>State<th>Last answer<th>Sessions<th>Connect<th>In / out\
             <th>Weight</tr></thead><tbody>",
        );
        listener.backends.iter().for_each(|one| backend(html, one, checks, now));
        html.raw("</tbody></table>");
    });
}

fn backend(html: &mut Html, backend: &BackendStatus, checks: &[CheckStatus], now: std::time::SystemTime) {
    let tone = match (backend.admin, backend.health) {
        (Admin::Ready, Health::Up) if backend.suspected.is_some() => Tone::Doubtful,
        (Admin::Ready, health) => Tone::of_health(health),
        (Admin::Drain | Admin::Maint, _) => Tone::Doubtful,
    };
    html.raw("<tr class=\"").raw(tone.class()).raw("\"><th scope=\"row\">").text(&backend.name);
    html.put(" <code>", backend.address, "</code></th><td data-label=\"State\">");
    badge(html, tone, state_words(backend));
    let since = match backend.admin {
        Admin::Ready => backend.since,
        Admin::Drain | Admin::Maint => backend.admin_since,
    };
    if let Some(since) = since {
        html.raw(" for ").ago(now, since);
    }
    html.raw("</td>");
    cell(html, "Last answer", last_check(backend, checks));
    let carried = format!(
        "{} now, most {}, {} in all",
        sessions(backend),
        backend.sessions_max,
        backend.sessions_total
    );
    cell(html, "Sessions", carried);
    let time = |percent| backend.connect_time.percentile(percent).map_or_else(|| "–".to_owned(), short);
    let mut connect = match backend.connect_time.count() {
        0 => "–".to_owned(),
        _ => format!("p50 {}, p99 {}", time(50), time(99)),
    };
    if backend.connect_errors > 0 {
        connect += &format!("; {} failed", backend.connect_errors);
    }
    cell(html, "Connect", connect);
    cell(html, "In / out", format_args!("{} / {}", size(backend.bytes_in), size(backend.bytes_out)));
    cell(html, "Weight", weight(backend));
    html.raw("</tr>");
}
