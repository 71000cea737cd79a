//! Real sockets on loopback, on both sides of a running forwarder.
//!
//! A clock decides nothing here except how long a test may hang before it fails; the few that measure a time
//! say so in their names.

mod access;
pub(super) mod bench;
mod counts;
mod crowds;
mod differential;
mod ends;
mod headers;
mod queue;
mod reload;
mod sessions;
mod shortage;
mod steering;
mod trouble;
