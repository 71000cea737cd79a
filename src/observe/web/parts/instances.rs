//! Instances and sync groups, each with its reason.

use super::{ARTICLE, Drawing, Tone, badge};
use crate::observe::event::State;
use crate::observe::explain::ours;
use crate::observe::status::{GroupStatus, InstanceStatus, Status};
use crate::observe::words::short;

pub(super) fn draw(drawing: &mut Drawing, status: &Status) {
    if !status.instances.is_empty() {
        drawing.frame("<h2>Instances</h2><div class=\"cards\">");
        status.instances.iter().for_each(|one| instance(drawing, one));
        drawing.frame("</div>");
    }
    if !status.groups.is_empty() {
        drawing.frame("<h2>Sync groups</h2><div class=\"cards\">");
        status.groups.iter().for_each(|one| group(drawing, one));
        drawing.frame("</div>");
    }
}

fn instance(drawing: &mut Drawing, instance: &InstanceStatus) {
    let (now, tone) = (drawing.now, Tone::of_state(instance.state));
    drawing.part(ARTICLE, tone, |html| {
        html.put("<header><h3>", &instance.name, "</h3>");
        badge(html, tone, instance.state);
        html.raw("<span class=\"since\">for ").ago(now, instance.since).raw("</span></header>");
        html.raw("<p class=\"addresses\">");
        for address in &instance.addresses {
            html.put("<code>", &address.address, "</code>");
            match (instance.state == State::Active, address.present) {
                (true, false) => badge(html, Tone::Bad, "missing"),
                (false, true) => badge(html, Tone::Bad, "still here"),
                (true, true) | (false, false) => {}
            }
            html.raw(" ");
        }
        html.put("</p><p class=\"why\">", &instance.why, "</p>");
        html.put("<p class=\"facts\">", &instance.interface, ", ");
        html.text(format_args!("VRID {}, VRRP version {}, ", instance.vrid, instance.version));
        html.text(format_args!("priority {}", ours(instance)));
        html.text(format_args!(", an advert every {}", short(instance.advert_interval)));
        if let Some(peer) = &instance.active {
            let interval = short(peer.advert_interval);
            html.text(format_args!(
                "; peer {} is active with priority {}, an advert every {interval}",
                peer.address, peer.priority
            ));
        }
        html.raw("</p>");
        for entry in instance.entries.iter().filter(|e| e.present != (instance.state == State::Active)) {
            let word = if entry.present { "still here: " } else { "missing: " };
            html.put("<p class=\"facts warn\">", word, "").put("<code>", &entry.entry, "</code></p>");
        }
        let counters = &instance.counters;
        let odd = [("discarded adverts", &counters.discarded), ("odd adverts", &counters.oddities)];
        for (what, tally) in odd.into_iter().filter(|(_, tally)| !tally.is_empty()) {
            let reasons: Vec<_> = tally.iter().map(|(word, count)| format!("{word} {count}")).collect();
            html.put("<p class=\"facts\">", what, ": ").put("", reasons.join(", "), "</p>");
        }
        if counters.send_errors > 0 {
            html.put("<p class=\"facts warn\">", counters.send_errors, " adverts could not be sent</p>");
        }
    });
}

fn group(drawing: &mut Drawing, group: &GroupStatus) {
    let (now, tone) = (drawing.now, Tone::of_state(group.state));
    drawing.part(ARTICLE, tone, |html| {
        html.put("<header><h3>", &group.name, "</h3>");
        badge(html, tone, group.state);
        html.raw("<span class=\"since\">for ").ago(now, group.since).raw("</span></header>");
        html.put("<p class=\"why\">", &group.why, "</p>");
        html.put("<p class=\"facts\">members: ", group.members.join(", "), "</p>");
    });
}
