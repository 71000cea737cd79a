//! The play itself: builds the stage, plays the acts, and measures.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::output;
use super::backend::Backend;
use super::certificates::Authority;
use super::client::{Client, EVERY, PATIENCE, Record};
use super::host::Host;
use super::lan::{CARD, Lan, PREFIX_LENGTH};
use super::story::{Act, Acts, FIRST_PRIORITY, Formula, Measure, Outcome, SECOND_PRIORITY, ms};
use super::timeline::{Paint, Timeline, legend};
use super::{BACKENDS, CLIENT, HOSTS, PORT, VIP, report};
use crate::observe::event::State;

/// How long the audience watches an act after its point.
const AFTERMATH: Duration = Duration::from_millis(1200);
/// How much later than promised something may still happen to be waited for.
const GRACE: Duration = Duration::from_millis(1500);

type Failure = Box<dyn std::error::Error>;

/// Plays everything; `true` when every promise was kept.
///
/// The backends run on `servers`, so that nothing that is built here delays them.
///
/// # Errors
/// When the stage cannot be built, or a daemon does not start.
pub async fn play(
    formula: &Formula,
    directory: &Path,
    paint: Paint,
    servers: &Handle,
) -> Result<bool, Failure> {
    // Whoever stops reading still gets the exit code.
    output::try_print(&programme(formula, paint));
    let record = Record::default();
    let timeline = Timeline::new(paint, record.clone());
    let mut stage = Stage::build(formula, directory, timeline.clone(), record, servers)?;
    let acts = Acts::new(formula);
    let outcomes = tokio::select! {
        outcomes = stage.play(&acts) => outcomes,
        // It prints for ever.
        () = timeline.print_as_it_goes() => return Ok(false),
    };
    timeline.finish();
    let outcomes = outcomes?;
    output::try_print(&format!("\n{}", report::report(&outcomes, paint)));
    let kept = outcomes.iter().all(Outcome::kept);
    if !kept {
        let last_words = stage.lb1.last_words() + &stage.lb2.last_words();
        output::try_print(&format!("The last words of the daemons:\n{last_words}"));
    }
    Ok(kept)
}

/// Who is who, for somebody who has never heard of it.
fn programme(formula: &Formula, paint: Paint) -> String {
    let interval = ms(formula.interval);
    format!(
        "{}\n\n\
         \x20                                          .-- lb1 {} --.     .-- b1\n\
         \x20  client {} --> {VIP}:{PORT} --+                    +-----+-- b2\n\
         \x20                                          '-- lb2 {} --'     '-- b3\n\n\
         The client knows one address, {VIP}. It belongs to no machine for good: lb1 or lb2 holds it, and passes\n\
         the connections on to the servers b1, b2 and b3. The holder says \"I am here\" every {interval} (an advert).\n\
         When the other has heard nothing for three adverts and a bit, it takes the address and tells the network.\n\
         The bit (skew) is shorter for the host with the higher priority, so that two do not take it at once.\n\
         The client makes a new connection with a new request every 10 ms, and waits {} for the answer.\n\
         {}\n\n",
        paint.title("vipd demo: two hosts share one address"),
        HOSTS[0].1,
        CLIENT,
        HOSTS[1].1,
        ms(PATIENCE),
        legend(),
    )
}

struct Stage {
    timeline: Timeline,
    record: Record,
    lan: Lan,
    lb1: Host,
    lb2: Host,
    backends: Vec<Backend>,
    client: Option<(super::namespace::Namespace, rustls::ClientConfig)>,
    asking: Option<Client>,
    outcomes: Vec<Outcome>,
}

impl Stage {
    fn build(
        formula: &Formula,
        directory: &Path,
        timeline: Timeline,
        record: Record,
        servers: &Handle,
    ) -> Result<Self, Failure> {
        let mut lan = Lan::new()?;
        let authority = Authority::new()?;
        fs::write(directory.join("ca.pem"), authority.pem())?;
        let mut backends = Vec::new();
        for (name, its_address) in BACKENDS {
            let machine = lan.attach(name, its_address)?;
            let tls = authority.server(name, &[IpAddr::from(its_address), VIP.into()])?;
            backends.push(Backend::start(name, machine, PORT, tls, servers)?);
        }
        let client = Some((lan.attach("client", CLIENT)?, authority.client()?));
        let [lb1, lb2] = HOSTS.map(|(name, its)| Host::new(name, its, directory, timeline.clone()));
        lb1.configure(&configuration(formula, directory, FIRST_PRIORITY))?;
        lb2.configure(&configuration(formula, directory, SECOND_PRIORITY))?;
        Ok(Self { timeline, record, lan, lb1, lb2, backends, client, asking: None, outcomes: Vec::new() })
    }

    async fn play(&mut self, acts: &Acts) -> Result<Vec<Outcome>, Failure> {
        self.election(&acts.election).await?;
        self.power_off(&acts.power_off).await?;
        self.comeback(&acts.comeback, &acts.election).await?;
        self.hand_over(&acts.hand_over).await?;
        self.comeback(&acts.comeback_again, &acts.election).await?;
        self.broken_backend(&acts.broken_backend).await?;
        // The client's last line is due.
        sleep(PATIENCE + Duration::from_millis(100)).await;
        Ok(std::mem::take(&mut self.outcomes))
    }

