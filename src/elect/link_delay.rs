//! Links that must stay down or up for a while before it counts (keepalived's `interface_up_down_delays`).
//!
//! Pure: what the kernel says and the time come in, what counts comes out. A link that is gone is not delayed: then there
//! is nothing to send on.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use config::ready::LinkDelay;

/// The links that have a delay.
#[derive(Debug, Default)]
pub struct LinkDelays {
    links: HashMap<String, Delayed>,
}

#[derive(Debug)]
struct Delayed {
    down: Duration,
    up: Duration,
    /// `None`: the link was not seen yet, or is gone.
    counts_as_up: Option<bool>,
    /// Until then it must stay as it is.
    change_at: Option<Instant>,
}

impl LinkDelays {
    /// With other delays; what counts stays, and a delay that runs begins anew when it has another length.
    pub fn configure(&mut self, now: Instant, delays: &[LinkDelay]) {
        let mut before = std::mem::take(&mut self.links);
        for delay in delays {
            let was = before.remove(&delay.interface);
            let mut link = Delayed { down: delay.down, up: delay.up, counts_as_up: None, change_at: None };
            if let Some(was) = was {
                let same = (was.down, was.up) == (delay.down, delay.up);
                link.counts_as_up = was.counts_as_up;
                link.change_at = was
                    .change_at
                    .map(|at| if same { at } else { now + link.until(was.counts_as_up != Some(true)) });
            }
            self.links.insert(delay.interface.clone(), link);
        }
    }

    /// The kernel says that a link is there, and whether it is up.
    pub fn observe(&mut self, now: Instant, name: &str, up: bool) {
        let Some(link) = self.links.get_mut(name) else { return };
        match link.counts_as_up {
            // What it is when it is first seen counts at once.
            None => link.counts_as_up = Some(up),
            Some(counts) if counts == up => link.change_at = None,
            Some(_) if link.until(up).is_zero() => {
                link.counts_as_up = Some(up);
                link.change_at = None;
            }
            Some(_) => {
                let until = now + link.until(up);
                link.change_at = link.change_at.or(Some(until));
            }
        }
    }

    /// The link is gone.
    pub fn forget(&mut self, name: &str) {
        if let Some(link) = self.links.get_mut(name) {
            (link.counts_as_up, link.change_at) = (None, None);
        }
    }

    /// Whether a link counts as up that the kernel calls `up`.
    pub fn counts_as_up(&self, name: &str, up: bool) -> bool {
        self.links.get(name).and_then(|link| link.counts_as_up).unwrap_or(up)
    }

    /// When [`LinkDelays::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(|link| link.change_at).min()
    }

    /// Links that count as something else from now on.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<String> {
        let mut changed = Vec::new();
        for (name, link) in &mut self.links {
            if link.change_at.is_some_and(|at| at <= now) {
                link.change_at = None;
                link.counts_as_up = link.counts_as_up.map(|up| !up);
                changed.push(name.clone());
            }
        }
        changed
    }
}

impl Delayed {
    fn until(&self, up: bool) -> Duration {
        if up { self.up } else { self.down }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(down: u64, up: u64) -> Vec<LinkDelay> {
        let place = config::ready::Place { file: "k.conf".into(), line: 1, column: 1 };
        vec![LinkDelay {
            interface: "eth0".into(),
            down: Duration::from_secs(down),
            up: Duration::from_secs(up),
            place,
        }]
    }

    fn links(down: u64, up: u64) -> (LinkDelays, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let mut links = LinkDelays::default();
        links.configure(start, &delays(down, up));
        links.observe(start, "eth0", true);
        (links, move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn a_link_counts_as_down_only_after_its_delay() {
        let (mut links, at) = links(3, 0);
        links.observe(at(10), "eth0", false);
        assert!(links.counts_as_up("eth0", false));
        assert_eq!(links.poll_timeout(), Some(at(13)));
        assert_eq!(links.handle_timeout(at(12)), [""; 0]);
        assert_eq!(links.handle_timeout(at(13)), ["eth0"]);
        assert!(!links.counts_as_up("eth0", false));
        // Up again without a delay.
        links.observe(at(20), "eth0", true);
        assert!(links.counts_as_up("eth0", true) && links.poll_timeout().is_none());
    }

    #[test]
    fn a_link_that_comes_back_within_its_delay_was_never_down() {
        let (mut links, at) = links(3, 5);
        links.observe(at(10), "eth0", false);
        links.observe(at(11), "eth0", false);
        assert_eq!(links.poll_timeout(), Some(at(13)), "further news do not start it anew");
        links.observe(at(12), "eth0", true);
        assert_eq!(links.poll_timeout(), None);
        assert!(links.counts_as_up("eth0", true));
    }

    #[test]
    fn links_without_a_delay_are_what_the_kernel_says() {
        let (links, _) = links(3, 5);
        assert!(links.counts_as_up("eth1", true) && !links.counts_as_up("eth1", false));
    }

    #[test]
    fn a_link_that_was_away_counts_at_once() {
        let (mut links, at) = links(3, 5);
        links.forget("eth0");
        links.observe(at(10), "eth0", false);
        assert!(!links.counts_as_up("eth0", false));
        links.observe(at(11), "eth0", true);
        assert_eq!(links.poll_timeout(), Some(at(16)));
        links.configure(at(12), &delays(3, 9));
        assert_eq!(links.poll_timeout(), Some(at(21)));
    }
}
