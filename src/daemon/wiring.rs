//! What flows between the rooms while the daemon runs, and what a reload replaces.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use config::ready::{Config, Probe, VirtualAddress};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, broadcast, mpsc};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::dumps::{self, Dumps};
use super::locks::Locks;
use super::plan::Plan;
use super::privileges;
use super::{Front, Options, StartError, memory};
use crate::announce::strangers::Strangers;
use crate::check::{Checks, Verdict, listener_news};
use crate::elect::EngineHandle;
use crate::elect::bfd::Bfd;
use crate::forward::discover::{Names, Source};
use crate::forward::orders::Order;
use crate::forward::page::{Ask, Pages};
use crate::forward::sessions::Sessions;
use crate::forward::{Forward, ForwardError};
use crate::hold;
use crate::notify::Notifier;
use crate::observe::control::{Addresses, Control, ControlError, ControlHandler, own_socket};
use crate::observe::event::{Event, EventSender, Health, Kind};
use crate::observe::explain;
use crate::observe::history::History;
use crate::observe::host;
use crate::observe::keepalived::lines::Narrator;
use crate::observe::log::keepalived::PARENT;
use crate::observe::log::{self, Log};
use crate::observe::status::{Dropped, SessionFilter, SessionStatus, Stalls, Status};

/// Events that a slow reader may be behind before it loses the oldest.
const BUS: usize = 4096;
/// Priority of an address owner.
const OWNER: u8 = 255;
/// Answers of name servers that come within this time are taken on together.
const TOGETHER: Duration = Duration::from_millis(50);
/// The engine answers within microseconds unless it is in deep trouble.
const STATUS_LIMIT: Duration = Duration::from_secs(2);
/// A file system that does not answer must not hold up the start.
const FIRST_VERDICTS: Duration = Duration::from_millis(500);

/// The rooms on worker threads that may run before anything is decided.
pub struct Workers {
    checks: Checks,
    notifier: Notifier,
    history: Arc<History>,
    bus: broadcast::Sender<Arc<Event>>,
    narrator: Option<Arc<Narrator>>,
}

impl Workers {
    /// Starts the log of events, checks and notifications.
    ///
    /// `narrator`: events are logged in keepalived's words as well.
    pub fn new(
        config: &Config,
        events: &EventSender,
        queue: mpsc::Receiver<Event>,
        narrator: Option<Arc<Narrator>>,
    ) -> Self {
        let (bus, _) = broadcast::channel(BUS);
        let history = Arc::new(History::default());
        tokio::spawn(dispatch(queue, bus.clone(), history.clone(), narrator.clone()));
        let checks = Checks::start(&config.checks, &config.process, events.clone());
        let notifier = Notifier::start(config, bus.subscribe());
        Self { checks, notifier, history, bus, narrator }
    }
}

/// Everybody hears of everything, in one order: history and log here, the others through the bus.
async fn dispatch(
    mut queue: mpsc::Receiver<Event>,
    bus: broadcast::Sender<Arc<Event>>,
    history: Arc<History>,
    narrator: Option<Arc<Narrator>>,
) {
    while let Some(event) = queue.recv().await {
        if let Some(narrator) = &narrator {
            narrator.log(&event);
        }
        log::log_event(&event);
        history.record(event.clone());
        // No reader is no error.
        let _ = bus.send(Arc::new(event));
    }
}

/// Addresses of each instance: sessions to them end when it leaves Active.
fn vips(config: &Config) -> HashMap<String, Vec<IpAddr>> {
    config
        .instances
        .iter()
        .map(|instance| (instance.name.clone(), instance.held().map(|address| address.address).collect()))
        .collect()
}

/// Instances that did not change are the same ones in memory too: the engine keeps those that it has.
fn share_unchanged(config: &mut Config, before: &Config) {
    let known: HashMap<&str, &Arc<_>> = before.instances.iter().map(|one| (one.name.as_str(), one)).collect();
    for instance in &mut config.instances {
        if let Some(same) = known.get(instance.name.as_str()).filter(|known| **known == instance) {
            *instance = Arc::clone(same);
        }
    }
}

