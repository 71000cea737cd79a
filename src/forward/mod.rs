//! Carry the traffic behind the VIP to healthy backends.
