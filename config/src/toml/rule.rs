//! Policy rules: `rules` of an instance, and `static_rules`.

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::Diagnostic;
use crate::iproute::{self, Names};
use crate::ready::{Family, PROTOCOL, Rule, RuleAction, rule_text};

use super::Door;
use super::table::Table;

/// Rules without a preference count down from here, as in keepalived.
pub(super) const FIRST_PREFERENCE: u32 = 16384;
const ANY_NUMBER: std::ops::RangeInclusive<i64> = 0..=u32::MAX as i64;

/// Actions that need no number.
pub(crate) const ACTIONS: [(&str, RuleAction); 5] = [
    ("nop", RuleAction::Nop),
    ("blackhole", RuleAction::Blackhole),
    ("unreachable", RuleAction::Unreachable),
    ("prohibit", RuleAction::Prohibit),
    ("l3mdev", RuleAction::L3mdev),
];

impl Door<'_> {
    pub(super) fn rules(&mut self, table: &mut Table<'_>, key: &'static str, fixed: bool) -> Vec<Rule> {
        let values = self.list(table, key);
        values.into_iter().filter_map(|value| self.rule(value, fixed)).collect()
    }

    fn rule(&mut self, value: &Spanned<DeValue<'_>>, fixed: bool) -> Option<Rule> {
        let mut table = self.as_table(value)?;
        let protocol = self.integer::<u8>(&mut table, "protocol", 0..=255);
        let preference = self.integer::<u32>(&mut table, "preference", ANY_NUMBER);
        let mut rule = Rule {
            family: Family::Ipv4,
            invert: self.boolean(&mut table, "invert").is_some_and(|on| on.value),
            from: self.prefix(&mut table, "from"),
            to: self.prefix(&mut table, "to"),
            preference: 0,
            tos: self.named(&mut table, "tos", Names::TypeOfService).and_then(|t| u8::try_from(t.value).ok()),
            mark: self.mark(&mut table),
            realms: self.realms(&mut table),
            suppress_prefix_length: self
                .integer(&mut table, "suppress_prefix_length", 0..=i64::from(i32::MAX))
                .map(|length| length.value),
            suppress_interface_group: self
                .integer(&mut table, "suppress_interface_group", ANY_NUMBER)
                .map(|group| group.value),
            input_interface: self.text(&mut table, "input_interface").map(|name| name.value),
            output_interface: self.text(&mut table, "output_interface").map(|name| name.value),
            tunnel_id: self.wide(&mut table, "tunnel_id"),
            users: self.range(&mut table, "users"),
            ip_protocol: self.ip_protocol(&mut table),
            source_ports: self.range(&mut table, "source_ports"),
            destination_ports: self.range(&mut table, "destination_ports"),
            protocol: protocol.as_ref().map_or(PROTOCOL, |protocol| protocol.value),
            action: self.action(&mut table)?,
            track: self.boolean(&mut table, "track").is_none_or(|on| on.value),
            track_group: None,
            text: String::new(),
            place: table.at.place.clone(),
        };
        rule.family = self.family(&mut table, rule.said_family())?;
        self.check_rule(&table, &rule);
        if fixed {
            let group = self.text(&mut table, "track_group");
            if let Some(group) = group.as_ref().filter(|_| rule.input_interface.is_none()) {
                self.refuse(&group.at, "a track group needs the rule's interface", "`input_interface`");
            }
            rule.track_group = self.track_group(group);
        }
        rule.preference = match preference {
            Some(preference) => preference.value,
            None => self.given_preference(&table, rule.family),
        };
        rule.text = rule_text(&rule, rule.track || protocol.is_some());
        self.finish(table);
        Some(rule)
    }

    fn check_rule(&mut self, table: &Table<'_>, rule: &Rule) {
        let mut prefixes = [rule.from, rule.to].into_iter().flatten();
        if prefixes.any(|prefix| crate::complete::family_of(prefix.address) != rule.family) {
            self.refuse(&table.at, "addresses of two families", "IPv4 or IPv6 alone");
        }
        if rule.realms.is_some() && rule.family == Family::Ipv6 {
            self.refuse(&table.at, "`realms` are for IPv4", "an IPv4 rule");
        }
        let of_table = rule.realms.is_some()
            || rule.suppress_prefix_length.is_some()
            || rule.suppress_interface_group.is_some();
        if of_table && !matches!(rule.action, RuleAction::Table(_) | RuleAction::L3mdev) {
            self.refuse(&table.at, "realms and suppressors need a table", "`table`");
        }
        if rule.track && rule.protocol != PROTOCOL {
            self.refuse(&table.at, "a rule of another protocol cannot be watched", "`track = false`");
        }
    }

    fn given_preference(&mut self, table: &Table<'_>, family: Family) -> u32 {
        let next = &mut self.next_preference[usize::from(family == Family::Ipv6)];
        let preference = *next;
        *next = next.saturating_sub(1);
        let finding = Diagnostic::warning("no-preference", &table.at, "a rule without a preference");
        self.diagnostics.push(
            finding
                .expected("`preference`")
                .help(format!("{preference} is used, which is probably not what you want")),
        );
        preference
    }

    /// Exactly one of `table`, `goto` and `action`.
    fn action(&mut self, table: &mut Table<'_>) -> Option<RuleAction> {
        let looked_up = self.named(table, "table", Names::Table).map(|table| RuleAction::Table(table.value));
        let goto = self.integer(table, "goto", ANY_NUMBER).map(|target| RuleAction::Goto(target.value));
        let action = self.one_of(table, "action", &ACTIONS);
        let written = [looked_up, goto, action];
        let mut said = written.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(RuleAction::Table(0)), None) => {
                self.refuse(&table.at, "a rule cannot look up table 0", "`table` from 1");
                None
            }
            (Some(action), None) => Some(action),
            _ => {
                let expected = "exactly one of `table`, `goto` and `action`";
                self.refuse(&table.at, "no action, or several", expected);
                None
            }
        }
    }

    /// A number, `"MARK"` or `"MARK/MASK"`.
    fn mark(&mut self, table: &mut Table<'_>) -> Option<(u32, Option<u32>)> {
        let value = self.value(table, "mark")?;
        let DeValue::String(text) = value.get_ref() else {
            return self.as_integer(value, ANY_NUMBER).map(|mark| (mark.value, None));
        };
        let mark = match text.split_once('/') {
            None => iproute::number(text).map(|mark| (mark, None)),
            Some((mark, mask)) => {
                iproute::number(mark).zip(iproute::number(mask)).map(|(mark, mask)| (mark, Some(mask)))
            }
        };
        if mark.is_none() {
            let at = self.at(value);
            self.refuse(&at, format!("\"{text}\" is no mark"), "a number, or \"0x5/0xff\"");
        }
        mark
    }

    /// A number or a name such as `"tcp"`.
    fn ip_protocol(&mut self, table: &mut Table<'_>) -> Option<u8> {
        let value = self.value(table, "ip_protocol")?;
        let DeValue::String(name) = value.get_ref() else {
            return self.as_integer(value, 0..=255).map(|number| number.value);
        };
        let number = crate::keepalived::ip_protocol(name);
        if number.is_none() {
            let at = self.at(value);
            self.refuse(&at, format!("\"{name}\" is no protocol"), "a name such as \"tcp\", or 0 to 255");
        }
        number
    }

    /// `"FIRST-LAST"`, or one number.
    fn range<T: std::str::FromStr + Copy>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
    ) -> Option<(T, T)> {
        let value = self.value(table, key)?;
        let range = match value.get_ref() {
            DeValue::Integer(number) => number.as_str().parse().ok().map(|number| (number, number)),
            DeValue::String(text) => text
                .split_once('-')
                .and_then(|(first, last)| Some((first.trim().parse().ok()?, last.trim().parse().ok()?))),
            _ => None,
        };
        if range.is_none() {
            let at = self.at(value);
            self.refuse(&at, format!("`{key}` that is no range"), "\"FIRST-LAST\", or one number");
        }
        range
    }
}
