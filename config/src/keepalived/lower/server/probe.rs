//! A checker with everything it inherits becomes a check.

use std::time::Duration;

use crate::diagnostic::Located;
use crate::model;
use crate::ready::{
    Bytes, Credentials, Dial, Dialogue, DnsProbe, Expect, FileExpect, HttpExpect, HttpProbe, HttpRequest,
    HttpSubject, HttpVersion, Matching, Pace, Probe, Talk, Target, Tls, UdpProbe,
};

use super::super::Lower;
use super::checker::{Checker, Checking, Datagram};
use super::url::{Url, Version, Web};
use super::{CONNECT_TIMEOUT, DELAY_LOOP, Real, Service};

/// Said to mail servers that are checked.
const SMTP_NAME: &str = "smtpchecker.keepalived.org";
/// How HTTP_GET names itself.
const USER_AGENT: &str = "KeepAliveClient";
/// Answers to UDP_CHECK that are longer fail.
const MOST_REPLY: u16 = 255;

impl Lower<'_> {
    /// Adds the checks of a real server to the model, and gives their names.
    pub(super) fn checks_of(
        &mut self,
        service: &Service,
        real: &Real,
        listener: &str,
        backend: &str,
    ) -> Vec<Located<String>> {
        let mut names = Vec::new();
        for (number, checker) in (1..).zip(&real.checkers) {
            let end = if number == 1 { String::new() } else { format!("#{number}") };
            let mut name = format!("{listener}/{backend}{end}");
            while !self.checks.insert(name.clone()) {
                name.push('_');
            }
            let name = Located::new(name, checker.at.clone());
            self.model.checks.push(check(name.clone(), service, real, checker, &self.ssl_credentials));
            names.push(name);
        }
        names
    }
}

fn check(
    name: Located<String>,
    service: &Service,
    real: &Real,
    checker: &Checker,
    credentials: &Credentials,
) -> model::Check {
    let timing = checker.timing.or(real.timing);
    let delay_loop = timing.delay_loop.unwrap_or(DELAY_LOOP);
    // keepalived 2.2.7: the number of retries, and the seconds between them; DNS waits for its delay_loop.
    let (retry, between) = match checker.probe {
        Checking::Misc { .. } => (0, Duration::from_secs(1)),
        Checking::Dns { .. } => (3, delay_loop),
        Checking::Http(_) => (1, Duration::from_secs(3)),
        _ => (1, Duration::from_secs(1)),
    };
    let follows = matches!(checker.probe, Checking::File { .. } | Checking::Bfd { .. });
    let retry = if follows { 0 } else { timing.retry.unwrap_or(retry) };
    let between = timing.delay_before_retry.unwrap_or(between).max(Duration::from_millis(1));
    let interval = if follows { super::super::objects::FILE_INTERVAL } else { delay_loop };
    let timeout = match &checker.probe {
        Checking::Misc { timeout, .. } => timeout.unwrap_or(delay_loop),
        Checking::File { .. } | Checking::Bfd { .. } => interval,
        _ => timing.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
    };
    let target = Target {
        host: checker.connection.ip.unwrap_or(real.address.ip()).to_string(),
        port: checker.connection.port.unwrap_or(real.address.port()),
    };
    let waits = matches!(checker.probe, Checking::Http(_)) && between > interval;
    model::Check {
        name,
        probe: probe(service, real, checker, target, credentials),
        interval: interval.max(Duration::from_millis(1)),
        timeout: Some(timeout.max(Duration::from_millis(1))),
        rise: 1,
        fall: retry.saturating_add(1),
        first_result_decides: true,
        pace: Pace {
            fast_interval: (retry > 0 && between != interval).then_some(between),
            down_interval: waits.then_some(between),
            first_delay: timing.warmup.filter(|warmup| !warmup.is_zero()),
            exact: false,
        },
        dial: Dial {
            source: checker.connection.source,
            source_port: checker.connection.source_port,
            interface: checker.connection.interface.clone(),
            mark: checker.connection.mark,
            connect_timeout: None,
            send_proxy: None,
        },
        only_if_used: true,
    }
}

