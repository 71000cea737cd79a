//! Put the VIP on, take it off, never leave it behind.
