//! keepalived's ways with its log: syslog under its tags, `Sat Nov 21 07:26:08 2026: text` on the console, a file.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::observe::keepalived::date;

/// Lines with this target are keepalived's own words.
pub const TARGET: &str = "keepalived";
/// The same, under the tag of its parent process.
pub const PARENT: &str = "keepalived::parent";

/// Where the system's log listens.
const SYSTEM_LOG: &str = "/dev/log";
/// `LOG_DAEMON`
pub const DAEMON: u8 = 3;

/// Where lines go, by keepalived's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// `-l`: standard error.
    pub console: bool,
    /// Not `-G`: syslog, with this facility (0–23).
    pub syslog: Option<u8>,
    /// `-g`: this file too.
    pub file: Option<PathBuf>,
    /// Namespace and instance, with `_` before each, behind the tag.
    pub suffix: String,
}

/// One of the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Console,
    File(PathBuf),
    System { facility: u8, suffix: String },
}

impl Ways {
    /// Without a system log (a container) lines would go nowhere: then they go to standard error.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        let has_system_log = Path::new(SYSTEM_LOG).exists();
        if self.console || (self.syslog.is_some() && !has_system_log && self.file.is_none()) {
            places.push(Place::Console);
        }
        if let Some(facility) = self.syslog.filter(|_| has_system_log) {
            places.push(Place::System { facility, suffix: self.suffix.clone() });
        }
        places.extend(self.file.clone().map(Place::File));
        places
    }
}

impl Place {
    /// # Errors
    /// The file cannot be opened, or is a symbolic link.
    pub(super) fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Self::Console => Box::new(io::stderr()),
            Self::System { .. } => Box::new(SystemLog::default()),
            Self::File(path) => {
                Box::new(File::options().create(true).append(true).custom_flags(libc::O_NOFOLLOW).open(path)?)
            }
        })
    }
}

/// Every line that is written becomes one message. Made anew when the reader was started again; what nobody takes
/// is lost, as with syslog(3).
#[derive(Debug, Default)]
struct SystemLog(Option<UnixDatagram>);

impl SystemLog {
    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        if self.0.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.connect(SYSTEM_LOG)?;
            self.0 = Some(socket);
        }
        let Some(socket) = &self.0 else { return Ok(()) };
        socket.send(line).map(drop)
    }
}

impl Write for SystemLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if self.send(line).is_err() {
            self.0 = None;
            let _ = self.send(line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a line looks at its place.
#[derive(Clone, Debug)]
pub(super) struct Style(pub Place);

impl<S, N> FormatEvent<S, N> for Style
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        self.head(&mut writer, *metadata.level(), metadata.target(), SystemTime::now())?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

impl Style {
    fn head(&self, writer: &mut impl fmt::Write, level: Level, target: &str, now: SystemTime) -> fmt::Result {
        let (date, year) = date(now);
        match &self.0 {
            Place::Console => write!(writer, "{date} {year}: "),
            Place::File(_) => {
                let nanos = now.duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
                write!(writer, "{date}.{nanos:09} {year}: ")
            }
            Place::System { facility, suffix } => {
                let severity = match level {
                    Level::ERROR => 3,
                    Level::WARN => 4,
                    _ => 6,
                };
                let tag = if target == PARENT { "Keepalived" } else { "Keepalived_vrrp" };
                // Without the day of the week (RFC 3164 §4.1.2).
                let date = date.get(4..).unwrap_or_default();
                let priority = facility * 8 + severity;
                write!(writer, "<{priority}>{date} {tag}{suffix}[{}]: ", std::process::id())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(place: Place, level: Level, target: &str) -> String {
        let mut text = String::new();
        Style(place).head(&mut text, level, target, SystemTime::UNIX_EPOCH).unwrap();
        text
    }

    #[test]
    fn a_line_of_the_console_begins_with_its_date_as_ctime_writes_it() {
        // Midnight in Greenwich is another hour elsewhere.
        let text = head(Place::Console, Level::INFO, TARGET);
        assert!(text.ends_with(" 1970: ") || text.ends_with(" 1969: "), "{text}");
        assert_eq!(text.len(), "Thu Jan  1 00:00:00 1970: ".len());
    }

    #[test]
    fn a_message_has_priority_date_and_tag() {
        let place = |suffix: &str| Place::System { facility: DAEMON, suffix: suffix.into() };
        let pid = std::process::id();
        let text = head(place(""), Level::INFO, TARGET);
        assert!(text.starts_with("<30>") && text.ends_with(&format!(" Keepalived_vrrp[{pid}]: ")), "{text}");
        let text = head(place("_ns_I"), Level::ERROR, PARENT);
        assert!(text.starts_with("<27>") && text.ends_with(&format!(" Keepalived_ns_I[{pid}]: ")), "{text}");
    }
}
