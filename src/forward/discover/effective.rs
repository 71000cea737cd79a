//! What a configuration means once names are addresses.

use config::ready::{Backend, Check, Config, Discovery, Listener, Lookup};

use super::look_up::Server;

/// What the checks and the forwarder are to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// With a backend for each address.
    pub listeners: Vec<Listener>,
    /// Those of the configuration, and one for each address that has one.
    pub checks: Vec<Check>,
}

/// `servers` tells what a name stands for.
pub fn of(config: &Config, servers: impl Fn(&Lookup) -> Vec<Server>) -> Effective {
    let mut effective = Effective { listeners: config.listeners.clone(), checks: config.checks.clone() };
    for listener in &mut effective.listeners {
        for discovery in &listener.discovered {
            let servers = servers(&discovery.from);
            let first = servers.iter().map(|server| server.priority).min().unwrap_or(0);
            // RFC 2782: where all have 0 there is nothing to choose by.
            let weighted = servers.iter().any(|server| server.weight.is_some_and(|weight| weight > 0));
            for server in &servers {
                let (mut backend, check) = backend(&listener.name, discovery, server);
                backend.policy.backup |= server.priority > first;
                if let Some(weight) = server.weight.filter(|_| weighted) {
                    backend.weight = weight.max(1);
                }
                listener.backends.push(backend);
                effective.checks.extend(check);
            }
        }
    }
    effective
}

fn backend(listener: &str, discovery: &Discovery, server: &Server) -> (Backend, Option<Check>) {
    let template = &discovery.template;
    let name = format!("{}/{}", template.name, server.address);
    let mut checks = template.checks.clone();
    let check = discovery.check.as_ref().map(|check| {
        let mut check = check.clone();
        check.name = format!("{listener}/{name}");
        check.aim_by_name(&server.host, server.address);
        check
    });
    checks.extend(check.as_ref().map(|check| check.name.clone()));
    (Backend { name, address: server.address, checks, ..template.clone() }, check)
}
