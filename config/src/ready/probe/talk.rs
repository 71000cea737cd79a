//! What probes say over TCP, TLS and UDP, and what they expect.

use std::fmt;

use serde::{Serialize, Serializer};

use super::{Credentials, Target, Tls, as_text, is_default};

/// Octets that are sent or expected; printed as text where they are.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        as_text(serializer, &self.0)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

/// How an answer is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expect {
    /// What is looked for.
    pub matching: Matching,
    /// It must not be found (HAProxy: `!`; keepalived: `regex_no_match`).
    #[serde(skip_serializing_if = "is_default")]
    pub negate: bool,
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Matching {
    /// Somewhere (HAProxy: `string`, `binary`).
    Contains(Bytes),
    /// This and no more.
    Equals(Bytes),
    /// At the beginning.
    Starts(Bytes),
    /// At the end.
    Ends(Bytes),
    /// A regular expression over octets, see [`Matching::regex`] (HAProxy: `rstring`, `rbinary`; keepalived: `regex`).
    Regex(String),
    /// MD5 of the whole, as keepalived's genhash prints it (`digest`). Of HTTP bodies only.
    Md5([u8; 16]),
    /// SHA-256 of the whole. Of HTTP bodies only.
    Sha256([u8; 32]),
}

impl Matching {
    /// The expression of [`Matching::Regex`], compiled: as in Perl, without look-around and back references, over
    /// octets (`.` is any octet but a line feed), in time that grows with the length of the text alone.
    ///
    /// # Errors
    /// What is wrong with it, on one line.
    pub fn regex(pattern: &str) -> Result<regex::bytes::Regex, String> {
        regex::bytes::RegexBuilder::new(pattern).unicode(false).size_limit(1 << 20).build().map_err(|error| {
            let said = error.to_string();
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or(&said);
            last.trim().trim_start_matches("error: ").to_owned()
        })
    }
}

/// A conversation over TCP or TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dialogue {
    /// Where to connect.
    pub target: Target,
    /// `None`: TCP alone. The handshake is completed, and the connection closed in order.
    pub tls: Option<Tls>,
    /// The client certificate; a token has no meaning.
    #[serde(skip_serializing_if = "is_default")]
    pub credentials: Credentials,
    /// What is said then.
    pub talk: Talk,
}

/// What is said over a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Talk {
    /// These steps; none: the connect, or handshake, is all (HAProxy: `tcp-check`).
    Steps(Vec<Step>),
    /// Greeting, `HELO`, `QUIT` (HAProxy: `option smtpchk`; keepalived: `SMTP_CHECK`).
    Smtp {
        /// `HELO` or `EHLO` (HAProxy's first parameter), then the name that we give (keepalived: `helo_name`).
        /// Default `HELO localhost`.
        hello: String,
    },
    /// `PING`, answered by `PONG` (HAProxy: `option redis-check`).
    Redis,
    /// An anonymous bind that succeeds (HAProxy: `option ldap-check`).
    Ldap,
    /// The server's greeting, and with a user a login without a password (HAProxy: `option mysql-check`).
    Mysql {
        /// `None`: the greeting is enough.
        user: Option<String>,
    },
    /// A start-up message that the server does not refuse at once (HAProxy: `option pgsql-check`).
    Postgres {
        /// Need not exist.
        user: String,
    },
}

/// One step of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Step {
    /// `tcp-check send`, `send-binary`. What was received before is forgotten.
    Send(Bytes),
    /// `tcp-check expect`: waits until what was received since the last send (16 KiB at most) has it. With `negate`
    /// what has come by then must not have it.
    Expect {
        /// What is looked for. Digests are not allowed.
        is: Expect,
        /// Octets that must have come before it is looked for (HAProxy: `min-recv`). Default 1.
        #[serde(skip_serializing_if = "Option::is_none")]
        least: Option<u32>,
    },
    /// `tcp-check connect`: the connection is closed and another one opened, to this port of the same host.
    Connect {
        /// 1–65535.
        port: u16,
        /// Over TLS.
        tls: Option<Tls>,
    },
}

