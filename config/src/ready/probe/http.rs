//! What an HTTP probe asks, and what it expects.

use serde::Serialize;

use super::{Bytes, Credentials, Expect, Target, Tls, is_default};

/// An HTTP probe: requests one after another over one kept connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpProbe {
    /// Where to connect.
    pub target: Target,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// Sent as it is; secrets come from files.
    pub credentials: Credentials,
    /// At least one; all must give what is expected (HAProxy: `http-check send`; keepalived: `url`).
    pub requests: Vec<HttpRequest>,
}

/// One request and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpRequest {
    /// `GET`, `HEAD`, `OPTIONS`, `POST`, `PUT`.
    pub method: String,
    /// With query; starts with `/`, or is `*`.
    pub path: String,
    /// What we say that we speak.
    #[serde(skip_serializing_if = "is_default")]
    pub version: HttpVersion,
    /// `Host` header (keepalived: `virtualhost`). Default: the target's host.
    pub host_header: Option<String>,
    /// Further headers, in this order; a name may come twice.
    #[serde(skip_serializing_if = "is_default")]
    pub headers: Vec<(String, String)>,
    /// Sent behind the headers with its length.
    #[serde(skip_serializing_if = "is_default")]
    pub body: Option<Bytes>,
    /// Statuses that count as success, inclusive ranges. Default 200–299; empty: any.
    pub status: Vec<(u16, u16)>,
    /// All of these too (HAProxy: `http-check expect`; keepalived: `digest`, `regex`).
    #[serde(skip_serializing_if = "is_default")]
    pub expect: Vec<HttpExpect>,
}

impl HttpRequest {
    /// `GET`, version 1.1, and 200–299.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET".to_owned(),
            path: path.into(),
            version: HttpVersion::V11,
            host_header: None,
            headers: Vec::new(),
            body: None,
            status: vec![(200, 299)],
            expect: Vec::new(),
        }
    }
}

/// Version of HTTP in a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum HttpVersion {
    /// HTTP/1.0: no connection is kept, and without `host_header` no `Host` is sent.
    V10,
    /// HTTP/1.1.
    #[default]
    V11,
}

/// What an answer must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpExpect {
    /// What is looked at.
    pub of: HttpSubject,
    /// How. `None`: the header is there (of a body: it is not empty).
    pub is: Option<Expect>,
    /// The header must be absent, where `is` is `None`.
    #[serde(skip_serializing_if = "is_default")]
    pub absent: bool,
}

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum HttpSubject {
    /// A header with this name, upper or lower case; one of several is enough.
    Header(String),
    /// The body: its first 64 KiB, for digests up to 16 MiB.
    Body,
}
