//! kube-apiserver's own health: `/readyz`, `/livez` or `/healthz`, naming the sub-checks that fail.

use std::net::IpAddr;
use std::time::Duration;

use config::ready::{ApiserverProbe, Dial};

use super::dial::Limit;
use super::http::{Answer, HttpClient, Question};
use super::schedule::{BoxFuture, Outcome, Probing};

/// Characters of an unexpected answer that are shown.
const SHOWN: usize = 120;

/// Asks one apiserver.
#[derive(Debug)]
pub(super) struct ApiserverCheck {
    client: HttpClient,
    question: Question,
    /// `readyz`.
    name: String,
}

impl ApiserverCheck {
    pub(super) fn new(probe: &ApiserverProbe, dial: &Dial, vips: &[IpAddr]) -> Self {
        let separator = if probe.path.contains('?') { '&' } else { '?' };
        let question = Question::get(format!("{}{separator}verbose", probe.path));
        let client = HttpClient::new(&probe.target, dial, Some(&probe.tls), &probe.credentials, vips);
        let name = probe.path.trim_start_matches('/').split('?').next().unwrap_or_default().to_owned();
        Self { client, question, name }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let result = match self.client.ask(&self.question, Limit::new(timeout)).await {
            Ok(answer) if answer.status == 200 => Ok(format!("{} 200", self.name)),
            Ok(answer) => Err(explain(&self.name, &answer)),
            Err(detail) => Err(detail),
        };
        Outcome { findings: self.client.findings(), ..Outcome::from(result) }
    }
}

impl Probing for ApiserverCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }

    fn stop(&mut self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.client.close(grace))
    }
}

/// `readyz 500: etcd, poststarthook/x failed`.
fn explain(name: &str, answer: &Answer) -> String {
    let status = answer.status;
    let body = String::from_utf8_lossy(&answer.body);
    let failed: Vec<&str> = body.lines().filter_map(failed_check).collect();
    if !failed.is_empty() {
        return format!("{name} {status}: {} failed", failed.join(", "));
    }
    match status {
        401 => format!("{name} 401: the credentials were not accepted"),
        403 => format!("{name} 403: forbidden, a bearer token or client certificate may be needed"),
        _ => match body.lines().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => {
                let line: String = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
                format!("{name} {status}: {line}")
            }
            None => format!("{name} {status}"),
        },
    }
}

/// The name in `[-]etcd failed: reason withheld`.
fn failed_check(line: &str) -> Option<&str> {
    let name = line.trim().strip_prefix("[-]")?;
    Some(name.split_once(" failed").map_or(name, |(name, _)| name))
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: body.as_bytes().to_vec(), is_cut: false }
    }

    #[test]
    fn failing_sub_checks_are_named() {
        let body = "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n[+]informer-sync ok\n\
                    [-]poststarthook/start-apiextensions-controllers failed: not finished\n\
                    readyz check failed\n";
        assert_eq!(
            explain("readyz", &answer(500, body)),
            "readyz 500: etcd, poststarthook/start-apiextensions-controllers failed"
        );
    }

    #[test]
    fn an_answer_without_sub_checks_is_shown() {
        assert_eq!(
            explain("livez", &answer(503, "\napiserver is shutting down\n")),
            "livez 503: apiserver is shutting down"
        );
        assert_eq!(explain("livez", &answer(500, "")), "livez 500");
        assert_eq!(
            explain("readyz", &answer(403, "{\"kind\":\"Status\"}")),
            "readyz 403: forbidden, a bearer token or client certificate may be needed"
        );
    }
}
