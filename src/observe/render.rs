//! The status for people: `vipd status`.
//!
//! Read at three in the morning: what is wrong is at the line where it belongs and in words, never in colour
//! alone; what is well takes no room.

pub mod forward;

use std::fmt::Write;
use std::time::SystemTime;

use super::event::{Health, State};
use super::status::{
    BfdStatus, CheckStatus, GroupStatus, GuardStatus, InstanceStatus, LeaseStatus, Stalls, Status,
};
use super::words::{ago, short};

/// How it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Escape sequences for colours.
    pub colour: bool,
    /// Columns; sentences are wrapped there, tables are not cut.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: false, width: 100 }
    }
}

/// The whole status as it was at `now`.
pub fn render(status: &Status, now: SystemTime, style: Style) -> String {
    let mut page = Page { text: String::new(), style, now };
    page.head(status);
    match (status.instances.is_empty(), status.listeners.is_empty()) {
        (false, _) => page.instances(&status.instances),
        (true, true) => page.line("no instances are configured"),
        // A forwarder alone.
        (true, false) => {}
    }
    page.lease(status);
    page.groups(&status.groups);
    page.checks(&status.checks);
    page.bfd(&status.bfd);
    for listener in &status.listeners {
        page.listener(listener, &status.checks);
    }
    page.health_pages(&status.pages);
    page.trouble(status);
    page.text
}

struct Page {
    text: String,
    style: Style,
    now: SystemTime,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Bold,
    Good,
    Bad,
    Doubtful,
    Faint,
}

/// A table's cell; its width is that of the text, not of the colour around it.
struct Cell(String, Tone);

fn cell(text: impl ToString) -> Cell {
    Cell(text.to_string(), Tone::Plain)
}

impl Page {
    fn head(&mut self, status: &Status) {
        let name = self.paint(&status.router_id, Tone::Bold);
        let age = ago(self.now, status.started);
        self.line(&format!("{name}  {}  pid {}  up {age}", status.version, status.pid));
        if let Some(GuardStatus { restarts: restarts @ 1.., last, .. }) = &status.guard {
            let times = if *restarts == 1 { "once".into() } else { format!("{restarts} times") };
            let last = last.as_deref().unwrap_or("ended");
            self.line(&self.paint(&format!("restarted {times} by its guard: {last}"), Tone::Bad));
        }
        if !status.configuration.is_empty() {
            self.line(&self.paint(&status.configuration.join(", "), Tone::Faint));
        }
    }

    /// One line for each, aligned, and under it why.
    fn instances(&mut self, instances: &[InstanceStatus]) {
        let heads = heads(["INSTANCE", "STATE", "PRIORITY", "INTERFACE", "VRID", "SINCE", "ADDRESSES"]);
        let rows: Vec<_> = std::iter::once(heads).chain(instances.iter().map(|i| self.row(i))).collect();
        let mut lines = self.aligned(&rows).into_iter();
        for line in lines.by_ref().take(1) {
            self.line("");
            self.line(&line);
        }
        for (instance, line) in instances.iter().zip(lines) {
            self.line(&line);
            self.reasons(instance);
        }
    }

    /// When the addresses fall silent on a host that hangs.
    fn lease(&mut self, status: &Status) {
        let leases = || status.instances.iter().filter_map(|instance| instance.lease);
        let (Some(least), Some(most)) = (leases().min(), leases().max()) else { return };
        let time = if least == most { short(most) } else { format!("{} to {}", short(least), short(most)) };
        let text = match status.lease.as_ref().is_some_and(|lease| lease.tables) {
            true => format!("should this host hang, its addresses fall silent {time} after the last advert"),
            false => "should this host hang, its addresses vanish when their lifetime ends".to_owned(),
        };
        self.line("");
        self.line(&self.paint(&text, Tone::Faint));
    }

    /// As the instances, with members in place of addresses.
    fn groups(&mut self, groups: &[GroupStatus]) {
        if groups.is_empty() {
            return;
        }
        let mut rows = vec![heads(["GROUP", "STATE", "SINCE", "MEMBERS"])];
        rows.extend(groups.iter().map(|group| {
            vec![
                Cell(group.name.clone(), Tone::Bold),
                Cell(group.state.to_string(), tone(group.state)),
                cell(ago(self.now, group.since)),
                cell(group.members.join(", ")),
            ]
        }));
        let mut lines = self.aligned(&rows).into_iter();
        self.line("");
        for line in lines.by_ref().take(1) {
            self.line(&line);
        }
        for (group, line) in groups.iter().zip(lines) {
            self.line(&line);
            self.sentence(&group.why, "    ");
        }
    }

