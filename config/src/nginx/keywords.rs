//! Directives of `stream` in nginx 1.22 (and those that newer and commercial ones have), and what becomes of them here.

/// What becomes of a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It has a meaning here.
    Carried,
    /// It has a meaning here that differs: how.
    Differs(&'static str),
    /// Nothing is lost without it: why.
    NotNeeded(&'static str),
    /// It would do something, and does not here: what to do instead.
    Dropped(&'static str),
    /// Refused: what to write.
    Refused(&'static str),
}

use Status::{Carried, Differs, Dropped, NotNeeded, Refused};

/// A directive, and the block that it stands in.
pub(super) struct Directive {
    pub name: &'static str,
    pub upstream: bool,
    pub status: Status,
}

const fn server(name: &'static str, status: Status) -> Directive {
    Directive { name, upstream: false, status }
}

const fn upstream(name: &'static str, status: Status) -> Directive {
    Directive { name, upstream: true, status }
}

/// Of `stream` alone, not of a `server` in it.
pub(super) const STREAM_ALONE: [&str; 14] = [
    "geo",
    "geoip_city",
    "geoip_country",
    "geoip_org",
    "limit_conn_zone",
    "log_format",
    "map",
    "map_hash_bucket_size",
    "map_hash_max_size",
    "server",
    "split_clients",
    "upstream",
    "variables_hash_bucket_size",
    "variables_hash_max_size",
];
/// Of a `server` alone.
pub(super) const SERVER_ALONE: [&str; 3] = ["listen", "proxy_pass", "return"];

const BUFFERS: &str = "vipd's buffers have their own sizes";
const TLS: &str = "vipd carries TLS as it is";
const LOOKS: &str = "nothing of the stream is looked at";
const ROUTES: &str = "a `proxy_pass` that uses the variable is refused at its line";
const GUARDS: &str = "it keeps clients out, and vipd would let them in; write it as a rule for nftables, such as `ip saddr 203.0.113.0/24 tcp dport PORT drop` (`!=` behind `saddr` for those who may come), and delete the line";
const TO_SERVER: &str =
    "vipd does not encrypt what it carries; let the client speak TLS with the server itself";

/// Of `stream` and its `server` blocks, and of `upstream`.
pub(super) const DIRECTIVES: &[Directive] = &[
    server(
        "access_log",
        Dropped("vipd logs sessions with `access_log = \"event\"` or `\"tcplog\"` at the listener in TOML"),
    ),
    server("allow", Differs("without `deny` everybody is allowed anyway")),
    server("deny", Refused(GUARDS)),
    server("error_log", NotNeeded("vipd logs to its standard output or the journal")),
    server("geo", NotNeeded(ROUTES)),
    server("geoip_city", NotNeeded(ROUTES)),
    server("geoip_country", NotNeeded(ROUTES)),
    server("geoip_org", NotNeeded(ROUTES)),
    server("js_access", Refused(GUARDS)),
    server("js_filter", Refused("vipd carries bytes as they are")),
    server("js_import", NotNeeded(ROUTES)),
    server("js_include", NotNeeded(ROUTES)),
    server("js_path", NotNeeded(ROUTES)),
    server("js_preread", Refused("nothing of the stream is looked at")),
    server("js_set", NotNeeded(ROUTES)),
    server("js_var", NotNeeded(ROUTES)),
    server(
        "limit_conn",
        Dropped(
            "write a rule for nftables, such as `tcp dport PORT ct count over 100 reject`, or `max_sessions` at the listener in TOML",
        ),
    ),
    server("limit_conn_dry_run", NotNeeded("of `limit_conn`")),
    server("limit_conn_log_level", NotNeeded("of `limit_conn`")),
    server("limit_conn_zone", NotNeeded("of `limit_conn`")),
    server(
        "listen",
        Differs(
            "`ssl` and Unix sockets are refused; a range of ports is each of them; `udp` is carried by the kernel",
        ),
    ),
    server("log_format", NotNeeded("of `access_log`")),
    server("map", NotNeeded(ROUTES)),
    server("map_hash_bucket_size", NotNeeded(ROUTES)),
    server("map_hash_max_size", NotNeeded(ROUTES)),
    server("open_log_file_cache", NotNeeded("of `access_log`")),
    server("preread_buffer_size", NotNeeded(LOOKS)),
    server("preread_timeout", NotNeeded(LOOKS)),
    server("proxy_bind", Differs("`$remote_addr transparent` alone")),
    server("proxy_buffer_size", NotNeeded(BUFFERS)),
    server("proxy_connect_timeout", Carried),
    server("proxy_download_rate", Dropped("there is no limit of bytes a second; `tc` has one")),
    server("proxy_half_close", NotNeeded("half-closed sessions are carried as such")),
    server("proxy_next_upstream", Carried),
    server("proxy_next_upstream_timeout", NotNeeded("each server is tried once at most")),
    server("proxy_next_upstream_tries", Carried),
    server("proxy_pass", Differs("an upstream or an address; a name is resolved again when its TTL is over")),
    server("proxy_protocol", Carried),
    server("proxy_protocol_timeout", NotNeeded("a client that does not send its header is closed")),
    server("proxy_requests", NotNeeded("datagrams belong to their flow")),
    server("proxy_responses", NotNeeded("datagrams belong to their flow")),
    server("proxy_session_drop", NotNeeded("a listener says `close_sessions_on_backend_down`")),
    server("proxy_socket_keepalive", NotNeeded("keepalive is on in any case")),
    server("proxy_ssl", Refused(TO_SERVER)),
    server("proxy_timeout", Carried),
    server("proxy_upload_rate", Dropped("there is no limit of bytes a second; `tc` has one")),
    server("resolver", NotNeeded("names are resolved by the host's resolver")),
    server("resolver_timeout", NotNeeded("names are resolved by the host's resolver")),
    server("return", Refused("vipd says nothing of its own; leave the `server` block out")),
    server("pass", Refused("name the servers with `proxy_pass`")),
    server("server", Carried),
    server(
        "server_name",
        Refused("vipd does not look into TLS: give each name an address or a port of its own"),
    ),
    server("set", NotNeeded(ROUTES)),
    server("set_real_ip_from", Differs("the senders of PROXY headers that are believed")),
    server("split_clients", NotNeeded(ROUTES)),
    server("ssl_preread", NotNeeded(ROUTES)),
    server("tcp_nodelay", NotNeeded("it is on in any case")),
    server("upstream", Carried),
    server("variables_hash_bucket_size", NotNeeded(ROUTES)),
    server("variables_hash_max_size", NotNeeded(ROUTES)),
    server("health_check", Refused("it is of the commercial nginx; write `check` at the backends in TOML")),
    server("match", NotNeeded("of `health_check`")),
    server("status_zone", NotNeeded("every listener is counted")),
    server("zone_sync", NotNeeded("of the commercial nginx")),
    upstream(
        "hash",
        Differs("`$remote_addr`; few clients move when a server comes or goes, as with `consistent`"),
    ),
    upstream("least_conn", Carried),
    upstream("least_time", Differs("as `least_conn`")),
    upstream("ntlm", Refused("of `http` alone")),
    upstream("random", Differs("two are drawn, and the one with fewer sessions is taken")),
    upstream("resolver", NotNeeded("names are resolved by the host's resolver")),
    upstream("resolver_timeout", NotNeeded("names are resolved by the host's resolver")),
    upstream(
        "server",
        Differs(
            "`max_fails` and `fail_timeout` count for all servers of an upstream; all addresses of a name are used",
        ),
    ),
    upstream("state", NotNeeded("of the commercial nginx")),
    upstream("zone", NotNeeded("all threads share what they know")),
];

/// Families that are alike.
const FAMILIES: [(&str, Status); 3] = [
    ("proxy_ssl_", NotNeeded("of `proxy_ssl`")),
    ("ssl_", NotNeeded(TLS)),
    ("zone_sync_", NotNeeded("of the commercial nginx")),
];

/// The names of families, for the page.
pub(super) fn families() -> impl Iterator<Item = (&'static str, Status)> {
    FAMILIES.into_iter()
}

/// What becomes of a directive; nothing for one that nginx does not know here.
pub(super) fn find(name: &str, in_upstream: bool) -> Option<Status> {
    let mut of_block = DIRECTIVES.iter().filter(|directive| directive.upstream == in_upstream);
    let found = of_block.find(|directive| directive.name == name).map(|directive| directive.status);
    let family = || {
        FAMILIES
            .iter()
            .find(|(family, _)| !in_upstream && name.starts_with(family))
            .map(|(_, status)| *status)
    };
    found.or_else(family)
}

/// Directives of the main part that are no block.
pub(super) const MAIN: [&str; 31] = [
    "daemon",
    "debug_points",
    "env",
    "error_log",
    "events",
    "google_perftools_profiles",
    "http",
    "include",
    "load_module",
    "lock_file",
    "mail",
    "master_process",
    "pcre_jit",
    "pid",
    "ssl_engine",
    "stream",
    "thread_pool",
    "timer_resolution",
    "user",
    "working_directory",
    "worker_cpu_affinity",
    "worker_priority",
    "worker_processes",
    "worker_rlimit_core",
    "worker_rlimit_nofile",
    "worker_shutdown_timeout",
    "worker_connections",
    "use",
    "multi_accept",
    "accept_mutex",
    "js_import",
];
