//! Show it: events, status, metrics, the control socket.

pub mod client;
pub mod control;
pub mod event;
pub mod explain;
pub mod history;
pub mod host;
pub mod keepalived;
pub mod log;
pub mod metrics;
pub mod render;
#[cfg(test)]
mod sample;
pub mod sentence;
pub mod status;
pub mod tally;
pub mod web;
pub mod words;
