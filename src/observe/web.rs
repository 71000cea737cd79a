//! The web page: who holds the addresses, whether anything is wrong, and why.
//!
//! Served for reading on the control socket and, if asked for, on a TCP address. It is made on the workers when
//! somebody asks, at most some times a second for all who look; while nobody does it costs nothing. It loads
//! nothing from elsewhere, sets no cookie, and works without JavaScript. With it the page changes by itself:
//! `GET /live` sends the parts that have changed as they do (Server-Sent Events).

mod html;
mod live;
mod parts;
mod server;
#[cfg(test)]
mod tests;
mod trouble;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use self::html::Html;
pub use self::live::Live;
use self::parts::Picture;
pub use self::server::{Connections, bind, serve};
use super::status::Status;

/// Everything that may be loaded, and from where.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("web/page.css");
const SCRIPT: &str = include_str!("web/page.js");
const ICON: &str = include_str!("web/icon.svg");

/// What the routes need.
#[derive(Clone)]
pub struct Web {
    live: Arc<Live>,
    stopping: watch::Receiver<bool>,
}

/// The page and what belongs to it. To be merged with other routes, or served alone.
pub fn routes<S: Clone + Send + Sync + 'static>(
    live: Arc<Live>,
    stopping: watch::Receiver<bool>,
) -> axum::Router<S> {
    axum::Router::new()
        .route("/", get(page))
        .route("/live", get(follow))
        .route("/page.css", get(|headers: HeaderMap| still(headers, "text/css; charset=utf-8", STYLE)))
        .route("/page.js", get(|headers: HeaderMap| still(headers, "text/javascript; charset=utf-8", SCRIPT)))
        .route("/icon.svg", get(|headers: HeaderMap| still(headers, "image/svg+xml", ICON)))
        .layer(middleware::map_response(guarded))
        .with_state(Web { live, stopping })
}

/// The same for a TCP address: for reading alone, and only under a name of this host.
pub fn on_tcp(live: Arc<Live>, stopping: watch::Receiver<bool>) -> axum::Router {
    routes(live, stopping)
        .fallback(|| async { (StatusCode::NOT_FOUND, "there is only / here\n") })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "this page is for reading: GET and HEAD\n")
        })
        .layer(middleware::from_fn(only_this_host))
        .layer(middleware::map_response(guarded))
}

/// A page elsewhere that has its own name point here (DNS rebinding) would otherwise read it through a browser
/// that may come here.
async fn only_this_host(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    match host {
        Some(host) if is_this_host(host) => next.run(request).await,
        _ => (
            StatusCode::MISDIRECTED_REQUEST,
            "this page is shown only under an address or the name of this host: \
             open http://ADDRESS:PORT/, or have the proxy in front set such a Host header\n",
        )
            .into_response(),
    }
}

/// An address, `localhost`, or the name of this host, with or without port.
pub fn is_this_host(host: &str) -> bool {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let name = match bracketed {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    if name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let Ok(known) = nix::unistd::gethostname() else { return false };
    let known = known.to_string_lossy();
    let short = known.split('.').next().unwrap_or_default();
    [&*known, short].iter().any(|known| !known.is_empty() && name.eq_ignore_ascii_case(known))
}

/// What every answer says to the browser.
async fn guarded(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let default = HeaderValue::from_static("no-store");
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(default);
    response
}

/// What is the same for as long as the program is.
async fn still(headers: HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let tag = concat!("\"", env!("CARGO_PKG_VERSION"), "-");
    let tag = format!("{tag}{:x}\"", live::hash(text));
    let always = [(header::ETAG, tag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| {
        known
            .to_str()
            .is_ok_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag))
    });
    match known {
        true => (StatusCode::NOT_MODIFIED, always).into_response(),
        false => (always, [(header::CONTENT_TYPE, kind)], text).into_response(),
    }
}

async fn page(State(web): State<Web>) -> Response {
    match web.live.picture().await {
        Ok(shown) => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], document(&shown)).into_response(),
        Err(error) => (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::REFRESH, "2")],
            format!("{error}; ask again in a moment; if it stays so, look into the log of the daemon\n"),
        )
            .into_response(),
    }
}

async fn follow(State(web): State<Web>) -> Response {
    let Some(follower) = web.live.follow() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            [(header::RETRY_AFTER, "30")],
            "as many as may look already do; reload the page to see the newest state\n",
        )
            .into_response();
    };
    let stream =
        futures_util::stream::unfold((follower, web.stopping), |(mut follower, mut stopping)| async {
            let text = tokio::select! {
                text = follower.next() => text?,
                _ = stopping.wait_for(|stopping| *stopping) => return None,
            };
            Some((Ok::<_, Infallible>(text), (follower, stopping)))
        });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(stream)).into_response()
}

/// What is shown, and of whom.
#[derive(Debug)]
pub struct Shown {
    picture: Picture,
    /// Of the head: who it is.
    head: String,
    at: SystemTime,
}

impl Shown {
    fn new(status: &Status, history: &[super::history::Recorded], at: SystemTime) -> Self {
        let mut html = Html::default();
        html.put("<strong>", &status.router_id, "</strong> <span>").text(&status.version);
        html.put(", pid ", status.pid, ", up ").ago(at, status.started).raw("</span>");
        for file in &status.configuration {
            html.put(" <code>", file, "</code>");
        }
        Self { picture: Picture::new(status, history, at), head: html.finish().0, at }
    }
}

fn document(shown: &Shown) -> String {
    let mut title = Html::default();
    title.text(&shown.picture.title);
    let title = title.finish().0;
    let (head, main, now) = (&shown.head, shown.picture.whole(), live::millis(shown.at));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\
         <link rel=\"icon\" href=\"icon.svg\"><link rel=\"stylesheet\" href=\"page.css\">\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\
         <script src=\"page.js\" defer></script></head>\
         <body><header class=\"top\"><p class=\"who\">{head}</p>\
         <p id=\"live\" class=\"live\" role=\"status\"><noscript>reloads every 5 s</noscript></p></header>\
         <main id=\"main\" data-now=\"{now}\">{main}</main></body></html>\n"
    )
}
