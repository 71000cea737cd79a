//! The other end of the control socket, for the command line.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use serde::de::DeserializeOwned;

use super::control::{Done, Problem};
use super::history::Recorded;
use super::status::{SessionFilter, SessionStatus, Status};
use crate::forward::orders::Order;

/// The daemon answers a request that it has received within its own limits; this is a little more.
const ANSWER_WITHIN: Duration = Duration::from_secs(70);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no socket.
    #[error(
        "there is no control socket {0}: is vipd running? (`systemctl status vipd`; another socket is given \
         with --socket)"
    )]
    NoSocket(PathBuf),
    /// A socket of a daemon that is gone.
    #[error("nobody answers on {0}: vipd is not running (its socket was left behind)")]
    NobodyAnswers(PathBuf),
    /// Not for this user.
    #[error("no permission to open {socket} ({who}): become root, or join its group")]
    Permission {
        /// The socket.
        socket: PathBuf,
        /// Mode, owner and group.
        who: String,
    },
    /// Everything else between here and there.
    #[error("cannot talk to vipd on {socket}: {source}")]
    Io {
        /// The socket.
        socket: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The daemon refuses.
    #[error("{}; {}", .0.error, .0.help)]
    Refused(Problem),
    /// The answer is none.
    #[error("vipd on {socket} answered what this program does not understand (another version?): {detail}")]
    Answer {
        /// The socket.
        socket: PathBuf,
        /// What is odd.
        detail: String,
    },
    /// No answer in time.
    #[error("vipd on {0} does not answer: is its process stopped?")]
    Silent(PathBuf),
}

/// What is now.
///
/// # Errors
///
/// Nobody answers, or the daemon refuses.
pub async fn get_status(socket: &Path) -> Result<Status, ClientError> {
    get(socket, "/v1/status").await
}

/// The events that the daemon has kept, from the one after number `since` on.
///
/// # Errors
///
/// As for [`get_status`].
pub async fn get_events(socket: &Path, since: u64) -> Result<Vec<Recorded>, ClientError> {
    get(socket, &format!("/v1/events?since={since}")).await
}

/// The open sessions that meet the conditions.
///
/// # Errors
///
/// As for [`get_status`].
pub async fn get_sessions(socket: &Path, filter: &SessionFilter) -> Result<Vec<SessionStatus>, ClientError> {
    get(socket, &format!("/v1/sessions{}", query(filter))).await
}

/// Resets them. Gives what was done.
///
/// # Errors
///
/// As for [`get_status`].
pub async fn close_sessions(socket: &Path, filter: &SessionFilter) -> Result<String, ClientError> {
    send(socket, &format!("/v1/sessions/close{}", query(filter))).await
}

/// Asks something of a backend. Gives what that means.
///
/// # Errors
///
/// As for [`get_status`]; a name that no backend has, or several, is refused.
pub async fn order(socket: &Path, backend: &str, order: Order) -> Result<String, ClientError> {
    let order = match order {
        Order::Ready => "order=ready".to_owned(),
        Order::Drain => "order=drain".to_owned(),
        Order::Maint => "order=maint".to_owned(),
        Order::Weight(weight) => format!("weight={weight}"),
    };
    send(socket, &format!("/v1/backend?name={}&{order}", percent(backend))).await
}

fn query(filter: &SessionFilter) -> String {
    let SessionFilter { listener, backend, client } = filter;
    let given = [("listener", listener), ("backend", backend), ("client", client)];
    let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let pairs: Vec<_> = given.map(|(name, value)| format!("{name}={}", percent(value))).collect();
    format!("?{}", pairs.join("&"))
}

/// Percent-encoding (RFC 3986 §2.1) of everything that is not unreserved.
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// Metrics in the format of Prometheus.
///
/// # Errors
///
/// As for [`get_status`].
pub async fn get_metrics(socket: &Path) -> Result<String, ClientError> {
    let answer = in_time(socket, request(socket, Method::GET, "/metrics")).await?;
    let bytes = in_time(socket, whole(socket, answer)).await?;
    String::from_utf8(bytes).map_err(|error| odd(socket, &error))
}

/// Asks for a reload. Gives what was done.
///
/// # Errors
///
/// As for [`get_status`]; a configuration that is not valid is refused with its problems.
pub async fn reload(socket: &Path) -> Result<String, ClientError> {
    send(socket, "/v1/reload").await
}

/// Asks what a reload would do; nothing changes.
///
/// # Errors
///
/// As for [`reload`].
pub async fn plan(socket: &Path) -> Result<String, ClientError> {
    let done: Done = get(socket, "/v1/plan").await?;
    Ok(done.message)
}

