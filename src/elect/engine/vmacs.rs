//! VMACs: which instance needs which, what they are called, and whether they are there.

use config::ready::{Family, Instance as Wanted, Vmac};

use super::*;
use crate::hold::{Link, Links, MadeVmac, Silenced, VmacSpec};

/// All that this daemon has.
#[derive(Debug, Default)]
pub(super) struct Vmacs {
    devices: Vec<Device>,
    /// The firewall's table, once something needed one.
    firewall: Option<config::ready::Firewall>,
    promoting: BTreeSet<String>,
}

#[derive(Debug)]
struct Device {
    spec: VmacSpec,
    made: Option<MadeVmac>,
    failed: Option<String>,
    busy: bool,
    /// It was asked for while it was being made.
    again: bool,
    /// It was seen up since it was made.
    seen_up: bool,
    /// The link-local address of its base that is on its way to it.
    copying: Option<IpAddr>,
    /// The copy that it has.
    copied: Option<IpAddr>,
}

/// What came of making one.
#[derive(Debug)]
pub(super) struct VmacNews {
    name: String,
    result: Result<(MadeVmac, Vec<String>), String>,
}

impl Vmacs {
    fn device(&self, name: &str) -> Option<&Device> {
        self.devices.iter().find(|device| device.spec.name == name)
    }

    fn device_mut(&mut self, name: &str) -> Option<&mut Device> {
        self.devices.iter_mut().find(|device| device.spec.name == name)
    }

    /// It is there and the firewall knows of it; a VMAC of somebody else is none.
    pub(super) fn is_ready(&self, name: &str) -> bool {
        self.device(name).is_some_and(|device| device.made.is_some())
    }

    /// What keeps an instance from taking part because of its VMACs.
    pub(super) fn faults(&self, instance: &Instance, links: &Links) -> Vec<Fault> {
        let mut faults = Vec::new();
        for name in instance.vmac_names() {
            let Some(device) = self.device(name) else { continue };
            let is_up = |name: &str| links.by_name(name).is_some_and(|link| link.up);
            let own = Some(name) == instance.vmac_name();
            let lacks_source = own
                && instance.config.family == Family::Ipv6
                && instance.source.is_some()
                && device.copied != instance.source;
            if let Some(error) = &device.failed {
                faults.push(Fault::Vmac { error: error.clone() });
            } else if !is_up(&device.spec.base) && !own {
                // An address's own; without its base it waits as any other address does.
            } else if !is_up(&device.spec.base) {
                // The base's fault is told of already, or does not count.
            } else if device.made.is_none() || !device.seen_up || lacks_source {
                faults.push(Fault::Preparing { what: format!("VMAC {name} and its addresses") });
            } else if links.by_name(name).is_none() {
                faults.push(Fault::InterfaceMissing { interface: name.to_owned() });
            } else if !is_up(name) {
                faults.push(Fault::InterfaceDown { interface: name.to_owned() });
            }
        }
        faults
    }

    /// Chooses a name as keepalived 2.2.7 does: `PREFIX.VRID`; when that is taken `PREFIX1.VRID` and so on, for IPv6
    /// `PREFIX6.VRID` first. What is left from a former life is taken over.
    fn choose(
        &self,
        prefix: &str,
        family: Family,
        vrid: u8,
        links: &Links,
        fits: impl Fn(&Link) -> bool,
    ) -> String {
        let first = if family == Family::Ipv6 { "6" } else { "" };
        let numbers =
            ["".to_owned(), first.to_owned()].into_iter().chain((1..=999).map(|n: u32| n.to_string()));
        numbers
            .map(|number| format!("{prefix}{number}.{vrid}"))
            .find(|name| self.device(name).is_none() && links.by_name(name).is_none_or(&fits))
            .unwrap_or_else(|| format!("{prefix}.{vrid}"))
    }
}

/// Virtual router MAC address (RFC 9568 §7.3).
fn virtual_mac(family: Family, vrid: u8) -> [u8; 6] {
    [0x00, 0x00, 0x5e, 0x00, if family == Family::Ipv4 { 1 } else { 2 }, vrid]
}

