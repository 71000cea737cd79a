//! kubeadm's own keepalived.conf, its placeholders filled, means what keepalived makes of it.

use std::path::Path;
use std::time::Duration;

use config::ready::{Authentication, Effect, Family, Probe, TrackCheck, Transport, Version};
use config::users::Users;
use config::{LoadOptions, load};

#[test]
fn kubeadm_configuration_has_keepalived_defaults() {
    let options = LoadOptions { users: Users::Fixed(Vec::new()), ..LoadOptions::default() };
    let loaded = load(&[Path::new("tests/cases/kubeadm/input.conf")], &options);
    let config = loaded.config.expect("no errors");
    assert_eq!(config.router_id, "LVS_DEVEL");

    let [check] = config.checks.as_slice() else { panic!("one check: {:?}", config.checks) };
    let Probe::Script(command) = &check.probe else { panic!("a script: {:?}", check.probe) };
    assert_eq!(command.program, Path::new("/etc/keepalived/check_apiserver.sh"));
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(3), Duration::from_secs(3)));
    assert_eq!((check.rise, check.fall, check.first_result_decides), (2, 10, true));

    let [instance] = config.instances.as_slice() else { panic!("one instance: {:?}", config.instances) };
    assert_eq!((instance.interface.as_str(), instance.vrid, instance.priority), ("eth0", 51, 101));
    assert_eq!((instance.version, instance.family), (Version::V2, Family::Ipv4));
    assert_eq!(instance.authentication, Authentication::Pass(*b"42\0\0\0\0\0\0"));
    assert_eq!(instance.transport, Transport::Multicast { group: [224, 0, 0, 18].into() });
    assert!(instance.preempt && !instance.start_active, "MASTER of priority 101 waits like any other");
    assert_eq!((instance.addresses[0].prefix_length, instance.addresses[0].interface.as_str()), (32, "eth0"));
    let effect = Effect::Weight { weight: -2, reverse: false };
    assert_eq!(instance.track_checks, [TrackCheck { check: "check_apiserver".into(), effect }]);
    assert_eq!(instance.gratuitous_arp.rounds, 5);
    assert_eq!(instance.gratuitous_arp.again_after, Some(Duration::from_secs(5)));
}