/// What signals and the control socket act on.
pub struct Shared {
    options: Options,
    engine: OnceLock<EngineHandle>,
    running: Arc<Mutex<Running>>,
    names: Arc<Names>,
    /// One reload at a time, its reading included: the file that was read last is the one that counts.
    reloading: Mutex<()>,
    history: Arc<History>,
    events: EventSender,
    bus: broadcast::Sender<Arc<Event>>,
    narrator: Option<Arc<Narrator>>,
    strangers: Strangers,
    dumps: Dumps,
    started: SystemTime,
    dropped_lines: Box<dyn Fn() -> u64 + Send + Sync>,
    stop: mpsc::Sender<()>,
}

struct Running {
    config: Arc<Config>,
    checks: Checks,
    forward: Option<Forward>,
    pages: Pages,
    bfd: Option<Bfd>,
    notifier: Option<Notifier>,
    locks: Locks,
    /// Carry verdicts from the checks to the engine.
    bridges: JoinSet<()>,
    /// Carry what listeners can do to the checks that ask for it.
    abilities: JoinSet<()>,
}

impl Shared {
    #[expect(clippy::too_many_arguments, reason = "called once, each is another thing")]
    pub fn new(
        options: Options,
        config: Arc<Config>,
        locks: Locks,
        workers: Workers,
        events: EventSender,
        log: &Log,
        dumps: Dumps,
        stop: mpsc::Sender<()>,
    ) -> Arc<Self> {
        let Workers { checks, notifier, history, bus, narrator } = workers;
        let strangers = Strangers::start(config.clone(), bus.subscribe(), events.clone());
        let names = Arc::new(Names::new(Source::System, events.clone()));
        let running = Running {
            config,
            checks,
            forward: None,
            pages: Pages::default(),
            bfd: None,
            notifier: Some(notifier),
            locks,
            bridges: JoinSet::new(),
            abilities: JoinSet::new(),
        };
        Arc::new(Self {
            options,
            engine: OnceLock::new(),
            running: Arc::new(Mutex::new(running)),
            names,
            reloading: Mutex::default(),
            history,
            events,
            bus,
            narrator,
            strangers,
            dumps,
            started: SystemTime::now(),
            dropped_lines: Box::new(log.dropped_counter()),
            stop,
        })
    }