impl Loop {
    /// The same configuration with every address on the interface that it goes to, and every VMAC named. New ones are
    /// being made when this returns; gives the names of those that are wanted.
    pub(super) fn resolve_vmacs(&mut self, config: &Config) -> (Config, HashSet<String>) {
        let mut config = config.clone();
        let mut wanted = HashSet::new();
        for instance in &mut config.instances {
            let needs = instance.vmac.is_some() || instance.held().any(|address| address.own_vmac.is_some());
            if needs {
                let instance = Arc::make_mut(instance);
                self.resolve_instance(instance, &mut wanted);
            }
        }
        (config, wanted)
    }

    fn resolve_instance(&mut self, instance: &mut Wanted, wanted: &mut HashSet<String>) {
        let base = instance.interface.clone();
        let mut own = instance.vmac.clone();
        if let Some(vmac) = &mut own {
            let name = self.vmac_over(instance, &base, vmac, wanted);
            vmac.name = Some(name);
        }
        let all = instance.addresses.iter().chain(&instance.excluded).cloned().collect::<Vec<_>>();
        let mut resolved = Vec::with_capacity(all.len());
        for mut address in all {
            // One of the other family that is held without being advertised stays below the VMAC.
            let own_family = address.address.is_ipv6() == (instance.family == Family::Ipv6);
            let elsewhere = address.interface != base || !own_family;
            let prefix = match (&own, &address.own_vmac) {
                (Some(vmac), _) if !elsewhere => {
                    address.interface = vmac.name.clone().unwrap_or_default();
                    resolved.push(address);
                    continue;
                }
                (_, Some(prefix)) => Some(prefix.clone()),
                (Some(vmac), None) if own_family && vmac.for_other_interfaces => Some(vmac.prefix.clone()),
                _ => None,
            };
            if let Some(prefix) = prefix {
                let mac = own.as_ref().and_then(|vmac| vmac.mac);
                let vmac = Vmac {
                    name: None,
                    prefix,
                    mac,
                    transmit_on_base: false,
                    for_other_interfaces: false,
                    group: None,
                };
                address.interface = self.vmac_over(instance, &address.interface.clone(), &vmac, wanted);
            }
            resolved.push(address);
        }
        instance.excluded = resolved.split_off(instance.addresses.len());
        instance.addresses = resolved;
        instance.vmac = own;
    }

    /// Name of the VMAC over an interface; it is made if it is new.
    fn vmac_over(
        &mut self,
        instance: &Wanted,
        base: &str,
        vmac: &Vmac,
        wanted: &mut HashSet<String>,
    ) -> String {
        let mac = vmac.mac.unwrap_or_else(|| virtual_mac(instance.family, instance.vrid));
        let (ipv4, ipv6) = (instance.family == Family::Ipv4, instance.family == Family::Ipv6);
        let same = |device: &&mut Device| {
            device.spec.base == base
                && device.spec.mac == mac
                && vmac.name.as_ref().is_none_or(|name| *name == device.spec.name)
        };
        let (name, is_new) = match self.vmacs.devices.iter_mut().find(same) {
            Some(device) => {
                let changed =
                    (device.spec.ipv4, device.spec.ipv6, device.spec.group) != (ipv4, ipv6, vmac.group);
                device.spec = VmacSpec { ipv4, ipv6, group: vmac.group, ..device.spec.clone() };
                (device.spec.name.clone(), changed)
            }
            None => {
                let links = self.hold.links();
                let base_index = links.by_name(base).map(|link| link.index);
                let fits = |link: &Link| {
                    link.mac == Some(mac) && link.private_over == base_index && base_index.is_some()
                };
                let name = vmac.name.clone().unwrap_or_else(|| {
                    self.vmacs.choose(&vmac.prefix, instance.family, instance.vrid, &links, fits)
                });
                drop(links);
                let spec = VmacSpec {
                    name: name.clone(),
                    base: base.to_owned(),
                    mac,
                    group: vmac.group,
                    ipv4,
                    ipv6,
                };
                self.vmacs.devices.push(Device {
                    spec,
                    made: None,
                    failed: None,
                    busy: false,
                    again: false,
                    seen_up: false,
                    copying: None,
                    copied: None,
                });
                (name, true)
            }
        };
        wanted.insert(name.clone());
        if is_new {
            self.make_vmac(&name);
        }
        name
    }

