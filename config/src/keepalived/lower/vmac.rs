//! `use_vmac` and the words around it.

use crate::diagnostic::{Diagnostic, Located, Location};
use crate::iproute::Names;
use crate::model::Instance;
use crate::ready::Vmac;
use crate::written::{Statement, Word};

use super::Lower;

/// Of the names of VMACs (keepalived 2.2.7).
const PREFIX: &str = "vrrp";
const IGNORED: &str = "it is ignored, as in keepalived";

/// As far as it was written.
#[derive(Default)]
pub(super) struct VmacWords {
    wanted: bool,
    name: Option<String>,
    /// Five octets stand before the virtual router id.
    mac: Option<Vec<u8>>,
    group: Option<u32>,
    transmit_on_base: Option<Location>,
    for_others: bool,
    vrf: Option<Located<String>>,
}

impl Lower<'_> {
    /// `false` for a word that belongs elsewhere.
    pub(super) fn vmac_word(
        &mut self,
        statement: &Statement,
        instance: &Instance,
        words: &mut VmacWords,
    ) -> bool {
        match statement.keyword() {
            "use_vmac" => self.use_vmac(statement, words),
            "vmac_xmit_base" => words.transmit_on_base = Some(statement.whole()),
            "use_vmac_addr" => words.for_others = true,
            "vrf" => {
                let Some(word) = self.required(statement, "the name of a VRF") else { return true };
                if instance.interface.is_some() {
                    let otherwise = "the interface counts, as in keepalived, and its own VRF";
                    self.invalid(word, "`vrf` without `interface`", otherwise);
                } else {
                    words.vrf = Some(super::located(word));
                }
            }
            _ => return false,
        }
        true
    }

    /// `use_vmac [[name] NAME] [MAC] [netlink_notify_msg] [group GROUP]`, in any order.
    fn use_vmac(&mut self, statement: &Statement, words: &mut VmacWords) {
        words.wanted = true;
        let mut rest = statement.parameters().iter();
        while let Some(word) = rest.next() {
            match word.text.as_str() {
                text if text.contains(':') => self.vmac_address(word, words),
                // keepalived tells the kernel's listeners once more; adding a link tells them in any case.
                "netlink_notify_msg" => {}
                "group" | "name" => match rest.next() {
                    None => self.without_value(word),
                    Some(value) if word.text == "group" => {
                        words.group = self.globals.iproute.find(Names::Group, &value.text);
                        if words.group.is_none() {
                            self.invalid(value, "a name of iproute2's file `group`, or a number", IGNORED);
                        }
                    }
                    Some(value) => self.vmac_name(value, words),
                },
                _ => self.vmac_name(word, words),
            }
        }
    }

    fn without_value(&mut self, word: &Word) {
        let message = format!("`{}` without a value", word.text);
        let finding = Diagnostic::error("missing-parameter", &word.at, message);
        self.diagnostics.push(finding.expected("a name behind it"));
    }

    fn vmac_name(&mut self, word: &Word, words: &mut VmacWords) {
        let others = &self.model.instances;
        let taken = others
            .iter()
            .find(|other| other.vmac.as_ref().is_some_and(|vmac| vmac.name.as_ref() == Some(&word.text)));
        if words.name.is_some() {
            self.invalid(word, "one name, one MAC address", IGNORED);
        } else if !is_interface_name(&word.text) {
            self.invalid(word, "the name of an interface, at most 15 bytes", IGNORED);
        } else if let Some(other) = taken {
            let expected = format!("a name that instance {} does not use", other.name.value);
            self.invalid(word, &expected, "a name is made, as in keepalived");
        } else {
            words.name = Some(word.text.clone());
        }
    }

    fn vmac_address(&mut self, word: &Word, words: &mut VmacWords) {
        const EXPECTED: &str = "a unicast MAC address, or its first five octets; not 00:00:5e:00:01 or :02";
        let mac = mac(&word.text).filter(|mac| mac[0] & 1 == 0);
        let mac = mac.filter(|mac| mac[..4] != [0, 0, 0x5e, 0] || !matches!(mac[4], 1 | 2));
        if words.mac.is_some() || mac.is_none() {
            self.invalid(word, EXPECTED, IGNORED);
        } else {
            words.mac = mac;
        }
    }

    /// When all of the instance is read.
    pub(super) fn finish_vmac(&mut self, words: VmacWords, instance: &mut Instance) {
        if let Some(vrf) = words.vrf.filter(|_| instance.interface.is_none()) {
            let message = format!("instance {} has a `vrf` and no interface", instance.name.value);
            let finding = Diagnostic::error("vrf-without-interface", &vrf.at, message);
            self.diagnostics.push(finding.expected("`interface NAME`").help(
                "adverts are sent and heard on an interface here; name the one inside the VRF that reaches the peers",
            ));
        }
        let (own, others) = &self.globals.vmac_prefixes;
        let prefix = own.as_ref().map_or(PREFIX, |prefix| &prefix.value).to_owned();
        let for_others = others.as_ref().map_or_else(|| prefix.clone(), |prefix| prefix.value.clone());
        for address in instance.addresses.iter_mut().chain(&mut instance.excluded) {
            let own_vmac = &mut address.value.address.own_vmac;
            *own_vmac = own_vmac.take().map(|_| for_others.clone());
        }
        instance.vmac_for_others = words.for_others.then_some(for_others);
        if !words.wanted {
            if let Some(at) = words.transmit_on_base {
                let finding =
                    Diagnostic::warning("vmac-word-without-vmac", &at, "`vmac_xmit_base` without `use_vmac`");
                self.diagnostics.push(finding.help("adverts leave by the interface in any case"));
            }
            return;
        }
        if std::mem::take(&mut instance.promote_secondaries) {
            let message = "`promote_secondaries` beside `use_vmac`";
            let finding = Diagnostic::notice("not-needed", &instance.name.at, message);
            self.diagnostics.push(finding.help("it is set on every VMAC in any case, as in keepalived"));
        }
        let mut transmit_on_base = words.transmit_on_base.is_some();
        if let Some(unicast) = instance.unicast.as_ref().filter(|_| !transmit_on_base) {
            let finding =
                Diagnostic::warning("vmac-with-unicast", &unicast.at, "unicast leaves by the base interface");
            self.diagnostics.push(
                finding.expected("`vmac_xmit_base` beside `use_vmac`").help("it is set, as in keepalived"),
            );
            transmit_on_base = true;
        }
        let vrid = instance.vrid.as_ref().map_or(0, |vrid| vrid.value);
        let mac = words.mac.and_then(|mut mac| {
            mac.resize(5.max(mac.len()), 0);
            if mac.len() == 5 {
                mac.push(vrid);
            }
            mac.try_into().ok()
        });
        instance.vmac = Some(Vmac {
            name: words.name,
            prefix,
            mac,
            transmit_on_base,
            for_other_interfaces: words.for_others,
            group: words.group,
        });
    }
}

