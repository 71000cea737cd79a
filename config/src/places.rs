//! Comparing configurations that were written in different files.

use std::sync::Arc;

use crate::ready::{Command, Config, Notify, Place, Probe};

/// The configuration without the places of its values: two that are equal now do the same.
#[must_use]
pub fn without_places(mut config: Config) -> Config {
    let file: Arc<str> = "".into();
    let nowhere = Place { file, line: 0, column: 0 };
    config.shown = crate::ready::Shown::default();
    for check in &mut config.checks {
        check.place = nowhere.clone();
        if let Probe::Script(command) = &mut check.probe {
            command.place = nowhere.clone();
        }
    }
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
    for listener in &mut config.listeners {
        listener.place = nowhere.clone();
        for backend in &mut listener.backends {
            backend.place = nowhere.clone();
        }
    }
    for fifo in &mut config.fifos {
        fifo.place = nowhere.clone();
        forget(&mut fifo.script, &nowhere);
    }
    config
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
