//! Lines with a time in front, in the order things happened.
//!
//! What a request became is known only when its patience is over, and news from a daemon take their way, so
//! every line waits a moment for its turn. Lines are only ever added: a terminal, a file and a pipe show the
//! same.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::super::output;
use super::client::{EVERY, PATIENCE, Record, View};

/// How long a line waits for earlier ones.
const DELAY: Duration = PATIENCE.saturating_add(Duration::from_millis(100));
/// Time of one character of the client's line.
const CELL: Duration = Duration::from_millis(100);
/// Time of one line of the client.
const SPAN: Duration = Duration::from_secs(1);

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colours: bool,
}

impl Paint {
    /// Only for a terminal, and not when `NO_COLOR` is set.
    pub fn for_stdout() -> Self {
        Self { colours: output::is_colourful() }
    }

    /// Never.
    #[cfg(test)]
    pub fn plain() -> Self {
        Self { colours: false }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Good.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// Bad.
    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// A title.
    pub fn title(self, text: &str) -> String {
        self.wrap("1", text)
    }
}

/// Takes lines from everywhere and prints them in order.
#[derive(Clone, Debug)]
pub struct Timeline {
    epoch: Instant,
    epoch_on_the_wall: SystemTime,
    paint: Paint,
    /// By time, then by the order they came in.
    waiting: Arc<Mutex<BTreeMap<(Duration, u64), String>>>,
    turns: Arc<AtomicU64>,
    record: Record,
}

impl Timeline {
    /// Begins now.
    pub fn new(paint: Paint, record: Record) -> Self {
        let (epoch, epoch_on_the_wall) = (Instant::now(), SystemTime::now());
        Self { epoch, epoch_on_the_wall, paint, waiting: Arc::default(), turns: Arc::default(), record }
    }

    /// The moment that all times count from.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    /// Time since the beginning.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// The time of an event that another process saw.
    pub fn time_of(&self, at: SystemTime) -> Duration {
        at.duration_since(self.epoch_on_the_wall).unwrap_or_default()
    }

    /// Puts a line at a time.
    pub fn say(&self, at: Duration, text: impl Into<String>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert((at, self.turns.fetch_add(1, Ordering::Relaxed)), text.into());
    }

    /// Puts a title at a time.
    pub fn title(&self, at: Duration, text: &str) {
        self.say(at, self.paint.title(text));
    }

    /// Prints what is due, for ever.
    pub async fn print_as_it_goes(&self) {
        let mut next_span = SPAN;
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        loop {
            ticks.tick().await;
            let due = self.now().saturating_sub(DELAY);
            while next_span <= due {
                self.client_line(next_span - SPAN, next_span);
                next_span += SPAN;
            }
            self.print_until(due);
        }
    }

    /// Prints what is left, once nothing more comes.
    pub fn finish(&self) {
        self.print_until(Duration::MAX);
    }

    fn client_line(&self, from: Duration, to: Duration) {
        let view = self.record.view(from, to);
        // Before the client has started there is nothing to tell.
        if view.total() > 0 {
            self.say(to, client_line(self.paint, &self.record, from, &view));
        }
    }

    fn print_until(&self, due: Duration) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = io::stdout().lock();
        while let Some(entry) = waiting.first_entry() {
            let (at, _) = *entry.key();
            if at > due {
                break;
            }
            // A closed pipe is not our trouble: the exit code still tells.
            let _ = writeln!(out, "{:7.3} s  {}", at.as_secs_f64(), entry.remove());
        }
        let _ = out.flush();
    }
}

/// `client  [==========] 100 of 100 answered: b1 34, b2 33, b3 33`
fn client_line(paint: Paint, record: &Record, from: Duration, view: &View) -> String {
    let cells: String = (0..cells_in(SPAN))
        .map(|cell| {
            let start = from + CELL * cell;
            paint_cell(paint, &record.view(start, start + CELL))
        })
        .collect();
    let answered = view.total() - view.failed();
    let mut text = format!("client  [{cells}] {answered:3} of {:3} answered", view.total());
    list(&mut text, ": ", view.by_backend());
    list(&mut text, "; failed: ", view.errors());
    text
}

fn list(text: &mut String, before: &str, counts: BTreeMap<&str, usize>) {
    for (i, (what, count)) in counts.iter().enumerate() {
        text.push_str(if i == 0 { before } else { ", " });
        text.push_str(&format!("{what} {count}"));
    }
}

fn cells_in(span: Duration) -> u32 {
    // Ten: both are constants.
    (span.as_millis() / CELL.as_millis()) as u32
}

/// `=` all answered, `x` none, `~` some, blank for nothing asked.
fn paint_cell(paint: Paint, view: &View) -> String {
    match (view.total(), view.failed()) {
        (0, _) => " ".to_owned(),
        (_, 0) => paint.good("="),
        (total, failed) if failed == total => paint.bad("x"),
        _ => paint.bad("~"),
    }
}

/// What the characters of the client's line mean.
pub fn legend() -> String {
    format!(
        "The client's line has one character for {} ms ({} requests): = all answered, ~ some, x none.",
        CELL.as_millis(),
        CELL.as_millis() / EVERY.as_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::super::client::Request;
    use super::*;

    #[test]
    fn the_clients_line_has_a_character_for_a_tenth_of_a_second() {
        let record = Record::default();
        for ms in (100..1000).step_by(10) {
            let result = match ms {
                300..500 => Err("refused".to_owned()),
                550..560 => Err("cut off".to_owned()),
                _ => Ok(if ms % 20 == 0 { "b1" } else { "b2" }.to_owned()),
            };
            let started = Duration::from_millis(ms);
            record.push(Request { started, ended: started, result });
        }
        let view = record.view(Duration::ZERO, SPAN);
        assert_eq!(
            client_line(Paint::plain(), &record, Duration::ZERO, &view),
            "client  [ ==xx~====]  69 of  90 answered: b1 35, b2 34; failed: cut off 1, refused 20"
        );
    }

    #[test]
    fn lines_stand_in_the_order_of_their_time_and_then_as_they_came() {
        let timeline = Timeline::new(Paint::plain(), Record::default());
        for (ms, text) in [(20, "c"), (10, "a"), (20, "d"), (10, "b")] {
            timeline.say(Duration::from_millis(ms), text);
        }
        let waiting = timeline.waiting.lock().unwrap();
        assert_eq!(waiting.values().collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    }
}
