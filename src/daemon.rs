//! Builds the rooms from a configuration, wires what flows between them, reloads, stops.

mod dumps;
mod locks;
mod memory;
pub mod pid;
mod plan;
mod privileges;
pub mod process;
mod watchdog;
mod wiring;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use config::ready::Config;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::elect::Engine;
use crate::guard::{self, Life, ToGuard};
use crate::notify::hook;
use crate::observe::control::{Control, ControlError};
use crate::observe::event::EventSender;
use crate::observe::keepalived::RELEASE;
use crate::observe::keepalived::lines::Narrator;
use crate::observe::log::keepalived::PARENT;
use crate::observe::log::{self, Log};

use self::dumps::Dumps;
use self::locks::{LockError, Locks};
use self::pid::{PidError, PidFiles};
use self::wiring::{Shared, Workers};

/// Events that may wait for the dispatcher.
const EVENT_QUEUE: usize = 4096;
/// Longest wait for scripts, sessions and notifications at the end, each.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// At least one.
    pub files: Vec<PathBuf>,
    /// Where log lines go.
    pub log: log::Options,
    /// Instead of the configured one.
    pub control_socket: Option<PathBuf>,
    /// Each gets our pid, and is removed at the end.
    pub pid_files: pid::Wanted,
    /// Instead of the configured one.
    pub umask: Option<u32>,
    /// Network namespace that was entered already; goes before the configured one.
    pub namespace: Option<String>,
    /// Addresses stay, and no advert of priority 0 is sent, when a signal ends the daemon (`-V`).
    pub leave_everything: bool,
    /// What is written of BFD is left out (`-B`).
    pub without_bfd: bool,
    /// What is written of instances, and what is static, is left out (`-C`).
    pub without_vrrp: bool,
    /// Virtual servers are left out (`-P`).
    pub without_checkers: bool,
    /// The data dump goes to the log at the start (`-d`).
    pub dump: bool,
    /// For `@ID` lines and `${_INSTANCE}`.
    pub config_id: Option<String>,
    /// Whose exit codes and habits to follow.
    pub front: Front,
    /// A parent process takes the addresses off when this one dies, and starts another.
    pub is_guarded: bool,
    /// The way to it, once it is there.
    pub guard: ToGuard,
    /// Which daemon of that guard this is.
    pub life: Life,
}

impl Options {
    /// Reads the configuration files.
    pub fn load(&self) -> config::Loaded {
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        let options = config::LoadOptions {
            config_id: self.config_id.clone(),
            judge_scripts: true,
            ..config::LoadOptions::default()
        };
        let mut loaded = config::load(&files, &options);
        if let (true, Some(config)) = (self.without_bfd, &mut loaded.config) {
            config.bfd.clear();
            for instance in &mut config.instances {
                Arc::make_mut(instance).track_bfd.clear();
            }
            config.sync_groups.iter_mut().for_each(|group| group.track_bfd.clear());
        }
        if let Some(config) = &mut loaded.config {
            if self.without_vrrp {
                config.leave_out_vrrp();
            }
            if self.without_checkers {
                config.leave_out_listeners();
            }
        }
        loaded
    }

    /// keepalived's first lines.
    fn announce(&self) {
        if self.front != Front::Keepalived {
            return;
        }
        let words: Vec<String> = std::env::args_os().map(|word| format!("'{}'", word.display())).collect();
        info!(target: PARENT, "Starting {}", RELEASE);
        if let Ok(host) = nix::sys::utsname::uname() {
            let (release, version) = (host.release().display(), host.version().display());
            info!(target: PARENT, "Running on {} {release} {version}", host.sysname().display());
        }
        info!(target: PARENT, "Command line: {}", words.join(" "));
        self.announce_files();
    }

    fn announce_files(&self) {
        for file in &self.files {
            debug!(target: PARENT, "Opening file '{}'.", file.display());
            info!(target: PARENT, "Configuration file {}", file.display());
        }
    }

    /// On standard error, and under the name keepalived in the log: in the background nobody reads the former.
    fn say_why_not(&self, why: &dyn std::error::Error) {
        eprintln!("vipd: not started: {why}");
        if self.front == Front::Keepalived {
            error!(target: PARENT, "not started: {why}");
        }
    }
}

/// The name we were started under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// `vipd run`.
    Vipd,
    /// `keepalived`: its exit codes; a control socket that cannot be had is only a warning.
    Keepalived,
}

/// Exit codes: 1 cannot start, 2 (keepalived's) broken configuration, 4 missing permission, 70 internal error.
mod exit {
    /// When it was asked to.
    pub const STOPPED: u8 = 0;
    /// keepalived 2.2.7, when another one runs.
    pub const KEEPALIVED_RUNS: u8 = 0;
    pub const CANNOT_START: u8 = 1;
    pub const KEEPALIVED_CONFIG: u8 = 2;
    pub const PERMISSION: u8 = 4;
    pub const INTERNAL: u8 = 70;
}