/// A server's own word, over TCP (HAProxy: `agent-check`): one line such as `up 75%`, `drain`, `maint`, `ready`,
/// `down #why`, `maxconn:30`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AgentProbe {
    /// Where the agent listens (HAProxy: `agent-addr`, `agent-port`).
    pub target: Target,
    /// Sent first (HAProxy: `agent-send`). Default nothing.
    #[serde(skip_serializing_if = "is_default")]
    pub send: Bytes,
}

/// A query to a name server over UDP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DnsProbe {
    /// Default port 53.
    pub target: Target,
    /// What is asked for (keepalived: `name`). Default `.`.
    pub name: String,
    /// keepalived: `type`. Default SOA.
    pub kind: DnsKind,
}

/// Type of a DNS record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DnsKind(pub u16);

impl DnsKind {
    /// Start of authority.
    pub const SOA: Self = Self(6);

    /// Names and numbers of keepalived's list, and SRV.
    const NAMES: [(&str, u16); 11] = [
        ("A", 1),
        ("NS", 2),
        ("CNAME", 5),
        ("SOA", 6),
        ("PTR", 12),
        ("MX", 15),
        ("TXT", 16),
        ("AAAA", 28),
        ("SRV", 33),
        ("RRSIG", 46),
        ("DNSKEY", 48),
    ];

    /// By its name, upper or lower case, or as `TYPE257` (RFC 3597).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let named = Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| Self(*number));
        named.or_else(|| text.strip_prefix("TYPE")?.parse().ok().map(Self))
    }
}

impl fmt::Display for DnsKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{}", self.0),
        }
    }
}

/// A datagram. That the port is unreachable is a failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UdpProbe {
    /// Where it goes.
    pub target: Target,
    /// keepalived: `payload`. Default empty.
    #[serde(skip_serializing_if = "is_default")]
    pub payload: Bytes,
    /// No answer within the timeout is a failure, as an error always is (keepalived: `require_reply`). Otherwise
    /// silence is success.
    pub require_reply: bool,
    /// Least length of an answer in octets (keepalived: `min_reply_length`).
    #[serde(skip_serializing_if = "is_default")]
    pub min_reply: Option<u16>,
    /// Greatest length of an answer in octets (keepalived: `max_reply_length`).
    #[serde(skip_serializing_if = "is_default")]
    pub max_reply: Option<u16>,
    /// What an answer must be.
    #[serde(skip_serializing_if = "is_default")]
    pub expect: Option<Expect>,
}

#[cfg(test)]
mod tests {
    use super::super::Hex;
    use super::*;

    #[test]
    fn octets_print_as_text_where_they_are_text() {
        assert_eq!(serde_json::json!(Bytes::from("PING\r\n")), "PING\r\n");
        assert_eq!(serde_json::json!(Bytes(vec![0xff, 0])), "ff00");
        assert_eq!(Hex(&[0xff, 0]).to_string(), "ff00");
    }

    #[test]
    fn types_of_records_are_read_as_they_are_shown() {
        for (name, number) in DnsKind::NAMES {
            assert_eq!(DnsKind::parse(&name.to_lowercase()), Some(DnsKind(number)));
            assert_eq!(DnsKind(number).to_string(), name);
        }
        assert_eq!(DnsKind::parse("TYPE257").map(|kind| kind.to_string()), Some("TYPE257".to_owned()));
        assert_eq!(DnsKind::parse("ANYTHING"), None);
    }

    #[test]
    fn a_wrong_expression_says_why_on_one_line() {
        let error = Matching::regex("(+OK").unwrap_err();
        assert!(!error.contains('\n') && error.contains("repetition"), "{error}");
        assert!(Matching::regex(r"^\x00..\xff").unwrap().is_match(&[0, 200, 201, 255]));
    }
}
