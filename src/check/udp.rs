//! Datagrams: one that any server may get, and a query to a name server.
//!
//! A datagram may be lost, so it is sent three times within the timeout.

use std::time::Duration;

use config::ready::{Dial, DnsProbe, UdpProbe};
use tokio::net::UdpSocket;

use super::Spoken;
use super::dial::{Dialer, Limit};
use super::dns;
use super::matching::{Matcher, shown};
use super::schedule::{BoxFuture, Outcome, Probing, draw};

/// Silence for so long is an answer where none is required.
const SILENCE: Duration = Duration::from_secs(1);
/// Sent so often within the timeout.
pub(super) const ATTEMPTS: u32 = 3;

/// Sends a datagram to one server.
#[derive(Debug)]
pub(super) struct UdpCheck {
    dialer: Dialer,
    probe: UdpProbe,
    expect: Option<Matcher>,
}

impl UdpCheck {
    /// # Errors
    /// An expression is wrong, which the configuration does not let through.
    pub(super) fn new(probe: &UdpProbe, dial: &Dial) -> Result<Self, String> {
        let expect = probe.expect.as_ref().map(Matcher::new).transpose()?;
        Ok(Self { dialer: Dialer::new(&probe.target, dial), probe: probe.clone(), expect })
    }

    async fn ask(&mut self, timeout: Duration) -> Result<String, String> {
        let is_needed = self.probe.require_reply || self.expect.is_some();
        // Who need not answer is not asked again.
        let attempts = if is_needed { ATTEMPTS } else { 1 };
        let time = if is_needed { timeout } else { timeout.min(SILENCE) };
        let limit = Limit::new(timeout);
        let address = self.dialer.addresses(limit).await?[0];
        let socket = self.dialer.datagrams(address).await?;
        let judge = |reply: &[u8]| Some(self.judge(reply));
        match exchange(&socket, &self.probe.payload.0, attempts, time, judge).await? {
            Some(judged) => judged,
            None if is_needed => Err(format!("no answer after {}", Spoken(timeout))),
            None => Ok("no complaint".to_owned()),
        }
    }

    fn judge(&self, reply: &[u8]) -> Result<String, String> {
        let length = reply.len();
        let least = self.probe.min_reply.map_or(0, usize::from);
        let most = self.probe.max_reply.map_or(usize::MAX, usize::from);
        if length < least {
            return Err(format!("an answer of {length} octets, fewer than {least}"));
        }
        if length > most {
            return Err(format!("an answer of {length} octets, more than {most}"));
        }
        match self.expect.as_ref().and_then(|expect| expect.complaint(reply)) {
            Some(complaint) => Err(format!("the answer {complaint}: {}", shown(reply))),
            None => Ok(format!("answered {length} octets")),
        }
    }
}

impl Probing for UdpCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(async move { Outcome::from(self.ask(timeout).await) })
    }
}

/// Asks one name server.
#[derive(Debug)]
pub(super) struct DnsCheck {
    dialer: Dialer,
    probe: DnsProbe,
}

impl DnsCheck {
    pub(super) fn new(probe: &DnsProbe, dial: &Dial) -> Self {
        Self { dialer: Dialer::new(&probe.target, dial), probe: probe.clone() }
    }

    async fn ask(&mut self, timeout: Duration) -> Result<String, String> {
        let limit = Limit::new(timeout);
        let address = self.dialer.addresses(limit).await?[0];
        let socket = self.dialer.datagrams(address).await?;
        let [low, high, ..] = draw().to_le_bytes();
        let id = u16::from_le_bytes([low, high]);
        let query = dns::query(id, &self.probe.name, self.probe.kind);
        // Anybody may send something to our port: what does not answer the question is not heard.
        let judge = |reply: &[u8]| dns::judge(reply, &query);
        match exchange(&socket, &query, ATTEMPTS, timeout, judge).await? {
            Some(judged) => judged,
            None => Err(format!("no answer after {}", Spoken(timeout))),
        }
    }
}

impl Probing for DnsCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(async move { Outcome::from(self.ask(timeout).await) })
    }
}

