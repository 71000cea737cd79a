//! What is said over TCP or TLS: a bare handshake, `send` and `expect`, or a protocol that we speak a few words of.

mod protocols;

use std::net::IpAddr;
use std::time::Duration;

use config::ready::{Bytes, Dial, Dialogue, Step, Talk, Tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Dialer, Limit, Wire, broken};
use super::matching::{Matcher, shown};
use super::schedule::{BoxFuture, Outcome, Probing};
use super::tls::Secure;

/// Most of an answer that is kept.
const ANSWER_LIMIT: usize = 16 * 1024;

/// Talks to one server.
#[derive(Debug)]
pub(super) struct DialogueCheck {
    first: Line,
    talk: Spoken,
}

/// Where a connection goes.
#[derive(Debug)]
struct Line {
    dialer: Dialer,
    secure: Option<Secure>,
}

#[derive(Debug)]
enum Spoken {
    Steps(Vec<Ready>),
    Protocol(Talk),
}

/// A step that needs nothing more to be taken.
#[derive(Debug)]
enum Ready {
    Send(Bytes),
    Expect(Matcher, usize),
    Connect(Box<Line>),
}

impl DialogueCheck {
    /// # Errors
    /// An expression is wrong, which the configuration does not let through.
    pub(super) fn new(probe: &Dialogue, dial: &Dial, vips: &[IpAddr]) -> Result<Self, String> {
        let secure =
            |tls: &Option<Tls>| tls.as_ref().map(|tls| Secure::new(tls, &probe.credentials, None, vips));
        let dialer = Dialer::new(&probe.target, dial);
        let talk = match &probe.talk {
            Talk::Steps(steps) => {
                let ready = steps.iter().map(|step| {
                    Ok(match step {
                        Step::Send(octets) => Ready::Send(octets.clone()),
                        Step::Expect { is, least } => {
                            let least = usize::try_from(least.unwrap_or(1)).unwrap_or(ANSWER_LIMIT);
                            Ready::Expect(Matcher::new(is)?, least.clamp(1, ANSWER_LIMIT))
                        }
                        Step::Connect { port, tls } => Ready::Connect(Box::new(Line {
                            dialer: dialer.to_port(*port),
                            secure: secure(tls),
                        })),
                    })
                });
                Spoken::Steps(ready.collect::<Result<Vec<_>, String>>()?)
            }
            protocol => Spoken::Protocol(protocol.clone()),
        };
        Ok(Self { first: Line { dialer, secure: secure(&probe.tls) }, talk })
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let result = self.converse(Limit::new(timeout)).await;
        let mut findings = self.first.findings();
        if let Spoken::Steps(steps) = &mut self.talk {
            for step in steps {
                if let Ready::Connect(line) = step
                    && let Some(more) = line.findings()
                {
                    findings.get_or_insert_default().extend(more);
                }
            }
        }
        Outcome { findings, ..Outcome::from(result) }
    }

    async fn converse(&mut self, limit: Limit) -> Result<String, String> {
        let wire = match &self.talk {
            // These ask for TLS in words of their own.
            Spoken::Protocol(Talk::Mysql { .. } | Talk::Postgres { .. }) => {
                self.first.open_plain(limit).await?
            }
            _ => self.first.open(limit).await?,
        };
        let mut call = Call::new(wire, limit);
        let said = match &mut self.talk {
            Spoken::Protocol(talk) => protocols::speak(talk, &mut call, &mut self.first).await,
            Spoken::Steps(steps) => take(steps, &mut call).await,
        };
        call.hang_up();
        let said = said?;
        Ok(match (said, &self.first.secure) {
            (Some(said), _) => said,
            (None, Some(_)) => "TLS handshake completed".to_owned(),
            (None, None) => "connected".to_owned(),
        })
    }
}

impl Probing for DialogueCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }
}

impl Line {
    async fn open(&mut self, limit: Limit) -> Result<Wire, String> {
        let wire = self.open_plain(limit).await?;
        self.secured(wire, limit).await
    }

    /// Without a handshake, which may come later.
    async fn open_plain(&mut self, limit: Limit) -> Result<Wire, String> {
        if let Some(secure) = &mut self.secure {
            secure.refresh(limit).await?;
        }
        Ok(Wire::Plain(self.dialer.connect(limit).await?))
    }

    /// With the handshake, where there is to be one.
    async fn secured(&mut self, wire: Wire, limit: Limit) -> Result<Wire, String> {
        match (&mut self.secure, wire) {
            (Some(secure), Wire::Plain(stream)) => {
                secure.handshake(stream, self.dialer.target(), limit).await
            }
            (_, wire) => Ok(wire),
        }
    }

    fn findings(&mut self) -> Option<Vec<String>> {
        self.secure.as_mut().and_then(Secure::findings)
    }
}

