//! The last page: what the client saw, beside what the protocol promises.

use super::story::{Measure, Outcome, TOLERANCE, ms};
use super::timeline::Paint;

/// The table and a sentence for each act.
pub fn report(outcomes: &[Outcome], paint: Paint) -> String {
    let mut text = paint.title("What the client saw") + "\n\n";
    text.push_str("   act                       asked  unanswered    outage   at most   because\n");
    for (number, outcome) in outcomes.iter().enumerate() {
        let outage = outcome.outage().map_or_else(|| "no end".to_owned(), ms);
        text.push_str(&format!(
            " {} {:<24} {:>6} {:>11} {:>9} {:>9}   {}\n",
            number + 1,
            outcome.act.title,
            outcome.view.total(),
            outcome.view.failed(),
            outage,
            ms(outcome.act.bound),
            outcome.act.formula,
        ));
    }
    text.push('\n');
    text.push_str(&explanation());
    for (outcome, pause) in outcomes.iter().filter_map(|outcome| Some((outcome, outcome.held_up()?))) {
        text.push_str(&format!(
            "Busy computer: in the act \"{}\" the client itself was held up for {}, which may be added too.\n",
            outcome.act.title,
            ms(pause)
        ));
    }
    for outcome in outcomes.iter().filter(|outcome| !outcome.kept()) {
        let what = outcome.missing.clone().unwrap_or_else(|| in_words(outcome));
        text.push_str(&paint.bad(&format!("NOT KEPT: {}: {what}\n", outcome.act.title)));
    }
    if outcomes.iter().all(Outcome::kept) {
        text.push_str(&paint.good("Every promise was kept.\n"));
    }
    text
}

fn explanation() -> String {
    format!(
        "Outage: the longest time between two requests in a row that were answered, from start to start; 0 ms \
         when\nthat was never longer than the client's own 10 ms. First act: from when lb1 listens to the first answer.\n\
         At most: what the protocol's formula gives (RFC 9568 section 6.1). The measurement may add {} to it:\n\
         the client looks only every 10 ms, an answer takes a few, and one computer plays all the machines.\n\
         Unanswered: a connection does not move with the address. The few that were under way are cut off, the\n\
         next one reaches the new host.\n\n",
        ms(TOLERANCE)
    )
}

fn in_words(outcome: &Outcome) -> String {
    let allowed = ms(outcome.allowed());
    match (outcome.outage(), outcome.act.measure) {
        (None, _) => "the client got no answer".to_owned(),
        (Some(outage), Measure::FirstAnswer) => {
            format!("first answer after {}, allowed were {allowed}", ms(outage))
        }
        (Some(outage), Measure::LongestGap) => format!("outage of {}, allowed were {allowed}", ms(outage)),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use vrrp::{AdverInterval, Version};

    use super::super::client::{Record, Request};
    use super::super::story::{Act, Acts, Formula};
    use super::*;

    const fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Answered every 10 ms for two seconds but for `outage` milliseconds after the first second.
    fn outcome(act: &Act, outage: u64) -> Outcome {
        let record = Record::default();
        for ms in (0..2000).step_by(10) {
            let result =
                if (1010..1000 + outage).contains(&ms) { Err("refused".into()) } else { Ok("b1".into()) };
            record.push(Request { started: millis(ms), ended: millis(ms), result });
        }
        Outcome { act: act.clone(), view: record.view(Duration::ZERO, millis(2000)), missing: None }
    }

    fn acts() -> Acts {
        Acts::new(&Formula::new(AdverInterval::from_duration(Version::V3, millis(100)).unwrap()))
    }

    /// RFC 9568 §6.1 by hand: 3 x 100 ms + (256 - 200) x 100 ms / 256, and so on.
    #[test]
    fn bounds_are_those_of_the_rfc() {
        let acts = acts();
        assert_eq!(acts.election.bound, Duration::from_micros(321_875));
        assert_eq!(acts.power_off.bound, Duration::from_nanos(360_937_500));
        assert_eq!(acts.hand_over.bound, Duration::from_nanos(60_937_500));
        assert_eq!((acts.comeback.bound, acts.broken_backend.bound), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn an_outage_within_bound_and_tolerance_is_kept() {
        let page = report(&[outcome(&acts().power_off, 410)], Paint::plain());
        let row = page.lines().find(|line| line.contains("power failure")).unwrap();
        let columns: Vec<_> = row.split_whitespace().collect();
        assert_eq!(columns[..8], ["1", "power", "failure", "of", "lb1", "200", "40", "410"], "{row}");
        assert!(row.contains("410 ms    361 ms   3 x 100 ms + 61 ms (skew of lb2)"), "{row}");
        assert!(page.ends_with("Every promise was kept.\n"), "{page}");
    }

    #[test]
    fn an_outage_above_bound_and_tolerance_is_not_kept() {
        let page = report(&[outcome(&acts().power_off, 420)], Paint::plain());
        assert!(
            page.contains("NOT KEPT: power failure of lb1: outage of 420 ms, allowed were 411 ms"),
            "{page}"
        );
        assert!(!page.contains("Every promise"), "{page}");
    }

    #[test]
    fn what_the_computer_took_from_the_client_is_allowed_and_said() {
        let record = Record::default();
        for at in (0..1000).step_by(10).chain((1300..2000).step_by(10)) {
            record.push(Request { started: millis(at), ended: millis(at), result: Ok("b1".into()) });
        }
        let view = record.view(Duration::ZERO, millis(2000));
        let page = report(&[Outcome { act: acts().comeback, view, missing: None }], Paint::plain());
        assert!(page.contains("the client itself was held up for 300 ms"), "{page}");
        assert!(page.ends_with("Every promise was kept.\n"), "{page}");
    }

    #[test]
    fn no_answer_at_all_is_not_kept() {
        let mut outcome = outcome(&acts().election, 0);
        outcome.view = Record::default().view(Duration::ZERO, millis(2000));
        let page = report(&[outcome], Paint::plain());
        assert!(page.contains("NOT KEPT: both hosts start: the client got no answer"), "{page}");
    }
}