    /// What runs now.
    pub async fn config(&self) -> Arc<Config> {
        self.running.lock().await.config.clone()
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Opens the control socket. Under keepalived's name doing without it is only a warning: an old unit file
    /// knows nothing of it. So it is for a user to whom no usual place is open, when none was asked for.
    pub fn open_control(self: &Arc<Self>, config: &Config) -> Result<Option<Control>, ControlError> {
        let socket = self.options.control_socket.as_ref().unwrap_or(&config.control.socket);
        let addresses = Addresses { metrics: config.control.metrics, web: config.control.web };
        let start = |socket: &Path| Control::start(socket, addresses, self.clone(), self.history.clone());
        let is_chosen = self.options.control_socket.is_some() || *socket != Path::new(config::CONTROL_SOCKET);
        let started = match start(socket) {
            // The usual place is root's; a user has one of his own.
            Err(error) if error.is_permission() && !is_chosen => match own_socket() {
                Some(own) => start(&own).inspect(|_| info!(socket = %own.display(), "control socket")),
                None => Err(error),
            },
            started => started,
        };
        let is_wanted = is_chosen || config.control.metrics.is_some() || config.control.web.is_some();
        match started {
            Err(error) if self.options.front == Front::Keepalived || error.is_permission() && !is_wanted => {
                warn!(%error, "no control socket: `vipd status` cannot reach this daemon");
                Ok(None)
            }
            started => started.map(Some),
        }
    }

    /// Opens the listeners.
    pub async fn start_forward(&self) -> Result<(), StartError> {
        let mut running = self.running.lock().await;
        let Running { config, checks, .. } = &*running;
        let subject = |name: &str| checks.follow(name);
        let events = self.events.clone();
        // One for each processor that this process may use.
        let processors = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let loops = config.forwarder.loops.map_or_else(processors, usize::from);
        let groups = config.process.supplementary_groups;
        let forward = Forward::start(
            loops,
            groups,
            &config.listeners,
            subject,
            vips(config),
            self.bus.subscribe(),
            events,
        )
        .await?;
        let pages = running.pages.bind(&running.config.health_pages)?;
        running.forward = Some(forward);
        let config = running.config.clone();
        running.bridge_abilities(&config);
        running.pages.serve(pages, &self.ask());
        self.names.follow(&running.config);
        Ok(())
    }

    /// For the health pages.
    fn ask(&self) -> Ask {
        let running = Arc::downgrade(&self.running);
        Arc::new(move || {
            let running = running.upgrade();
            async move {
                let Some(running) = running else { return Vec::new() };
                running.lock().await.forward.as_ref().map(Forward::status).unwrap_or_default()
            }
            .boxed()
        })
    }

    /// Has checks and forwarder follow what names stand for, until the daemon ends.
    pub fn follow_names(self: &Arc<Self>) {
        let (shared, names) = (Arc::downgrade(self), self.names.clone());
        tokio::spawn(async move {
            loop {
                names.changed().await;
                // Several names answer at about the same time.
                tokio::time::sleep(TOGETHER).await;
                let Some(shared) = shared.upgrade() else { return };
                let _one = shared.reloading.lock().await;
                let mut running = shared.running.lock().await;
                let config = running.config.clone();
                if let Err(error) = running.apply(&config, &shared.names).await {
                    error!(%error, "the addresses that were found by name are not used");
                }
            }
        });
    }

    /// What checks that only look at this host say already, so that instances start with the right priority.
    pub async fn first_verdicts(&self) -> HashMap<String, Verdict> {
        let checks = self.running.lock().await.checks.clone();
        checks.first_verdicts(FIRST_VERDICTS).await
    }

    /// From now on the engine hears every verdict that some instance tracks.
    pub async fn engine_started(&self, engine: EngineHandle) {
        let mut running = self.running.lock().await;
        running.bridge_verdicts(&engine);
        match Bfd::start(
            &running.config,
            engine.clone(),
            running.checks.session_teller(),
            self.events.clone(),
        ) {
            Ok(bfd) => running.bfd = Some(bfd),
            Err(error) => error!(%error, "no thread for the BFD sessions: all of them count as down"),
        }
        // Called once.
        let _ = self.engine.set(engine);
    }

    fn engine(&self) -> Result<&EngineHandle, String> {
        self.engine.get().ok_or_else(|| "still starting, ask again in a moment".into())
    }

    async fn status(&self) -> Result<Status, String> {
        let engine = tokio::time::timeout(STATUS_LIMIT, self.engine()?.status())
            .await
            .map_err(|_| format!("the engine thread did not answer within {} s", STATUS_LIMIT.as_secs()))?
            .map_err(|error| error.to_string())?;
        let running = self.running.lock().await;
        let mut instances = engine.instances;
        self.strangers.add_to(&mut instances);
        for instance in &mut instances {
            instance.why = explain::why(instance);
        }
        let mut groups = engine.groups;
        for group in &mut groups {
            group.why = explain::group(group);
        }
        if let Some(forward) = &running.forward {
            forward.count().await;
        }
        let mut listeners = running.forward.as_ref().map(Forward::status).unwrap_or_default();
        for listener in &mut listeners {
            let configured = running.config.listeners.iter().find(|one| one.name == listener.name);
            listener.names = configured.map(|one| self.names.status(one)).unwrap_or_default();
            listener.why = explain::forward::listener(listener, SystemTime::now());
        }
        Ok(Status {
            version: format!("vipd {}", env!("CARGO_PKG_VERSION")),
            pid: std::process::id(),
            guard: self.options.life.status(),
            router_id: running.config.router_id.clone(),
            started: self.started,
            configuration: self.options.files.iter().map(|file| file.display().to_string()).collect(),
            instances,
            groups,
            checks: running.checks.status(),
            bfd: match &running.bfd {
                Some(bfd) => bfd.status().await,
                None => Vec::new(),
            },
            pages: running.pages.status(&listeners),
            listeners,
            dropped: Dropped { events: self.events.dropped(), log_lines: (self.dropped_lines)() },
            lateness: engine.lateness,
            discarded: engine.discarded,
            lease: engine.lease,
            stalls: Stalls { steal: host::steal(), ..engine.stalls },
        })
    }

    async fn open_sessions(&self) -> Result<Sessions, String> {
        let running = self.running.lock().await;
        running
            .forward
            .as_ref()
            .map(Forward::sessions)
            .ok_or_else(|| "the forwarder does not run (yet)".into())
    }

    /// Whether there is what the conditions name.
    async fn knows(&self, filter: &SessionFilter) -> Result<(), String> {
        let running = self.running.lock().await;
        let listeners = running.forward.as_ref().map(Forward::status).unwrap_or_default();
        let known = |kind: &str, wanted: &Option<String>, names: Vec<&String>| match wanted {
            Some(wanted) if !names.contains(&wanted) => {
                let names: Vec<_> = names.into_iter().map(String::as_str).collect();
                Err(format!("there is no {kind} `{wanted}`; there are: {}", names.join(", ")))
            }
            _ => Ok(()),
        };
        known("listener", &filter.listener, listeners.iter().map(|listener| &listener.name).collect())?;
        let of_it = |name: &String| filter.listener.as_ref().is_none_or(|wanted| wanted == name);
        let backends = listeners.iter().filter(|listener| of_it(&listener.name));
        let backends = backends.flat_map(|listener| &listener.backends).map(|backend| &backend.name);
        known("backend", &filter.backend, backends.collect())
    }

    /// Reads the files again. An error changes nothing.
    ///
    /// # Errors
    /// What is wrong, rendered for people.
    pub async fn reload(&self) -> Result<String, String> {
        let _one = self.reloading.lock().await;
        let is_keepalived = self.options.front == Front::Keepalived;
        if is_keepalived {
            info!(target: PARENT, "Reloading ...");
            self.options.announce_files();
        }
        let loaded = self.options.load();
        let rendered = loaded.diagnostics.render_human(false);
        let Some(mut config) = loaded.config else {
            error!(problems = rendered.trim_end(), "reload refused, everything goes on as before");
            return Err(rendered);
        };
        drop(loaded.diagnostics);
        config.process.net_namespace.clone_from(&self.options.namespace);
        let engine = self.engine()?.clone();
        let mut running = self.running.lock().await;
        share_unchanged(&mut config, &running.config);
        let config = Arc::new(config);
        let locks = running.locks.extended_to(&config).map_err(|error| self.refuse(&error.to_string()))?;
        privileges::check(&config).map_err(|missing| self.refuse(&missing.to_string()))?;
        let pages =
            running.pages.bind(&config.health_pages).map_err(|error| self.refuse(&error.to_string()))?;
        if let Err(refusal) = running.apply(&config, &self.names).await {
            running.bridge_verdicts(&engine);
            return Err(self.refuse(&refusal.to_string()));
        }
        running.pages.serve(pages, &self.ask());
        self.names.follow(&config);
        self.strangers.reload(config.clone());
        if let Some(notifier) = &running.notifier {
            notifier.reload(&config);
        }
        engine.apply(config.clone()).await.map_err(|error| self.refuse(&error.to_string()))?;
        if let Some(bfd) = &mut running.bfd
            && let Err(error) = bfd.apply(&config)
        {
            error!(%error, "no thread for the BFD sessions: all of them count as down");
        }
        running.locks = locks;
        let plan = Plan::between(&running.config, &config);
        if let Some(narrator) = &self.narrator {
            narrator.reload(config.clone());
        }
        let memory = config.clone();
        running.config = config;
        running.bridge_verdicts(&engine);
        drop(running);
        if is_keepalived {
            info!(target: PARENT, "Reload complete");
        }
        memory::give_back_beside(&memory);
        self.events.send(Kind::Reloaded { summary: plan.summary() });
        if !rendered.is_empty() {
            warn!(problems = rendered.trim_end(), "the new configuration has warnings");
        }
        if !plan.needs_restart().is_empty() {
            let settings = plan.needs_restart().join(", ");
            warn!(settings, "changed in the file, but only a restart takes them on");
        }
        let mut said = format!("reloaded: {plan}");
        if !rendered.is_empty() {
            said += &format!("\nwarnings:\n{rendered}");
        }
        Ok(said)
    }

    /// What [`Shared::reload`] would do now, in words; does nothing.
    ///
    /// # Errors
    /// What is wrong with the configuration, rendered for people.
    pub async fn plan(&self) -> Result<String, String> {
        let loaded = self.options.load();
        let rendered = loaded.diagnostics.render_human(false);
        let Some(mut config) = loaded.config else { return Err(rendered) };
        config.process.net_namespace.clone_from(&self.options.namespace);
        let running = self.running.lock().await.config.clone();
        let mut said = Plan::between(&running, &config).to_string();
        if !rendered.is_empty() {
            said += &format!("\nwarnings:\n{rendered}");
        }
        Ok(said)
    }

    fn refuse(&self, why: &str) -> String {
        error!(why, "reload refused, everything goes on as before");
        why.to_owned()
    }

    /// The engine is gone without having let go: its addresses are taken off in its place, so that two hosts
    /// do not hold them. Peers take over when they miss its adverts.
    pub async fn let_go(&self) {
        let config = self.running.lock().await.config.clone();
        let addresses: Vec<VirtualAddress> = config
            .instances
            .iter()
            // An owner's addresses may be all that its host has.
            .filter(|instance| instance.priority != OWNER)
            .flat_map(|instance| instance.held())
            .cloned()
            .collect();
        // Netlink here belongs to one thread.
        let (done, is_done) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
            let result = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
                runtime.block_on(async {
                    let (hold, _monitor) = hold::open().await.map_err(|error| error.to_string())?;
                    let failures = hold.remove(&addresses).await;
                    failures.first().map_or(Ok(()), |(_, error)| Err(error.to_string()))
                })
            });
            let _ = done.send(result);
        });
        match tokio::time::timeout(STATUS_LIMIT, is_done).await {
            Ok(Ok(Ok(()))) => info!("the addresses were taken off in place of the engine"),
            Ok(Ok(Err(error))) => error!(error, "addresses may have been left behind"),
            Ok(Err(_)) | Err(_) => error!("addresses may have been left behind"),
        }
    }

    /// A signal that asks for a dump. It is written in a task of its own: a full disk must not hold up the next
    /// signal.
    pub async fn dump(&self, asked: dumps::Asked) {
        let status = match self.status().await {
            Ok(status) => status,
            Err(error) => return warn!(error, "no dump"),
        };
        let config = self.running.lock().await.config.clone();
        let dumps = self.dumps.clone();
        tokio::spawn(async move { dumps.write(asked, config, status).await });
    }

    /// The data dump, line by line in the log.
    pub async fn log_dump(&self) {
        if let Ok(status) = self.status().await {
            let config = self.running.lock().await.config.clone();
            self.dumps.log(&config, &status);
        }
    }

    /// Ends sessions, checks and notifications, each within the limit.
    pub async fn stop_workers(&self, limit: Duration) {
        let mut running = self.running.lock().await;
        running.bridges.abort_all();
        if let Some(bfd) = running.bfd.take() {
            let _ = tokio::time::timeout(limit, bfd.stop()).await;
        }
        if let Some(forward) = running.forward.take() {
            let _ = tokio::time::timeout(limit, forward.stop()).await;
        }
        if let Some(notifier) = running.notifier.take() {
            let _ = tokio::time::timeout(limit, notifier.stop()).await;
        }
        let _ = tokio::time::timeout(limit, running.checks.stop()).await;
    }
}

