//! The status for people: `vipd status`.
//!
//! Read at three in the morning: what is wrong is at the line where it belongs and in words, never in colour
//! alone; what is well takes no room.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::event::{Health, State};
use super::status::{
    BackendStatus, BfdStatus, CheckStatus, GroupStatus, InstanceStatus, ListenerStatus, Status,
};

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
    if status.instances.is_empty() {
        page.line("no instances are configured");
    } else {
        page.instances(&status.instances);
    }
    page.groups(&status.groups);
    page.checks(&status.checks);
    page.bfd(&status.bfd);
    for listener in &status.listeners {
        page.listener(listener);
    }
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
            if check.streak > 0 {
                let word = if check.health == Health::Down { "failed" } else { "differs" };
                let _ = write!(result, " ({word} {} of {})", check.streak, check.needed);
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

    fn listener(&mut self, listener: &ListenerStatus) {
        self.line("");
        let bind: Vec<_> = listener.bind.iter().map(ToString::to_string).collect();
        let mut line = format!(
            "listener {}  {}  {} sessions, {} since the start",
            self.paint(&listener.name, Tone::Bold),
            bind.join(" "),
            listener.sessions,
            listener.sessions_total
        );
        for (count, what) in
            [(listener.refused, "refused for want of a backend"), (listener.accept_errors, "accept errors")]
        {
            if count > 0 {
                let _ = write!(line, ", {}", self.paint(&format!("{count} {what}"), Tone::Doubtful));
            }
        }
        self.line(&line);
        let mut rows = vec![heads([
            "  BACKEND",
            "ADDRESS",
            "HEALTH",
            "SESSIONS",
            "TOTAL",
            "FAILED",
            "IN",
            "OUT",
            "LAST CHECK",
        ])];
        rows.extend(listener.backends.iter().map(backend));
        self.table(&rows);
        if !listener.backends.iter().any(|b| b.health != Health::Down) {
            let words = "no backend is healthy: clients are refused";
            self.line(&format!("  {}", self.paint(words, Tone::Bad)));
        }
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

fn backend(backend: &BackendStatus) -> Vec<Cell> {
    vec![
        cell(format!("  {}", backend.name)),
        cell(backend.address),
        health(backend.health),
        cell(backend.sessions),
        cell(backend.sessions_total),
        cell(backend.connect_errors),
        cell(size(backend.bytes_in)),
        cell(size(backend.bytes_out)),
        cell(&backend.detail),
    ]
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
fn columns(text: &str) -> usize {
    text.chars().count()
}

fn ago(now: SystemTime, then: SystemTime) -> String {
    let seconds = now.duration_since(then).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

fn short(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    // Tenths of a unit, so that no float is needed.
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::observe::sample;
    use crate::observe::status::Dropped;

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
        status.listeners[0].backends.remove(0);
        status.listeners[0].accept_errors = 3;
        status.dropped = Dropped { events: 1, log_lines: 20 };
        golden("trouble.txt", &render(&status, sample::now(), Style { colour: false, width: 60 }));
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

    #[test]
    fn times_and_sizes_read_well() {
        let then = |seconds| sample::now() - Duration::from_secs(seconds);
        let ago = |seconds| ago(sample::now(), then(seconds));
        assert_eq!([ago(0), ago(59), ago(61), ago(3599)], ["0 s", "59 s", "1 min 1 s", "59 min 59 s"]);
        assert_eq!([ago(3600), ago(86_399), ago(90_000)], ["1 h 0 min", "23 h 59 min", "1 d 1 h"]);
        assert_eq!([size(0), size(1023), size(1024)], ["0 B", "1023 B", "1.0 KiB"]);
        assert_eq!([size(1_500_000), size(3_221_225_472)], ["1.4 MiB", "3.0 GiB"]);
        assert_eq!(short(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(short(Duration::from_millis(2500)), "2.5 s");
    }
}
