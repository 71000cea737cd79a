//! I-19: the same stories with keepalived and FRR on both sides. What fails here is the lab's fault.

use std::time::Duration;

use netns_tests::enabled;
use netns_tests::peer::Kind::{Frr, Keepalived};
use netns_tests::story::{Row, elections, no_preemption, split, tell};

#[test]
fn i_19_keepalived_and_frr_version_3() {
    if enabled(&["keepalived", "/usr/lib/frr/vrrpd"]) {
        let row = Row::new("I-19 v3");
        tell(&[row], &[(Keepalived, Frr), (Frr, Keepalived)], &[("S1-S4", elections)], false);
    }
}

#[test]
fn keepalived_against_itself_passes_every_story() {
    if enabled(&["keepalived"]) {
        let row = Row::new("K-K v3");
        let stories: [(_, netns_tests::story::Story); 3] =
            [("S1-S4", elections), ("S5", split), ("S6", no_preemption)];
        tell(&[row], &[(Keepalived, Keepalived)], &stories, false);
    }
}

#[test]
fn keepalived_against_itself_at_10_ms() {
    if enabled(&["keepalived"]) {
        let row = Row { interval: Duration::from_millis(10), ..Row::new("K-K v3 10 ms") };
        tell(&[row], &[(Keepalived, Keepalived)], &[("S1-S4", elections), ("S5", split)], true);
    }
}