    /// The firewall's table and the interfaces' settings, before anything is put on.
    pub(super) fn configure_ground(&mut self, config: &Config) {
        let needs_firewall = |instance: &Arc<Wanted>| {
            !instance.accept
                || instance.vmac.is_some()
                || instance.addresses.iter().any(|one| one.own_vmac.is_some())
        };
        if config.instances.iter().any(needs_firewall)
            && self.vmacs.firewall.as_ref() != Some(&config.firewall)
        {
            self.vmacs.firewall = Some(config.firewall.clone());
            let (hold, options) = (self.hold.clone(), config.firewall.clone());
            self.start_chore(async move {
                Chore::Refused(hold.reset_firewall(options).await.err().into_iter().collect())
            });
        }
        let promoting: BTreeSet<String> = config
            .instances
            .iter()
            .filter(|instance| instance.promote_secondaries)
            .map(|instance| instance.interface.clone())
            .collect();
        if self.vmacs.promoting != promoting {
            self.vmacs.promoting.clone_from(&promoting);
            let hold = self.hold.clone();
            self.start_chore(async move { Chore::Refused(hold.promote_secondaries(promoting).await) });
        }
    }

    /// Removes those that nobody wants any more.
    pub(super) fn drop_vmacs(&mut self, wanted: &HashSet<String>) {
        let devices = std::mem::take(&mut self.vmacs.devices);
        let (kept, gone): (Vec<Device>, Vec<Device>) =
            devices.into_iter().partition(|device| wanted.contains(&device.spec.name));
        self.vmacs.devices = kept;
        for device in gone {
            let (hold, name) = (self.hold.clone(), device.spec.name);
            self.start_chore(async move {
                Chore::Refused(hold.unmake_vmac(name, device.made).await.err().into_iter().collect())
            });
        }
    }

    fn make_vmac(&mut self, name: &str) {
        let Some(device) = self.vmacs.device_mut(name) else { return };
        if std::mem::replace(&mut device.busy, true) {
            device.again = true;
            return;
        }
        device.again = false;
        let (hold, spec, name) = (self.hold.clone(), device.spec.clone(), name.to_owned());
        self.start_chore(async move { Chore::Vmac(VmacNews { name, result: hold.make_vmac(spec).await }) });
    }

    pub(super) fn vmac_news(&mut self, news: VmacNews) {
        let Some(device) = self.vmacs.device_mut(&news.name) else {
            // A reload removed it while it was being made.
            let hold = self.hold.clone();
            self.start_chore(async move {
                let made = news.result.ok().map(|(made, _)| made);
                Chore::Refused(hold.unmake_vmac(news.name, made).await.err().into_iter().collect())
            });
            return;
        };
        device.busy = false;
        let again = device.again;
        match news.result {
            Ok((made, refused)) => {
                (device.made, device.failed) = (Some(made), None);
                for text in refused {
                    self.events.send(Kind::Notice { text });
                }
            }
            Err(error) => {
                (device.made, device.failed) = (None, Some(error));
                self.mend_within(MEND_REFUSED);
            }
        }
        if again {
            self.make_vmac(&news.name);
        }
        self.look_at_vmac(&news.name);
        self.refresh_users_of(&news.name);
    }

    /// Notes whether it is up, and gives it the link-local address of its base.
    fn look_at_vmac(&mut self, name: &str) {
        let links = self.hold.links();
        let Some(device) = self.vmacs.devices.iter_mut().find(|device| device.spec.name == name) else {
            return;
        };
        let link = links.by_name(name);
        if device.made.is_some() && link.is_some_and(|link| link.up) {
            device.seen_up = true;
        }
        let has = |address: IpAddr| link.is_some_and(|link| link.address(address).is_some());
        if device.copied.is_some_and(|address| !has(address)) {
            device.copied = None;
        }
    }

    fn refresh_users_of(&mut self, name: &str) {
        for id in self.ids() {
            let uses = |instance: &Instance| instance.vmac_names().contains(&name);
            if self.instances[id].as_ref().is_some_and(uses) {
                self.refresh(id);
                self.reconcile(id, APPEARED);
            }
        }
    }