/// As the kernel takes it.
pub(crate) fn is_interface_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && !matches!(name, "." | "..")
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

/// Five or six octets in hexadecimal; five may end in `:`.
pub(crate) fn mac(text: &str) -> Option<Vec<u8>> {
    let octets: Vec<&str> = text.split(':').collect();
    let octets = match octets.as_slice() {
        [five @ .., ""] if five.len() == 5 => five,
        octets if matches!(octets.len(), 5 | 6) => octets,
        _ => return None,
    };
    let octet = |text: &&str| {
        let fits = (1..=2).contains(&text.len()) && !text.starts_with('+');
        fits.then(|| u8::from_str_radix(text, 16).ok()).flatten()
    };
    octets.iter().map(octet).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_octets_leave_the_last_to_the_virtual_router_id() {
        assert_eq!(mac("02:0:0:0:A:ff"), Some(vec![2, 0, 0, 0, 10, 255]));
        assert_eq!(mac("02:0:0:0:a"), Some(vec![2, 0, 0, 0, 10]));
        assert_eq!(mac("02:0:0:0:a:"), Some(vec![2, 0, 0, 0, 10]));
        for wrong in [
            "",
            ":",
            "02:0:0:0",
            "02:0:0:0:100:1",
            "02:0:0:0:0:1:2",
            "02::0:0:0:1",
            "g:0:0:0:0:0",
            "+1:0:0:0:0:0",
        ] {
            assert_eq!(mac(wrong), None, "{wrong}");
        }
    }
}