impl Running {
    /// Has checks and forwarder run this configuration, with what names stand for now; all or nothing.
    async fn apply(&mut self, config: &Config, names: &Names) -> Result<(), ForwardError> {
        let effective = names.effective(config);
        self.checks.reload(&effective.checks, &config.process);
        let Self { checks, forward, .. } = self;
        if let Some(forward) = forward {
            let subject = |name: &str| checks.follow(name);
            if let Err(refusal) = forward.reload(&effective.listeners, subject, vips(config)).await {
                checks.reload(&names.effective(&self.config).checks, &self.config.process);
                return Err(refusal);
            }
        }
        self.bridge_abilities(config);
        Ok(())
    }

    /// Tells the checks of listeners what those can do, from now on.
    fn bridge_abilities(&mut self, config: &Config) {
        self.abilities.abort_all();
        self.abilities = JoinSet::new();
        let Some(forward) = &self.forward else { return };
        let names = config.checks.iter().filter_map(|check| match &check.probe {
            Probe::Listeners { names } => Some(names),
            _ => None,
        });
        for name in names.flatten().collect::<BTreeSet<_>>() {
            let Some(mut ability) = forward.ability(name) else { continue };
            let (name, teller) = (name.clone(), self.checks.session_teller());
            self.abilities.spawn(async move {
                loop {
                    let now = ability.borrow_and_update().clone();
                    if now.health != Health::Unknown {
                        let is_up = now.health == Health::Up;
                        while !teller.try_tell(listener_news(&name, is_up, now.detail.clone())) {
                            tokio::time::sleep(TOGETHER).await;
                        }
                    }
                    if ability.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
    }

    fn bridge_verdicts(&mut self, engine: &EngineHandle) {
        self.bridges.abort_all();
        self.bridges = JoinSet::new();
        let mut tracked: Vec<&str> = self
            .config
            .instances
            .iter()
            .flat_map(|instance| &instance.track_checks)
            .chain(self.config.sync_groups.iter().flat_map(|group| &group.track_checks))
            .map(|track| track.check.as_str())
            .collect();
        tracked.sort_unstable();
        tracked.dedup();
        for check in tracked {
            let Some(mut verdicts) = self.checks.subscribe(check) else { continue };
            let (check, engine) = (check.to_owned(), engine.clone());
            self.bridges.spawn(async move {
                loop {
                    let verdict = verdicts.borrow_and_update().clone();
                    if engine.verdict(check.clone(), verdict).await.is_err()
                        || verdicts.changed().await.is_err()
                    {
                        return;
                    }
                }
            });
        }
    }
}

impl ControlHandler for Shared {
    fn status(&self) -> BoxFuture<'_, Result<Status, String>> {
        Shared::status(self).boxed()
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        Shared::reload(self).boxed()
    }

    fn plan(&self) -> BoxFuture<'_, Result<String, String>> {
        Shared::plan(self).boxed()
    }

    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'_, Result<Vec<SessionStatus>, String>> {
        async move {
            let found = self.open_sessions().await?.list(&filter).await?;
            if found.is_empty() {
                self.knows(&filter).await?;
            }
            Ok(found)
        }
        .boxed()
    }

    fn close_sessions(&self, filter: SessionFilter) -> BoxFuture<'_, Result<String, String>> {
        async move {
            let closed = self.open_sessions().await?.close(&filter).await?;
            if closed == 0 {
                self.knows(&filter).await?;
            }
            info!(sessions = closed, ?filter, "sessions closed on request");
            Ok(format!("sessions closed: {closed}"))
        }
        .boxed()
    }

