//! The native format: TOML, every key known, every value at its place.
//!
//! The document is walked by hand, so that all its problems come in one run. `docs/configuration.md`
//! describes every key.

use std::path::Path;
use std::sync::Arc;

use ::toml::de::DeTable;

use crate::LoadOptions;
use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::iproute::Iproute;
use crate::model::Model;
use crate::ready::{Fifo, Probe};

mod address;
mod backend;
mod check;
mod group;
mod hmac;
mod instance;
mod listener;
mod network;
mod policy;
mod process;
mod route;
mod rule;
mod table;

pub(crate) use network::VMAC_PREFIX;
pub(crate) use route::{KINDS, METRICS, Unit};
pub(crate) use rule::ACTIONS;
use table::{Table, TextFile};

/// Reads one document and adds what it means to the model.
pub(crate) fn load(
    path: &Path,
    bytes: &[u8],
    options: &LoadOptions,
    model: &mut Model,
    diagnostics: &mut Diagnostics,
) {
    let file: Arc<str> = path.display().to_string().into();
    let text: Arc<str> = String::from_utf8_lossy(bytes).into();
    diagnostics.add_source(&file, text.clone());
    if let Some(line) = std::str::from_utf8(bytes)
        .err()
        .map(|error| bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count())
    {
        let mut at = Location::file(&file);
        at.place.line = u32::try_from(line + 1).unwrap_or(u32::MAX);
        at.length = 1;
        diagnostics.push(
            Diagnostic::error("not-utf-8", &at, "bytes that are not UTF-8").expected("TOML, which is UTF-8"),
        );
        return;
    }
    let text_file = TextFile::new(file, &text);
    text_file.hide_secrets(diagnostics);
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        let at = text_file.location(&error.span().unwrap_or(0..0));
        diagnostics
            .push(Diagnostic::error("toml-syntax", &at, error.message().trim().to_owned()).expected("TOML"));
    }
    if !errors.is_empty() {
        // What the parser recovered may have lost keys: judging the rest would invent problems.
        return;
    }
    let mut door = Door {
        file: &text_file,
        options,
        model,
        diagnostics,
        iproute: Iproute::default(),
        track_groups: Vec::new(),
        next_preference: [rule::FIRST_PREFERENCE; 2],
    };
    let span = document.span();
    let root = Table::new(document.get_ref(), text_file.location(&(span.start..span.start)));
    door.root(root);
    door.values_of_files();
}

/// What is needed while a document is walked.
struct Door<'a> {
    file: &'a TextFile<'a>,
    options: &'a LoadOptions,
    model: &'a mut Model,
    diagnostics: &'a mut Diagnostics,
    /// Names of routing tables and the like.
    iproute: Iproute,
    /// Track groups that are named.
    track_groups: Vec<Located<String>>,
    /// Preferences for rules without one: IPv4, IPv6.
    next_preference: [u32; 2],
}

impl Door<'_> {
    fn root(&mut self, mut root: Table<'_>) {
        let router_id = self.text(&mut root, "router_id");
        once(&mut self.model.router_id, router_id, "router_id", self.diagnostics);
        if let Some(mut control) = self.table(&mut root, "control") {
            let socket = self.path(&mut control, "socket");
            once(&mut self.model.control_socket, socket, "control.socket", self.diagnostics);
            let metrics = self.socket_address(&mut control, "metrics");
            once(&mut self.model.metrics, metrics, "control.metrics", self.diagnostics);
            let web = self.socket_address(&mut control, "web");
            once(&mut self.model.web, web, "control.web", self.diagnostics);
            self.finish(control);
        }
        if let Some(engine) = self.table(&mut root, "engine") {
            self.engine(engine);
        }
        if let Some(process) = self.table(&mut root, "process") {
            self.process_table(process);
        }
        if let Some(mail) = self.table(&mut root, "mail") {
            self.mail(mail);
        }
        for group in self.tables(&mut root, "announcement_group") {
            self.announcement_group(group);
        }
        for delay in self.tables(&mut root, "link_delay") {
            self.link_delay(delay);
        }
        for bfd in self.tables(&mut root, "bfd") {
            self.bfd(bfd);
        }
        self.fixed(&mut root);
        for check in self.tables(&mut root, "check") {
            self.check(check);
        }
        for instance in self.tables(&mut root, "instance") {
            self.instance(instance);
        }
        for group in self.tables(&mut root, "sync_group") {
            self.sync_group(group);
        }
        for listener in self.tables(&mut root, "listener") {
            self.listener(listener);
        }
        if let Some(forwarder) = self.table(&mut root, "forwarder") {
            self.forwarder(forwarder);
        }
        for page in self.tables(&mut root, "health_page") {
            self.health_page(page);
        }
        for fifo in self.tables(&mut root, "fifo") {
            self.fifo(fifo);
        }
        self.known_track_groups();
        self.finish(root);
    }

    fn fifo(&mut self, mut table: Table<'_>) {
        let path = self.path(&mut table, "path");
        let script = self.command(&mut table, "script");
        let user = self.user(&mut table);
        if path.is_none() {
            self.missing(&table, "path", "the path of the pipe");
        }
        if let Some(path) = path {
            self.model.fifos.push(Fifo { place: path.at.place, path: path.value, script, user });
        }
        self.finish(table);
    }

    /// The weight of a check whose file holds a value is multiplied with it.
    fn values_of_files(&mut self) {
        use crate::ready::{Effect, FileExpect};
        let holds_value = |check: &crate::model::Check| {
            matches!(check.probe, Probe::File { expect: FileExpect::Value, .. })
        };
        let values: Vec<String> =
            self.model.checks.iter().filter(|c| holds_value(c)).map(|c| c.name.value.clone()).collect();
        let of_instances = self.model.instances.iter_mut().map(|instance| &mut instance.trackers);
        let of_groups = self.model.sync_groups.iter_mut().map(|group| &mut group.trackers);
        for tracked in of_instances.chain(of_groups).flat_map(|trackers| &mut trackers.checks) {
            if let Effect::Weight { weight, reverse } = tracked.effect
                && values.contains(&tracked.check.value)
            {
                tracked.effect = Effect::Value { weight, reverse };
            }
        }
    }
}

/// Keeps a value that several files may set, but only one does.
fn once<T>(
    slot: &mut Option<Located<T>>,
    value: Option<Located<T>>,
    key: &str,
    diagnostics: &mut Diagnostics,
) {
    let Some(value) = value else { return };
    if let Some(first) = slot {
        let finding = Diagnostic::error("conflict", &value.at, format!("`{key}` is set in another file too"));
        diagnostics.push(finding.help(format!("the other is at {}; keep one", first.at.place)));
        return;
    }
    *slot = Some(value);
}
