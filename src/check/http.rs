//! HTTP and HTTPS probes over one kept connection.
//!
//! No proxies, no redirects, at most 64 KiB of the answer. The address comes from the target alone; what
//! the server is called (SNI, certificate, `Host`) is apart from it.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::ready::{Credentials, HttpProbe, Matching, Target, Tls};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HOST, HeaderValue};
use reqwest::{Method, Url};

use super::Spoken;
use super::blocking::Blocking;
use super::schedule::{BoxFuture, Outcome, Probing};
use super::tcp::{self, Resolver};
use super::tls::{self, Stamps};

/// More of a body is not read, and its connection is given up.
const BODY_LIMIT: usize = 64 * 1024;

/// Asks for one path and judges status and body.
#[derive(Debug)]
pub(super) struct HttpCheck {
    client: HttpClient,
    status: Vec<(u16, u16)>,
    body_contains: Option<Vec<u8>>,
}

impl HttpCheck {
    pub(super) fn new(probe: &HttpProbe) -> Self {
        let request = &probe.requests[0];
        let client = HttpClient::new(Request {
            target: probe.target.clone(),
            tls: probe.tls.clone(),
            method: request.method.clone(),
            path: request.path.clone(),
            host_header: request.host_header.clone(),
            credentials: probe.credentials.clone(),
        });
        let body_contains = request.expect.iter().find_map(|expect| match &expect.is.as_ref()?.matching {
            Matching::Contains(octets) => Some(octets.0.clone()),
            _ => None,
        });
        Self { client, status: request.status.clone(), body_contains }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let answer = match self.client.ask(timeout).await {
            Ok(answer) => answer,
            Err(detail) => return Outcome::failure(detail),
        };
        let status = answer.status;
        if !self.status.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
            return Outcome::failure(format!("status {status}, expected {}", ranges(&self.status)));
        }
        match &self.body_contains {
            Some(text) if !super::file::contains(&answer.body, text) => {
                let text = String::from_utf8_lossy(text);
                Outcome::failure(format!("status {status}, but the body does not contain {text:?}"))
            }
            _ => Outcome::success(format!("status {status}")),
        }
    }
}

impl Probing for HttpCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }
}

/// `200-299, 401`.
fn ranges(ranges: &[(u16, u16)]) -> String {
    let words: Vec<String> = ranges
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    words.join(", ")
}

/// What to ask, and whom.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host_header: Option<String>,
    pub(super) credentials: Credentials,
}

/// An answer, its body cut at 64 KiB.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Asks the same thing again and again over one connection.
#[derive(Debug)]
pub(super) struct HttpClient {
    request: Request,
    resolver: Resolver,
    files: Blocking<Result<Files, String>>,
    kept: Option<Kept>,
    /// What is being waited for, for the message when the time is over.
    waiting_for: Waiting,
}

#[derive(Clone, Copy, Debug)]
enum Waiting {
    Files,
    Name,
    Answer,
    Body,
}

/// A client with its connection, and what it was made from.
#[derive(Debug)]
struct Kept {
    client: reqwest::Client,
    stamps: Stamps,
    addresses: Vec<SocketAddr>,
    timeout: Duration,
}

/// What is read from files before each run.
#[derive(Debug)]
struct Files {
    stamps: Stamps,
    token: Option<HeaderValue>,
    /// Only when the files have changed.
    config: Option<rustls::ClientConfig>,
}

impl HttpClient {
    pub(super) fn new(request: Request) -> Self {
        let resolver = Resolver::new(&request.target);
        Self { request, resolver, files: Blocking::default(), kept: None, waiting_for: Waiting::Files }
    }

    /// One request, over by `timeout`.
    ///
    /// # Errors
    /// Why there is no answer, fit for the middle of a sentence.
    pub(super) async fn ask(&mut self, timeout: Duration) -> Result<Answer, String> {
        match tokio::time::timeout(timeout, self.exchange(timeout)).await {
            Ok(answer) => answer,
            Err(_) => {
                let time = Spoken(timeout);
                Err(match self.waiting_for {
                    Waiting::Files => format!("certificates and token not read after {time}"),
                    Waiting::Name => tcp::unresolved(&self.request.target, timeout),
                    Waiting::Answer => format!("no answer after {time}"),
                    Waiting::Body => format!("the answer was not complete after {time}"),
                })
            }
        }
    }

