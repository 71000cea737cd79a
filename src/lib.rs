//! vipd keeps a virtual IP alive: check → elect → hold → announce → forward.
//!
//! Each room answers one question; `daemon` builds them from a [`config`] and wires what flows between
//! them. Two speeds: the engine (elect, hold, announce) is one thread that never waits for anything slow;
//! everything else lives on worker threads and talks to it through channels.

pub mod announce;
pub mod check;
pub mod cli;
pub mod daemon;
pub mod elect;
pub mod forward;
mod guard;
pub mod hold;
mod netlink;
pub mod notify;
pub mod observe;