    fn row(&self, instance: &InstanceStatus) -> Vec<Cell> {
        let (active, tone) = (instance.state == State::Active, tone(instance.state));
        let mut row = vec![
            Cell(instance.name.clone(), Tone::Bold),
            Cell(instance.state.to_string(), tone),
            cell(instance.priority),
            cell(&instance.interface),
            cell(instance.vrid),
            cell(ago(self.now, instance.since)),
        ];
        row.extend(instance.addresses.iter().map(|address| match (active, address.present) {
            (true, true) | (false, false) => cell(&address.address),
            (true, false) => Cell(format!("{} MISSING", address.address), Tone::Bad),
            (false, true) => Cell(format!("{} STILL HERE", address.address), Tone::Bad),
        }));
        row
    }

    fn reasons(&mut self, instance: &InstanceStatus) {
        self.sentence(&instance.why, "    ");
        for address in &instance.addresses {
            if let Some(claim) = &address.claimed_by {
                let text = format!(
                    "{} is claimed by {} too, heard {} times, last {}",
                    address.address,
                    claim.mac,
                    claim.times,
                    ago(self.now, claim.last)
                );
                self.sentence(&text, "    ");
            }
        }
        let discarded: u64 = instance.counters.discarded.sum();
        if discarded > 0 {
            let reasons: Vec<_> =
                instance.counters.discarded.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            self.sentence(&format!("discarded adverts: {}", reasons.join(", ")), "    ");
        }
        if instance.counters.send_errors > 0 {
            self.sentence(
                &format!("adverts that could not be sent: {}", instance.counters.send_errors),
                "    ",
            );
        }
    }

    fn checks(&mut self, checks: &[CheckStatus]) {
        if checks.is_empty() {
            return;
        }
        let mut rows = vec![heads(["CHECK", "KIND", "HEALTH", "SINCE", "LAST RUN", "RESULT"])];
        for check in checks {
            let mut result = check.detail.clone();
            if let Some(streak) = forward::streak(check) {
                let _ = write!(result, " ({streak})");
            }
            if let Some(value) = check.value {
                let _ = write!(result, ", value {value}");
            }
            if check.skipped > 0 {
                let _ = write!(result, ", {} runs left out", check.skipped);
            }
            rows.push(vec![
                cell(&check.name),
                cell(&check.kind),
                health(check.health),
                cell(ago(self.now, check.since)),
                cell(check.last_duration.map_or_else(|| "-".to_owned(), short)),
                cell(result),
            ]);
        }
        self.line("");
        self.table(&rows);
        for check in checks {
            for finding in &check.findings {
                self.finding(&format!("check {}: {finding}", check.name));
            }
        }
    }

    /// No failure, but to be seen.
    fn finding(&mut self, finding: &str) {
        let line = self.paint(finding, Tone::Doubtful);
        self.line(&format!("    {line}"));
    }

    fn bfd(&mut self, sessions: &[BfdStatus]) {
        if sessions.is_empty() {
            return;
        }
        let mut rows = vec![heads(["BFD SESSION", "NEIGHBOUR", "STATE", "SINCE", "DETECTION", "WHY"])];
        for session in sessions {
            let tone = if session.state == "Up" { Tone::Good } else { Tone::Bad };
            let discarded: u64 = session.discarded.values().sum();
            let mut why = session.detail.clone();
            if discarded > 0 {
                let _ = write!(why, ", {discarded} packets discarded");
            }
            if session.send_errors > 0 {
                let _ = write!(why, ", {} packets could not be sent", session.send_errors);
            }
            rows.push(vec![
                cell(&session.name),
                cell(session.neighbor),
                Cell(session.state.clone(), tone),
                cell(ago(self.now, session.since)),
                cell(session.detection_time.map_or_else(|| "-".to_owned(), short)),
                cell(why),
            ]);
        }
        self.line("");
        self.table(&rows);
    }

