//! Priority in the election.

use std::fmt;

/// Priority of a router: 1–254 for a backup router, 255 for the address owner. On the wire 0 says that
/// the active router gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// Sent by an active router that stops taking part.
    pub const RELEASE: Self = Self(0);
    /// Lowest priority that a router can have.
    pub const LOWEST: Self = Self(1);
    /// What RFC 9568 §6.1 gives a backup router.
    pub const DEFAULT: Self = Self(100);
    /// Highest priority of a router that is not the address owner.
    pub const HIGHEST_BACKUP: Self = Self(254);
    /// The router whose own addresses are the virtual addresses.
    pub const OWNER: Self = Self(255);

    /// Any octet is a priority.
    pub const fn new(priority: u8) -> Self {
        Self(priority)
    }

    /// 0–255.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Whether this is 255.
    pub const fn is_owner(self) -> bool {
        self.0 == Self::OWNER.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
