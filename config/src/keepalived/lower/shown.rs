//! What keepalived's data dump shows of `global_defs`, as it was written.

use crate::ready::{Effect, Shown, Version};

use super::Lower;

impl Lower<'_> {
    /// Global settings and defaults; the weights of trackers are added when they are read.
    pub(super) fn shown(&self) -> Shown {
        let globals = &self.globals;
        let garp = &globals.garp;
        let minimal = globals.min_garp;
        let number = |written: Option<u64>| written.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        Shown {
            version: if globals.version == Version::V3 { 3 } else { 2 },
            groups: globals.groups,
            garp_delay: number(garp.delay).unwrap_or(if minimal { 0 } else { 5 }),
            garp_repeat: garp.repeat.unwrap_or(if minimal { 1 } else { 5 }),
            garp_refresh: number(garp.refresh).unwrap_or(0),
            garp_refresh_repeat: garp.refresh_repeat.unwrap_or(u32::from(!minimal)),
            garp_lower_delay: number(garp.lower_delay),
            garp_lower_repeat: garp.lower_repeat,
            garp_interval: garp.interval.unwrap_or_default(),
            gna_interval: garp.gna_interval.unwrap_or_default(),
            down_timer_adverts: globals.down_timer_adverts.as_ref().map_or(3, |adverts| adverts.value),
            lower_prio_no_advert: globals.lower_prio_no_advert.unwrap_or(false),
            higher_prio_send_advert: globals.higher_prio_send_advert.unwrap_or(false),
            check_unicast_src: globals.check_unicast_src,
            strict: globals.strict.as_ref().is_some_and(|strict| strict.value),
            default_interface: globals.default_interface.as_ref().map(|name| name.value.clone()),
            notify_priority_changes: globals.notify_priority_changes,
            script_security: globals.script_security,
            script_user: globals.script_user.clone(),
            smtp_alert: [globals.smtp_alert, globals.smtp_alert_vrrp, globals.smtp_alert_checker],
            ..Shown::default()
        }
    }

    /// The weight of a script, file or process where it is defined.
    pub(super) fn show_weight(&mut self, check: &str, effect: Effect) {
        let weight = match effect {
            Effect::Fault { reverse } => (0, reverse),
            Effect::Weight { weight, reverse } | Effect::Value { weight, reverse } => {
                (weight.into(), reverse)
            }
        };
        self.model.shown.weights.insert(check.to_owned(), weight);
    }
}