/// Runs until a signal ends it, with a guard above it unless that is not wanted. Must be called before any thread is
/// started.
pub fn run(options: Options) -> ExitCode {
    let code = if options.is_guarded {
        guard::watch(|guard, life| run_here(Options { guard, life, ..options.clone() }))
    } else {
        run_here(options)
    };
    ExitCode::from(code)
}

/// Everything wrong is said on standard error before the log begins, and in the log after that.
fn run_here(mut options: Options) -> u8 {
    memory::keep_small();
    let mut loaded = options.load();
    if let (None, Some(config)) = (&options.namespace, &loaded.config)
        && let Some(name) = config.process.net_namespace.clone()
    {
        if let Err(error) = process::enter_namespace(&name) {
            eprintln!("vipd: not started: {error}");
            return exit::CANNOT_START;
        }
        options.namespace = Some(name);
        // Interfaces are others there.
        loaded = options.load();
    }
    eprint!("{}", loaded.diagnostics.render_human(io::stderr().is_terminal()));
    let Some(mut config) = loaded.config else {
        eprintln!("vipd: not started: the configuration has errors");
        return match options.front {
            Front::Vipd => exit::CANNOT_START,
            Front::Keepalived => exit::KEEPALIVED_CONFIG,
        };
    };
    config.process.net_namespace.clone_from(&options.namespace);
    if let Err(missing) = privileges::check(&config) {
        eprintln!("vipd: not started: {missing}");
        return exit::PERMISSION;
    }
    let umask = process::set_umask(options.umask, &config.process, options.front == Front::Keepalived);
    process::set_name(&config.process);
    if let Some(ways) = &mut options.log.keepalived {
        let parts = [&config.process.net_namespace, &config.process.instance];
        ways.suffix = parts.into_iter().flatten().map(|part| format!("_{part}")).collect();
    }
    let log = match log::init(&options.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("vipd: not started: {error}");
            return exit::CANNOT_START;
        }
    };
    options.announce();
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("vipd-worker")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("vipd: not started: cannot start worker threads: {error}");
            return exit::INTERNAL;
        }
    };
    // Whoever reads a pid file may signal at once, so signals are taken before there is one.
    let (stop, stop_asked) = mpsc::channel(1);
    let signals = {
        let _inside = runtime.enter();
        Signals::new(stop_asked)
    };
    let signals = match signals {
        Ok(signals) => Taken { signals, stop },
        Err(error) => {
            options.say_why_not(&StartError::Signals(error));
            return exit::CANNOT_START;
        }
    };
    let checkers = config.shown.virtual_servers > 0 && !options.without_checkers;
    // The text of every file hangs on them.
    drop(loaded.diagnostics);
    memory::give_back();
    let pid_files = match PidFiles::write(&options.pid_files.paths(&config, checkers, options.life.guard)) {
        Ok(files) => files,
        Err(error @ PidError::Running { .. }) if options.front == Front::Keepalived => {
            info!(target: PARENT, "{error}");
            return exit::KEEPALIVED_RUNS;
        }
        Err(error) => {
            options.say_why_not(&error);
            return exit::CANNOT_START;
        }
    };
    let code = runtime.block_on(async {
        let said = options.clone();
        match Daemon::start(options, config, log, pid_files, Dumps::new(umask), signals).await {
            Ok(daemon) => daemon.serve().await,
            Err(error) => {
                said.say_why_not(&error);
                exit::CANNOT_START
            }
        }
    });
    // A script or a name look-up that hangs must not hold up the exit.
    runtime.shutdown_timeout(Duration::from_millis(200));
    code
}

