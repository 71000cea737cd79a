//! Questions and answers over one connection that is kept as long as the server, its addresses and our files stay
//! what they are.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use config::ready::{Credentials, Dial, HttpVersion, Target, Tls};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri, Version};
use hyper_util::rt::TokioIo;

use crate::check::Spoken;
use crate::check::blocking::Blocking;
use crate::check::dial::{Dialer, Limit, Wire};
use crate::check::tls::{self, Secure};

/// Most of a head that is read.
const HEAD_LIMIT: usize = 64 * 1024;
/// How long a connection that is not needed any more may take to end in order.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug)]
pub(in crate::check) struct Question {
    pub(in crate::check) method: String,
    pub(in crate::check) path: String,
    pub(in crate::check) version: HttpVersion,
    pub(in crate::check) host_header: Option<String>,
    pub(in crate::check) headers: Vec<(String, String)>,
    pub(in crate::check) body: Bytes,
    /// Most of the answer's body that is read.
    pub(in crate::check) limit: usize,
}

impl Question {
    /// `GET`, version 1.1.
    pub(in crate::check) fn get(path: String) -> Self {
        Self {
            method: "GET".to_owned(),
            path,
            version: HttpVersion::V11,
            host_header: None,
            headers: Vec::new(),
            body: Bytes::new(),
            limit: super::BODY_LIMIT,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub(in crate::check) struct Answer {
    pub(in crate::check) status: u16,
    pub(in crate::check) headers: HeaderMap,
    /// At most as much as was asked for.
    pub(in crate::check) body: Vec<u8>,
    /// There is more of it.
    pub(in crate::check) is_cut: bool,
}

/// Asks one server.
#[derive(Debug)]
pub(in crate::check) struct HttpClient {
    dialer: Dialer,
    secure: Option<Secure>,
    token_file: Option<PathBuf>,
    token: Blocking<Result<HeaderValue, String>>,
    kept: Option<Kept>,
}

/// A connection that is polled only while somebody asks: it costs nothing between two runs.
struct Kept {
    sender: SendRequest<Full<Bytes>>,
    /// `None`: it has ended.
    connection: Option<Connection>,
    address: SocketAddr,
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// Why there was no answer.
enum Trouble {
    /// The server closed a kept connection, maybe before it saw the question.
    ClosedEarly(String),
    Other(String),
}

impl HttpClient {
    pub(in crate::check) fn new(
        target: &Target,
        dial: &Dial,
        tls: Option<&Tls>,
        credentials: &Credentials,
        vips: &[IpAddr],
    ) -> Self {
        Self {
            dialer: Dialer::new(target, dial),
            secure: tls.map(|tls| Secure::new(tls, credentials, Some("http/1.1"), vips)),
            token_file: credentials.bearer_token_file.clone(),
            token: Blocking::default(),
            kept: None,
        }
    }

    /// What was found about the certificate, after each handshake.
    pub(in crate::check) fn findings(&mut self) -> Option<Vec<String>> {
        self.secure.as_mut().and_then(Secure::findings)
    }

    /// One question, over by the limit.
    ///
    /// # Errors
    /// Why there is no answer, fit for the middle of a sentence.
    pub(in crate::check) async fn ask(
        &mut self,
        question: &Question,
        limit: Limit,
    ) -> Result<Answer, String> {
        let token = self.read_token(limit).await?;
        let is_refreshed = match &mut self.secure {
            Some(secure) => secure.refresh(limit).await?,
            None => false,
        };
        let addresses = self.dialer.addresses(limit).await?;
        if self.kept.as_ref().is_some_and(|kept| is_refreshed || !addresses.contains(&kept.address)) {
            self.give_up();
        }
        let was_kept = self.kept.is_some();
        match self.ask_once(question, token.as_ref(), &addresses, limit).await {
            Ok(answer) => Ok(answer),
            Err(Trouble::ClosedEarly(_)) if was_kept => {
                self.give_up();
                match self.ask_once(question, token.as_ref(), &addresses, limit).await {
                    Ok(answer) => Ok(answer),
                    Err(Trouble::ClosedEarly(error) | Trouble::Other(error)) => Err(error),
                }
            }
            Err(Trouble::ClosedEarly(error) | Trouble::Other(error)) => Err(error),
        }
    }

    async fn ask_once(
        &mut self,
        question: &Question,
        token: Option<&HeaderValue>,
        addresses: &[SocketAddr],
        limit: Limit,
    ) -> Result<Answer, Trouble> {
        let request = self.build(question, token).map_err(Trouble::Other)?;
        // Whatever goes wrong from here on, the connection is not used again.
        let mut kept = Held(match self.kept.take() {
            Some(kept) => Some(kept),
            None => Some(self.connect(addresses, limit).await.map_err(Trouble::Other)?),
        });
        let Some(open) = &mut kept.0 else { return Err(Trouble::Other("not connected".to_owned())) };
        let response = open.sender.send_request(request);
        let response = limit
            .hold(drive(&mut open.connection, response), |time| format!("no answer after {time}"))
            .await
            .map_err(Trouble::Other)?
            .map_err(|error| trouble(&error))?;
        let (head, body) = response.into_parts();
        let rest = read(&mut open.connection, body, question.limit);
        let rest = limit.hold(rest, |time| format!("the answer was not complete after {time}")).await;
        let (body, is_cut) = rest.map_err(Trouble::Other)?.map_err(|error| trouble(&error))?;
        // Known once the connection has seen the end of the answer.
        let is_usable = !is_cut && drive(&mut open.connection, open.sender.ready()).await.is_ok();
        if is_usable && open.connection.is_some() {
            self.kept = kept.0.take();
        }
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body, is_cut })
    }

    async fn connect(&mut self, addresses: &[SocketAddr], limit: Limit) -> Result<Kept, String> {
        let stream = self.dialer.connect_to(addresses, limit).await?;
        let address = stream.peer_addr().map_err(|error| Spoken(&error).to_string())?;
        let wire = match &mut self.secure {
            Some(secure) => secure.handshake(stream, self.dialer.target(), limit).await?,
            None => Wire::Plain(stream),
        };
        let mut builder = Builder::new();
        builder.max_buf_size(HEAD_LIMIT);
        let (sender, connection) =
            builder.handshake(TokioIo::new(wire)).await.map_err(|error| said(&error))?;
        Ok(Kept { sender, connection: Some(Box::pin(connection)), address })
    }

    fn give_up(&mut self) {
        drop(Held(self.kept.take()));
    }

    /// Ends the kept connection in order.
    pub(in crate::check) async fn close(&mut self, grace: Duration) {
        if let Some(Kept { sender, connection: Some(connection), .. }) = self.kept.take() {
            drop(sender);
            let _ = tokio::time::timeout(grace, connection).await;
        }
    }

    async fn read_token(&mut self, limit: Limit) -> Result<Option<HeaderValue>, String> {
        let Some(file) = self.token_file.clone() else { return Ok(None) };
        let read = self.token.ask(move || {
            let shown = file.display();
            let token =
                std::fs::read_to_string(&file).map_err(|error| format!("{shown}: {}", Spoken(&error)))?;
            let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                .map_err(|_| format!("{shown} holds no token"))?;
            token.set_sensitive(true);
            Ok(token)
        });
        let token = limit.hold(read, |time| format!("token not read after {time}")).await?;
        token.map_err(|error| error.to_string())?.map(Some)
    }

    fn build(
        &self,
        question: &Question,
        token: Option<&HeaderValue>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let Target { host, port } = self.dialer.target();
        let path: Uri =
            question.path.parse().map_err(|error| format!("{} is not a path: {error}", question.path))?;
        let mut request = Request::new(Full::new(question.body.clone()));
        *request.method_mut() =
            Method::from_bytes(question.method.as_bytes()).map_err(|error| error.to_string())?;
        *request.uri_mut() = path;
        let is_old = question.version == HttpVersion::V10;
        *request.version_mut() = if is_old { Version::HTTP_10 } else { Version::HTTP_11 };
        let usual_port = if self.secure.is_some() { 443 } else { 80 };
        let host_header = match &question.host_header {
            Some(header) => Some(header.clone()),
            None if is_old => None,
            None if *port != usual_port => Some(self.dialer.target().to_string()),
            None if host.contains(':') => Some(format!("[{host}]")),
            None => Some(host.clone()),
        };
        let headers = request.headers_mut();
        if let Some(host) = host_header {
            headers.insert(HOST, HeaderValue::from_str(&host).map_err(|error| error.to_string())?);
        }
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("vipd/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in &question.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| error.to_string())?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|error| error.to_string())?;
            if name == USER_AGENT || name == ACCEPT || name == HOST {
                headers.insert(name, value);
            } else {
                headers.append(name, value);
            }
        }
        if let Some(token) = token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        Ok(request)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("address", &self.address).finish_non_exhaustive()
    }
}

/// A connection that ends in order when nobody takes it back, whenever that is.
struct Held(Option<Kept>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(Kept { sender, connection: Some(connection), .. }) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            drop(sender);
            runtime.spawn(async move {
                let _ = tokio::time::timeout(CLOSE_LIMIT, connection).await;
            });
        }
    }
}