/// Sends and waits until `judge` has a judgement. `None`: silence.
pub(super) async fn exchange<T>(
    socket: &UdpSocket,
    payload: &[u8],
    attempts: u32,
    time: Duration,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, String> {
    let mut buffer = vec![0; 65536];
    for _ in 0..attempts {
        socket.send(payload).await.map_err(|error| unreachable(&error))?;
        let wait = async {
            loop {
                let length = socket.recv(&mut buffer).await.map_err(|error| unreachable(&error))?;
                if let Some(judged) = judge(&buffer[..length]) {
                    return Ok(judged);
                }
            }
        };
        if let Ok(judged) = tokio::time::timeout(time / attempts.max(1), wait).await {
            return judged.map(Some);
        }
    }
    Ok(None)
}

/// ICMP told the kernel, or there is no way there.
fn unreachable(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "port unreachable".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        _ => Spoken(error).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use config::ready::{Bytes, DnsKind, Expect, Matching};

    use super::*;

    const TIME: Duration = Duration::from_millis(300);

    async fn echo() -> (UdpProbe, tokio::task::JoinHandle<()>) {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap().into();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                if &buffer[..length] != b"silence" {
                    server.send_to(&buffer[..length], from).await.unwrap();
                }
            }
        });
        let probe = UdpProbe {
            target,
            payload: "hello".into(),
            require_reply: true,
            min_reply: None,
            max_reply: None,
            expect: None,
        };
        (probe, task)
    }

    async fn ask(probe: &UdpProbe) -> Outcome {
        UdpCheck::new(probe, &Dial::default()).unwrap().probe(TIME).await
    }

    #[tokio::test]
    async fn an_answer_is_judged_by_its_length_and_content() {
        let (probe, _server) = echo().await;
        assert_eq!(ask(&probe).await, Outcome::success("answered 5 octets"));
        let short = UdpProbe { min_reply: Some(6), ..probe.clone() };
        assert_eq!(ask(&short).await, Outcome::failure("an answer of 5 octets, fewer than 6"));
        let long = UdpProbe { max_reply: Some(4), ..probe.clone() };
        assert_eq!(ask(&long).await, Outcome::failure("an answer of 5 octets, more than 4"));
        let is = Expect { matching: Matching::Starts("H".into()), negate: false };
        let other = UdpProbe { expect: Some(is), ..probe };
        assert_eq!(ask(&other).await, Outcome::failure("the answer does not start with \"H\": \"hello\""));
    }

    #[tokio::test]
    async fn silence_is_success_unless_an_answer_is_required() {
        let (probe, _server) = echo().await;
        let silent = UdpProbe { payload: Bytes(b"silence".to_vec()), ..probe };
        assert_eq!(ask(&silent).await, Outcome::failure("no answer after 300 ms"));
        let content = UdpProbe { require_reply: false, ..silent };
        assert_eq!(ask(&content).await, Outcome::success("no complaint"));
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_failure() {
        let (probe, server) = echo().await;
        server.abort();
        assert!(server.await.is_err());
        let probe = UdpProbe { require_reply: false, ..probe };
        assert_eq!(ask(&probe).await, Outcome::failure("port unreachable"));
    }

    /// A stranger's answers and garbage come first.
    #[tokio::test]
    async fn a_name_server_is_believed_only_when_it_answers_the_question() {
        for (code, wanted) in [
            (0, Outcome::success("NOERROR, 0 records")),
            (2, Outcome::failure("the name server says SERVFAIL")),
        ] {
            let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let target = server.local_addr().unwrap().into();
            tokio::spawn(async move {
                let mut buffer = [0; 512];
                while let Ok((length, from)) = server.recv_from(&mut buffer).await {
                    let mut answer = buffer[..length].to_vec();
                    answer[2] |= 0x80;
                    answer[3] = code;
                    let mut other = answer.clone();
                    other[0] ^= 1;
                    for datagram in [&other[..], b"garbage", &[], &answer[..11], &answer[..]] {
                        server.send_to(datagram, from).await.unwrap();
                    }
                }
            });
            let probe = DnsProbe { target, name: "example.org".into(), kind: DnsKind(1) };
            assert_eq!(DnsCheck::new(&probe, &Dial::default()).probe(TIME).await, wanted);
        }
    }
}
