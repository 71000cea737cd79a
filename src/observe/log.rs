//! Log lines: what may be lost is lost here, and counted, before anybody waits for a slow reader.
//!
//! Lines go through a bounded queue to a thread of their own. When the reader of the log stops reading, the
//! queue fills up and further lines are dropped; nobody who logs ever waits.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{Dispatch, Metadata, Subscriber, debug, dispatcher, error, info, warn};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use super::event::{EntryNews, Event, Health, Kind, State};

pub mod keepalived;

/// Environment variable with the filter, which goes before the option.
pub const FILTER_VARIABLE: &str = "VIPD_LOG";

/// Target of the access log, whose lines have a queue of their own: they are many, and are not to take the place of
/// what somebody must act on.
pub const ACCESS: &str = "vipd::access";

/// Lines that may wait for the reader.
const QUEUE: usize = 4096;

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// What is logged, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How lines look.
    pub format: Format,
    /// A level, or directives as `info,vipd::forward=debug`. Default `info`; `VIPD_LOG` goes before it.
    pub filter: Option<String>,
    /// Colours, for terminals.
    pub colour: bool,
    /// Times are left to whoever collects the lines (the journal has its own).
    pub without_time: bool,
    /// keepalived's ways instead of standard error; format, colour and time follow from them.
    pub keepalived: Option<keepalived::Ways>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is none.
    #[error(
        "log filter `{filter}` is not valid: {problem}; \
         expected a level (error, warn, info, debug, trace) or directives as `info,vipd::forward=debug`"
    )]
    Filter {
        /// As it was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The log file cannot be opened.
    #[error("cannot open the log file {}: {source}", path.display())]
    File {
        /// As it was given.
        path: std::path::PathBuf,
        /// From the file system.
        source: io::Error,
    },
    /// Logging was set up before.
    #[error("logging is set up already")]
    AlreadySet,
}

/// Logging as long as it lives. When dropped, lines that wait are written, for at most 1.5 s.
#[derive(Debug)]
pub struct Log {
    /// One for each place that lines go to.
    dropped: Vec<ErrorCounter>,
    workers: Vec<WorkerGuard>,
    access: Later,
}

/// Lines that wait at the end get this long.
const FLUSH_WITHIN: Duration = Duration::from_millis(1500);

impl Drop for Log {
    /// The guard's own end is bounded, but for a message that it prints on standard output when the queue is
    /// still full: and that may be the very pipe that nobody reads. So it ends on a thread that can be left.
    fn drop(&mut self) {
        let (done, finished) = std::sync::mpsc::channel();
        let mut workers = std::mem::take(&mut self.workers);
        workers.extend(self.access.end());
        let flush = move || {
            drop(workers);
            let _ = done.send(());
        };
        if std::thread::Builder::new().name("log flush".into()).spawn(flush).is_ok() {
            let _ = finished.recv_timeout(FLUSH_WITHIN);
        }
    }
}

impl Log {
    /// Counts the lines that did not fit the queue.
    pub fn dropped(&self) -> u64 {
        count(&self.dropped) + self.access.dropped()
    }

    /// The same count, for whoever reports it.
    pub fn dropped_counter(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let (counters, access) = (self.dropped.clone(), self.access.clone());
        move || count(&counters) + access.dropped()
    }
}

fn count(counters: &[ErrorCounter]) -> u64 {
    counters.iter().map(|counter| counter.dropped_lines() as u64).sum()
}

/// Logs to standard error from now on.
///
/// # Errors
///
/// The filter is not valid, or logging was set up before.
pub fn init(options: &Options) -> Result<Log, LogError> {
    let from_environment = std::env::var(FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty());
    let options = Options { filter: from_environment.or_else(|| options.filter.clone()), ..options.clone() };
    let (dispatch, log) = match &options.keepalived {
        None => build(&options, io::stderr())?,
        Some(ways) => build_as_keepalived(&options, ways)?,
    };
    dispatcher::set_global_default(dispatch).map_err(|_| LogError::AlreadySet)?;
    Ok(log)
}

fn filter(options: &Options) -> Result<EnvFilter, LogError> {
    let filter = options.filter.as_deref().unwrap_or("info");
    EnvFilter::try_new(filter)
        .map_err(|error| LogError::Filter { filter: filter.to_owned(), problem: error.to_string() })
}

/// A bounded queue, and the thread that empties it.
fn queue(writer: impl Write + Send + 'static, log: &mut Log) -> NonBlocking {
    let (writer, worker) = bounded(writer);
    log.dropped.push(writer.error_counter());
    log.workers.push(worker);
    writer
}

fn bounded(writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log").finish(writer)
}

