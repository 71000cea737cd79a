//! The open sessions, for an operator: which there are, and closing some.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Forward;
use super::path::{self, End, Path, Which};
use crate::observe::status::{SessionFilter, SessionStatus};

impl Forward {
    /// Where sessions are asked for; does not hold up what else is done with the forwarder.
    pub fn sessions(&self) -> Sessions {
        Sessions(self.path.clone())
    }
}

/// Asks the data path.
#[derive(Debug)]
pub struct Sessions(Arc<Path>);

impl Sessions {
    /// Those that meet the conditions, the longest idle first.
    ///
    /// # Errors
    /// A condition makes no sense.
    pub async fn list(&self, filter: &SessionFilter) -> Result<Vec<SessionStatus>, String> {
        let mut found: Vec<_> = self.find(filter).await?.into_iter().map(|(_, status)| status).collect();
        found.sort_by_key(|session| std::cmp::Reverse((session.idle, session.age)));
        Ok(found)
    }

    /// Resets those that meet the conditions. Gives how many they were.
    ///
    /// # Errors
    /// A condition makes no sense.
    pub async fn close(&self, filter: &SessionFilter) -> Result<usize, String> {
        let found = self.find(filter).await?;
        let ends: Vec<_> = found.into_iter().map(|(id, _)| self.0.end(Which::One(id), End::Closed)).collect();
        let mut closed = 0;
        for end in ends {
            closed += end.await;
        }
        Ok(closed)
    }

    async fn find(&self, filter: &SessionFilter) -> Result<Vec<(path::SessionId, SessionStatus)>, String> {
        let client = Client::of(filter)?;
        let meets = |session: &SessionStatus| {
            filter.listener.as_ref().is_none_or(|wanted| session.listener == *wanted)
                && filter.backend.as_ref().is_none_or(|wanted| session.backend.as_ref() == Some(wanted))
                && client.as_ref().is_none_or(|client| client.is(session.client))
        };
        let all = self.0.sessions().await.into_iter().map(|session| (session.id, status(session)));
        Ok(all.filter(|(_, session)| meets(session)).collect())
    }
}

fn status(session: path::Session) -> SessionStatus {
    let steer = &session.service.steer;
    SessionStatus {
        listener: steer.name().to_owned(),
        backend: session.backend.map(|index| steer.backend_name(index).to_owned()),
        client: session.client,
        local: session.local,
        age: session.age,
        idle: session.idle,
        bytes_in: session.bytes_in,
        bytes_out: session.bytes_out,
    }
}

/// The condition on the client.
enum Client {
    Host(IpAddr),
    Port(SocketAddr),
}

impl Client {
    /// The condition.
    ///
    /// # Errors
    /// It is no address.
    fn of(filter: &SessionFilter) -> Result<Option<Self>, String> {
        let Some(text) = &filter.client else { return Ok(None) };
        let address = text.parse().map(|ip: IpAddr| Self::Host(ip.to_canonical()));
        let address = address.or_else(|_| text.parse().map(Self::Port));
        address.map(Some).map_err(|_| {
            format!("`{text}` is neither an address (192.0.2.7) nor one with port (192.0.2.7:40000)")
        })
    }

    fn is(&self, address: Option<SocketAddr>) -> bool {
        let Some(address) = address else { return false };
        match self {
            Self::Host(host) => address.ip().to_canonical() == *host,
            Self::Port(whole) => {
                (address.ip().to_canonical(), address.port()) == (whole.ip().to_canonical(), whole.port())
            }
        }
    }
}