    fn order(&self, backend: String, order: Order) -> BoxFuture<'_, Result<String, String>> {
        async move {
            let running = self.running.lock().await;
            let forward = running.forward.as_ref().ok_or("still starting, ask again in a moment")?;
            forward.order(&backend, order).map_err(|error| error.to_string())
        }
        .boxed()
    }

    fn is_forgotten(&self) {
        // While something else goes on, that gives it back, or the next who looks.
        if let Ok(running) = self.running.try_lock() {
            memory::give_back_beside(&running.config);
        }
    }

    fn stop(&self) -> BoxFuture<'_, Result<String, String>> {
        // Full means that it was asked before.
        let _ = self.stop.try_send(());
        async { Ok("stopping: addresses are given up first".into()) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("keepalived.conf");
        std::fs::write(&file, text).unwrap();
        let options = config::LoadOptions::default();
        let mut config = config::load(&[&file], &options).config.unwrap();
        for instance in &mut config.instances {
            // Another directory each time.
            Arc::make_mut(instance).place.file = "keepalived.conf".into();
            for address in &mut Arc::make_mut(instance).addresses {
                address.place.file = "keepalived.conf".into();
            }
        }
        config
    }

    #[test]
    fn a_reload_takes_up_memory_for_what_it_changes_alone() {
        let instance = |name: &str, vrid: u8, priority: u8| {
            format!(
                "vrrp_instance {name} {{\n interface eth0\n virtual_router_id {vrid}\n priority {priority}\n \
                 virtual_ipaddress {{\n 192.0.2.{vrid}\n }}\n}}\n"
            )
        };
        let before = parsed(&(instance("one", 1, 100) + &instance("two", 2, 100)));
        let mut after = parsed(&(instance("one", 1, 100) + &instance("two", 2, 50)));
        share_unchanged(&mut after, &before);
        assert!(Arc::ptr_eq(&before.instances[0], &after.instances[0]));
        assert_eq!((before.instances[1].priority, after.instances[1].priority), (100, 50));
    }
}
