//! Comparing configurations that were written in different files.

use std::sync::Arc;

use crate::ready::{Backend, Check, Command, Config, Listener, Notify, Place};

/// The configuration without the places of its values: two that are equal now do the same.
#[must_use]
pub fn without_places(mut config: Config) -> Config {
    let file: Arc<str> = "".into();
    let nowhere = Place { file, line: 0, column: 0 };
    config.shown = crate::ready::Shown::default();
    config.checks.iter_mut().for_each(|check| forget_check(check, &nowhere));
    for instance in config.instances.iter_mut().map(Arc::make_mut) {
        instance.place = nowhere.clone();
        for address in instance.addresses.iter_mut().chain(&mut instance.excluded) {
            address.place = nowhere.clone();
        }
        instance.routes.iter_mut().for_each(|route| route.place = nowhere.clone());
        instance.rules.iter_mut().for_each(|rule| rule.place = nowhere.clone());
        forget_notify(&mut instance.notify, &nowhere);
    }
    config.track_groups.iter_mut().for_each(|group| group.place = nowhere.clone());
    config.static_addresses.iter_mut().for_each(|fixed| fixed.address.place = nowhere.clone());
    config.static_routes.iter_mut().for_each(|route| route.place = nowhere.clone());
    config.static_rules.iter_mut().for_each(|rule| rule.place = nowhere.clone());
    for group in &mut config.sync_groups {
        group.place = nowhere.clone();
        forget_notify(&mut group.notify, &nowhere);
    }
    for place in (config.bfd.iter_mut().map(|one| &mut one.place))
        .chain(config.announcement_groups.iter_mut().map(|one| &mut one.place))
        .chain(config.link_delays.iter_mut().map(|one| &mut one.place))
    {
        *place = nowhere.clone();
    }
    forget(&mut config.process.startup, &nowhere);
    forget(&mut config.process.shutdown, &nowhere);
    config.listeners.iter_mut().for_each(|listener| forget_listener(listener, &nowhere));
    config.health_pages.iter_mut().for_each(|page| page.place = nowhere.clone());
    for fifo in &mut config.fifos {
        fifo.place = nowhere.clone();
        forget(&mut fifo.script, &nowhere);
    }
    config
}

/// A listener without the places of its values.
#[must_use]
pub fn listener_without_places(mut listener: Listener) -> Listener {
    forget_listener(&mut listener, &Place { file: "".into(), line: 0, column: 0 });
    listener
}

fn forget_listener(listener: &mut Listener, nowhere: &Place) {
    listener.place = nowhere.clone();
    listener.backends.iter_mut().for_each(|backend| forget_backend(backend, nowhere));
    for discovery in &mut listener.discovered {
        forget_backend(&mut discovery.template, nowhere);
        if let Some(check) = &mut discovery.check {
            forget_check(check, nowhere);
        }
    }
    if let Some(quorum) = &mut listener.policy.quorum {
        forget(&mut quorum.up, nowhere);
        forget(&mut quorum.down, nowhere);
    }
}

fn forget_backend(backend: &mut Backend, nowhere: &Place) {
    backend.place = nowhere.clone();
    forget(&mut backend.policy.notify_up, nowhere);
    forget(&mut backend.policy.notify_down, nowhere);
}

fn forget_check(check: &mut Check, nowhere: &Place) {
    check.place = nowhere.clone();
    if let Some(command) = check.probe.command_mut() {
        command.place = nowhere.clone();
    }
}

fn forget(command: &mut Option<Box<Command>>, nowhere: &Place) {
    if let Some(command) = command {
        command.place = nowhere.clone();
    }
}

fn forget_notify(notify: &mut Notify, nowhere: &Place) {
    for command in [
        &mut notify.any,
        &mut notify.master,
        &mut notify.backup,
        &mut notify.fault,
        &mut notify.stop,
        &mut notify.deleted,
        &mut notify.master_rx_lower_priority,
    ] {
        forget(command, nowhere);
    }
}
