//! One look-up: addresses of a name, servers of a service.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::ready::Lookup;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

/// Names of servers that one service may have.
const MOST_TARGETS: usize = 64;

/// Whom to ask.
#[derive(Clone, Debug)]
pub enum Source {
    /// By /etc/resolv.conf and /etc/hosts as they are at that moment.
    System,
    /// This name server alone, which answers within a second.
    Server(SocketAddr),
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// At least one, in no order.
    pub servers: Vec<Server>,
    /// How long that holds.
    pub ttl: Duration,
    /// There was no answer about IPv6 (or IPv4), and why.
    pub lacking: Option<(bool, String)>,
}

/// One address that stands behind a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where to connect.
    pub address: SocketAddr,
    /// Whose address it is.
    pub host: String,
    /// The lower one is used first (SRV).
    pub priority: u16,
    /// Of a service.
    pub weight: Option<u16>,
}

/// Addresses of one name.
#[derive(Debug)]
struct Addresses {
    addresses: Vec<IpAddr>,
    ttl: u32,
    lacking: Option<(bool, String)>,
}

impl Source {
    /// Asks now; nothing is taken from a cache of ours.
    ///
    /// # Errors
    ///
    /// Why nothing was found, fit for the middle of a sentence.
    pub async fn look_up(&self, lookup: &Lookup) -> Result<Answer, String> {
        let resolver = self.resolver()?;
        match lookup {
            Lookup::Host(target) => {
                let found = addresses(&resolver, &target.host).await?;
                let server = |address| Server {
                    address: SocketAddr::new(address, target.port),
                    host: target.host.clone(),
                    priority: 0,
                    weight: None,
                };
                let servers: Vec<_> = found.addresses.into_iter().map(server).collect();
                Ok(Answer { servers, ttl: seconds(found.ttl), lacking: found.lacking })
            }
            Lookup::Service(name) => service(&resolver, name).await,
        }
    }

    /// Made anew each time: the files may have changed.
    fn resolver(&self) -> Result<TokioResolver, String> {
        let (config, mut options) = match self {
            // As the C library does it, without the file the name server is this host.
            Self::System => read_system_conf().unwrap_or_else(|_| at(SocketAddr::from(([127, 0, 0, 1], 53)))),
            Self::Server(address) => {
                let (config, mut options) = at(*address);
                options.timeout = Duration::from_secs(1);
                (config, options)
            }
        };
        options.cache_size = 0;
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.build().map_err(|error| said(&error))
    }
}

fn at(server: SocketAddr) -> (ResolverConfig, ResolverOpts) {
    let mut name_server = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut name_server.connections {
        connection.port = server.port();
    }
    (ResolverConfig::from_parts(None, Vec::new(), vec![name_server]), ResolverOpts::default())
}

/// RFC 2782. Servers whose names cannot be looked up are left out, as long as others can.
async fn service(resolver: &TokioResolver, name: &str) -> Result<Answer, String> {
    let found = resolver.lookup(name, RecordType::SRV).await.map_err(|error| said(&error))?;
    let mut ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    let entries = found.answers().iter().filter_map(|record| match &record.data {
        // A target of "." says that there is no such service here.
        RData::SRV(entry) if !entry.target.is_root() && entry.port != 0 => Some(entry.clone()),
        _ => None,
    });
    let entries: Vec<SRV> = entries.take(MOST_TARGETS).collect();
    let (mut servers, mut lacking, mut failed) = (Vec::new(), None, None);
    for entry in &entries {
        let host = entry.target.to_utf8();
        match addresses(resolver, &host).await {
            Ok(found) => {
                ttl = ttl.min(found.ttl);
                lacking = lacking.or(found.lacking);
                let host = host.trim_end_matches('.');
                servers.extend(found.addresses.into_iter().map(|address| Server {
                    address: SocketAddr::new(address, entry.port),
                    host: host.to_owned(),
                    priority: entry.priority,
                    weight: Some(entry.weight),
                }));
            }
            Err(error) => failed = Some(format!("{}: {error}", host.trim_end_matches('.'))),
        }
    }
    match (servers.is_empty(), failed) {
        (false, _) => Ok(Answer { servers, ttl: seconds(ttl), lacking }),
        (true, Some(error)) => Err(error),
        (true, None) => Err("the answer names no server".to_owned()),
    }
}

/// IPv4 and IPv6.
async fn addresses(resolver: &TokioResolver, host: &str) -> Result<Addresses, String> {
    let (v4, v6) =
        tokio::join!(resolver.lookup(host, RecordType::A), resolver.lookup(host, RecordType::AAAA));
    let (mut addresses, mut ttl, mut lacking, mut none) = (Vec::new(), u32::MAX, None, None);
    for (ipv6, answer) in [(false, v4), (true, v6)] {
        match answer {
            Ok(found) => {
                ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or(0).min(ttl);
                addresses.extend(found.answers().iter().filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                }));
            }
            Err(error) if is_without(&error) => none = none.or(Some(said(&error))),
            Err(error) => lacking = Some((ipv6, said(&error))),
        }
    }
    addresses.retain(is_of_a_host);
    if !addresses.is_empty() {
        return Ok(Addresses { addresses, ttl, lacking });
    }
    let why = lacking.map(|(_, error)| error).or(none);
    Err(why.unwrap_or_else(|| "the answer has no address of a host".to_owned()))
}

fn is_of_a_host(address: &IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

/// The name servers have answered that there is nothing.
fn is_without(error: &NetError) -> bool {
    matches!(error, NetError::Dns(DnsError::NoRecordsFound(none))
        if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError))
}

fn said(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => "there is no such name (NXDOMAIN)".to_owned(),
            ResponseCode::NoError => "the name has no such records".to_owned(),
            code => format!("the name servers answer {code}"),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => format!("the name servers answer {code}"),
        NetError::Timeout => "the name servers do not answer".to_owned(),
        NetError::NoConnections => "no name server can be reached".to_owned(),
        error => error.to_string(),
    }
}

fn seconds(ttl: u32) -> Duration {
    Duration::from_secs(ttl.into())
}
