//! The file of SIGUSR2.

use super::{Page, Picture};
use crate::observe::status::Counters;

/// Counters under keepalived's names, since the start or since they were set to zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    pub advert_rcvd: u64,
    pub advert_sent: u64,
    pub become_master: u64,
    pub release_master: u64,
    pub packet_len_err: u64,
    pub advert_interval_err: u64,
    pub ip_ttl_err: u64,
    pub invalid_type_rcvd: u64,
    pub addr_list_err: u64,
    pub invalid_authtype: u64,
    pub authtype_mismatch: u64,
    pub auth_failure: u64,
    pub pri_zero_rcvd: u64,
    pub pri_zero_sent: u64,
}

impl Statistics {
    /// keepalived counts a wrong address list whether it drops the advert for it (up to 2.3.2) or not.
    pub fn of(counters: &Counters, zero: Option<&Counters>) -> Self {
        let none = Counters::default();
        let zero = zero.unwrap_or(&none);
        let since = |get: fn(&Counters) -> u64| get(counters).saturating_sub(get(zero));
        let discarded = |name: &str| {
            let get = |counters: &Counters| counters.discarded.get(name);
            get(counters).saturating_sub(get(zero))
        };
        let odd = |name: &str| {
            let get = |counters: &Counters| counters.oddities.get(name);
            get(counters).saturating_sub(get(zero))
        };
        Self {
            advert_rcvd: since(|c| c.adverts_received),
            advert_sent: since(|c| c.adverts_sent),
            become_master: since(|c| c.became_active),
            release_master: since(|c| c.released_active),
            packet_len_err: discarded("length"),
            advert_interval_err: discarded("interval"),
            ip_ttl_err: discarded("ttl"),
            invalid_type_rcvd: discarded("type"),
            addr_list_err: discarded("address_list") + odd("address_list"),
            invalid_authtype: discarded("auth_type"),
            authtype_mismatch: discarded("auth_type_mismatch"),
            auth_failure: discarded("auth_failure"),
            pri_zero_rcvd: since(|c| c.priority_zero_received),
            pri_zero_sent: since(|c| c.priority_zero_sent),
        }
    }
}

/// The statistics of every instance.
pub fn stats(picture: &Picture<'_>) -> String {
    let mut page = Page::default();
    for (instance, status) in picture.instances() {
        let s = Statistics::of(&status.counters, picture.zero.get(&instance.name));
        page.line(format!("VRRP Instance: {}", instance.name));
        let number = |page: &mut Page, label: &str, number: u64| page.line(format!("{label}: {number}"));
        page.line("  Advertisements:");
        number(&mut page, "    Received", s.advert_rcvd);
        number(&mut page, "    Sent", s.advert_sent);
        number(&mut page, "  Became master", s.become_master);
        number(&mut page, "  Released master", s.release_master);
        page.line("  Packet Errors:");
        number(&mut page, "    Length", s.packet_len_err);
        number(&mut page, "    TTL", s.ip_ttl_err);
        number(&mut page, "    Invalid Type", s.invalid_type_rcvd);
        number(&mut page, "    Advertisement Interval", s.advert_interval_err);
        number(&mut page, "    Address List", s.addr_list_err);
        page.line("  Authentication Errors:");
        number(&mut page, "    Invalid Type", s.invalid_authtype);
        number(&mut page, "    Type Mismatch", s.authtype_mismatch);
        number(&mut page, "    Failure", s.auth_failure);
        page.line("  Priority Zero:");
        number(&mut page, "    Received", s.pri_zero_rcvd);
        number(&mut page, "    Sent", s.pri_zero_sent);
    }
    page.0
}
