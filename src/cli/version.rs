//! What this build is.

/// `0.1.0`.
pub const SHORT: &str = env!("CARGO_PKG_VERSION");

/// Several lines: the protocols, TLS and kind of build.
pub const LONG: &str = if cfg!(debug_assertions) { long!("debug") } else { long!("release") };

/// The parts are literals, so that `--version` needs no work at run time.
macro_rules! long {
    ($profile:literal) => {
        concat!(
            env!("CARGO_PKG_VERSION"),
            "\nVRRP: version 2 (RFC 3768, PASS) and 3 (RFC 9568), IPv4 and IPv6",
            "\nTLS: rustls with ring",
            "\nbuild: ",
            $profile
        )
    };
}
use long;
