//! Show it: events, status, metrics, the control socket.

pub mod event;
pub mod status;
