//! etcd's own health: `/health` answers `{"health":"true"}`, and says why when it does not.

use std::net::IpAddr;
use std::time::Duration;

use config::ready::{Dial, EtcdProbe};
use serde_json::Value;

use super::dial::Limit;
use super::http::{Answer, HttpClient, Question};
use super::matching::{line, shown};
use super::schedule::{BoxFuture, Outcome, Probing};

/// Asks one member.
#[derive(Debug)]
pub(super) struct EtcdCheck {
    client: HttpClient,
    question: Question,
}

impl EtcdCheck {
    pub(super) fn new(probe: &EtcdProbe, dial: &Dial, vips: &[IpAddr]) -> Self {
        let client = HttpClient::new(&probe.target, dial, probe.tls.as_ref(), &probe.credentials, vips);
        Self { client, question: Question::get(probe.path.clone()) }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let answer = self.client.ask(&self.question, Limit::new(timeout)).await;
        Outcome {
            findings: self.client.findings(),
            ..Outcome::from(answer.and_then(|answer| judge(&answer)))
        }
    }
}

impl Probing for EtcdCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }

    fn stop(&mut self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(self.client.close(grace))
    }
}

/// etcd 3.0 to 3.6 say `"true"`, etcd 2 says `true`; a member that is not healthy answers 503 and a reason.
fn judge(answer: &Answer) -> Result<String, String> {
    let status = answer.status;
    let said: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let health = said.as_ref().and_then(|said| said.get("health"));
    let Some(health) = health else {
        return Err(match status {
            401 | 403 => format!("health {status}: a client certificate may be needed"),
            _ => format!("health {status}, but not etcd's answer: {}", shown(&answer.body)),
        });
    };
    let is_healthy = health.as_bool() == Some(true) || health.as_str() == Some("true");
    let reason = said.as_ref().and_then(|said| said.get("reason")?.as_str()).unwrap_or_default();
    match (is_healthy, status, line(reason.as_bytes())) {
        (true, 200, _) => Ok("healthy".to_owned()),
        (_, _, reason) if reason.is_empty() => Err(format!("not healthy, status {status}")),
        (_, _, reason) => Err(format!("not healthy: {reason}")),
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    fn judged(status: u16, body: &str) -> Result<String, String> {
        let body = body.as_bytes().to_vec();
        judge(&Answer { status, headers: HeaderMap::new(), body, is_cut: false })
    }

    /// As etcd's `server/etcdserver/api/etcdhttp/health.go` (3.5) writes them; the first is also seen in netns-tests.
    #[test]
    fn health_is_what_the_answer_says() {
        assert_eq!(judged(200, r#"{"health":"true","reason":""}"#), Ok("healthy".to_owned()));
        assert_eq!(judged(200, r#"{"health": true}"#), Ok("healthy".to_owned()));
        let alarm = r#"{"health":"false","reason":"ALARM NOSPACE"}"#;
        assert_eq!(judged(503, alarm), Err("not healthy: ALARM NOSPACE".to_owned()));
        assert_eq!(judged(503, r#"{"health":"false"}"#), Err("not healthy, status 503".to_owned()));
        assert_eq!(judged(200, "ok"), Err("health 200, but not etcd's answer: \"ok\"".to_owned()));
    }
}