fn build(options: &Options, writer: impl Write + Send + 'static) -> Result<(Dispatch, Log), LogError> {
    let filter = filter(options)?;
    let shared = Shared(Arc::new(Mutex::new(writer)));
    let mut log = Log { dropped: Vec::new(), workers: Vec::new(), access: Later::new(shared.clone()) };
    let writer = queue(shared, &mut log);
    let is_access = |metadata: &Metadata<'_>| metadata.target() == ACCESS;
    let access = layer(options, log.access.clone()).with_filter(filter_fn(is_access));
    let others = layer(options, writer).with_filter(filter_fn(move |metadata| !is_access(metadata)));
    Ok((Dispatch::new(Registry::default().with(filter).with(access).with(others)), log))
}

/// One writer for both queues, a line at a time.
struct Shared<W>(Arc<Mutex<W>>);

impl<W> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: Write> Write for Shared<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        writer.write_all(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

/// A queue that is made when its first line comes: most daemons write no access log.
#[derive(Clone)]
struct Later(Arc<Made>);

struct Made {
    make: Box<dyn Fn() -> (NonBlocking, WorkerGuard) + Send + Sync>,
    queue: OnceLock<NonBlocking>,
    worker: Mutex<Option<WorkerGuard>>,
}

impl Later {
    fn new<W: Write + Send + 'static>(writer: Shared<W>) -> Self {
        let make = Box::new(move || bounded(writer.clone()));
        Self(Arc::new(Made { make, queue: OnceLock::new(), worker: Mutex::default() }))
    }

    fn dropped(&self) -> u64 {
        self.0.queue.get().map_or(0, |queue| queue.error_counter().dropped_lines() as u64)
    }

    /// Its worker, which writes what waits when it is dropped.
    fn end(&self) -> Option<WorkerGuard> {
        self.0.worker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Later").field(&self.0.queue.get().is_some()).finish()
    }
}

impl<'a> MakeWriter<'a> for Later {
    type Writer = NonBlocking;

    fn make_writer(&'a self) -> NonBlocking {
        let queue = self.0.queue.get_or_init(|| {
            let (queue, worker) = (self.0.make)();
            *self.0.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
            queue
        });
        queue.clone()
    }
}

fn build_as_keepalived(options: &Options, ways: &keepalived::Ways) -> Result<(Dispatch, Log), LogError> {
    let filter = filter(options)?;
    // Under keepalived's name the access log is written where everything is.
    let access = Later::new(Shared(Arc::new(Mutex::new(io::sink()))));
    let mut log = Log { dropped: Vec::new(), workers: Vec::new(), access };
    let mut layers = Vec::new();
    for place in ways.places() {
        let writer = place
            .open()
            .map_err(|source| LogError::File { path: ways.file.clone().unwrap_or_default(), source })?;
        let writer = queue(writer, &mut log);
        layers.push(
            fmt::layer().with_writer(writer).with_ansi(false).event_format(keepalived::Style(place)).boxed(),
        );
    }
    Ok((Dispatch::new(Registry::default().with(filter).with(layers)), log))
}

fn layer<S, W>(options: &Options, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(options.colour);
    match (options.format, options.without_time) {
        (Format::Text, false) => layer.boxed(),
        (Format::Text, true) => layer.without_time().boxed(),
        (Format::Json, false) => layer.json().flatten_event(true).boxed(),
        (Format::Json, true) => layer.json().flatten_event(true).without_time().boxed(),
    }
}

