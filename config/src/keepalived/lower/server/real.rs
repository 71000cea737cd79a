//! `real_server`.

use crate::diagnostic::Diagnostic;
use crate::written::Statement;

use super::super::values::Rest;
use super::super::{Lower, inside};
use super::{IGNORED, MOST_WEIGHT, Method, Real, Service, Timing, family_of};

impl Lower<'_> {
    pub(super) fn real_server(&mut self, block: &Statement, service: &mut Service) {
        let Some(first) = self.required(block, "an address") else { return };
        let skipped = "the real server is skipped, as in keepalived";
        let Some(address) = self.server_address(first, block.parameters().get(1), skipped) else { return };
        let mut real = Real {
            at: block.whole(),
            address,
            weight: None,
            method: service.method.clone(),
            most_sessions: None,
            inhibit: None,
            alpha: None,
            timing: Timing::default(),
            virtualhost: None,
            notify_up: None,
            notify_down: None,
            mail: None,
            checkers: Vec::new(),
            waits_for: None,
        };
        for statement in inside(block) {
            self.real_word(statement, &mut real);
        }
        if real.method.as_ref().map(|method| method.value) != Some(Method::Tunnel) {
            let own = family_of(address.ip());
            if *service.family.get_or_insert(own) != own {
                self.other_family(&real.at, skipped);
                return;
            }
        }
        service.real.push(real);
    }

    fn real_word(&mut self, statement: &Statement, real: &mut Real) {
        if self.timing(statement, &mut real.timing, 1) {
            return;
        }
        match statement.keyword() {
            "weight" => {
                let word = self.required(statement, "a weight");
                let weight = word.and_then(|word| self.number(word, 0..=MOST_WEIGHT, Rest::Warned, IGNORED));
                real.weight = weight.and_then(|weight| u32::try_from(weight).ok()).or(real.weight);
            }
            "lvs_method" => real.method = self.method(statement).or(real.method.take()),
            "uthreshold" => {
                let number = self.threshold(statement);
                real.most_sessions =
                    number.map_or(real.most_sessions, |number| Some(number).filter(|n| *n > 0));
            }
            "lthreshold" => {
                if self.threshold(statement).is_some_and(|number| number > 0) {
                    let message = "`lthreshold` has no effect here";
                    let finding = Diagnostic::notice("not-needed", statement.at(), message);
                    self.diagnostics.push(finding.help(
                        "a server that has `uthreshold` connections gets new ones as soon as it has fewer",
                    ));
                }
            }
            "inhibit_on_failure" => {
                real.inhibit = self.boolean(statement).map(|on| on.value).or(real.inhibit)
            }
            "alpha" => real.alpha = self.boolean(statement).map(|on| on.value).or(real.alpha),
            "smtp_alert" => real.mail = self.boolean(statement).map(|on| on.value).or(real.mail),
            "virtualhost" => real.virtualhost = self.web_host(statement),
            "notify_up" => self.told_by(statement, &mut real.notify_up),
            "notify_down" => self.told_by(statement, &mut real.notify_down),
            _ => self.checker(statement, real),
        }
    }

    fn threshold(&mut self, statement: &Statement) -> Option<u32> {
        let word = self.required(statement, "a number of connections")?;
        let number = self.number(word, 0..=i64::from(u32::MAX), Rest::Warned, IGNORED)?;
        u32::try_from(number).ok()
    }
}
