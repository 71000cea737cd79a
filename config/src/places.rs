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
        forget(&mut notify.any);
        forget(&mut notify.master);
        forget(&mut notify.backup);
        forget(&mut notify.fault);
        forget(&mut notify.stop);
        forget(&mut notify.deleted);
        forget(&mut notify.master_rx_lower_priority);
    }
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
