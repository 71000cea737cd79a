//! What does the operator want?
//!
//! TOML and keepalived.conf are doors into one typed model. Three stages: as written, with the place of
//! every word ([`written`]); as meant ([`model`]); ready to run ([`ready`]). [`load`] goes through all of
//! them and reports every problem of a configuration in one run.
//!
//! Nothing here opens a socket or asks the network. The host is asked for the users that scripts run as
//! and for its name; for interfaces, their addresses and scripts only when [`LoadOptions::check_host`] says so.

use std::path::Path;
use std::sync::Arc;

use diagnostic::{Diagnostic, Diagnostics, Location};
use format::Format;
use model::Model;

pub mod diagnostic;
pub mod model;
pub mod ready;
pub mod users;
pub mod written;

mod complete;
mod findings;
mod format;
mod haproxy;
mod hmac;
mod host;
mod iproute;
mod keepalived;
mod lint;
mod nginx;
mod places;
pub mod scripts;
mod time;
mod toml;
mod toml_writer;
mod validate;

pub use complete::CONTROL_SOCKET;
pub use places::{listener_without_places, without_places};
pub use toml_writer::to_toml;

/// `docs/keepalived.md`: every keyword of keepalived.conf and what becomes of it here, in Markdown.
#[must_use]
pub fn keepalived_keywords() -> String {
    keepalived::keywords_page()
}

/// `docs/haproxy.md`: every keyword of haproxy.cfg and what becomes of it here, in Markdown.
#[must_use]
pub fn haproxy_keywords() -> String {
    haproxy::keywords_page()
}

/// `docs/nginx.md`: every directive of nginx's `stream` and what becomes of it here, in Markdown.
#[must_use]
pub fn nginx_keywords() -> String {
    nginx::keywords_page()
}

/// `docs/check.md`: the code of every finding and what it means, in Markdown.
#[must_use]
pub fn findings_page() -> String {
    findings::page()
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// For `@ID` lines and `${_INSTANCE}` of keepalived.conf. Default: the host name up to its first dot.
    pub config_id: Option<String>,
    /// Warn of interfaces that are missing on this host, of addresses that do not fit its networks, and of scripts
    /// that are missing or cannot be run.
    pub check_host: bool,
    /// Look at the files of scripts, and leave out those that keepalived would not run: missing ones, and
    /// with `enable_script_security` those that others than root can change. For the daemon.
    pub judge_scripts: bool,
    /// Keep tracked scripts that nothing tracks, for a test that judges them too.
    pub keep_unused: bool,
    /// Where users are looked up. Default: on this host.
    pub users: users::Users,
    /// The default of `router_id`. Default: the name of this host.
    pub host_name: Option<String>,
}

impl LoadOptions {
    fn host_name(&self) -> String {
        let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        self.host_name.clone().or_else(host).unwrap_or_default()
    }

    /// What `@ID` lines are compared with.
    fn config_id(&self) -> String {
        let host = || self.host_name().split('.').next().unwrap_or_default().to_owned();
        self.config_id.clone().unwrap_or_else(host)
    }
}

/// What came of loading.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// `None` if there is any error. Warnings do not keep a configuration from running.
    pub config: Option<ready::Config>,
    /// Every problem that was found.
    pub diagnostics: Diagnostics,
}

/// Files that a name stands for, sorted; a name that is no file may be a shell pattern (`keepalived -f`), and a folder
/// stands for its `*.cfg` (`haproxy -f`).
#[must_use]
pub fn matching_files(pattern: &Path) -> Vec<std::path::PathBuf> {
    if pattern.is_dir() {
        let entries = std::fs::read_dir(pattern).into_iter().flatten().filter_map(Result::ok);
        let is_ours =
            |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "cfg") && path.is_file();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(is_ours).take(10_000).collect();
        paths.sort();
        return paths;
    }
    if pattern.exists() {
        return vec![pattern.to_owned()];
    }
    let Some(paths) = pattern.to_str().and_then(|pattern| glob::glob(pattern).ok()) else {
        return Vec::new();
    };
    let mut paths: Vec<_> = paths.filter_map(Result::ok).filter(|path| path.is_file()).take(10_000).collect();
    paths.sort();
    paths
}

/// Loads files, merged in this order.
///
/// TOML is known by its name (`.toml`) or by its tables, haproxy.cfg by its name (`.cfg`) or its sections, nginx.conf by
/// its blocks; anything else is read as keepalived.conf, several files as if the first included the others at its end.
pub fn load(paths: &[&Path], options: &LoadOptions) -> Loaded {
    let (config, diagnostics) = load_in_part(paths, options);
    Loaded { config: (!diagnostics.has_errors()).then_some(config), diagnostics }
}

