//! VRRPv2 (RFC 3768, IPv4) and VRRPv3 (RFC 9568, IPv4 and IPv6) without sockets and without a clock.
//!
//! What the crate promises: given these inputs at these times, what does the protocol say? It parses and
//! emits [`Advertisement`]s, judges received ones ([`Ladder`]) and runs the state machine of one virtual
//! router ([`VirtualRouter`]). It does no input or output, starts no thread and reads no clock: `clippy.toml`
//! bans them. There are no floats: durations are whole nanoseconds.
//!
//! # The drain rule
//!
//! Give the machine one input, then take every output before the next input:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use vrrp::{AdverInterval, Input, Output, Priority, RouterConfig, Version, VirtualRouter, Vrid};
//!
//! # fn now() -> Instant { *vrrp::sim::EPOCH }
//! let vrid = Vrid::new(51).unwrap();
//! let second = AdverInterval::from_duration(Version::V3, Duration::from_secs(1)).unwrap();
//! let own_address = "192.0.2.1".parse().unwrap();
//! let mut router = VirtualRouter::new(RouterConfig::new(Version::V3, vrid, second, own_address));
//!
//! let start = now();
//! router.handle_input(start, Input::Startup);
//! while let Some(output) = router.poll_output() {
//!     // send, add, remove, announce, tell
//! #   let _: Output = output;
//! }
//! // Then wait for a packet, or until this moment, and say Input::Timeout.
//! assert_eq!(router.poll_timeout(), Some(start + Duration::from_micros(3_609_375)));
//! ```

mod addresses;
mod interval;
mod mac;
mod packet;
mod priority;
mod router;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod version;
mod vrid;

pub use addresses::VirtualAddresses;
pub use interval::{AdverInterval, IntervalError, active_down_interval, skew_time};
pub use mac::virtual_mac;
pub use packet::{
    Accepted, Advertisement, Authentication, ChecksumCoverage, ChecksumForm, Datagram, DiscardReason, Ladder,
    Oddities, Oddity, Transport, UnicastPeer, peek_vrid,
};
pub use packet::{MULTICAST_GROUP_IPV4, MULTICAST_GROUP_IPV6, PROTOCOL};
pub use priority::Priority;
pub use router::{Answers, Input, Output, Reason, RouterConfig, State, StateName, VirtualRouter};
pub use version::{Family, Version};
pub use vrid::Vrid;
