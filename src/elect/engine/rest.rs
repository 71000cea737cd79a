//! The engine of a daemon that only forwards: no netlink, no raw socket, no real-time priority, until an instance comes.

use super::*;

/// What an engine begins with.
pub(super) struct Rest {
    pub(super) config: Arc<Config>,
    pub(super) verdicts: HashMap<String, Verdict>,
    /// Waits for the configuration to run.
    pub(super) applied: Option<oneshot::Sender<()>>,
}

/// Whether there is nothing for the engine to do.
pub(super) fn needs_nobody(config: &Config) -> bool {
    config.instances.is_empty()
        && config.sync_groups.is_empty()
        && config.static_addresses.is_empty()
        && config.static_routes.is_empty()
        && config.static_rules.is_empty()
}

impl Rest {
    /// The kernel refused what an engine needs.
    pub(super) fn after_refusal(config: &Config, verdicts: HashMap<String, Verdict>) -> Self {
        let config = Config::empty(config.router_id.clone(), config.control.clone());
        Self { config: Arc::new(config), verdicts, applied: None }
    }

    /// Answers until there is something to do. `None`: the end.
    pub(super) async fn until_needed(mut self, commands: &mut mpsc::Receiver<Command>) -> Option<Self> {
        loop {
            match commands.recv().await? {
                Command::Verdict { check, verdict } => drop(self.verdicts.insert(check, verdict)),
                // Tracked by nobody.
                Command::Bfd { .. } => {}
                Command::Ping(answer) => drop(answer.send(())),
                Command::Status(answer) => drop(answer.send(EngineStatus::default())),
                Command::Apply(config, done) if needs_nobody(&config) => {
                    self.config = config;
                    let _ = done.send(());
                }
                Command::Apply(config, done) => {
                    return Some(Self { config, verdicts: self.verdicts, applied: Some(done) });
                }
                Command::Shutdown(done) => {
                    let _ = done.send(());
                    return None;
                }
            }
        }
    }
}