    fn trouble(&mut self, status: &Status) {
        let mut lines = Vec::new();
        for (count, what) in [
            (status.dropped.events, "events"),
            (status.dropped.log_lines, "log lines (the reader of the log is slow or stuck)"),
        ] {
            if count > 0 {
                lines.push(format!("lost {what}: {count}"));
            }
        }
        if !status.discarded.is_empty() {
            let reasons: Vec<_> =
                status.discarded.iter().map(|(reason, n)| format!("{reason} {n}")).collect();
            lines.push(format!("adverts for none of the instances: {}", reasons.join(", ")));
        }
        lines.extend(stalls(&status.stalls));
        lines.extend(status.lease.as_ref().and_then(lease_trouble));
        if !lines.is_empty() {
            self.line("");
        }
        for line in lines {
            self.line(&self.paint(&line, Tone::Doubtful));
        }
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn sentence(&mut self, sentence: &str, indent: &str) {
        let width = self.style.width.max(40) - indent.len();
        let mut line = String::new();
        for word in sentence.split_whitespace() {
            if !line.is_empty() && columns(&line) + 1 + columns(word) > width {
                self.line(&format!("{indent}{line}"));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        self.line(&format!("{indent}{line}"));
    }

    fn table(&mut self, rows: &[Vec<Cell>]) {
        for line in self.aligned(rows) {
            self.line(&line);
        }
    }

    fn aligned(&self, rows: &[Vec<Cell>]) -> Vec<String> {
        let most = rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|c| columns(&c.0)).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..most).map(width).collect();
        let line = |row: &Vec<Cell>| {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&self.paint(&cell.0, cell.1));
                line.push_str(&" ".repeat(width - columns(&cell.0) + 2));
            }
            line
        };
        rows.iter().map(line).collect()
    }

    fn paint(&self, text: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            _ if !self.style.colour => return text.to_owned(),
            Tone::Bold => "1",
            Tone::Good => "1;32",
            Tone::Bad => "1;31",
            Tone::Doubtful => "33",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn tone(state: State) -> Tone {
    match state {
        State::Active => Tone::Good,
        State::Fault => Tone::Bad,
        State::Backup => Tone::Bold,
        State::Initialize => Tone::Doubtful,
    }
}

fn heads<const N: usize>(heads: [&str; N]) -> Vec<Cell> {
    heads.map(|head| Cell(head.to_owned(), Tone::Faint)).into()
}

fn health(health: Health) -> Cell {
    let tone = match health {
        Health::Up => Tone::Good,
        Health::Down => Tone::Bad,
        Health::Unknown => Tone::Doubtful,
    };
    Cell(health.to_string(), tone)
}

/// Columns on a terminal, near enough for names.
/// What kept this host from running; nothing when it was of no consequence.
fn stalls(stalls: &Stalls) -> Option<String> {
    let Stalls { resurrected, longest, slept, steal } = stalls;
    (*resurrected > 0 || !slept.is_zero()).then(|| {
        format!(
            "this host stood still: let go and listened {resurrected} times, at most {} late; suspended for {}; \
             {} taken by the machine below since the host is up",
            short(*longest),
            short(*slept),
            short(*steal)
        )
    })
}

/// The lease, where it is not as it should be.
fn lease_trouble(lease: &LeaseStatus) -> Option<String> {
    match (&lease.trouble, lease.remade, lease.lapsed) {
        (Some(trouble), ..) => {
            Some(format!("should this host hang, addresses answer until their lifetime ends: {trouble}"))
        }
        (None, 0, 0) => None,
        (None, remade, lapsed) => Some(format!(
            "lease: its nftables tables were removed by others and made again {remade} times; addresses were \
             silent {lapsed} times because this host was late"
        )),
    }
}

fn columns(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::observe::status::{
        Admin, BackendStatus, Carrier, Dropped, HealthPageStatus, Histogram, NameStatus, QueueStatus,
    };
    use crate::observe::{explain, sample};

    /// Rewritten by `UPDATE_GOLDEN=1`.
    fn golden(name: &str, got: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/observe/golden").join(name);
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, got).unwrap();
        }
        let wanted = std::fs::read_to_string(&path).unwrap();
        assert!(got == wanted, "{name}:\n{got}\nwanted:\n{wanted}");
    }

    #[test]
    fn a_host_as_people_see_it() {
        golden("status.txt", &render(&sample::status(), sample::now(), Style::default()));
    }

    #[test]
    fn trouble_is_in_words_at_its_line() {
        let mut status = sample::status();
        status.instances[0].addresses[0].present = false;
        status.instances[1].addresses[1].present = true;
        status.instances[1].state = State::Fault;
        status.instances[1].why = "fault: interface eth0 is down".into();
        trouble_of_the_forwarder(&mut status);
        status.dropped = Dropped { events: 1, log_lines: 20 };
        golden("trouble.txt", &render(&status, sample::now(), Style { colour: false, width: 60 }));
    }

    /// Each state that a backend can be in, a queue, names, a health page, findings.
    fn trouble_of_the_forwarder(status: &mut Status) {
        let listener = &mut status.listeners[0];
        listener.accept_errors = 3;
        listener.refuses = true;
        listener.carrier = Carrier::SkLookup;
        let mut waited = Histogram::default();
        waited.record(Duration::from_millis(8));
        listener.queue = QueueStatus { waiting: 2, max: 9, total: 31, timed_out: 4, waited };
        let named = |name: &str| BackendStatus { name: name.into(), ..listener.backends[0].clone() };
        let minute = Some(sample::now() - Duration::from_secs(60));
        let others = [
            BackendStatus { admin: Admin::Maint, admin_since: minute, ..named("maint") },
            BackendStatus { admin: Admin::Drain, admin_since: minute, effective_weight: 0, ..named("drain") },
            BackendStatus {
                weight: 100,
                effective_weight: 37,
                slow_start: Some(Duration::from_secs(19)),
                ..named("slow")
            },
            BackendStatus { suspected: Some(Duration::from_secs(4)), backup: true, ..named("suspected") },
            BackendStatus {
                health: Health::Down,
                observed: Some("10 connects failed in a row: connection refused".into()),
                sessions_limit: 50,
                queued: 2,
                ..named("observed")
            },
        ];
        listener.backends.remove(0);
        listener.backends.extend(others);
        listener.names = vec![NameStatus {
            name: "etcd.example.org:2379".into(),
            addresses: vec!["10.0.0.21:2379".parse().unwrap()],
            answered: minute,
            error: Some("no answer within 5 s".into()),
            next: Some(Duration::from_secs(12)),
        }];
        listener.why = explain::forward::listener(listener, sample::now());
        status.checks[1].findings = vec!["certificate expires in 9 days".into()];
        status.pages = vec![HealthPageStatus {
            bind: "127.0.0.1:8081".parse().unwrap(),
            path: "/healthz".into(),
            healthy: false,
            why: "api has 0 healthy backends, 1 is needed".into(),
            served_healthy: 7,
            served_unhealthy: 1,
        }];
    }

    #[test]
    fn a_group_is_shown_with_its_members_and_why() {
        let mut status = sample::status();
        status.groups = vec![GroupStatus {
            name: "G1".into(),
            state: State::Fault,
            since: sample::now() - Duration::from_secs(42),
            why: "fault: held by V2: interface eth1 is down".into(),
            members: vec!["V1".into(), "V2".into()],
            ready: vec![],
            held_by: vec![],
            last_reason: None,
        }];
        let page = render(&status, sample::now(), Style::default());
        let group = "GROUP  STATE  SINCE  MEMBERS\nG1     fault  42 s   V1, V2\n    fault: held by V2: interface eth1 is down\n";
        assert!(page.contains(group), "{page}");
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let plain = render(&sample::status(), sample::now(), Style::default());
        let colour = render(&sample::status(), sample::now(), Style { colour: true, width: 100 });
        assert!(colour.contains("\x1b[1;32mactive\x1b[0m"));
        assert!(colour.contains("\x1b[1;31mdown\x1b[0m"));
        let mut stripped = String::new();
        for (index, part) in colour.split("\x1b[").enumerate() {
            stripped += if index == 0 { part } else { part.split_once('m').unwrap().1 };
        }
        assert_eq!(stripped, plain);
    }

    #[test]
    fn sentences_are_wrapped_at_the_width() {
        for width in [40, 60, 80] {
            let page = render(&sample::status(), sample::now(), Style { colour: false, width });
            let long: Vec<_> = page.lines().filter(|l| l.starts_with("    ") && columns(l) > width).collect();
            assert!(long.is_empty(), "{long:?} at {width}");
        }
    }
}
