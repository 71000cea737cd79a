//! HTTP and HTTPS probes over one kept connection.
//!
//! No proxies, no redirects; of a head at most 64 KiB, of a body 64 KiB, for a digest 16 MiB. The address comes from
//! the target alone; what the server is called (SNI, certificate, `Host`) is apart from it.

mod client;

use std::net::IpAddr;
use std::time::Duration;

use config::ready::{Dial, HttpProbe, HttpSubject};
use hyper::body::Bytes;

pub(super) use self::client::{Answer, HttpClient, Question};
use super::dial::Limit;
use super::matching::Matcher;
use super::schedule::{BoxFuture, Outcome, Probing};

/// More of a body is not read, and its connection is given up.
pub(super) const BODY_LIMIT: usize = 64 * 1024;
/// The same where a digest is wanted.
const DIGEST_LIMIT: usize = 16 * 1024 * 1024;

/// Asks for one path after another and judges the answers.
#[derive(Debug)]
pub(super) struct HttpCheck {
    client: HttpClient,
    requests: Vec<Judged>,
}

/// A request, and what its answer must be.
#[derive(Debug)]
struct Judged {
    question: Question,
    status: Vec<(u16, u16)>,
    expect: Vec<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    of: HttpSubject,
    is: Option<Matcher>,
    absent: bool,
}

impl HttpCheck {
    /// # Errors
    /// An expression is wrong, which the configuration does not let through.
    pub(super) fn new(probe: &HttpProbe, dial: &Dial, vips: &[IpAddr]) -> Result<Self, String> {
        let client = HttpClient::new(&probe.target, dial, probe.tls.as_ref(), &probe.credentials, vips);
        let requests = probe.requests.iter().map(|request| {
            let expect = request.expect.iter().map(|expect| {
                let is = expect.is.as_ref().map(Matcher::new).transpose()?;
                Ok(Wanted { of: expect.of.clone(), is, absent: expect.absent })
            });
            let expect = expect.collect::<Result<Vec<_>, String>>()?;
            let is_digest = |wanted: &Wanted| wanted.is.as_ref().is_some_and(Matcher::is_digest);
            let question = Question {
                method: request.method.clone(),
                path: request.path.clone(),
                version: request.version,
                host_header: request.host_header.clone(),
                headers: request.headers.clone(),
                body: Bytes::from(request.body.clone().unwrap_or_default().0),
                limit: if expect.iter().any(is_digest) { DIGEST_LIMIT } else { BODY_LIMIT },
            };
            Ok(Judged { question, status: request.status.clone(), expect })
        });
        Ok(Self { client, requests: requests.collect::<Result<Vec<_>, String>>()? })
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let limit = Limit::new(timeout);
        let several = self.requests.len() > 1;
        let mut said = Vec::new();
        for request in &self.requests {
            let judged = match self.client.ask(&request.question, limit).await {
                Ok(answer) => request.judge(&answer),
                Err(error) => Err(error),
            };
            match judged {
                Ok(detail) => said.push(detail),
                Err(detail) if several => {
                    return self.outcome(Err(format!("{}: {detail}", request.question.path)));
                }
                Err(detail) => return self.outcome(Err(detail)),
            }
        }
        self.outcome(Ok(said.join(", ")))
    }

    fn outcome(&mut self, result: Result<String, String>) -> Outcome {
        Outcome { findings: self.client.findings(), ..Outcome::from(result) }
    }
}

impl Judged {
    fn judge(&self, answer: &Answer) -> Result<String, String> {
        let status = answer.status;
        let in_range = |(first, last): &(u16, u16)| (*first..=*last).contains(&status);
        if !self.status.is_empty() && !self.status.iter().any(in_range) {
            return Err(format!("status {status}, expected {}", ranges(&self.status)));
        }
        match self.expect.iter().find_map(|wanted| wanted.complaint(answer)) {
            Some(complaint) => Err(format!("status {status}, but {complaint}")),
            None => Ok(format!("status {status}")),
        }
    }
}

impl Wanted {
    fn complaint(&self, answer: &Answer) -> Option<String> {
        let HttpSubject::Header(name) = &self.of else {
            let is = self.is.as_ref()?;
            if is.is_digest() && answer.is_cut {
                return Some("the body is longer than 16 MiB".to_owned());
            }
            return is.complaint(&answer.body).map(|complaint| format!("the body {complaint}"));
        };
        let values: Vec<&[u8]> = answer.headers.get_all(name).iter().map(|value| value.as_bytes()).collect();
        match (&self.is, self.absent) {
            (_, true) if values.is_empty() => None,
            (_, true) => Some(format!("there is a header {name}")),
            (None, false) if values.is_empty() => Some(format!("there is no header {name}")),
            (None, false) => None,
            (Some(is), false) => {
                let complaints: Vec<Option<String>> =
                    values.iter().map(|value| is.complaint(value)).collect();
                // One header of the name is enough; with `negate` none may have it.
                let good = if is.negates() {
                    complaints.iter().all(Option::is_none)
                } else {
                    complaints.iter().any(Option::is_none)
                };
                let first = complaints.into_iter().flatten().next();
                let first = first.map(|complaint| format!("its header {name} {complaint}"));
                (!good).then(|| first.unwrap_or_else(|| format!("there is no header {name}")))
            }
        }
    }
}

impl Probing for HttpCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }

    fn stop(&mut self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.client.close(grace))
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

#[cfg(test)]
pub(super) mod tests;
