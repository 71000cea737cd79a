//! Machines on a switch: a bridge in a namespace of its own, and one cable for each machine.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::namespace::Namespace;

/// Name of every machine's only network card.
pub const CARD: &str = "eth0";
const BRIDGE: &str = "switch";
/// Of the one network of the demo.
pub const PREFIX_LENGTH: u8 = 24;

/// The switch, and which of its ports belongs to whom.
#[derive(Debug)]
pub struct Lan {
    switch: Namespace,
    bridge: u32,
    ports: BTreeMap<String, u32>,
    made: u32,
}

impl Lan {
    /// A switch without a cable in it.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or knows no bridges.
    pub fn new() -> io::Result<Self> {
        let switch = Namespace::create()?;
        let bridge = with_netlink(&switch, async |links| {
            links.link().add(LinkBridge::new(BRIDGE).up().build()).execute().await?;
            index_of(&links, BRIDGE).await
        })
        .map_err(|error| {
            context("the kernel makes no bridge (modules `bridge` and `veth` are needed)", &error)
        })?;
        Ok(Self { switch, bridge, ports: BTreeMap::new(), made: 0 })
    }

    /// A new machine with one card, which has `address`, in a port of the switch.
    ///
    /// # Errors
    /// When the kernel refuses a part of it.
    pub fn attach(&mut self, name: &str, address: Ipv4Addr) -> io::Result<Namespace> {
        let machine = Namespace::create()?;
        self.made += 1;
        let port = format!("port{}", self.made);
        let inside = machine.as_fd().as_raw_fd();
        let bridge = self.bridge;
        let port_index = with_netlink(&self.switch, async |links| {
            let far_end =
                LinkMessageBuilder::<LinkUnspec>::new().name(CARD.to_owned()).setns_by_fd(inside).build();
            let cable =
                LinkVeth::new(&port, CARD).set_info_data(InfoData::Veth(InfoVeth::Peer(far_end))).build();
            links.link().add(cable).execute().await?;
            let index = index_of(&links, &port).await?;
            let plugged = LinkUnspec::new_with_index(index).controller(bridge).up().build();
            links.link().set(plugged).execute().await?;
            Ok(index)
        })
        .map_err(|error| context(&format!("cannot lay a cable to {name}"), &error))?;
        with_netlink(&machine, async |links| {
            let card = index_of(&links, CARD).await?;
            links.address().add(card, address.into(), PREFIX_LENGTH).execute().await?;
            for index in [index_of(&links, "lo").await?, card] {
                links.link().set(LinkUnspec::new_with_index(index).up().build()).execute().await?;
            }
            Ok(())
        })
        .map_err(|error| context(&format!("cannot set up the card of {name}"), &error))?;
        self.ports.insert(name.to_owned(), port_index);
        Ok(machine)
    }

    /// The switch forgets the port: not a frame more passes, but the card notices nothing.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn silence(&self, name: &str) -> io::Result<()> {
        let port = self.port(name)?;
        with_netlink(&self.switch, async |links| {
            links.link().set(LinkUnspec::new_with_index(port).nocontroller().build()).execute().await
        })
    }

    /// Takes the cable out, and with it the card: the machine is gone.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn detach(&mut self, name: &str) -> io::Result<()> {
        let port = self.port(name)?;
        with_netlink(&self.switch, async |links| links.link().del(port).execute().await)?;
        self.ports.remove(name);
        Ok(())
    }

    fn port(&self, name: &str) -> io::Result<u32> {
        let unknown =
            || io::Error::new(io::ErrorKind::NotFound, format!("{name} is in no port of the switch"));
        self.ports.get(name).copied().ok_or_else(unknown)
    }
}

/// Speaks netlink inside a namespace.
fn with_netlink<T, F>(namespace: &Namespace, work: impl FnOnce(Handle) -> F + Send) -> io::Result<T>
where
    T: Send,
    F: Future<Output = Result<T, rtnetlink::Error>>,
{
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            work(handle).await.map_err(io::Error::other)
        })
    })
}

async fn index_of(links: &Handle, name: &str) -> Result<u32, rtnetlink::Error> {
    let found = links.link().get().match_name(name.to_owned()).execute().try_next().await?;
    Ok(found.map_or(0, |link| link.header.index))
}

fn context(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::time::{Duration, Instant};

    use super::super::backend::Backend;
    use super::super::certificates::Authority;
    use super::super::client::{Client, Record, View};
    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 21);

    fn wait_for(record: &Record, what: &str, seen: impl Fn(&View) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if seen(&record.view(Duration::ZERO, Duration::MAX)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("not seen: {what}: {:?}", record.view(Duration::ZERO, Duration::MAX));
    }

    /// Needs network namespaces: root, or `unshare -Urn`.
    #[test]
    fn a_client_is_answered_until_the_server_stops_or_its_port_is_silent() {
        if std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip") {
            return;
        }
        let servers =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let authority = Authority::new().unwrap();
        let mut lan = Lan::new().unwrap();
        let machine = lan.attach("b1", SERVER).unwrap();
        let second = machine.try_clone().unwrap();
        let tls = || authority.server("b1", &[IpAddr::from(SERVER)]).unwrap();
        let mut backend = Backend::start("b1", machine, 6443, tls(), servers.handle()).unwrap();
        let machine = lan.attach("client", Ipv4Addr::new(10, 77, 0, 9)).unwrap();
        let record = Record::default();
        let target = SocketAddr::from((SERVER, 6443));
        let client = authority.client().unwrap();
        let _asking = Client::start(machine, target, client, Instant::now(), record.clone()).unwrap();

        wait_for(&record, "answers", |seen| {
            seen.by_backend().get("b1").is_some_and(|answers| *answers >= 20)
        });
        servers.block_on(backend.stop());
        wait_for(&record, "refusals", |seen| {
            seen.errors().get("refused").is_some_and(|refused| *refused >= 5)
        });
        let _backend = Backend::start("b1", second, 6443, tls(), servers.handle()).unwrap();
        let before = record.view(Duration::ZERO, Duration::MAX).by_backend()["b1"];
        wait_for(&record, "new answers", |seen| seen.by_backend()["b1"] >= before + 20);
        lan.silence("b1").unwrap();
        wait_for(&record, "silence", |seen| {
            seen.errors().get("no answer in 250 ms").is_some_and(|n| *n >= 5)
        });
    }
}
