//! The numbers of the forwarder.

use std::fmt;

use super::{Families, Labels, epoch, healths, one_if};
use crate::observe::status::{Admin, BackendStatus, Carrier, ListenerStatus, Status};

pub(super) fn all(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    listeners(out, status)?;
    queues(out, status)?;
    names(out, status)?;
    backends(out, status)?;
    traffic(out, status)?;
    pages(out, status)
}

/// Prometheus knows only floats.
#[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
fn float(count: u64) -> f64 {
    count as f64
}

fn label(listener: &ListenerStatus) -> Labels<'static, 1> {
    [("listener", listener.name.clone())]
}

fn listeners(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let gauge = |value: fn(&ListenerStatus) -> u64| {
        status.listeners.iter().map(move |listener| (label(listener), float(value(listener))))
    };
    let count = |value: fn(&ListenerStatus) -> u64| {
        status.listeners.iter().map(move |listener| (label(listener), value(listener)))
    };
    out.gauges("listener_open_sessions", "Sessions that are open", gauge(|l| l.sessions))?;
    out.gauges("listener_sessions_max", "Most sessions at a time", gauge(|l| l.sessions_max))?;
    out.gauges(
        "listener_sessions_limit",
        "Sessions at a time that are allowed; 0: not limited",
        gauge(|l| l.sessions_limit),
    )?;
    out.gauges("listener_refusing", "1 while clients are refused", gauge(|l| l.refuses.into()))?;
    out.gauges(
        "listener_carrier",
        "Always 1; who carries the bytes is a label",
        status.listeners.iter().map(|listener| {
            let carrier = match listener.carrier {
                Carrier::Proxy => "proxy",
                Carrier::SkLookup => "sk_lookup",
                Carrier::Redirect => "redirect",
                Carrier::Kernel => "kernel",
            };
            ([("listener", listener.name.clone()), ("carrier", carrier.to_owned())], 1.0)
        }),
    )?;
    out.counters("listener_sessions", "Sessions accepted", count(|l| l.sessions_total))?;
    out.counters(
        "listener_refused",
        "Sessions reset because no backend was healthy or could be reached",
        count(|l| l.refused),
    )?;
    out.counters(
        "listener_ended",
        "Sessions that ended, by reason",
        status.listeners.iter().flat_map(|listener| {
            listener.ended.iter().map(|(reason, count)| {
                ([("listener", listener.name.clone()), ("reason", reason.to_owned())], count)
            })
        }),
    )?;
    out.counters("listener_retries", "Connects beyond the first of a session", count(|l| l.retries))?;
    out.counters(
        "listener_accept_errors",
        "Connections that this host could not accept or pass on",
        count(|l| l.accept_errors),
    )
}

fn queues(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let all = || status.listeners.iter();
    out.gauges(
        "listener_queue_length",
        "Sessions that wait for a place at a backend",
        all().map(|listener| (label(listener), float(listener.queue.waiting))),
    )?;
    out.gauges(
        "listener_queue_length_max",
        "Most sessions that waited at a time",
        all().map(|listener| (label(listener), float(listener.queue.max))),
    )?;
    out.counters(
        "listener_queued",
        "Sessions that had to wait for a place",
        all().map(|listener| (label(listener), listener.queue.total)),
    )?;
    out.counters(
        "listener_queue_timeouts",
        "Sessions that waited for a place in vain",
        all().map(|listener| (label(listener), listener.queue.timed_out)),
    )?;
    out.histograms(
        "listener_queue_wait_seconds",
        "How long sessions waited that got a place",
        all().map(|listener| (label(listener), &listener.queue.waited)),
    )
}

fn names(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let all = || {
        status.listeners.iter().flat_map(|listener| {
            let labels = |name: &str| [("listener", listener.name.clone()), ("name", name.to_owned())];
            listener.names.iter().map(move |name| (labels(&name.name), name))
        })
    };
    out.gauges(
        "name_addresses",
        "Addresses in the last answer for a name",
        all().map(|(labels, name)| (labels, float(name.addresses.len() as u64))),
    )?;
    out.gauges(
        "name_failing",
        "1 if the last look-up of a name failed",
        all().map(|(labels, name)| (labels, one_if(name.error.is_some()))),
    )?;
    out.gauges(
        "name_answered_time_seconds",
        "When the last answer came",
        all().filter_map(|(labels, name)| Some((labels, epoch(name.answered?)))),
    )
}