/// Every session of the forwarder takes two descriptors; the usual soft limit of 1024 is for programs that use
/// select(2). Without permission for more the forwarder says so.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else answers there, or it cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Another process runs the same virtual router here.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] crate::elect::StartError),
    /// A listener.
    #[error(transparent)]
    Forward(#[from] crate::forward::ForwardError),
    /// A health page.
    #[error(transparent)]
    Page(#[from] crate::forward::page::PageError),
    /// Signals.
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
}

struct Daemon {
    shared: Arc<Shared>,
    engine: Engine,
    control: Option<Control>,
    signals: Signals,
    pid_files: PidFiles,
    log: Log,
}

impl Daemon {
    async fn start(
        options: Options,
        config: Config,
        log: Log,
        pid_files: PidFiles,
        dumps: Dumps,
        Taken { signals, stop }: Taken,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let (events, queue) = EventSender::channel(EVENT_QUEUE);
        // What can be refused comes first: another vipd, a taken port. No address has moved by then.
        let locks = Locks::default().extended_to(&config)?;
        hook::before_start(&config.process).await;
        let narrator = (options.front == Front::Keepalived).then(|| Arc::new(Narrator::new(config.clone())));
        let workers = Workers::new(&config, &events, queue, narrator);
        if options.front == Front::Keepalived && !config.instances.is_empty() {
            info!(target: PARENT, "Starting VRRP child process, pid={}", std::process::id());
        }
        let shared = Shared::new(options, config.clone(), locks, workers, events.clone(), &log, dumps, stop);
        let control = shared.open_control(&config)?;
        shared.start_forward().await?;
        shared.follow_names();
        let verdicts = shared.first_verdicts().await;
        let engine = Engine::start(config.clone(), verdicts, events, shared.options().guard.clone())?;
        shared.engine_started(engine.handle()).await;
        info!(
            version = env!("CARGO_PKG_VERSION"),
            instances = config.instances.len(),
            checks = config.checks.len(),
            listeners = config.listeners.len(),
            "started"
        );
        if let Some(last) = &shared.options().life.last {
            error!("started again by the guard: the daemon before this one, {last}");
        }
        if shared.options().front == Front::Keepalived {
            info!(target: PARENT, "Startup complete");
        }
        if shared.options().dump {
            shared.log_dump().await;
        }
        memory::give_back_later(config.clone());
        shared.options().guard.tell("READY=1");
        let service = shared.options().life.guard.unwrap_or_else(Pid::this);
        watchdog::feed(engine.handle(), shared.options().guard.clone(), service);
        Ok(Self { shared, engine, control, signals, pid_files, log })
    }

    async fn serve(mut self) -> u8 {
        let engine = self.engine.handle();
        let mut leaves = false;
        let guard = self.shared.options().guard.clone();
        let code = loop {
            tokio::select! {
                () = engine.ended() => {
                    error!("the engine thread ended by itself; exiting so that a supervisor starts anew");
                    self.shared.let_go().await;
                    break exit::INTERNAL;
                }
                () = guard.gone() => {
                    warn!("the guard, our parent process, has gone: stopping in good order");
                    break exit::INTERNAL;
                }
                asked = self.signals.next() => match asked {
                    Asked::Stop(why) => {
                        if self.shared.options().front == Front::Keepalived {
                            info!(target: PARENT, "Stopping");
                        }
                        info!(why, "stopping");
                        leaves = self.shared.options().leave_everything;
                        break exit::STOPPED;
                    }
                    Asked::Reload => {
                        self.shared.options().guard.tell("RELOADING=1");
                        // The outcome is in the log and the events.
                        let _ = self.shared.reload().await;
                        self.shared.options().guard.tell("READY=1");
                    }
                    Asked::Dump(what) => self.shared.dump(what).await,
                },
            }
        };
        self.shared.options().guard.tell("STOPPING=1");
        // First let go of the addresses, in good order: the peers take over meanwhile.
        if leaves {
            self.shared.options().guard.forget_all();
            info!("everything stays as it is, as asked for");
        } else if tokio::time::timeout(STOP_LIMIT, engine.shutdown()).await.is_err() {
            error!("the engine did not let go of the addresses in time");
        }
        self.shared.stop_workers(STOP_LIMIT).await;
        if let Some(control) = self.control {
            control.stop().await;
        }
        hook::after_stop(&self.shared.config().await.process).await;
        drop(self.pid_files);
        info!("stopped");
        if self.shared.options().front == Front::Keepalived {
            info!(target: PARENT, "Stopped {}", RELEASE);
        }
        drop(self.log);
        code
    }
}

/// What somebody outside wants.
enum Asked {
    Stop(&'static str),
    Reload,
    Dump(dumps::Asked),
}

/// SIGRTMIN+2 and SIGRTMAX-1 of glibc, as `keepalived --signum` prints them.
const JSON: i32 = 36;
const STATS_CLEAR: i32 = 63;

/// Signals that wait for us, and the way to stop from inside.
struct Taken {
    signals: Signals,
    stop: mpsc::Sender<()>,
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    user1: tokio::signal::unix::Signal,
    user2: tokio::signal::unix::Signal,
    stats_clear: tokio::signal::unix::Signal,
    json: tokio::signal::unix::Signal,
    control: mpsc::Receiver<()>,
}

impl Signals {
    fn new(control: mpsc::Receiver<()>) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            stats_clear: signal(SignalKind::from_raw(STATS_CLEAR))?,
            json: signal(SignalKind::from_raw(JSON))?,
            control,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Asked::Stop("SIGINT"),
            _ = self.hangup.recv() => Asked::Reload,
            _ = self.user1.recv() => Asked::Dump(dumps::Asked::Data),
            _ = self.user2.recv() => Asked::Dump(dumps::Asked::Stats),
            _ = self.stats_clear.recv() => Asked::Dump(dumps::Asked::StatsClear),
            _ = self.json.recv() => Asked::Dump(dumps::Asked::Json),
            Some(()) = self.control.recv() => Asked::Stop("asked over the control socket"),
        }
    }
}
