//! Listeners, their backends, health pages.

use std::fmt::Write;
use std::time::SystemTime;

use super::super::event::Health;
use super::super::status::{
    Admin, BackendStatus, Carrier, CheckStatus, HealthPageStatus, ListenerStatus, NameStatus, QueueStatus,
};
use super::super::words::{ago, long, short, size};
use super::{Cell, Page, Tone, cell, heads};

/// Words of [`ListenerStatus::ended`] for sessions that never had a backend.
const REFUSALS: [&str; 4] = ["no_backend", "unreachable", "shortage", "queue_timeout"];

impl Page {
    pub(super) fn listener(&mut self, listener: &ListenerStatus, checks: &[CheckStatus]) {
        self.line("");
        let bind: Vec<_> = listener.bind.iter().map(ToString::to_string).collect();
        let name = self.paint(&listener.name, Tone::Bold);
        let mut line = format!("listener {name}  {}", bind.join(" "));
        if listener.refuses {
            let _ = write!(line, "  {}", self.paint("REFUSES", Tone::Bad));
        }
        match carrier(&listener.carrier) {
            "" => {}
            words => line = line + "  " + words,
        }
        self.line(&line);
        if !listener.why.is_empty() {
            self.sentence(&listener.why, "    ");
        }
        for fact in facts(listener) {
            self.sentence(&fact, "    ");
        }
        for name in &listener.names {
            self.name(name);
        }
        if listener.backends.is_empty() {
            return;
        }
        let mut rows = vec![heads([
            "  BACKEND",
            "ADDRESS",
            "STATE",
            "SINCE",
            "WEIGHT",
            "SESSIONS",
            "MOST",
            "TOTAL",
            "CONNECT p50",
            "p99",
            "FAILED",
            "IN",
            "OUT",
            "LAST CHECK",
        ])];
        rows.extend(listener.backends.iter().map(|backend| self.backend(backend, checks)));
        self.table(&rows);
    }

    fn name(&mut self, name: &NameStatus) {
        self.sentence(&name_words(name, self.now), "    ");
    }

    fn backend(&self, backend: &BackendStatus, checks: &[CheckStatus]) -> Vec<Cell> {
        let time = |percent| {
            let took = backend.connect_time.percentile(percent);
            cell(took.map_or_else(|| "-".to_owned(), short))
        };
        let since = match backend.admin {
            Admin::Ready => backend.since,
            Admin::Drain | Admin::Maint => backend.admin_since,
        };
        vec![
            cell(format!("  {}", backend.name)),
            cell(backend.address),
            state(backend),
            cell(since.map_or_else(|| "-".to_owned(), |at| ago(self.now, at))),
            cell(weight(backend)),
            cell(sessions(backend)),
            cell(backend.sessions_max),
            cell(backend.sessions_total),
            time(50),
            time(99),
            cell(backend.connect_errors),
            cell(size(backend.bytes_in)),
            cell(size(backend.bytes_out)),
            cell(last_check(backend, checks)),
        ]
    }

    pub(super) fn health_pages(&mut self, pages: &[HealthPageStatus]) {
        if pages.is_empty() {
            return;
        }
        let mut rows = vec![heads(["HEALTH PAGE", "ANSWER", "WHY"])];
        rows.extend(pages.iter().map(|page| {
            let answer = match page.healthy {
                true => Cell("200".to_owned(), Tone::Good),
                false => Cell("503".to_owned(), Tone::Bad),
            };
            vec![cell(format!("http://{}{}", page.bind, page.path)), answer, cell(&page.why)]
        }));
        self.line("");
        self.table(&rows);
    }
}

/// What a name stands for, and since when that is known.
pub fn name_words(name: &NameStatus, now: SystemTime) -> String {
    let addresses = match name.addresses.len() {
        1 => "1 address".to_owned(),
        count => format!("{count} addresses"),
    };
    let next = name.next.map_or_else(String::new, |next| format!(", next look-up in {}", long(next)));
    let (answered, name) = (name.answered.map(|at| ago(now, at)), name);
    match (&name.error, answered) {
        (None, Some(ago)) => format!("name {}: {addresses}, answered {ago} ago{next}", name.name),
        (None, None) => format!("name {}: not looked up yet", name.name),
        (Some(error), Some(ago)) => {
            format!("name {}: {error}; goes on with {addresses} of {ago} ago{next}", name.name)
        }
        (Some(error), None) => format!("name {}: {error}; it never had an address{next}", name.name),
    }
}

/// Who carries it, where that is not the usual.
pub fn carrier(carrier: &Carrier) -> &'static str {
    match carrier {
        Carrier::Proxy => "",
        Carrier::SkLookup => "by sk_lookup, beside another listener on this port",
        Carrier::Redirect => "by nftables redirect, beside another listener on this port",
        Carrier::Kernel => "by the kernel (nftables)",
    }
}

