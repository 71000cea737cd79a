//! Who holds the addresses, whether anything is wrong, and why.

use super::super::trouble::troubles;
use super::{Drawing, SECTION, Tone, badge};
use crate::observe::event::State;
use crate::observe::status::{InstanceStatus, Status};

/// Instances that are named one by one.
const NAMED: usize = 8;

/// `lb1: active`, for the tab.
pub fn title(status: &Status) -> String {
    let troubles = troubles(status);
    let verdict = match () {
        () if troubles.iter().any(|(tone, _)| *tone == Tone::Bad) => "TROUBLE",
        () if !troubles.is_empty() => "to look at",
        () => "well",
    };
    let active = status.instances.iter().filter(|one| one.state == State::Active).count();
    match status.instances.len() {
        0 => format!("{verdict} – {} – vipd", status.router_id),
        1 => format!("{verdict}, {} – {} – vipd", status.instances[0].state, status.router_id),
        all => format!("{verdict}, active {active} of {all} – {} – vipd", status.router_id),
    }
}

pub(super) fn draw(drawing: &mut Drawing, status: &Status) {
    let troubles = troubles(status);
    let bad = troubles.iter().any(|(tone, _)| *tone == Tone::Bad);
    let (tone, verdict) = match (bad, troubles.is_empty()) {
        (true, _) => (Tone::Bad, "Trouble"),
        (false, false) => (Tone::Doubtful, "Works, but look at this"),
        (false, true) => (Tone::Good, "All is well"),
    };
    drawing.frame("<div class=\"summary\">");
    drawing.part(SECTION, tone, |html| {
        html.put("<h1>", verdict, "</h1>");
        if !troubles.is_empty() {
            html.raw("<ul class=\"troubles\">");
            for (tone, text) in &troubles {
                html.raw("<li class=\"").raw(tone.class()).raw("\">").text(text).raw("</li>");
            }
            html.raw("</ul>");
        }
    });
    if !status.instances.is_empty() {
        drawing.part(SECTION, Tone::Plain, |html| {
            html.raw("<h2>Who holds the addresses</h2>");
            if status.instances.len() > NAMED {
                html.raw("<p class=\"counts\">");
                for state in [State::Active, State::Backup, State::Fault, State::Initialize] {
                    let count = status.instances.iter().filter(|one| one.state == state).count();
                    if count > 0 {
                        badge(html, Tone::of_state(state), format_args!("{count} {state}"));
                        html.raw(" ");
                    }
                }
                html.raw("</p>");
                return;
            }
            html.raw("<dl class=\"holders\">");
            for instance in &status.instances {
                let addresses: Vec<_> = instance.addresses.iter().map(|a| a.address.as_str()).collect();
                let held = if addresses.is_empty() { instance.name.clone() } else { addresses.join(" ") };
                let (tone, holder) = holder(instance, &status.router_id);
                html.put("<dt>", held, "</dt><dd>");
                badge(html, tone, holder);
                html.raw("</dd>");
            }
            html.raw("</dl>");
        });
    }
    drawing.frame("</div>");
}

fn holder(instance: &InstanceStatus, here: &str) -> (Tone, String) {
    match (instance.state, &instance.active) {
        (State::Active, _) => (Tone::Good, format!("this host ({here})")),
        (_, Some(peer)) => (Tone::Plain, format!("{}, priority {}", peer.address, peer.priority)),
        (State::Backup, None) => (Tone::Doubtful, "nobody is heard".to_owned()),
        (State::Fault, None) => (Tone::Bad, "not this host: fault".to_owned()),
        (State::Initialize, None) => (Tone::Doubtful, "not started".to_owned()),
    }
}