fn probe(
    service: &Service,
    real: &Real,
    checker: &Checker,
    target: Target,
    credentials: &Credentials,
) -> Probe {
    match &checker.probe {
        Checking::Tcp => Probe::Tcp { target },
        Checking::Http(web) => {
            let outer =
                web.virtualhost.as_ref().or(real.virtualhost.as_ref()).or(service.virtualhost.as_ref());
            Probe::Http(http(web, outer, target, credentials))
        }
        Checking::Smtp { helo } => Probe::Dialogue(Dialogue {
            target,
            tls: None,
            credentials: Credentials::default(),
            talk: Talk::Smtp { hello: format!("HELO {}", helo.as_deref().unwrap_or(SMTP_NAME)) },
        }),
        Checking::Dns { kind, name } => {
            Probe::Dns(DnsProbe { target, name: name.clone().unwrap_or_else(|| ".".to_owned()), kind: *kind })
        }
        Checking::Misc { command, dynamic: false, .. } => Probe::Script(command.clone()),
        Checking::Misc { command, .. } => Probe::WeighingScript(command.clone()),
        Checking::Udp(datagram) => Probe::Udp(udp(datagram, target)),
        Checking::Ping => Probe::Ping { host: target.host },
        Checking::File { path, initial, weight } => {
            Probe::File { path: path.clone(), expect: FileExpect::Weight(*weight), initial: *initial }
        }
        Checking::Bfd { session } => Probe::Bfd { session: session.clone() },
    }
}

fn http(web: &Web, outer: Option<&String>, target: Target, credentials: &Credentials) -> HttpProbe {
    let host = |url: &Url| {
        let written = url.virtualhost.as_ref().or(outer);
        written.cloned().unwrap_or_else(|| target.to_string())
    };
    let first = web.urls.first().map(host);
    let tls = web.ssl.then(|| Tls {
        server_name: web.sni_name.clone().or(first).filter(|_| web.sni),
        insecure: true,
        ..Tls::default()
    });
    let requests = web.urls.iter().map(|url| request(web, url, host(url))).collect();
    let credentials = if web.ssl { credentials.clone() } else { Credentials::default() };
    HttpProbe { target, tls, credentials, requests }
}

fn request(web: &Web, url: &Url, host: String) -> HttpRequest {
    let mut headers = vec![("User-Agent".to_owned(), USER_AGENT.to_owned())];
    if web.version != Version::V10 {
        headers.push(("Connection".to_owned(), "close".to_owned()));
    }
    let body = |matching, negate| HttpExpect {
        of: HttpSubject::Body,
        is: Some(Expect { matching, negate }),
        absent: false,
    };
    let digest = url.digest.map(|digest| body(Matching::Md5(digest), false));
    let regex = url.regex.clone().map(|regex| body(Matching::Regex(regex), url.no_match));
    HttpRequest {
        version: if web.version == Version::V11 { HttpVersion::V11 } else { HttpVersion::V10 },
        host_header: Some(host),
        headers,
        status: if url.status.is_empty() { vec![(200, 299)] } else { url.status.clone() },
        expect: digest.into_iter().chain(regex).collect(),
        ..HttpRequest::get(url.path.clone())
    }
}

fn udp(datagram: &Datagram, target: Target) -> UdpProbe {
    let exact = datagram.reply.iter().all(|(_, any)| *any == 0);
    let octets = || datagram.reply.iter().map(|(octet, _)| *octet).collect::<Vec<_>>();
    let matching = match datagram.reply.is_empty() {
        true => None,
        false if exact => Some(Matching::Starts(Bytes(octets()))),
        false => Some(Matching::Regex(pattern(&datagram.reply))),
    };
    let limited = !datagram.reply.is_empty();
    UdpProbe {
        target,
        payload: Bytes(datagram.payload.clone()),
        require_reply: datagram.require_reply,
        // keepalived looks at the length only where it looks at the octets.
        min_reply: datagram.min_reply.filter(|least| limited && *least > 0),
        max_reply: limited.then(|| datagram.max_reply.unwrap_or(MOST_REPLY)),
        expect: matching.map(|matching| Expect { matching, negate: false }),
    }
}

/// An expression for octets of which some digits may be anything.
fn pattern(reply: &[(u8, u8)]) -> String {
    let one = |(octet, any): &(u8, u8)| {
        let fits = (0..=u8::MAX).filter(|c| (c ^ octet) & !any == 0);
        let all: String = fits.map(|c| format!(r"\x{c:02x}")).collect();
        if *any == u8::MAX { r"[\x00-\xff]".to_owned() } else { format!("[{all}]") }
    };
    format!("^{}", reply.iter().map(one).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_that_may_be_anything_are_an_expression() {
        let regex = Matching::regex(&pattern(&[(0x41, 0), (0x40, 0x0f), (0, 0xff)])).unwrap();
        assert!(regex.is_match(b"A\x4f\xff and more"));
        assert!(!regex.is_match(b"A\x5f\xff") && !regex.is_match(b"B\x4f\xff"));
    }
}