/// As [`load`], with what can be understood of a configuration that cannot run, for those who judge on.
pub fn load_in_part(paths: &[&Path], options: &LoadOptions) -> (ready::Config, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let config = finish(read(paths, options, &mut diagnostics), options, &mut diagnostics);
    diagnostics.sort();
    (config, diagnostics)
}

/// The configuration of another router of the same addresses.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'p> {
    /// One file.
    pub path: &'p Path,
    /// For `@ID` lines, as that router reads them. Default: as on this one.
    pub config_id: Option<&'p str>,
}

/// Everything that can be said about a configuration: what [`load`] says, what is legal but cannot be meant,
/// and what keeps it from working with its peers.
///
/// Of the peers' own findings only errors are kept: each is to be checked by itself.
pub fn check(paths: &[&Path], peers: &[Peer<'_>], options: &LoadOptions) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let host = read_host(paths, options, &mut diagnostics);
    lint::alone(&host, &mut diagnostics);
    let mut others = Vec::new();
    for peer in peers {
        let config_id = peer.config_id.map(str::to_owned).or_else(|| options.config_id.clone());
        let elsewhere = LoadOptions { config_id, check_host: false, judge_scripts: false, ..options.clone() };
        let mut of_peer = Diagnostics::default();
        let other = read_host(&[peer.path], &elsewhere, &mut of_peer);
        // One that does not run lacks what its errors left out.
        others.extend(Some(other).filter(|_| !of_peer.has_errors()));
        diagnostics.take_errors(of_peer);
    }
    lint::among(&host, &others, &mut diagnostics);
    diagnostics.sort();
    diagnostics
}

/// As far as it can run, with the places of what was written.
fn read_host(paths: &[&Path], options: &LoadOptions, diagnostics: &mut Diagnostics) -> lint::Host {
    let model = read(paths, options, diagnostics);
    let written = lint::Written::new(&model);
    lint::Host { config: finish(model, options, diagnostics), written }
}

/// What is written in all files.
fn read(paths: &[&Path], options: &LoadOptions, diagnostics: &mut Diagnostics) -> Model {
    let mut model = Model::default();
    let mut keepalived = Vec::new();
    let mut toml = Vec::new();
    let mut haproxy = Vec::new();
    let mut nginx = Vec::new();
    // A folder stands for its `*.cfg`, as in `haproxy -f`.
    let in_folder =
        |path: &&Path| if path.is_dir() { matching_files(path) } else { vec![path.to_path_buf()] };
    let paths: Vec<_> = paths.iter().flat_map(in_folder).collect();
    for path in paths.iter().map(std::path::PathBuf::as_path) {
        let name: Arc<str> = path.display().to_string().into();
        match keepalived::read_file(path) {
            Err(reason) => {
                let finding = Diagnostic::error(
                    "unreadable",
                    &Location::file(&name),
                    format!("cannot read the file: {reason}"),
                );
                diagnostics.push(finding.expected("a readable configuration file"));
            }
            Ok(bytes) => match format::of(path, &bytes) {
                Format::Keepalived => keepalived.push((path, bytes)),
                Format::Toml => toml.push((path, bytes)),
                Format::Haproxy => haproxy.push((path, bytes)),
                Format::Nginx => nginx.push((path, bytes)),
            },
        }
    }
    keepalived::load(&keepalived, options, &mut model, diagnostics);
    haproxy::load(&haproxy, &mut model, diagnostics);
    for (path, bytes) in &nginx {
        nginx::load(path, bytes, &mut model, diagnostics);
    }
    for (path, bytes) in &toml {
        toml::load(path, bytes, options, &mut model, diagnostics);
    }
    model
}

/// Every default filled in, and the host asked what the options say.
fn finish(mut model: Model, options: &LoadOptions, diagnostics: &mut Diagnostics) -> ready::Config {
    if options.keep_unused {
        model.checks.iter_mut().for_each(|check| check.only_if_used = false);
    }
    let optional = model.checks.iter().filter(|c| c.only_if_used).map(|c| c.name.value.clone()).collect();
    let mut config = complete::complete(model, options.host_name(), &options.users, diagnostics);
    if options.judge_scripts {
        scripts::judge(&mut config, &optional, diagnostics);
    }
    if options.check_host {
        host::check(&config, diagnostics);
    }
    config
}