    async fn exchange(&mut self, timeout: Duration) -> Result<Answer, String> {
        self.waiting_for = Waiting::Files;
        let token = self.read_files(timeout).await?;
        let request = self.build(token)?;
        self.waiting_for = Waiting::Answer;
        let client = self.kept.as_ref().map(|kept| kept.client.clone()).ok_or("not connected")?;
        let again = request.try_clone();
        let mut response = match (client.execute(request).await, again) {
            // The server closed the kept connection while we were asking.
            (Err(error), Some(again)) if closed_early(&error) => client.execute(again).await,
            (response, _) => response,
        }
        .map_err(|error| failure(&error, &self.request, timeout))?;
        self.waiting_for = Waiting::Body;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| failure(&error, &self.request, timeout))?
        {
            let room = BODY_LIMIT - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if chunk.len() >= room {
                break;
            }
        }
        Ok(Answer { status, body })
    }

    /// Makes the client anew if a file or the target's addresses have changed; gives the token.
    async fn read_files(&mut self, timeout: Duration) -> Result<Option<HeaderValue>, String> {
        let Request { tls, credentials, .. } = self.request.clone();
        let stamps = self.kept.as_ref().map(|kept| kept.stamps.clone());
        let read = self.files.ask(move || Files::read(tls.as_ref(), &credentials, stamps.as_ref()));
        let files = read.await.map_err(|error| error.to_string())??;
        self.waiting_for = Waiting::Name;
        let mut addresses = self.resolver.lookup().await?;
        addresses.sort_unstable();
        let current = |kept: &Kept| {
            kept.stamps == files.stamps && kept.addresses == addresses && kept.timeout == timeout
        };
        if !self.kept.as_ref().is_some_and(current) {
            let config = match files.config {
                Some(config) => config,
                // The files are as they were, but the addresses are not.
                None => tls::client_config(self.request.tls.as_ref(), &self.request.credentials)?,
            };
            let client = client(config, &addresses, timeout)?;
            self.kept = Some(Kept { client, stamps: files.stamps, addresses, timeout });
        }
        Ok(files.token)
    }

    fn build(&self, token: Option<HeaderValue>) -> Result<reqwest::Request, String> {
        let Request { target, tls, method, path, host_header, .. } = &self.request;
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server_name = tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        // A name goes where SNI is taken from; an address is put into the verifier.
        let host = match server_name {
            Some(name) if tls::address(Some(name)).is_none() => name,
            _ => &target.host,
        };
        let authority = Target { host: host.to_owned(), port: target.port };
        let url = Url::parse(&format!("{scheme}://{authority}{path}"))
            .map_err(|error| format!("{scheme}://{authority}{path} is not a URL: {error}"))?;
        let usual_port = if tls.is_some() { 443 } else { 80 };
        let host_header = match host_header {
            Some(header) => header.clone(),
            None if target.port != usual_port => target.to_string(),
            None if target.host.contains(':') => format!("[{}]", target.host),
            None => target.host.clone(),
        };
        let host_header = HeaderValue::from_str(&host_header).map_err(|error| error.to_string())?;
        let mut request = reqwest::Request::new(method, url);
        request.headers_mut().insert(HOST, host_header);
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        Ok(request)
    }
}

impl Files {
    fn read(tls: Option<&Tls>, credentials: &Credentials, known: Option<&Stamps>) -> Result<Self, String> {
        let stamps = Stamps::of(tls, credentials);
        let config = if known == Some(&stamps) { None } else { Some(tls::client_config(tls, credentials)?) };
        let token = match &credentials.bearer_token_file {
            Some(file) => {
                let shown = file.display();
                let token =
                    std::fs::read_to_string(file).map_err(|error| format!("{shown}: {}", Spoken(&error)))?;
                let mut token = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
                    .map_err(|_| format!("{shown} holds no token"))?;
                token.set_sensitive(true);
                Some(token)
            }
            None => None,
        };
        Ok(Self { stamps, token, config })
    }
}

fn client(
    config: rustls::ClientConfig,
    addresses: &[SocketAddr],
    timeout: Duration,
) -> Result<reqwest::Client, String> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(config)
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .user_agent(concat!("vipd/", env!("CARGO_PKG_VERSION")))
        .pool_max_idle_per_host(1)
        .pool_idle_timeout(None)
        // A little before the whole time is over, so that the message can say what was waited for.
        .connect_timeout(timeout - timeout.min(Duration::from_secs(1)) / 20)
        .dns_resolver(Arc::new(Fixed(Mutex::new(addresses.to_vec()))))
        .build()
        .map_err(|error| said(&error))
}

/// Every name is at the target's addresses.
#[derive(Debug)]
struct Fixed(Mutex<Vec<SocketAddr>>);

impl Resolve for Fixed {
    fn resolve(&self, _name: Name) -> Resolving {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

/// A kept connection that the server had closed before it saw the request.
fn closed_early(error: &reqwest::Error) -> bool {
    !error.is_connect()
        && causes(error).any(|cause| {
            cause.downcast_ref::<hyper::Error>().is_some_and(|error| {
                error.is_incomplete_message() || error.is_canceled() || error.is_closed()
            }) || cause.downcast_ref::<io::Error>().is_some_and(|error| {
                matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
            })
        })
}

/// Why there is no answer.
fn failure(error: &reqwest::Error, request: &Request, timeout: Duration) -> String {
    if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
        return tls::failure(error);
    }
    if error.is_timeout() && error.is_connect() {
        return match request.tls {
            // TCP and TLS together are one connect to reqwest.
            Some(_) => format!("TLS connect timed out after {}", Spoken(timeout)),
            None => format!("connect timed out after {}", Spoken(timeout)),
        };
    }
    let io = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>());
    if error.is_connect() {
        return match io {
            Some(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                "the server closed the connection during the TLS handshake".to_owned()
            }
            Some(error) => tcp::connect_failure(error),
            None => format!("connect failed: {}", said(error)),
        };
    }
    match causes(error).find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
        Some(error) if error.is_parse() => format!("the answer is not HTTP: {error}"),
        Some(error) if error.is_incomplete_message() => {
            "the server closed the connection before its answer was complete".to_owned()
        }
        _ => match io {
            Some(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                "the server reset the connection".to_owned()
            }
            Some(error) => Spoken(error).to_string(),
            None => said(error),
        },
    }
}

/// The innermost cause in its own words.
fn said(error: &reqwest::Error) -> String {
    causes(error).last().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The error and what is behind it, also inside of `io::Error`s, which do not show what they carry.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn Error + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
}

#[cfg(test)]
mod tests;
