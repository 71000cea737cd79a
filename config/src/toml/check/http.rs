//! `http` and `https`.

use toml::Spanned;
use toml::de::DeValue;

use crate::ready::{
    Bytes, Expect, HttpExpect, HttpProbe, HttpRequest, HttpSubject, HttpVersion, Matching, Probe, Target,
};
use crate::toml::Door;
use crate::toml::table::Table;

const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];

impl Door<'_> {
    pub(super) fn http(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        tls: bool,
        backend: Option<&Target>,
    ) -> Option<Probe> {
        let mut table = self.as_table(value)?;
        let target = self.target(&mut table, backend, None);
        let tls = tls.then(|| self.tls(&mut table));
        let credentials = self.credentials(&mut table);
        let mut requests = vec![self.http_request(&mut table)];
        for value in self.list(&mut table, "then") {
            let Some(mut next) = self.as_table(value) else { continue };
            requests.push(self.http_request(&mut next));
            self.finish(next);
        }
        self.finish(table);
        Some(Probe::Http(HttpProbe { target: target?, tls, credentials, requests }))
    }

    fn http_request(&mut self, table: &mut Table<'_>) -> HttpRequest {
        let path = self.request_path(table, "/");
        let methods = METHODS.map(|method| (method, method));
        let method = self.one_of(table, "method", &methods).unwrap_or("GET").to_owned();
        let versions = [("1.0", HttpVersion::V10), ("1.1", HttpVersion::V11)];
        let version = self.one_of(table, "version", &versions).unwrap_or_default();
        let host_header = self.text(table, "host");
        if let Some(host) = host_header.as_ref().filter(|host| !is_header_value(&host.value)) {
            self.refuse(&host.at, "this cannot be sent in a header", "printable characters");
        }
        let headers = self.headers(table);
        let body = self.bytes(table, "body", "body_hex");
        let mut status = Vec::new();
        let any = self.value(table, "status").is_some_and(|value| value.get_ref().as_str() == Some("any"));
        if !any {
            let values = self.list(table, "status");
            status.extend(values.into_iter().filter_map(|value| self.status(value)));
            if status.is_empty() {
                status.push((200, 299));
            }
        }
        let contains = self.text(table, "body_contains").map(|text| HttpExpect {
            of: HttpSubject::Body,
            is: Some(Expect {
                matching: Matching::Contains(Bytes::from(text.value.as_str())),
                negate: false,
            }),
            absent: false,
        });
        let values = self.list(table, "expect");
        let more = values.into_iter().filter_map(|value| self.http_expect(value));
        let expect = contains.into_iter().chain(more).collect();
        HttpRequest {
            method,
            path,
            version,
            host_header: host_header.map(|host| host.value),
            headers,
            body,
            status,
            expect,
        }
    }

    /// `{ NAME = "VALUE" }`, or `[["NAME", "VALUE"], …]` where the order matters or a name comes twice.
    fn headers(&mut self, table: &mut Table<'_>) -> Vec<(String, String)> {
        let Some(value) = self.value(table, "headers") else { return Vec::new() };
        let expected = "a table, { NAME = \"VALUE\" }, or a list of [\"NAME\", \"VALUE\"]";
        let mut headers = Vec::new();
        match value.get_ref() {
            DeValue::Table(entries) => {
                for (name, value) in entries {
                    let text = self.as_text(value, "a string");
                    headers.extend(text.map(|text| (name.get_ref().to_string(), text.value, text.at)));
                }
            }
            DeValue::Array(pairs) => {
                for pair in pairs {
                    let at = self.at(pair);
                    match pair.get_ref().as_array().map(|pair| pair.iter().collect::<Vec<_>>()).as_deref() {
                        Some([name, value]) => {
                            let name = self.as_text(name, "the name of a header");
                            let value = self.as_text(value, "a string");
                            headers
                                .extend(name.zip(value).map(|(name, value)| (name.value, value.value, at)));
                        }
                        _ => self.refuse(&at, "no header", expected),
                    }
                }
            }
            _ => {
                let at = self.at(value);
                self.refuse(&at, "no headers", expected);
            }
        }
        headers.retain(|(name, value, at)| {
            let fits = is_header_name(name) && is_header_value(value);
            if !fits {
                self.refuse(
                    at,
                    "this cannot be sent as a header",
                    "a name of letters, digits and `-`, and a value on one line",
                );
            }
            fits
        });
        headers.into_iter().map(|(name, value, _)| (name, value)).collect()
    }

    /// `200` or `"200-299"`.
    fn status(&mut self, value: &Spanned<DeValue<'_>>) -> Option<(u16, u16)> {
        let expected = "a status from 100 to 999, a range such as \"200-299\", or \"any\"";
        if let DeValue::Integer(_) = value.get_ref() {
            return self.as_integer(value, 100..=999).map(|s| (s.value, s.value));
        }
        let text = self.as_text(value, expected)?;
        let range = text
            .value
            .split_once('-')
            .and_then(|(low, high)| Some((low.trim().parse().ok()?, high.trim().parse().ok()?)));
        match range {
            Some((low, high)) if 100 <= low && low <= high && high <= 999 => Some((low, high)),
            _ => {
                self.refuse(&text.at, format!("\"{}\" is not a range of statuses", text.value), expected);
                None
            }
        }
    }

    /// `{ header, … }` or of the body.
    fn http_expect(&mut self, value: &Spanned<DeValue<'_>>) -> Option<HttpExpect> {
        let mut table = self.as_table(value)?;
        let of = match self.text(&mut table, "header") {
            Some(header) if is_header_name(&header.value) => HttpSubject::Header(header.value),
            Some(header) => {
                self.refuse(&header.at, "no name of a header", "letters, digits and `-`");
                HttpSubject::Body
            }
            None => HttpSubject::Body,
        };
        let absent = self.on(&mut table, "absent");
        let is = self.expect(&mut table, of == HttpSubject::Body);
        if (absent || of == HttpSubject::Body) && is.is_none() == (of == HttpSubject::Body) {
            let message = "this does not say what the answer must hold";
            self.refuse(
                &table.at,
                message,
                "`header`, or one of `contains`, `equals`, `starts`, `ends`, `regex`",
            );
        }
        self.finish(table);
        Some(HttpExpect { of, is, absent })
    }
}

fn is_header_name(name: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !name.is_empty() && name.chars().all(token)
}

fn is_header_value(value: &str) -> bool {
    value.chars().all(|c| c == '\t' || !c.is_control())
}