    /// Something happened to a link: a VMAC that went with it, or that somebody deleted or took down, is made again.
    pub(super) fn link_of_vmac(&mut self, name: &str) {
        let links = self.hold.links();
        let is_up = |name: &str| links.by_name(name).is_some_and(|link| link.up);
        let concerned: Vec<(String, bool)> = self
            .vmacs
            .devices
            .iter()
            .filter(|device| device.spec.name == name || device.spec.base == name)
            .map(|device| {
                let base_is_up = is_up(&device.spec.base);
                let gone = links.by_name(&device.spec.name).is_none();
                (device.spec.name.clone(), base_is_up && (gone || !device.seen_up || device.failed.is_some()))
            })
            .collect();
        drop(links);
        for (name, make) in concerned {
            self.look_at_vmac(&name);
            if make && self.stop_by.is_none() {
                if let Some(device) =
                    self.vmacs.device_mut(&name).filter(|device| !device.busy && !device.seen_up)
                {
                    device.seen_up = false;
                }
                self.make_vmac(&name);
            }
            self.refresh_users_of(&name);
        }
    }

    /// Tries again what the kernel refused.
    pub(super) fn mend_vmacs(&mut self) {
        let failed = self.vmacs.devices.iter().filter(|device| device.failed.is_some());
        for name in failed.map(|device| device.spec.name.clone()).collect::<Vec<_>>() {
            self.make_vmac(&name);
        }
    }

    /// IPv6 adverts leave the VMAC with the link-local address of its base, which has to be there for that.
    pub(super) fn copy_link_local(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let (Some(name), Some(source @ IpAddr::V6(own))) = (instance.vmac_name(), instance.source) else {
            return;
        };
        if !own.is_unicast_link_local() || instance.retired || self.stop_by.is_some() {
            return;
        }
        let (name, place) = (name.to_owned(), instance.config.place.clone());
        self.look_at_vmac(&name);
        let Some(device) = self.vmacs.device_mut(&name) else { return };
        if device.made.is_none() || device.copied == Some(source) || device.copying.is_some() {
            return;
        }
        device.copying = Some(source);
        let address = |address: IpAddr| VirtualAddress {
            address,
            prefix_length: 64,
            interface: name.clone(),
            label: None,
            scope: 253,
            broadcast: None,
            peer: None,
            preferred_lifetime: Some(0),
            no_dad: true,
            home: false,
            no_prefix_route: false,
            autojoin: false,
            manage_temporary: false,
            track: true,
            own_vmac: None,
            repeated: false,
            place: place.clone(),
        };
        let old: Vec<VirtualAddress> = device.copied.take().into_iter().map(address).collect();
        let new = [address(source)];
        let (hold, name) = (self.hold.clone(), name.clone());
        self.start_chore(async move {
            let _ = hold.remove(&old).await;
            let error = hold.add(&new).await.pop().map(|(_, error)| error.to_string());
            Chore::LinkLocal { name, error }
        });
    }

    pub(super) fn link_local_done(&mut self, name: &str, error: Option<String>) {
        let Some(device) = self.vmacs.device_mut(name) else { return };
        let copying = device.copying.take();
        match error {
            None => device.copied = copying,
            Some(text) => {
                self.events.send(Kind::Notice { text });
                self.mend_within(MEND_REFUSED);
                return;
            }
        }
        self.refresh_users_of(name);
    }

    /// What the firewall has to keep silent of these addresses; nothing if they may answer.
    pub(super) fn silenced(&self, id: usize, addresses: &[VirtualAddress]) -> BTreeSet<Silenced> {
        let Some(instance) = self.instances[id].as_ref() else { return BTreeSet::new() };
        if instance.config.accept || instance.config.priority == u8::MAX {
            return BTreeSet::new();
        }
        self.on_links(addresses)
    }

    /// Addresses with the indices of their links.
    pub(super) fn on_links(&self, addresses: &[VirtualAddress]) -> BTreeSet<Silenced> {
        let links = self.hold.links();
        let interface =
            |address: &VirtualAddress| links.by_name(&address.interface).map_or(0, |link| link.index);
        addresses
            .iter()
            .map(|address| {
                let is_local = matches!(address.address, IpAddr::V6(six) if six.is_unicast_link_local());
                let interface = if is_local { interface(address) } else { 0 };
                Silenced { address: address.address, interface }
            })
            .collect()
    }
}
