//! The client: a new connection with a new request every 10 ms, whatever became of those before.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;

use super::backend::SERVED_BY;
use super::namespace::Namespace;

/// From request to request.
pub const EVERY: Duration = Duration::from_millis(10);
/// A request without an answer after this has failed.
pub const PATIENCE: Duration = Duration::from_millis(250);

/// One request and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// When it was started, since the beginning of the demo.
    pub started: Duration,
    /// When it was answered or given up.
    pub ended: Duration,
    /// Which backend answered, or what went wrong.
    pub result: Result<String, String>,
}

/// What the client wrote down, in the order the requests ended.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Vec<Request>>>);

impl Record {
    /// Adds one.
    pub fn push(&self, request: Request) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    }

    /// What was seen in a span of time.
    pub fn view(&self, from: Duration, to: Duration) -> View {
        let requests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut requests: Vec<_> =
            requests.iter().filter(|r| (from..to).contains(&r.started)).cloned().collect();
        requests.sort_by_key(|request| request.started);
        View { from, requests }
    }
}

/// The requests of a span of time, in the order they were started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    from: Duration,
    requests: Vec<Request>,
}

impl View {
    /// How many were made.
    pub fn total(&self) -> usize {
        self.requests.len()
    }

    /// How many were not answered.
    pub fn failed(&self) -> usize {
        self.requests.iter().filter(|request| request.result.is_err()).count()
    }

    /// When the first answer came, since the beginning of the span.
    ///
    /// While nobody has the address, the kernel keeps a request until somebody does: the time when it was
    /// made would flatter.
    pub fn first_answer(&self) -> Option<Duration> {
        let answered = self.requests.iter().filter(|request| request.result.is_ok());
        answered.map(|request| request.ended - self.from).min()
    }

    /// Longest time between two successive requests that were answered, from start to start. `None` when
    /// fewer than two were.
    ///
    /// Never shorter than [`EVERY`]: that much a client that asks every 10 ms cannot see.
    pub fn longest_gap(&self) -> Option<Duration> {
        let next = self.answered().skip(1);
        self.answered().zip(next).map(|(one, other)| other - one).max()
    }

    /// Longest time for which the client itself stood still, beyond its 10 ms.
    ///
    /// It shows how busy the computer is: in that time nothing was asked, so nothing was measured.
    pub fn longest_pause(&self) -> Duration {
        let pairs = self.requests.iter().zip(self.requests.iter().skip(1));
        let longest = pairs.map(|(one, other)| other.started - one.started).max().unwrap_or_default();
        longest.saturating_sub(EVERY)
    }

    /// How many requests each backend answered.
    pub fn by_backend(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for backend in self.requests.iter().filter_map(|request| request.result.as_deref().ok()) {
            *counts.entry(backend).or_default() += 1;
        }
        counts
    }

    /// What went wrong, and how often.
    pub fn errors(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for error in self.requests.iter().filter_map(|request| request.result.as_ref().err()) {
            *counts.entry(error.as_str()).or_default() += 1;
        }
        counts
    }

    fn answered(&self) -> impl Iterator<Item = Duration> {
        self.requests.iter().filter(|request| request.result.is_ok()).map(|request| request.started)
    }
}

/// The running client. Stops when it is dropped.
#[derive(Debug)]
pub struct Client {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Client {
    /// Starts to ask `target` from inside `machine`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        machine: Namespace,
        target: SocketAddr,
        tls: rustls::ClientConfig,
        epoch: Instant,
        record: Record,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let tls = TlsConnector::from(Arc::new(tls));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("client".to_owned()).spawn(move || {
            // Without the namespace no request would ever be answered, which the report shows.
            if machine.enter().is_ok() {
                runtime.block_on(ask_until(stopped, target, tls, epoch, record));
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed already.
            let _ = thread.join();
        }
    }
}

async fn ask_until(
    mut stopped: oneshot::Receiver<()>,
    target: SocketAddr,
    tls: TlsConnector,
    epoch: Instant,
    record: Record,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            _ = ticks.tick() => {}
        }
        let (tls, record) = (tls.clone(), record.clone());
        tokio::spawn(async move {
            let started = epoch.elapsed();
            let result = match timeout(PATIENCE, ask(target, tls)).await {
                Ok(Ok(backend)) => Ok(backend),
                Ok(Err(error)) => Err(in_words(&error)),
                Err(_) => Err(format!("no answer in {} ms", PATIENCE.as_millis())),
            };
            record.push(Request { started, ended: epoch.elapsed(), result });
        });
    }
}

/// One request over a new connection; gives the name of the backend that answered.
async fn ask(target: SocketAddr, tls: TlsConnector) -> io::Result<String> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let mut stream = tls.connect(ServerName::from(target.ip()), stream).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: demo\r\n\r\n").await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    // The backend need not be told that nothing more comes; closing is enough.
    let answer = String::from_utf8_lossy(&answer);
    let backend = answer.lines().find_map(|line| line.strip_prefix(SERVED_BY));
    backend.map(str::to_owned).ok_or_else(|| io::Error::other("an answer from a stranger"))
}

fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "cut off".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed before the answer".to_owned(),
        io::ErrorKind::HostUnreachable => "nobody has the address".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(requests: &[(u64, bool)]) -> View {
        let record = Record::default();
        for (ms, answered) in requests {
            let result = if *answered { Ok("b1".to_owned()) } else { Err("refused".to_owned()) };
            let started = Duration::from_millis(*ms);
            record.push(Request { started, ended: started + Duration::from_millis(3), result });
        }
        record.view(Duration::from_millis(100), Duration::from_millis(1000))
    }

    #[test]
    fn outage_is_the_longest_gap_between_answered_requests() {
        // Ended in another order than they were started, and one outside of the span.
        let seen = view(&[(50, true), (120, true), (110, true), (130, false), (430, true), (440, true)]);
        assert_eq!(seen.longest_gap(), Some(Duration::from_millis(310)));
        assert_eq!((seen.total(), seen.failed()), (5, 1));
        assert_eq!(seen.first_answer(), Some(Duration::from_millis(13)));
        assert_eq!(seen.longest_pause(), Duration::from_millis(290), "from 130 to 430, less 10");
        assert_eq!(seen.by_backend(), BTreeMap::from([("b1", 4)]));
        assert_eq!(seen.errors(), BTreeMap::from([("refused", 1)]));
    }

    #[test]
    fn without_two_answers_there_is_no_gap() {
        assert_eq!(view(&[(110, true), (120, false)]).longest_gap(), None);
        assert_eq!(view(&[(110, false)]).first_answer(), None);
    }
}
