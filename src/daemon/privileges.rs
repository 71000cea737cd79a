//! What the process may do, checked before anything is half done.

use std::fs;

use config::ready::{Config, Mode};

/// Numbers of `linux/capability.h`.
const CAP_NET_BIND_SERVICE: u32 = 10;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// A capability is missing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "missing {}: {}. Run as root, or grant it: in a systemd unit `AmbientCapabilities={}`, in a pod \
     `securityContext.capabilities.add`, or `setcap {}+ep` on the binary",
    names.join(" and "), reasons.join("; "), names.join(" "), names.join(",").to_lowercase()
)]
pub struct Missing {
    names: Vec<&'static str>,
    reasons: Vec<&'static str>,
}

/// Checks what `config` needs against what the process has.
///
/// # Errors
/// Names every capability that is missing.
pub fn check(config: &Config) -> Result<(), Missing> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Without /proc the kernel's own refusal comes later, with its place.
    effective(&status).map_or(Ok(()), |effective| check_against(config, effective))
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn check_against(config: &Config, effective: u64) -> Result<(), Missing> {
    let has = |capability: u32| effective >> capability & 1 == 1;
    let mut missing = Missing { names: Vec::new(), reasons: Vec::new() };
    let mut need = |capability, name, reason, needed: bool| {
        if needed && !has(capability) {
            missing.names.push(name);
            missing.reasons.push(reason);
        }
    };
    let transparent = config.listeners.iter().any(|listener| listener.policy.transparent);
    let elects = !config.instances.is_empty();
    need(CAP_NET_ADMIN, "CAP_NET_ADMIN", "it moves addresses with CAP_NET_ADMIN", elects);
    need(
        CAP_NET_ADMIN,
        "CAP_NET_ADMIN",
        "a listener is transparent: it connects from its clients' addresses",
        transparent && !elects,
    );
    need(CAP_NET_RAW, "CAP_NET_RAW", "it sends adverts and gratuitous ARP with CAP_NET_RAW", elects);
    let in_kernel = |listener: &config::ready::Listener| !matches!(listener.policy.mode, Mode::Proxy);
    let rules = !elects && config.listeners.iter().any(in_kernel);
    need(CAP_NET_ADMIN, "CAP_NET_ADMIN", "the kernel carries a listener", rules);
    let proxied = config.listeners.iter().filter(|listener| !in_kernel(listener));
    let low_port = proxied.flat_map(|listener| &listener.bind).any(|bind| is_privileged(bind.port()));
    need(CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE", "a listener has a port below 1024", low_port);
    if missing.names.is_empty() { Ok(()) } else { Err(missing) }
}

fn is_privileged(port: u16) -> bool {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    port < first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_capabilities_are_read_from_proc() {
        assert_eq!(effective("Name:\tvipd\nCapPrm:\t0\nCapEff:\t0000000000003000\n"), Some(0x3000));
        assert_eq!(effective("Name:\tvipd\n"), None);
    }

    #[test]
    fn the_refusal_names_what_is_missing_and_how_to_grant_it() {
        let missing = Missing { names: vec!["CAP_NET_RAW"], reasons: vec!["it sends adverts"] };
        let text = missing.to_string();
        for part in ["CAP_NET_RAW", "AmbientCapabilities=CAP_NET_RAW", "setcap cap_net_raw+ep"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
