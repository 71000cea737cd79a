//! Comparing configurations that were written in different files.

use std::sync::Arc;

use crate::ready::{Command, Config, Place, Probe};

/// The configuration without the places of its values: two that are equal now do the same.
#[must_use]
pub fn without_places(mut config: Config) -> Config {
    let file: Arc<str> = "".into();
    let nowhere = Place { file, line: 0, column: 0 };
    let forget = |command: &mut Option<Command>| {
        if let Some(command) = command {
            command.place = nowhere.clone();
        }
    };
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
        let notify = &mut instance.notify;
        instance.routes.iter_mut().for_each(|route| route.place = nowhere.clone());
        instance.rules.iter_mut().for_each(|rule| rule.place = nowhere.clone());
        forget(&mut notify.any);
        forget(&mut notify.master);
        forget(&mut notify.backup);
        forget(&mut notify.fault);
        forget(&mut notify.stop);
        forget(&mut notify.deleted);
        forget(&mut notify.master_rx_lower_priority);
    }
    config.track_groups.iter_mut().for_each(|group| group.place = nowhere.clone());
    config.static_addresses.iter_mut().for_each(|fixed| fixed.address.place = nowhere.clone());
    config.static_routes.iter_mut().for_each(|route| route.place = nowhere.clone());
    config.static_rules.iter_mut().for_each(|rule| rule.place = nowhere.clone());
    for listener in &mut config.listeners {
        listener.place = nowhere.clone();
        for backend in &mut listener.backends {
            backend.place = nowhere.clone();
        }
    }
    for fifo in &mut config.fifos {
        fifo.place = nowhere.clone();
        forget(&mut fifo.script);
    }
    config
}
