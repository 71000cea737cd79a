//! Who holds the VIP? Drives `vrrp` machines with real sockets and timers.