/// Asks the daemon to stop.
///
/// # Errors
///
/// As for [`get_status`].
pub async fn stop(socket: &Path) -> Result<String, ClientError> {
    send(socket, "/v1/stop").await
}

/// The events after number `since`, and then every new one as it happens.
///
/// # Errors
///
/// As for [`get_status`].
pub async fn follow_events(socket: &Path, since: u64) -> Result<Events, ClientError> {
    let path = format!("/v1/events?since={since}&follow=true");
    let answer = in_time(socket, request(socket, Method::GET, &path)).await?;
    Ok(Events { socket: socket.to_owned(), answer, buffer: Vec::new() })
}

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    socket: PathBuf,
    answer: Response,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event; waits for it. `None`: the daemon has stopped.
    ///
    /// # Errors
    ///
    /// What came is no event.
    pub async fn next(&mut self) -> Result<Option<Recorded>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<_> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(|error| odd(&self.socket, &error));
            }
            match self.answer.chunk().await {
                Ok(Some(data)) => self.buffer.extend_from_slice(&data),
                // A daemon that dies ends the stream without its last chunk.
                Err(_) | Ok(None) => return Ok(None),
            }
        }
    }
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, ClientError> {
    let answer = in_time(socket, request(socket, Method::GET, path)).await?;
    let bytes = in_time(socket, whole(socket, answer)).await?;
    serde_json::from_slice(&bytes).map_err(|error| odd(socket, &error))
}

async fn send(socket: &Path, path: &str) -> Result<String, ClientError> {
    let answer = in_time(socket, request(socket, Method::POST, path)).await?;
    let bytes = in_time(socket, whole(socket, answer)).await?;
    let done: Done = serde_json::from_slice(&bytes).map_err(|error| odd(socket, &error))?;
    Ok(done.message)
}

async fn in_time<T>(
    socket: &Path,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let silent = |_| Err(ClientError::Silent(socket.to_owned()));
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or_else(silent)
}

async fn request(socket: &Path, method: Method, path: &str) -> Result<Response, ClientError> {
    let failed = |error: reqwest::Error| unreachable_socket(socket, error);
    let client = Client::builder().unix_socket(socket).pool_max_idle_per_host(0).build().map_err(failed)?;
    let answer = client.request(method, format!("http://vipd{path}")).send().await.map_err(failed)?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let code = answer.status();
    let bytes = whole(socket, answer).await?;
    match serde_json::from_slice(&bytes) {
        Ok(problem) => Err(ClientError::Refused(problem)),
        Err(_) => Err(odd(socket, &format!("HTTP status {code}"))),
    }
}

async fn whole(socket: &Path, answer: Response) -> Result<Vec<u8>, ClientError> {
    let body = answer.bytes().await;
    body.map(Vec::from).map_err(|error| other(socket, error))
}

fn odd(socket: &Path, detail: &impl ToString) -> ClientError {
    ClientError::Answer { socket: socket.to_owned(), detail: detail.to_string() }
}

fn other(socket: &Path, error: reqwest::Error) -> ClientError {
    ClientError::Io { socket: socket.to_owned(), source: io::Error::other(error) }
}

fn unreachable_socket(path: &Path, error: reqwest::Error) -> ClientError {
    let socket = path.to_owned();
    match refusal(&error).filter(|_| error.is_connect()) {
        Some(io::ErrorKind::NotFound) => ClientError::NoSocket(socket),
        Some(io::ErrorKind::ConnectionRefused) => ClientError::NobodyAnswers(socket),
        Some(io::ErrorKind::PermissionDenied) => {
            let who = owner(path).unwrap_or_else(|| "its directory is closed".to_owned());
            ClientError::Permission { socket, who }
        }
        _ => other(path, error),
    }
}

/// What the kernel said, somewhere behind the error.
fn refusal(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    causes.find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind)
}

/// `mode 0660, owner root, group vipd`.
fn owner(socket: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;

    use nix::unistd::{Gid, Group, Uid, User};
    let found = std::fs::symlink_metadata(socket).ok()?;
    let user = User::from_uid(Uid::from_raw(found.uid())).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(found.gid())).ok().flatten();
    Some(format!(
        "mode {:04o}, owner {}, group {}",
        found.mode() & 0o7777,
        user.map_or_else(|| found.uid().to_string(), |user| user.name),
        group.map_or_else(|| found.gid().to_string(), |group| group.name)
    ))
}
