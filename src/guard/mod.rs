//! Whatever happens to the daemon, its addresses do not stay behind.
//!
//! `vipd run` is two processes. The guard is the parent and the service's pid: it has no configuration, no threads and no
//! runtime, and knows nothing of VRRP. The daemon is its child, made by fork(2), so that a restart runs the same program
//! even after its file was replaced. Before the daemon puts something on, it leaves the way back with the guard
//! ([`ToGuard`]): ready-made packets and netlink requests, and the sockets to send them with. When the daemon dies in any
//! way, the guard sends them all, and starts another one ([`watch`]). So a crash costs the clients Skew_Time instead of
//! three advert intervals, and two hosts never hold an address together.
//!
//! When the guard dies, the daemon notices the end of the connection and leaves in good order.

mod link;
mod message;
mod parent;

pub use self::link::{Name, ToGuard};
pub use self::message::{Envelope, Order};
pub use self::parent::{Life, watch};