/// The future's outcome, with the connection going on meanwhile.
async fn drive<T>(connection: &mut Option<Connection>, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Some(running) = connection
            && running.as_mut().poll(context).is_ready()
        {
            // What it died of, the future says.
            *connection = None;
        }
        match future.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(outcome),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The body, at most `limit` of it, and whether there is more.
async fn read(
    connection: &mut Option<Connection>,
    mut body: hyper::body::Incoming,
    limit: usize,
) -> hyper::Result<(Vec<u8>, bool)> {
    let mut read = Vec::new();
    while let Some(frame) = drive(connection, body.frame()).await {
        let Ok(chunk) = frame?.into_data() else { continue };
        let room = limit - read.len();
        read.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            return Ok((read, true));
        }
    }
    Ok((read, false))
}

fn trouble(error: &hyper::Error) -> Trouble {
    let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    let is_reset = io.is_some_and(|error| {
        matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
    });
    let is_early = error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset;
    let said = failure(error);
    if is_early { Trouble::ClosedEarly(said) } else { Trouble::Other(said) }
}

/// Why there is no answer.
fn failure(error: &hyper::Error) -> String {
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return tls::failure(error);
    }
    if error.is_parse_too_large() {
        return format!("the head of the answer is larger than {} KiB", HEAD_LIMIT / 1024);
    }
    if error.is_parse() {
        return format!("the answer is not HTTP: {error}");
    }
    let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    match io {
        Some(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            "the server reset the connection".to_owned()
        }
        Some(error) if error.kind() != io::ErrorKind::UnexpectedEof => Spoken(error).to_string(),
        _ if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => {
            "the server closed the connection before its answer was complete".to_owned()
        }
        _ => said(error),
    }
}

/// The innermost cause in its own words.
fn said(error: &hyper::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The error and what is behind it, also inside of `io::Error`s, which do not show what they carry.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn std::error::Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}