fn every(status: &Status) -> impl Iterator<Item = (Labels<'static, 3>, &BackendStatus)> {
    status.listeners.iter().flat_map(|listener| {
        listener.backends.iter().map(|backend| {
            let labels = [
                ("listener", listener.name.clone()),
                ("backend", backend.name.clone()),
                ("address", backend.address.to_string()),
            ];
            (labels, backend)
        })
    })
}

fn with([a, b, c]: Labels<'static, 3>, name: &'static str, value: impl ToString) -> Labels<'static, 4> {
    [a, b, c, (name, value.to_string())]
}

fn backends(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    out.gauges(
        "backend_health",
        "1 for the health that the backend has, 0 for the others",
        every(status).flat_map(|(labels, backend)| {
            healths(backend.health).map(|(health, value)| (with(labels.clone(), "health", health), value))
        }),
    )?;
    out.gauges(
        "backend_health_since_seconds",
        "When the health last changed",
        every(status).filter_map(|(labels, backend)| Some((labels, epoch(backend.since?)))),
    )?;
    out.gauges(
        "backend_state",
        "1 for the state that the operator has asked for, 0 for the others",
        every(status).flat_map(|(labels, backend)| {
            [(Admin::Ready, "ready"), (Admin::Drain, "drain"), (Admin::Maint, "maint")]
                .map(|(state, word)| (with(labels.clone(), "state", word), one_if(backend.admin == state)))
        }),
    )?;
    let gauge = |value: fn(&BackendStatus) -> f64| {
        every(status).map(move |(labels, backend)| (labels, value(backend)))
    };
    out.gauges("backend_backup", "1 if it is used only while no other is", gauge(|b| one_if(b.backup)))?;
    out.gauges("backend_weight", "Weight that was asked for", gauge(|b| b.weight.into()))?;
    out.gauges(
        "backend_effective_weight",
        "Weight in force: less while it starts slowly, 0 while it drains",
        gauge(|b| b.effective_weight.into()),
    )?;
    out.gauges(
        "backend_suspected",
        "1 while it comes last because a connect hung",
        gauge(|b| one_if(b.suspected.is_some())),
    )?;
    out.gauges(
        "backend_observed_down",
        "1 while what its sessions met has called it down",
        gauge(|b| one_if(b.observed.is_some())),
    )
}

fn traffic(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let gauge =
        |value: fn(&BackendStatus) -> u64| every(status).map(move |(labels, b)| (labels, float(value(b))));
    let count = |value: fn(&BackendStatus) -> u64| every(status).map(move |(labels, b)| (labels, value(b)));
    out.gauges("backend_open_sessions", "Sessions that are open", gauge(|b| b.sessions))?;
    out.gauges("backend_sessions_max", "Most sessions at a time", gauge(|b| b.sessions_max))?;
    out.gauges(
        "backend_sessions_limit",
        "Sessions at a time that are allowed; 0: not limited",
        gauge(|b| b.sessions_limit),
    )?;
    out.gauges("backend_queue_length", "Sessions that wait for a place at it", gauge(|b| b.queued))?;
    out.counters("backend_sessions", "Sessions that had this backend", count(|b| b.sessions_total))?;
    out.counters("backend_connect_errors", "Connects that failed", count(|b| b.connect_errors))?;
    out.histograms(
        "backend_connect_seconds",
        "How long successful connects took",
        every(status).map(|(labels, backend)| (labels, &backend.connect_time)),
    )?;
    out.counters(
        "backend_bytes",
        "Bytes carried: in is from clients, out is to clients",
        every(status).flat_map(|(labels, backend)| {
            [("in", backend.bytes_in), ("out", backend.bytes_out)]
                .map(|(direction, bytes)| (with(labels.clone(), "direction", direction), bytes))
        }),
    )
}

fn pages(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let url = |page: &super::super::status::HealthPageStatus| {
        ("page", format!("http://{}{}", page.bind, page.path))
    };
    out.gauges(
        "health_page_healthy",
        "1 if the page answers 200",
        status.pages.iter().map(|page| ([url(page)], one_if(page.healthy))),
    )?;
    out.counters(
        "health_page_requests",
        "Requests by the code of the answer",
        status.pages.iter().flat_map(|page| {
            [("200", page.served_healthy), ("503", page.served_unhealthy)]
                .map(|(code, count)| ([url(page), ("code", code.to_owned())], count))
        }),
    )
}