/// Logs events until their sender is gone.
pub async fn follow(mut events: broadcast::Receiver<Arc<Event>>) {
    loop {
        match events.recv().await {
            Ok(event) => log_event(&event),
            Err(RecvError::Lagged(missed)) => warn!(missed, "events came faster than they could be logged"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// One line for one event.
pub fn log_event(event: &Event) {
    match &event.kind {
        Kind::Transition { instance, from, to: to @ State::Fault, reason, priority } => {
            warn!(instance, %from, %to, priority, %reason, "state changed");
        }
        Kind::Transition { instance, from, to, reason, priority } => {
            info!(instance, %from, %to, priority, %reason, "state changed");
        }
        Kind::Group { group, from, to: to @ State::Fault, reason } => {
            warn!(group, %from, %to, %reason, "group changed");
        }
        Kind::Group { group, from, to, reason } => {
            info!(group, %from, %to, %reason, "group changed");
        }
        Kind::Priority { instance, state, from, to, because } => {
            info!(instance, %state, from, to, because, "priority changed");
        }
        Kind::LowerPriorityAdvert { instance, peer, theirs, ours } => {
            info!(instance, %peer, peer.priority = theirs, priority = ours, "advert of lower priority heard");
        }
        Kind::AdvertNews { instance, peer, news } => debug!(instance, %peer, %news, "advert heard"),
        Kind::Check { check, from, to: to @ Health::Down, detail } => {
            warn!(check, %from, %to, detail, "check changed");
        }
        Kind::Check { check, from, to, detail } => {
            info!(check, %from, %to, detail, "check changed");
        }
        Kind::Bfd { session, neighbor, from, to, reason } => match to.as_str() {
            "Up" => info!(session, %neighbor, from, to, reason, "BFD session changed"),
            _ => warn!(session, %neighbor, from, to, reason, "BFD session changed"),
        },
        Kind::Backend { listener, backend, from, to, detail, sessions_closed } => {
            info!(listener, backend, %from, %to, detail, sessions_closed, "backend changed");
        }
        Kind::Ordered { listener, backend, order } => info!(listener, backend, order, "backend ordered"),
        Kind::Quorum { listener, reached: true, weight, least } => {
            info!(listener, weight, least, "quorum reached");
        }
        Kind::Quorum { listener, reached: false, weight, least } => {
            warn!(listener, weight, least, "quorum lost");
        }
        Kind::AddressClaimed { instance, address, interface, mac } => {
            warn!(instance, %address, interface, mac, "address is claimed by another host");
        }
        Kind::AddressRestored { instance, address, interface } => {
            warn!(instance, %address, interface, "address was deleted by somebody, put back");
        }
        Kind::AddressRemoved { instance, address, interface, because } => {
            warn!(instance, %address, interface, reason = because, "address removed");
        }
        Kind::AddressFailed { instance, address, interface, error } => {
            error!(instance, %address, interface, error, "address could not be added or removed");
        }
        Kind::Entry { instance, entry, news: EntryNews::Failed { error } } => {
            error!(instance, entry, error, "route, rule or static address could not be added or removed");
        }
        Kind::Entry { instance, entry, news } => {
            warn!(instance, entry, %news, "route, rule or static address changed");
        }
        Kind::Discarded { instance, peer, reason, detail, count } => {
            warn!(instance, %peer, reason, detail, count, "packets discarded");
        }
        Kind::Reloaded { summary } => info!("configuration reloaded: {summary}"),
        Kind::Notice { text } => warn!("{text}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::{Arc, Mutex};
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::observe::event::Reason;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: &Options, act: impl FnOnce()) -> String {
        let sink = Sink::default();
        let (dispatch, log) = build(options, sink.clone()).unwrap();
        dispatcher::with_default(&dispatch, act);
        drop(dispatch);
        drop(log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn transition() -> Event {
        let kind = Kind::Transition {
            instance: "VI_1".into(),
            from: State::Backup,
            to: State::Active,
            reason: Reason::ActiveDown { peer: None, silence: Duration::from_micros(3_609_375) },
            priority: 100,
        };
        Event { at: SystemTime::UNIX_EPOCH, kind }
    }

    #[test]
    fn a_transition_is_one_line_with_fields() {
        let options = Options { without_time: true, ..Options::default() };
        assert_eq!(
            logged(&options, || log_event(&transition())),
            " INFO vipd::observe::log: state changed instance=\"VI_1\" from=backup to=active priority=100 \
             reason=no advert from anybody for 3.609 s\n"
        );
    }

    #[test]
    fn a_json_line_is_an_object_with_the_same_fields() {
        let options = Options { format: Format::Json, ..Options::default() };
        let line = logged(&options, || log_event(&transition()));
        let json: serde_json::Value = serde_json::from_str(line.trim()).unwrap();
        assert_eq!(json["level"], "INFO");
        assert_eq!(json["message"], "state changed");
        assert_eq!(json["to"], "active");
        assert_eq!(json["priority"], 100);
        assert!(json["timestamp"].is_string());
    }

    #[test]
    fn the_filter_decides_what_is_logged() {
        let quiet = Options { filter: Some("warn".into()), ..Options::default() };
        assert_eq!(logged(&quiet, || log_event(&transition())), "");
        let kind = Kind::Discarded {
            instance: "eth0".into(),
            peer: "10.0.0.9".parse().unwrap(),
            reason: "ttl".into(),
            detail: "TTL 64, wanted 255".into(),
            count: 12,
        };
        let event = Event { at: SystemTime::UNIX_EPOCH, kind };
        assert!(logged(&quiet, || log_event(&event)).contains("WARN"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_was_expected() {
        let options = Options { filter: Some("vipd=loud".into()), ..Options::default() };
        let error = build(&options, io::sink()).expect_err("there is no level `loud`").to_string();
        assert!(error.starts_with("log filter `vipd=loud` is not valid: "), "{error}");
        assert!(error.contains("expected a level"), "{error}");
    }

    #[test]
    fn a_reader_that_stops_reading_costs_lines_and_no_time() {
        let (mut reader, writer) = io::pipe().unwrap();
        let (dispatch, log) = build(&Options::default(), writer).unwrap();
        let started = Instant::now();
        const LINES: u64 = 20_000;
        dispatcher::with_default(&dispatch, || {
            for _ in 0..LINES {
                log_event(&transition());
            }
        });
        // A pipe holds 64 KiB and the queue 4096 lines: the rest is lost, and nobody waited for it.
        assert!(log.dropped() > LINES / 2, "{} dropped", log.dropped());
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        let stopping = Instant::now();
        drop(log);
        assert!(stopping.elapsed() < Duration::from_secs(3), "{:?}", stopping.elapsed());
        assert_ne!(reader.read(&mut [0; 100]).unwrap(), 0);
    }
}