/// What the last expectation met, if there was one.
async fn take(steps: &mut [Ready], call: &mut Call) -> Result<Option<String>, String> {
    let several = steps.len() > 2;
    let mut said = None;
    for (index, step) in steps.iter_mut().enumerate() {
        let taken = match step {
            Ready::Send(octets) => call.say(&octets.0).await,
            Ready::Expect(matcher, least) => {
                let heard = call.expect(matcher, *least).await;
                heard.map(|()| said = Some(format!("answered {}", shown(&call.heard))))
            }
            Ready::Connect(line) => match line.open(call.limit).await {
                Ok(wire) => {
                    call.redial(wire);
                    Ok(())
                }
                Err(error) => Err(format!("port {}: {error}", line.dialer.target().port)),
            },
        };
        taken.map_err(|error| if several { format!("step {}: {error}", index + 1) } else { error })?;
    }
    Ok(said)
}

/// A connection, and what was heard on it since we spoke last.
#[derive(Debug)]
struct Call {
    wire: Option<Wire>,
    heard: Vec<u8>,
    has_ended: bool,
    limit: Limit,
}

impl Call {
    fn new(wire: Wire, limit: Limit) -> Self {
        Self { wire: Some(wire), heard: Vec::new(), has_ended: false, limit }
    }

    fn hang_up(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.close();
        }
    }

    fn redial(&mut self, wire: Wire) {
        self.hang_up();
        *self = Self::new(wire, self.limit);
    }

    /// Goes on over TLS, where the line has it. What was said before the handshake must all have been taken.
    async fn secure(&mut self, line: &mut Line) -> Result<(), String> {
        if !self.heard.is_empty() {
            return Err(format!("the server went on without TLS: {}", shown(&self.heard)));
        }
        let wire = self.wire.take().ok_or("not connected")?;
        self.wire = Some(line.secured(wire, self.limit).await?);
        Ok(())
    }

    /// What was heard before is forgotten.
    async fn say(&mut self, octets: &[u8]) -> Result<(), String> {
        self.heard.clear();
        let Some(wire) = &mut self.wire else { return Err("not connected".to_owned()) };
        let sent = async {
            wire.write_all(octets).await?;
            wire.flush().await
        };
        self.limit
            .hold(sent, |time| format!("nothing accepted after {time}"))
            .await?
            .map_err(|error| broken(&error))
    }

    /// Hears more; `false`: there is no more.
    async fn hear(&mut self) -> Result<bool, String> {
        let Some(wire) = &mut self.wire else { return Err("not connected".to_owned()) };
        if self.has_ended || self.heard.len() >= ANSWER_LIMIT {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        let room = buffer.len().min(ANSWER_LIMIT - self.heard.len());
        let heard = &self.heard;
        let late = |time| match heard.as_slice() {
            [] => format!("no answer after {time}"),
            heard => format!("only {} after {time}", shown(heard)),
        };
        match self.limit.hold(wire.read(&mut buffer[..room]), late).await? {
            Ok(0) => self.has_ended = true,
            // A TLS server that does not say good-bye has said all the same what it had to say.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => self.has_ended = true,
            Ok(length) => self.heard.extend_from_slice(&buffer[..length]),
            Err(error) => return Err(broken(&error)),
        }
        Ok(!self.has_ended)
    }

    /// Until it is met, or cannot be any more.
    async fn expect(&mut self, matcher: &Matcher, least: usize) -> Result<(), String> {
        loop {
            let is_enough = self.heard.len() >= least;
            // What must not come may still come, but nobody waits for it.
            if is_enough && (matcher.negates() || matcher.finds(&self.heard)) {
                break;
            }
            if !self.hear().await? {
                break;
            }
        }
        if self.heard.is_empty() {
            return Err("the server closed the connection without an answer".to_owned());
        }
        if self.heard.len() < least {
            return Err(format!("the answer has {} octets, fewer than {least}", self.heard.len()));
        }
        match matcher.complaint(&self.heard) {
            Some(complaint) => Err(format!("the answer {complaint}: {}", shown(&self.heard))),
            None => Ok(()),
        }
    }

    /// Exactly so many octets, which are taken off what was heard.
    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.heard.len() < length {
            if !self.hear().await? {
                return Err(self.cut());
            }
        }
        let rest = self.heard.split_off(length);
        Ok(std::mem::replace(&mut self.heard, rest))
    }

    /// A line without its end, which is taken off what was heard.
    async fn line(&mut self) -> Result<Vec<u8>, String> {
        loop {
            if let Some(end) = self.heard.iter().position(|octet| *octet == b'\n') {
                let mut line = self.exactly(end + 1).await?;
                line.truncate(end - usize::from(end > 0 && line[end - 1] == b'\r'));
                return Ok(line);
            }
            if !self.hear().await? {
                return Err(self.cut());
            }
        }
    }

    fn cut(&self) -> String {
        match self.heard.as_slice() {
            [] => "the server closed the connection without an answer".to_owned(),
            heard => format!("the answer is not whole: {}", shown(heard)),
        }
    }
}

#[cfg(test)]
mod tests;