/// What was carried, in short sentences.
pub fn facts(listener: &ListenerStatus) -> Vec<String> {
    let limit = match listener.sessions_limit {
        0 => String::new(),
        limit => format!(" of {limit}"),
    };
    let mut sessions = format!(
        "sessions: {} now{limit}, most {}, {} since the start",
        listener.sessions, listener.sessions_max, listener.sessions_total
    );
    let reasons = |refusals: bool| {
        let some = listener.ended.iter().filter(|(word, _)| *word != "complete");
        let some = some.filter(|(word, _)| REFUSALS.contains(word) == refusals);
        some.map(|(word, count)| format!("{word} {count}")).collect::<Vec<_>>().join(", ")
    };
    let (refused, cut) = (reasons(true), reasons(false));
    if listener.refused > 0 {
        let _ = write!(sessions, "; refused {}", listener.refused);
    }
    if !refused.is_empty() {
        let _ = write!(sessions, " ({refused})");
    }
    if !cut.is_empty() {
        let _ = write!(sessions, "; cut: {cut}");
    }
    for (count, what) in [(listener.retries, "retries"), (listener.accept_errors, "accept errors")] {
        if count > 0 {
            let _ = write!(sessions, "; {count} {what}");
        }
    }
    [Some(sessions), queue(&listener.queue)].into_iter().flatten().collect()
}

fn queue(queue: &QueueStatus) -> Option<String> {
    if queue.total == 0 && queue.waiting == 0 {
        return None;
    }
    let mut said =
        format!("queue: {} now, most {}, {} since the start", queue.waiting, queue.max, queue.total);
    if let (Some(half), Some(most)) = (queue.waited.percentile(50), queue.waited.percentile(99)) {
        let _ = write!(said, "; waited p50 {}, p99 {}", short(half), short(most));
    }
    if queue.timed_out > 0 {
        let _ = write!(said, "; {} gave up", queue.timed_out);
    }
    Some(said)
}

fn state(backend: &BackendStatus) -> Cell {
    let tone = match (backend.admin, backend.health) {
        (Admin::Drain | Admin::Maint, _) | (_, Health::Unknown) => Tone::Doubtful,
        (Admin::Ready, Health::Down) => Tone::Bad,
        (Admin::Ready, Health::Up) if backend.suspected.is_some() => Tone::Doubtful,
        (Admin::Ready, Health::Up) => Tone::Good,
    };
    Cell(state_words(backend), tone)
}

/// `up`, `down`, `drain (up)`, `up, slow start`, ….
pub fn state_words(backend: &BackendStatus) -> String {
    let mut words = match backend.admin {
        Admin::Ready => backend.health.to_string(),
        Admin::Drain => format!("drain ({})", backend.health),
        Admin::Maint => "maint".to_owned(),
    };
    for (is, what) in [
        (backend.observed.is_some(), " by its sessions"),
        (backend.slow_start.is_some(), ", slow start"),
        (backend.suspected.is_some(), ", suspected"),
        (backend.backup, ", backup"),
    ] {
        if is {
            words += what;
        }
    }
    words
}

/// The effective weight, and the configured one where that is another.
pub fn weight(backend: &BackendStatus) -> String {
    match backend.effective_weight == backend.weight {
        true => backend.weight.to_string(),
        false => format!("{} of {}", backend.effective_weight, backend.weight),
    }
}

/// Now, with the limit and the queue where there are some.
pub fn sessions(backend: &BackendStatus) -> String {
    let mut said = backend.sessions.to_string();
    if backend.sessions_limit > 0 {
        let _ = write!(said, " of {}", backend.sessions_limit);
    }
    if backend.queued > 0 {
        let _ = write!(said, " + {} wait", backend.queued);
    }
    said
}

/// What its checks last said, how long that took, and how far they are from another opinion.
pub fn last_check(backend: &BackendStatus, checks: &[CheckStatus]) -> String {
    let own = || checks.iter().filter(|check| backend.checks.contains(&check.name));
    let worst = own().find(|check| check.health == Health::Down);
    let Some(check) =
        worst.or_else(|| own().find(|check| check.health != Health::Up)).or_else(|| own().next())
    else {
        return backend.detail.clone();
    };
    let mut said = match backend.detail.is_empty() {
        true => check.detail.clone(),
        false => backend.detail.clone(),
    };
    let took = check.last_duration.map(short);
    let beside: Vec<_> = [took, streak(check)].into_iter().flatten().collect();
    if !beside.is_empty() {
        let _ = write!(said, " ({})", beside.join(", "));
    }
    said
}

/// How far a check is from another opinion: `failed 1 of 3` while it is up, `succeeded 1 of 2` while it is down.
pub fn streak(check: &CheckStatus) -> Option<String> {
    let word = match check.health {
        Health::Up => "failed",
        Health::Down => "succeeded",
        Health::Unknown => "so far",
    };
    (check.streak > 0).then(|| format!("{word} {} of {}", check.streak, check.needed))
}
