//! Mail about listeners and their backends, to whom keepalived's virtual servers and real servers belong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use config::ready::{BackendPolicy, Config, Listener, Protocol};

use super::keepalived;
use crate::observe::event::Health;

/// Subject and text.
type Letter = (String, String);

/// Who wants mail about what.
#[derive(Debug, Default)]
pub(super) struct Servers {
    services: BTreeMap<String, Service>,
    /// Listeners of whose quorum something was said.
    begun: BTreeSet<String>,
}

#[derive(Debug)]
struct Service {
    title: String,
    /// `least` and `hysteresis`, where mail is wanted.
    quorum: Option<(u32, u32)>,
    backends: BTreeMap<String, Server>,
    /// Those whose addresses are found at run time.
    discovered: Option<Server>,
}

/// Where mail is wanted.
#[derive(Clone, Debug)]
struct Server {
    title: String,
    /// The first good result is news.
    is_down_at_start: bool,
}

impl Servers {
    /// Takes on another configuration.
    pub(super) fn take_on(&mut self, config: &Config) {
        self.services = config.listeners.iter().map(|one| (one.name.clone(), Service::new(one))).collect();
        self.begun.retain(|name| self.services.contains_key(name));
    }

    /// A backend came up or went down. The first result of a check is no news when it is what was assumed.
    pub(super) fn backend(
        &self,
        router_id: &str,
        (listener, backend): (&str, &str),
        (from, to): (Health, Health),
        detail: &str,
    ) -> Option<Letter> {
        let service = self.services.get(listener)?;
        let known = service.backends.get(backend).cloned();
        let found = || service.discovered.clone().map(|one| Server { title: backend.to_owned(), ..one });
        let server = known.or_else(found)?;
        let was_up = match from {
            Health::Up => true,
            Health::Down => false,
            Health::Unknown => !server.is_down_at_start,
        };
        let up = to == Health::Up;
        (to != Health::Unknown && up != was_up)
            .then(|| keepalived::server_mail(router_id, &server.title, &service.title, up, detail))
    }

    /// A quorum was reached or lost.
    pub(super) fn quorum(
        &mut self,
        router_id: &str,
        listener: &str,
        up: bool,
        weight: u64,
    ) -> Option<Letter> {
        let service = self.services.get(listener)?;
        let (least, hysteresis) = service.quorum?;
        let begins = self.begun.insert(listener.to_owned());
        let sum = keepalived::quorum_sum(up, least, hysteresis, weight);
        Some(keepalived::service_mail(router_id, &service.title, up, begins, &sum))
    }
}

impl Service {
    fn new(listener: &Listener) -> Self {
        let protocol = listener.policy.protocol;
        let wanted = |policy: &BackendPolicy, title: String| {
            policy.mail.then_some(Server { title, is_down_at_start: policy.down_at_start })
        };
        let backend = |one: &config::ready::Backend| {
            Some((one.name.clone(), wanted(&one.policy, in_brackets(one.address, protocol))?))
        };
        let mut discovered = listener.discovered.iter();
        let quorum = listener.policy.quorum.as_ref().filter(|_| listener.policy.mail);
        // A virtual server is named after what it binds.
        let own =
            listener.bind.first().filter(|bind| listener.name.trim_end_matches("/udp") == bind.to_string());
        Self {
            title: own.map_or_else(|| listener.name.clone(), |bind| in_brackets(*bind, protocol)),
            quorum: quorum.map(|quorum| (quorum.least, quorum.hysteresis)),
            backends: listener.backends.iter().filter_map(backend).collect(),
            discovered: discovered.find_map(|one| wanted(&one.template.policy, String::new())),
        }
    }
}

/// As keepalived writes it: `[192.0.2.10]:tcp:443`.
fn in_brackets(address: SocketAddr, protocol: Protocol) -> String {
    let protocol = match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    format!("[{}]:{protocol}:{}", address.ip(), address.port())
}
