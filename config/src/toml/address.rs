//! Virtual addresses: `"10.0.0.100/24"`, or a table with its options.

use std::net::{IpAddr, Ipv4Addr};

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::Located;
use crate::model::Address;
use crate::ready::VirtualAddress;

use super::Door;
use super::table::Table;

impl Door<'_> {
    pub(super) fn virtual_addresses(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
    ) -> Vec<Located<Address>> {
        let values = self.list(table, key);
        values.into_iter().filter_map(|value| self.virtual_address(value, None)).collect()
    }

    /// A static address has a track group and no VMAC.
    pub(super) fn virtual_address(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        fixed: Option<&mut Option<Located<String>>>,
    ) -> Option<Located<Address>> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            let (at, ip, length) = self.with_length(value)?;
            let place = at.place.clone();
            return Some(Located::new(
                Address { interface: None, address: VirtualAddress { place, ..plain(ip, length) } },
                at,
            ));
        }
        let mut table = self.as_table(value)?;
        let written = self.value(&mut table, "address");
        let written = match written {
            Some(value) => self.with_length(value),
            None => {
                self.missing(&table, "address", "such as \"10.0.0.100/24\"");
                None
            }
        };
        let (at, ip, length) =
            written.unwrap_or_else(|| (table.at.clone(), IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));
        let mut made = VirtualAddress { place: at.place.clone(), ..plain(ip, length) };
        let interface = self.text(&mut table, "interface");
        if let Some(label) = self.text(&mut table, "label") {
            if ip.is_ipv6() || label.value.len() > 15 || label.value.is_empty() {
                self.refuse(&label.at, "a label that cannot be set", "1 to 15 bytes, and an IPv4 address");
            } else {
                made.label = Some(label.value);
            }
        }
        self.scope(&mut table, &mut made);
        self.broadcast(&mut table, &mut made);
        if let Some(peer) = self.value(&mut table, "peer") {
            made.peer = self.with_length(peer).map(|(_, ip, length)| (ip, length));
        }
        if let Some(lifetime) = self.value(&mut table, "preferred_lifetime") {
            made.preferred_lifetime = match lifetime.get_ref().as_str() {
                Some("forever") => None,
                _ => self.as_integer(lifetime, 0..=i64::from(u32::MAX)).map(|l| l.value),
            };
        }
        made.no_dad = self.boolean(&mut table, "duplicate_detection").map_or(made.no_dad, |on| !on.value);
        made.home = self.boolean(&mut table, "home").is_some_and(|on| on.value);
        made.no_prefix_route = self.boolean(&mut table, "prefix_route").is_some_and(|on| !on.value);
        made.autojoin = self.boolean(&mut table, "autojoin").is_some_and(|on| on.value);
        made.track = self.boolean(&mut table, "track").is_none_or(|on| on.value);
        made.manage_temporary = self.boolean(&mut table, "manage_temporary").is_some_and(|on| on.value);
        match fixed {
            Some(track_group) => *track_group = self.text(&mut table, "track_group"),
            None => made.own_vmac = self.vmac_of_address(&mut table),
        }
        self.finish(table);
        Some(Located::new(Address { interface, address: made }, at))
    }

    /// `ADDRESS` or `ADDRESS/LENGTH`.
    pub(super) fn with_length(
        &mut self,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<(crate::diagnostic::Location, IpAddr, u8)> {
        let expected = "an address such as \"10.0.0.100\" or \"10.0.0.100/24\"";
        let text = self.as_text(value, expected)?;
        let (address, length) =
            text.value.split_once('/').map_or((text.value.as_str(), None), |(a, l)| (a, Some(l)));
        let address: Option<IpAddr> = address.parse().ok();
        let most = if address.is_some_and(|a| a.is_ipv6()) { 128 } else { 32 };
        let length = length.map_or(Some(most), |l| l.parse::<u8>().ok().filter(|l| *l <= most));
        match (address, length) {
            (Some(address), Some(length)) => Some((text.at, address, length)),
            _ => {
                self.refuse(&text.at, format!("\"{}\" is not an address", text.value), expected);
                None
            }
        }
    }

    fn scope(&mut self, table: &mut Table<'_>, made: &mut VirtualAddress) {
        let Some(value) = self.value(table, "scope") else { return };
        let named = match value.get_ref().as_str() {
            Some("global") => Some(0),
            Some("site") => Some(200),
            Some("link") => Some(253),
            Some("host") => Some(254),
            Some(_) => None,
            None => return made.scope = self.as_integer(value, 0..=255).map_or(0, |scope| scope.value),
        };
        match named {
            Some(scope) => made.scope = scope,
            None => {
                let at = self.at(value);
                self.refuse(&at, "an unknown scope", "\"global\", \"site\", \"link\", \"host\" or 0 to 255");
            }
        }
    }

    fn broadcast(&mut self, table: &mut Table<'_>, made: &mut VirtualAddress) {
        let Some(value) = self.value(table, "broadcast") else { return };
        let expected = "an IPv4 address, or \"+\" to compute it";
        let Some(text) = self.as_text(value, expected) else { return };
        let IpAddr::V4(own) = made.address else {
            return self.refuse(&text.at, "IPv6 has no broadcast", "`broadcast` with an IPv4 address");
        };
        let host_bits = u32::MAX.checked_shr(u32::from(made.prefix_length)).unwrap_or(0);
        made.broadcast = match text.value.as_str() {
            "+" => Some((own.to_bits() | host_bits).into()),
            address => address.parse().ok(),
        };
        if made.broadcast.is_none() {
            self.refuse(&text.at, format!("\"{}\" is not a broadcast address", text.value), expected);
        }
    }
}

fn plain(address: IpAddr, prefix_length: u8) -> VirtualAddress {
    crate::complete::plain_address(address, prefix_length)
}
