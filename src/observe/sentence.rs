//! An event in one sentence.

use super::event::{EntryNews, Kind};

/// What happened, in one sentence.
pub fn sentence(kind: &Kind) -> String {
    match kind {
        Kind::Transition { instance, from, to, reason, priority } => {
            format!("{instance}: {from} -> {to} (priority {priority}): {reason}")
        }
        Kind::Group { group, from, to, reason } => format!("group {group}: {from} -> {to}: {reason}"),
        Kind::Priority { instance, state, from, to, because } => {
            format!("{instance}: {state}, priority {from} -> {to}: {because}")
        }
        Kind::LowerPriorityAdvert { instance, peer, theirs, ours } => {
            format!("{instance}: heard {peer} advertise priority {theirs}, ours is {ours}")
        }
        Kind::AdvertNews { instance, peer, news } => format!("{instance}: {peer} {news}"),
        Kind::Check { check, from, to, detail } => format!("check {check}: {from} -> {to}: {detail}"),
        Kind::Bfd { session, neighbor, to, reason, .. } => {
            format!("BFD session {session} {}: {reason} ({neighbor})", to.to_lowercase())
        }
        Kind::Backend { listener, backend, from, to, detail, sessions_closed } => {
            let closed = match sessions_closed {
                0 => String::new(),
                count => format!("; sessions closed: {count}"),
            };
            format!("backend {listener}/{backend}: {from} -> {to}: {detail}{closed}")
        }
        Kind::Ordered { listener, backend, order } => format!("backend {listener}/{backend} {order}"),
        Kind::Quorum { listener, reached, weight, least } => {
            let is = if *reached { "reached" } else { "lost" };
            format!("{listener}: quorum {is}: its healthy backends weigh {weight}, {least} are needed")
        }
        Kind::AddressClaimed { instance, address, interface, mac } => {
            format!("{instance}: {mac} on {interface} says that it has {address}, which is ours")
        }
        Kind::AddressRestored { instance, address, interface } => {
            format!("{instance}: {address} was deleted from {interface}, and put back")
        }
        Kind::AddressRemoved { instance, address, interface, because } => {
            format!("{instance}: {address} removed from {interface}: {because}")
        }
        Kind::AddressFailed { instance, address, interface, error } => {
            format!("{instance}: {address} on {interface}: {error}")
        }
        Kind::Entry { entry, news: EntryNews::Failed { error }, .. } if error.contains(entry) => {
            error.clone()
        }
        Kind::Entry { instance, entry, news } if instance.is_empty() => format!("static {entry} {news}"),
        Kind::Entry { instance, entry, news } => format!("{instance}: {entry} {news}"),
        Kind::Discarded { instance, peer, reason, detail, count } => {
            format!("{instance}: {count} packets discarded ({reason}), the last from {peer}: {detail}")
        }
        Kind::Reloaded { summary } => format!("configuration reloaded: {summary}"),
        Kind::Notice { text } => text.clone(),
    }
}
