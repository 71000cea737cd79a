//! The lines of `virtual_rules` and `static_rules`: the grammar of ip-rule(8) as keepalived reads it.

use crate::diagnostic::Diagnostic;
use crate::iproute::{self, Names};
use crate::ready::{Family, PROTOCOL, Rule, RuleAction, rule_text};
use crate::written::{Statement, Word};

use super::super::keywords::line as keywords;
use super::line::{Destination, Dropped, Line};
use super::{Lower, inside};

const ONE_ACTION: &str = "one of `table`, `goto`, `nop`, `blackhole`, `unreachable`, `prohibit` and `l3mdev`";

/// A rule while its line is read.
struct Draft {
    rule: Rule,
    preference: Option<u32>,
    action: Option<RuleAction>,
    protocol: Option<u8>,
    from: Option<Destination>,
    to: Option<Destination>,
    /// Something was written that only a table can have.
    of_table: bool,
}

impl Lower<'_> {
    pub(super) fn rules(&mut self, block: &Statement, fixed: bool) -> Vec<Rule> {
        inside(block).iter().filter_map(|entry| self.rule(entry, fixed).ok()).collect()
    }

    fn rule(&mut self, entry: &Statement, fixed: bool) -> Result<Rule, Dropped> {
        let mut line = Line::new(entry, "rule");
        let rule = Rule {
            family: Family::Ipv4,
            invert: false,
            from: None,
            to: None,
            preference: 0,
            tos: None,
            mark: None,
            realms: None,
            suppress_prefix_length: None,
            suppress_interface_group: None,
            input_interface: None,
            output_interface: None,
            tunnel_id: None,
            users: None,
            ip_protocol: None,
            source_ports: None,
            destination_ports: None,
            protocol: PROTOCOL,
            action: RuleAction::Nop,
            track: true,
            track_group: None,
            text: String::new(),
            place: entry.at().place.clone(),
        };
        let mut draft = Draft {
            rule,
            preference: None,
            action: None,
            protocol: None,
            from: None,
            to: None,
            of_table: false,
        };
        while let Some(word) = line.next() {
            if fixed && word.text == "track_group" {
                let name = self.value_of(&mut line, word, "the name of a track group")?;
                self.track_group(&mut draft.rule.track_group, name);
            } else {
                self.rule_word(&mut line, word, &mut draft)?;
            }
        }
        self.finish_rule(entry, &line, draft)
    }

    fn rule_word(&mut self, line: &mut Line<'_>, word: &Word, draft: &mut Draft) -> Result<(), Dropped> {
        let rule = &mut draft.rule;
        match word.text.as_str() {
            "inet" | "inet6" => self.family_word(line, word)?,
            "from" => {
                let value = self.value_of(line, word, "a prefix")?;
                draft.from = Some(self.prefix_word(line, value, "a prefix or `all`")?);
            }
            "to" => {
                let value = self.value_of(line, word, "a prefix")?;
                draft.to = Some(self.prefix_word(line, value, "a prefix or `all`")?);
            }
            "table" | "lookup" => {
                let value = self.value_of(line, word, "a routing table")?;
                let table = self.named(line, value, Names::Table, "a name of rt_tables, or a number")?;
                if table == 0 {
                    return Err(self.drop_line(line, value, "a table other than 0"));
                }
                self.action(line, word, draft, RuleAction::Table(table))?;
            }
            "not" => rule.invert = true,
            "preference" | "order" | "priority" => {
                let value = self.value_of(line, word, "a number")?;
                let number = iproute::number(&value.text);
                draft.preference = Some(number.ok_or_else(|| self.drop_line(line, value, "a number"))?);
            }
            "tos" | "dsfield" => {
                let value = self.value_of(line, word, "a type of service")?;
                let expected = "a name of rt_dsfield, or 0 to 255";
                rule.tos = Some(self.named_byte(line, value, Names::TypeOfService, expected)?);
            }
            "fwmark" => {
                let value = self.value_of(line, word, "MARK or MARK/MASK")?;
                let mark = mark(&value.text);
                rule.mark = Some(mark.ok_or_else(|| self.drop_line(line, value, "MARK or MARK/MASK"))?);
            }
            "realms" => {
                let value = self.value_of(line, word, "realms")?;
                let Some(realms) = self.globals.iproute.realms(&value.text) else {
                    return Err(self.drop_line(
                        line,
                        value,
                        "REALM or FROM/TO: names of rt_realms, or 0 to 255",
                    ));
                };
                self.one_family(line, value, Family::Ipv4)?;
                rule.realms = Some(realms);
                draft.of_table = true;
            }
            "suppress_prefixlength" | "sup_pl" => {
                rule.suppress_prefix_length = Some(self.number_of(line, word, i32::MAX as u32)?);
                draft.of_table = true;
            }
            "suppress_ifgroup" | "sup_group" => {
                let value = self.value_of(line, word, "an interface group")?;
                let expected = "a name of iproute2's file `group`, or a number";
                rule.suppress_interface_group = Some(self.named(line, value, Names::Group, expected)?);
                draft.of_table = true;
            }
            "dev" | "iif" => {
                rule.input_interface = Some(self.value_of(line, word, "an interface")?.text.clone());
            }
            "oif" => rule.output_interface = Some(self.value_of(line, word, "an interface")?.text.clone()),
            "tunnel-id" => {
                let value = self.value_of(line, word, "a number")?;
                let id = value.text.parse().map_err(|_| self.drop_line(line, value, "a number"))?;
                rule.tunnel_id = (id != 0).then_some(id);
            }
            "uidrange" => {
                let value = self.value_of(line, word, "FIRST-LAST")?;
                let users = range(&value.text).ok_or_else(|| self.drop_line(line, value, "FIRST-LAST"))?;
                rule.users = Some(users);
            }
            "l3mdev" => self.action(line, word, draft, RuleAction::L3mdev)?,
            "protocol" => {
                let value = self.value_of(line, word, "0 to 255")?;
                draft.protocol = value.text.parse().ok();
                if draft.protocol.is_none() {
                    self.invalid(value, "a number up to 255", "it is ignored, as in keepalived");
                }
            }
            "ipproto" => {
                let value = self.value_of(line, word, "a protocol")?;
                rule.ip_protocol = ip_protocol(&value.text);
                if rule.ip_protocol.is_none() {
                    let help = "it is ignored, as in keepalived: the rule matches every protocol";
                    self.invalid(value, "a name such as `tcp`, or 0 to 255", help);
                }
            }
            "sport" | "dport" => {
                let value = self.value_of(line, word, "FIRST-LAST")?;
                let ports = range(&value.text);
                if ports.is_none() {
                    let help = "it is ignored, as in keepalived: the rule matches every port";
                    self.invalid(value, "FIRST-LAST, also for one port", help);
                }
                *(if word.text == "sport" { &mut rule.source_ports } else { &mut rule.destination_ports }) =
                    ports;
            }
            "no_track" => rule.track = false,
            _ => self.rule_action(line, word, draft)?,
        }
        Ok(())
    }

    /// `[type] ACTION`.
    fn rule_action(&mut self, line: &mut Line<'_>, word: &Word, draft: &mut Draft) -> Result<(), Dropped> {
        let named = if word.text == "type" { self.value_of(line, word, "an action")? } else { word };
        let action = match named.text.as_str() {
            "goto" => RuleAction::Goto(self.number_of(line, named, u32::MAX)?),
            "nop" => RuleAction::Nop,
            "blackhole" | "6" => RuleAction::Blackhole,
            "unreachable" | "7" => RuleAction::Unreachable,
            "prohibit" | "8" => RuleAction::Prohibit,
            "type" => return Err(self.drop_line(line, named, "an action behind `type`")),
            _ if word.text == "type" => return Err(self.drop_line(line, named, "an action")),
            _ => {
                return Err(self.unknown_word(
                    line,
                    named,
                    keywords::RULE,
                    "a keyword of a rule or its action",
                ));
            }
        };
        self.action(line, named, draft, action)
    }

    fn action(
        &mut self,
        line: &Line<'_>,
        word: &Word,
        draft: &mut Draft,
        action: RuleAction,
    ) -> Result<(), Dropped> {
        if draft.action.is_some() {
            return Err(self.drop_line(line, word, ONE_ACTION));
        }
        draft.action = Some(action);
        Ok(())
    }

    /// What can only be said of the whole line.
    fn finish_rule(&mut self, entry: &Statement, line: &Line<'_>, draft: Draft) -> Result<Rule, Dropped> {
        let Draft { mut rule, preference, action, protocol, from, to, of_table } = draft;
        let wrong = match action {
            None => Some("a rule without an action"),
            Some(RuleAction::Goto(target)) if preference.is_none_or(|own| own >= target) => {
                Some("`goto` leads to a rule behind this one, so both need a preference")
            }
            Some(RuleAction::Table(_) | RuleAction::L3mdev) => None,
            Some(_) if of_table => Some("realms and suppressors need a table"),
            Some(_) => None,
        };
        if let Some(message) = wrong {
            let finding = Diagnostic::warning("invalid-rule", &entry.whole(), message).expected(ONE_ACTION);
            self.diagnostics.push(finding.help("the rule is dropped, as in keepalived"));
            return Err(Dropped);
        }
        rule.action = action.ok_or(Dropped)?;
        rule.family = line.family.unwrap_or(Family::Ipv4);
        rule.from = from.map(|from| from.prefix_of(rule.family));
        rule.to = to.map(|to| to.prefix_of(rule.family));
        if let Some(number) = protocol {
            rule.protocol = number;
            if rule.track && number != PROTOCOL {
                let finding = Diagnostic::warning(
                    "protocol-of-tracked-rule",
                    &entry.whole(),
                    "a rule of another protocol cannot be watched",
                );
                self.diagnostics
                    .push(finding.expected("`no_track` beside it").help("18 is used, as in keepalived"));
                rule.protocol = PROTOCOL;
            }
        }
        if rule.track_group.is_some() && rule.input_interface.is_none() {
            let finding = Diagnostic::warning(
                "track-group-without-interface",
                &entry.whole(),
                "a track group needs the rule's interface",
            );
            self.diagnostics
                .push(finding.expected("`iif INTERFACE`").help("no instance waits for it, as in keepalived"));
            rule.track_group = None;
        }
        rule.preference = match preference {
            Some(preference) => preference,
            None => self.given_preference(entry, rule.family),
        };
        rule.text = rule_text(&rule, rule.track || protocol.is_some());
        Ok(rule)
    }

    /// 16384 and down, in the order of the file.
    fn given_preference(&mut self, entry: &Statement, family: Family) -> u32 {
        let next = &mut self.next_preference[usize::from(family == Family::Ipv6)];
        let preference = *next;
        *next = next.saturating_sub(1);
        let finding = Diagnostic::warning("no-preference", &entry.whole(), "a rule without a preference");
        self.diagnostics.push(
            finding
                .expected("`preference N`")
                .help(format!("{preference} is used, as in keepalived, which is probably not what you want")),
        );
        preference
    }
}

/// `MARK[/MASK]`, decimal, `0x…` or `0…`; an empty mask is 0.
fn mark(text: &str) -> Option<(u32, Option<u32>)> {
    match text.split_once('/') {
        None => Some((iproute::number(text)?, None)),
        Some((mark, "")) => Some((iproute::number(mark)?, Some(0))),
        Some((mark, mask)) => Some((iproute::number(mark)?, Some(iproute::number(mask)?))),
    }
}

fn range<T: std::str::FromStr>(text: &str) -> Option<(T, T)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// A number, or a name that every host knows (/etc/protocols).
pub(crate) fn ip_protocol(text: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 18] = [
        ("icmp", 1),
        ("igmp", 2),
        ("ipip", 4),
        ("tcp", 6),
        ("egp", 8),
        ("udp", 17),
        ("dccp", 33),
        ("ipv6", 41),
        ("rsvp", 46),
        ("gre", 47),
        ("esp", 50),
        ("ah", 51),
        ("ipv6-icmp", 58),
        ("ospf", 89),
        ("pim", 103),
        ("vrrp", 112),
        ("sctp", 132),
        ("udplite", 136),
    ];
    let named = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    named.or_else(|| text.parse().ok())
}
