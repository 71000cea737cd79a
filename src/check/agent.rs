//! A server's own word: HAProxy's agent.
//!
//! As in HAProxy an agent that cannot be reached changes nothing: whether the server can be reached, other checks say.
//! A weight, `drain`, `maint` and `maxconn` become [`Advice`].

use std::time::Duration;

use config::ready::{AgentProbe, Dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dial::{Dialer, Limit, Wire, broken};
use super::matching::{line, shown};
use super::schedule::{BoxFuture, Outcome, Probing};
use super::{Advice, Mode, Weight};

/// More of a line is not read.
const LINE_LIMIT: usize = 1024;

/// Asks one agent.
#[derive(Debug)]
pub(super) struct AgentCheck {
    dialer: Dialer,
    send: Vec<u8>,
    /// Its last word was "down", with this reason.
    down: Option<String>,
}

/// What a line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Word {
    /// Up (`None`) or down, and why.
    health: Option<Result<(), String>>,
    advice: Advice,
}

impl AgentCheck {
    pub(super) fn new(probe: &AgentProbe, dial: &Dial) -> Self {
        Self { dialer: Dialer::new(&probe.target, dial), send: probe.send.0.clone(), down: None }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let heard = self.ask(Limit::new(timeout)).await;
        let (said, advice) = match heard.and_then(|heard| Ok((parse(&heard)?, line(&heard)))) {
            Ok((word, said)) => {
                match word.health {
                    Some(Ok(())) => self.down = None,
                    Some(Err(reason)) => self.down = Some(reason),
                    None => {}
                }
                (format!("says {said}"), word.advice)
            }
            Err(error) => (format!("no word of the agent: {error}"), Advice::default()),
        };
        match &self.down {
            Some(reason) => Outcome { advice, ..Outcome::failure(reason.clone()) },
            None => Outcome { advice, ..Outcome::success(said) },
        }
    }

    async fn ask(&mut self, limit: Limit) -> Result<Vec<u8>, String> {
        let mut wire = Wire::Plain(self.dialer.connect(limit).await?);
        let mut heard = Vec::new();
        let talk = async {
            wire.write_all(&self.send).await?;
            let mut buffer = [0; 256];
            while heard.len() < LINE_LIMIT && !heard.contains(&b'\n') {
                match wire.read(&mut buffer).await? {
                    0 => break,
                    length => heard.extend_from_slice(&buffer[..length]),
                }
            }
            Ok(())
        };
        let talked = limit.hold(talk, |time| format!("no whole line after {time}")).await;
        wire.close();
        talked?.map_err(|error: std::io::Error| broken(&error))?;
        let end = heard.iter().position(|octet| matches!(octet, b'\n' | b'\r')).unwrap_or(heard.len());
        heard.truncate(end);
        Ok(heard)
    }
}

impl Probing for AgentCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }
}

/// HAProxy's configuration manual, `agent-check`: words with blanks, tabs or commas between them, the last one may be
/// a text behind `#`.
fn parse(heard: &[u8]) -> Result<Word, String> {
    let text = String::from_utf8_lossy(heard);
    let (words, description) = text.split_once('#').unwrap_or((&text, ""));
    let mut word = Word::default();
    let mut understood = 0;
    for said in words.split([' ', '\t', ',']).filter(|said| !said.is_empty()) {
        let lower = said.to_ascii_lowercase();
        match lower.as_str() {
            "up" => word.health = Some(Ok(())),
            "down" | "failed" | "fail" | "stopped" => {
                let description = line(description.as_bytes());
                let reason = if description.is_empty() {
                    format!("the agent says {lower}")
                } else {
                    format!("the agent says {lower}: {description}")
                };
                word.health = Some(Err(reason));
            }
            "ready" => word.advice.mode = Some(Mode::Ready),
            "drain" => word.advice.mode = Some(Mode::Drain),
            "maint" => word.advice.mode = Some(Mode::Maint),
            other => {
                if let Some(percent) = other.strip_suffix('%') {
                    word.advice.weight = Some(Weight::Percent(number(percent)?));
                } else if let Some(sessions) = other.strip_prefix("maxconn:") {
                    word.advice.max_sessions = Some(number(sessions)?);
                } else {
                    continue;
                }
            }
        }
        understood += 1;
    }
    if understood == 0 { Err(format!("it says {}", shown(heard))) } else { Ok(word) }
}

fn number<T: std::str::FromStr>(digits: &str) -> Result<T, String> {
    digits.parse().map_err(|_| format!("{:?} is no number", line(digits.as_bytes())))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn words_are_those_of_haproxys_manual() {
        let advice = Advice::default();
        let word = |health, advice| Ok(Word { health, advice });
        assert_eq!(parse(b"up"), word(Some(Ok(())), advice));
        let weighed = Advice { weight: Some(Weight::Percent(75)), ..advice };
        assert_eq!(parse(b"75%"), word(None, weighed));
        assert_eq!(
            parse(b"ready, up\t75%"),
            word(Some(Ok(())), Advice { mode: Some(Mode::Ready), ..weighed })
        );
        assert_eq!(parse(b"drain"), word(None, Advice { mode: Some(Mode::Drain), ..advice }));
        assert_eq!(parse(b"MAINT"), word(None, Advice { mode: Some(Mode::Maint), ..advice }));
        let few = Advice { max_sessions: Some(30), ..advice };
        assert_eq!(parse(b"maxconn:30"), word(None, few));
        let reason = "the agent says down: disk is full, 99%".to_owned();
        assert_eq!(parse(b"down #disk is full, 99%"), word(Some(Err(reason)), advice));
        assert_eq!(parse(b"stopped"), word(Some(Err("the agent says stopped".into())), advice));
        assert_eq!(parse(b"hello"), Err("it says \"hello\"".into()));
        assert_eq!(parse(b"99999999%"), Err("\"99999999\" is no number".into()));
    }

    #[tokio::test]
    async fn an_agent_that_is_gone_leaves_its_last_word() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().into();
        let probe = AgentProbe { target, send: "state\n".into() };
        let mut check = AgentCheck::new(&probe, &Dial::default());
        let agent = tokio::spawn(async move {
            for answer in ["up 50%\n", "down #tests fail\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut asked = [0; 6];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(&asked, b"state\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let time = Duration::from_secs(20);
        let advice = Advice { weight: Some(Weight::Percent(50)), ..Advice::default() };
        assert_eq!(check.probe(time).await, Outcome { advice, ..Outcome::success("says up 50%") });
        assert_eq!(check.probe(time).await, Outcome::failure("the agent says down: tests fail"));
        agent.await.unwrap();
        assert_eq!(check.probe(time).await, Outcome::failure("the agent says down: tests fail"));
        check.down = None;
        assert_eq!(check.probe(time).await, Outcome::success("no word of the agent: connect refused"));
    }
}