    async fn election(&mut self, act: &Act) -> Result<(), Failure> {
        self.announce(act);
        let began = self.lb1.start(&mut self.lan).await?;
        if let Some((machine, tls)) = self.client.take() {
            let (epoch, record) = (self.timeline.epoch(), self.record.clone());
            self.asking = Some(Client::start(machine, SocketAddr::from((VIP, PORT)), tls, epoch, record)?);
        }
        self.lb2.start(&mut self.lan).await?;
        let late = Self::deadline(act.bound);
        let missing =
            (!self.lb1.reaches(State::Active, late).await).then(|| "lb1 did not become active".to_owned());
        self.end(act, began, missing).await;
        Ok(())
    }

    async fn power_off(&mut self, act: &Act) -> Result<(), Failure> {
        let began = self.announce(act);
        self.lb1.power_off(&self.lan).await?;
        let late = Self::deadline(act.bound);
        let missing =
            (!self.lb2.reaches(State::Active, late).await).then(|| "lb2 did not become active".to_owned());
        self.end(act, began, missing).await;
        Ok(())
    }

    async fn comeback(&mut self, act: &Act, election: &Act) -> Result<(), Failure> {
        let began = self.announce(act);
        self.lb1.start(&mut self.lan).await?;
        let late = Self::deadline(election.bound);
        let missing = if !self.lb1.reaches(State::Active, late).await {
            Some("lb1 did not become active".to_owned())
        } else {
            (!self.lb2.reaches(State::Backup, late).await).then(|| "lb2 did not let go".to_owned())
        };
        self.end(act, began, missing).await;
        Ok(())
    }

    async fn hand_over(&mut self, act: &Act) -> Result<(), Failure> {
        let began = self.announce(act);
        let stopped = self.lb1.stop().await;
        let late = Self::deadline(act.bound);
        let missing = match stopped {
            Err(error) => Some(error.to_string()),
            Ok(()) => {
                (!self.lb2.reaches(State::Active, late).await).then(|| "lb2 did not become active".to_owned())
            }
        };
        self.end(act, began, missing).await;
        Ok(())
    }

    async fn broken_backend(&mut self, act: &Act) -> Result<(), Failure> {
        let began = self.announce(act);
        let broken = &mut self.backends[0];
        broken.stop().await;
        let name = broken.name.clone();
        self.end(act, began, None).await;
        let end = self.timeline.now() - PATIENCE;
        let still = self.record.view(end - AFTERMATH / 2, end);
        if still.by_backend().contains_key(name.as_str()) {
            let outcome = self.outcomes.last_mut();
            outcome.into_iter().for_each(|outcome| outcome.missing = Some(format!("{name} still answers")));
        }
        Ok(())
    }

    /// The next act's title on the timeline; gives the time.
    fn announce(&self, act: &Act) -> Duration {
        let now = self.timeline.now();
        self.timeline.title(now, &format!("act {}: {}", self.outcomes.len() + 1, act.title));
        for line in wrapped(&act.story) {
            self.timeline.say(now, format!("  {line}"));
        }
        now
    }

    fn deadline(bound: Duration) -> Instant {
        Instant::now() + bound + GRACE
    }

    /// Lets the audience watch, waits until it is known what became of every request, and measures.
    async fn end(&mut self, act: &Act, began: Duration, missing: Option<String>) {
        let until = Instant::now() + AFTERMATH;
        sleep_until(until).await;
        let ended = self.timeline.now();
        sleep(PATIENCE).await;
        // A gap begins with the last request that was answered before.
        let from = match act.measure {
            Measure::FirstAnswer => began,
            Measure::LongestGap => began.saturating_sub(5 * EVERY),
        };
        let view = self.record.view(from, ended);
        self.outcomes.push(Outcome { act: act.clone(), view, missing });
    }
}

/// Lines of at most 90 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= 90 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// What the daemon of a host reads.
fn configuration(formula: &Formula, directory: &Path, priority: u8) -> String {
    let advert_interval = formula.interval.as_millis();
    let ca_file = toml::Value::from(directory.join("ca.pem").display().to_string());
    let backends: String = BACKENDS
        .map(|(name, its)| format!("  {{ name = \"{name}\", address = \"{its}:{PORT}\" }},\n"))
        .concat();
    format!(
        r#"[[instance]]
name = "vip"
interface = "{CARD}"
vrid = 51
version = 3
priority = {priority}
advert_interval = "{advert_interval}ms"
addresses = ["{VIP}/{PREFIX_LENGTH}"]

[[listener]]
name = "apiserver"
bind = "{VIP}:{PORT}"
balance = "roundrobin"
check = {{ apiserver = {{ ca_file = {ca_file} }}, interval = "200ms", fall = 2 }}
backends = [
{backends}]
"#
    )
}

#[cfg(test)]
mod tests {
    use vrrp::{AdverInterval, Version};

    use super::*;

    #[test]
    fn the_daemons_configuration_is_without_a_problem() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lb1.toml");
        let interval = AdverInterval::from_duration(Version::V3, Duration::from_millis(100)).unwrap();
        fs::write(&path, configuration(&Formula::new(interval), directory.path(), FIRST_PRIORITY)).unwrap();
        let loaded = config::load(&[&path], &config::LoadOptions::default());
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render_human(false));
        let config = loaded.config.unwrap();
        assert_eq!(config.listeners[0].instances, ["vip"]);
        assert_eq!(config.checks.len(), BACKENDS.len());
    }
}
