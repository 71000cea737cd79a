//! Every code of a finding, and what it means: `docs/check.md` is made from this list.

use std::fmt::Write as _;

/// A heading, and the codes under it with a sentence each.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

/// Each code once.
const SECTIONS: &[Section] = &[
    (
        "Among the routers of an address (`--peer`)",
        &[
            ("no-backup", "no peer has an instance that takes these addresses over"),
            (
                "peer-addresses",
                "the lists of addresses differ: keepalived up to 2.3.2 drops such adverts, and both are active",
            ),
            ("peer-advert-interval", "version 2 and another `advert_int`: both are active"),
            (
                "peer-authentication",
                "another password, kind of authentication or signing key: both are active",
            ),
            ("peer-group-order", "a host is better in one member of a group and worse in another"),
            ("peer-not-listed", "two unicast routers that do not name each other"),
            ("peer-priority", "the same priority on both; a warning when both are the owner"),
            (
                "peer-transport",
                "unicast here and multicast there, or another multicast group: both are active",
            ),
            ("peer-version", "another version of VRRP: both are active"),
            ("peer-virtual-router-id", "the same address with another virtual router id: both are active"),
            ("weight-moves-nothing", "no weight moves the priority past that of a peer"),
            (
                "weight-without-preemption",
                "weights lower the priority, but no peer preempts, so nobody takes over",
            ),
        ],
    ),
    (
        "Instances",
        &[
            ("address-family", "an address, peer or group of another family than the instance"),
            ("address-in-two-instances", "two instances hold the same address on the same interface"),
            ("address-without-interface", "an address needs an interface where its instance has none"),
            ("advert-interval", "an interval that adverts of this version cannot carry"),
            ("authentication-ignored", "version 3 and strict mode have no passwords"),
            ("authentication-without-password", "`auth_type` without `auth_pass`"),
            ("authentication-without-type", "`authentication` without `auth_type`"),
            (
                "duplicate-virtual-router",
                "two instances are the same virtual router: id, family and interface",
            ),
            ("first-ipv6-address", "the first IPv6 address is not link-local, which the RFC wants"),
            ("hmac", "a signing key, or a setting of signing, that cannot be used"),
            ("hmac-key-file", "others can read a file with keys"),
            ("hmac-without-active-key", "adverts are to be signed with a key that does not exist"),
            ("interface-name", "this cannot be the name of an interface"),
            ("invalid-virtual-router-id", "a virtual router id is 1 to 255"),
            ("loopback", "`lo` reaches no peer"),
            ("master-with-ah", "AH and the first state MASTER: BACKUP is used"),
            ("missing-interface", "an instance without an interface"),
            ("missing-virtual-router-id", "an instance without a virtual router id"),
            ("no-address", "an instance without a virtual address"),
            ("fault-without-peer", "`unicast_fault_no_peer`, and no peer: FAULT"),
            ("no-unicast-peer", "unicast words, but no peer"),
            ("nopreempt-with-master", "`nopreempt` beside `state MASTER` is cleared"),
            ("password-cut", "a password of more than 8 bytes"),
            ("peer-is-self", "a unicast peer is the instance's own source"),
            ("peer-is-virtual", "a unicast peer is a virtual address"),
            (
                "preempt-delay-ignored",
                "`preempt_delay` beside `state MASTER`, `nopreempt` or strict mode is cleared",
            ),
            ("strict-mode", "not allowed in strict mode"),
            ("lease-too-short", "a lease that ends before the next advert renews it"),
            ("timer-expired-with-preempt", "`timer_expired_backup` needs `nopreempt`"),
            ("too-many-addresses", "more addresses than an advert carries"),
            ("version-for-ipv6", "version 2 carries no IPv6"),
            ("vmac-without-interface", "a VMAC needs an interface"),
            ("vmac-with-unicast", "unicast leaves by the base interface, not by the VMAC"),
            ("vmac-word-without-vmac", "a word for VMACs without `use_vmac`"),
            ("vrf-without-interface", "`vrf` of a VMAC without an interface"),
        ],
    ),
    (
        "Virtual servers of keepalived.conf",
        &[
            ("address-not-held", "a virtual server on an address that no instance holds"),
            ("bfd-left-out", "a checker of a BFD session that was left out"),
            ("checker-family", "a checker binds to an address of another family than it connects to"),
            ("file-check-reverse", "`reverse` with weight 0 in `FILE_CHECK`"),
            ("hysteresis", "`hysteresis` that is not less than the quorum"),
            ("inhibit-with-persistence", "clients of a real server that failed are sent to it again"),
            ("large-weight", "a weight of more than 65535"),
            ("link-local-checker", "a checker of a link-local address without an interface"),
            ("lvs-forwarding", "what changes for real servers, once for NAT and once for DR and TUN"),
            ("lvs-scheduler", "a scheduler that vipd does not have; what is used instead"),
            ("missing-url", "`HTTP_GET` or `SSL_GET` without a URL, or a URL without a path"),
            ("missing-value", "a word without its value, which keepalived skips"),
            ("netmask-with-gaps", "a `persistence_granularity` that is no netmask"),
            ("newer-word", "a word that keepalived 2.2.7 does not know"),
            ("no-forwarding-method", "a virtual server without `lb_kind`"),
            ("no-protocol", "a virtual server without `protocol`"),
            ("no-real-servers", "a virtual server without real servers"),
            ("no-scheduler", "a virtual server without `lb_algo`"),
            ("no-such-group", "a virtual server of a group that does not exist, or does not fit it"),
            ("old-word", "a word that keepalived itself calls old"),
            ("one-packet", "`ops` without UDP"),
            ("persistence-with-udp", "all datagrams of a client go to one real server"),
            ("port-mismatch", "a real server with another port where only NAT changes ports"),
            ("protocol-of-mark", "a protocol beside a firewall mark"),
            ("quorum-over-weight", "a quorum of more than all weights together"),
            ("real-server-twice", "a real server that is written twice"),
            ("regex", "an expression that cannot be used"),
            ("regex-options", "an option of expressions that has no effect"),
            ("reply-length", "lengths that no reply of `UDP_CHECK` can have"),
            ("scheduler-flag", "a flag of another scheduler"),
            ("server-family", "a server of another family than its virtual server"),
            ("server-group", "a `virtual_server_group` that cannot be used"),
            ("sorry-among-real", "the sorry server is a real server too"),
            ("sorry-is-real", "the sorry server is a real server too, with another `inhibit`"),
            ("ssl", "`SSL` with half of what it needs"),
            ("unchecked-server", "a real server without a checker"),
            ("virtual-server-left-out", "a virtual server that is not served, and why"),
            ("virtual-server-twice", "two virtual servers of one address"),
            ("weights-without-effect", "weights that differ, and a scheduler that does not look at them"),
            ("without-sorry-server", "a word about the sorry server before there is one"),
            ("zero-port", "all ports without persistence"),
        ],
    ),
    (
        "Groups, trackers and checks",
        &[
            ("defined-later", "keepalived wants a tracked object defined before what tracks it"),
            ("empty-group", "a group without members"),
            ("group-member", "a member that does not exist, or is in another group already"),
            ("group-of-one", "a group with one member"),
            ("group-preemption", "some members of a group preempt and some do not"),
            ("group-priorities", "members of a group with different priorities on one host"),
            ("group-states", "some members of a group begin as MASTER and some as BACKUP"),
            ("link-local-neighbor", "a BFD session with a link-local neighbour, which needs an interface"),
            ("max-hops", "`max_hops` of a BFD session does not fit its TTL"),
            ("missing-file", "a tracked file without its path"),
            ("missing-neighbor", "a BFD session without its neighbour"),
            ("missing-process", "a tracked process without its name"),
            ("not-tracked", "an object that cannot be watched, or is not to be"),
            (
                "own-interface",
                "the instance's own interface is tracked in any case, or, with `dont_track_primary`, not at all",
            ),
            ("quorum", "more processes needed than allowed"),
            ("timeout-over-interval", "a check may run longer than its interval"),
            ("unknown-tracker", "what is tracked does not exist"),
            ("unused-check", "a check that nothing uses"),
            ("weight-for-owner", "the priority 255 of the owner never moves"),
            ("weight-in-group", "weights in a group need `sync_group_tracking_weight`"),
            ("weight-over-range", "priority and weights are more than 254 together"),
            ("weight-with-nopreempt", "weights of an instance that does not preempt"),
        ],
    ),
    (
        "Scripts, users and this host",
        &[
            ("fifo-script-without-fifo", "a script for a FIFO that is not configured"),
            ("interface-missing", "this host has no such interface"),
            ("interface-missing-for-delay", "this host has no such interface, and it has delays"),
            ("missing-script", "a `vrrp_script` without `script`"),
            ("no-script-user", "`enable_script_security` without a user for scripts"),
            ("owner-without-address", "priority 255, but no address of the instance is on this host"),
            ("script-as-root", "scripts run as root"),
            ("script-insecure", "others than root can change a script that runs as root"),
            ("script-missing", "there is no such program"),
            ("script-needs-shell", "a pipe, redirection or `&&` in a command: no shell runs it"),
            ("script-not-executable", "the program cannot be executed by its user"),
            (
                "unknown-notify-user",
                "this host has no such user or group for a FIFO, or a script that is told of changes",
            ),
            ("unknown-user", "this host has no such user or group"),
            ("unquoted-arguments", "arguments of a command that are not within its quotes are lost"),
            ("virtual-address-is-only-address", "a virtual address is the only address of its interface"),
            ("virtual-address-outside", "a virtual address is in no network of its interface"),
        ],
    ),
    (
        "Routes, rules and static objects",
        &[
            ("invalid-rule", "a rule that the kernel would refuse"),
            ("no-destination", "a route without a destination"),
            ("no-members", "a `track_group` or `garp_group` without members"),
            ("no-preference", "a rule without a preference, for which the kernel chooses one"),
            ("protocol-of-tracked-rule", "a rule of another protocol cannot be watched"),
            ("several-ways", "a route with a way besides its next hops"),
            ("track-group-without-interface", "a track group needs the interface of its route or rule"),
            ("unknown-instance", "a `track_group` names an instance that does not exist"),
            ("unknown-track-group", "there is no such `track_group`"),
        ],
    ),
    (
        "Words and values",
        &[
            ("conflict", "two settings that exclude each other"),
            ("deprecated", "an old name, or a word that has no effect any more"),
            ("dropped-by-keepalived", "used here, dropped by keepalived"),
            ("counted-once", "an address, peer or tracked object written twice counts once"),
            ("duplicate", "the same thing written twice"),
            ("ignored-repetition", "a keyword written twice: the first one counts"),
            ("invalid-value", "a value that is not allowed here"),
            ("missing-key", "TOML: a key that must be there"),
            ("missing-name", "a block without its name"),
            ("missing-parameter", "a keyword without its value"),
            ("no-ca-file", "TOML: a server is verified with the authorities of the host"),
            ("kernel-mode", "TOML: what the kernel cannot do for a listener, or the proxy cannot"),
            ("not-needed", "a keyword without effect here"),
            ("not-supported-yet", "a keyword that has no effect yet"),
            ("number-with-rest", "a number with something behind it"),
            ("rest-of-address", "a prefix or a range behind an address that takes none"),
            ("refused", "a keyword that cannot be done here"),
            ("refused-by-keepalived", "used here, but keepalived does not start with it"),
            ("repeated", "a keyword written twice: the last one counts"),
            ("rounded", "more decimals than are kept"),
            ("skipped-by-keepalived", "read here, skipped by keepalived"),
            ("toml-syntax", "this is no TOML"),
            ("unknown-key", "TOML: a key that does not exist"),
            ("unknown-keyword", "a keyword that does not exist"),
            ("unknown-name", "TOML: a name that is not defined"),
            ("words-behind", "words behind a directive, which are dropped"),
        ],
    ),
    (
        "haproxy.cfg and nginx.conf",
        &[
            ("check-connects", "a check that only connects to a port behind which TLS is spoken"),
            ("check-fails", "a check that speaks plain HTTP to a port behind which TLS is spoken"),
            ("check-passes", "a check that passes on a broken server in HAProxy"),
            ("http-as-tcp", "a frontend of `mode http` in which nothing looks at requests"),
            ("http-only", "a word that HAProxy ignores in `mode tcp`"),
            ("idle-watches", "a timeout that ends idle watches of an apiserver or of etcd"),
            ("maxconn", "a limit that another one keeps from being reached"),
            ("misplaced", "a word in a section where it has no effect, or is not allowed"),
            ("missing-line-feed", "the last line does not end, so the file may be cut off"),
            ("needs-http", "a line by which a frontend of `mode http` cannot be carried as TCP"),
            ("never-checked", "a server without `check`"),
            ("no-bind", "a frontend without `bind`"),
            ("no-timeout", "a backend without `timeout connect`"),
            ("nonlocal-bind", "an address that HAProxy binds only with a sysctl when it is not on this host"),
            ("not-carried", "a word that does something in HAProxy, and nothing here"),
            ("page-without-password", "a statistics page with a password: vipd's own is served on 127.0.0.1"),
            ("refused-by-haproxy", "HAProxy 2.6 does not start with it"),
            ("replaced-check", "a check option, or rules of one, without effect"),
            ("said-by-file", "`.notice`, `.warning` or `.alert` in the file"),
            ("same-port", "every address is bound with the port on which the servers listen too"),
            ("stats-page", "vipd's own page in the place of HAProxy's statistics"),
            ("waiting-backup", "a second backup, of which HAProxy uses one at a time"),
        ],
    ),
    (
        "Files",
        &[
            ("condition-without-id", "an `@` without an id"),
            ("definition-loop", "a definition that uses itself"),
            ("extra-brace", "a `}` without an open block"),
            ("include-depth", "too many files are included"),
            ("include-loop", "a file includes itself"),
            ("include-missing", "no file to include"),
            ("include-pattern", "a pattern that cannot be used"),
            ("include-unreadable", "a file to include cannot be read"),
            ("line-too-long", "a line of more than 16 384 bytes"),
            ("line-too-long-for-keepalived", "a line that keepalived would ignore"),
            ("loop", "a `~SEQ` or `~LST` that is not one"),
            ("missing-semicolon", "a directive of nginx.conf without its `;`"),
            ("missing-brace", "a `{` or `}` is missing"),
            ("multi-line-definition", "a definition of several lines in the middle of a line"),
            ("not-a-text-file", "this is no text"),
            ("not-utf-8", "bytes that are not UTF-8"),
            ("too-deep", "too many blocks within blocks"),
            ("too-large", "a file, or what it expands to, is too large"),
            ("too-many-findings", "findings that were left out"),
            ("unexpected-brace", "a `{` where no block can be"),
            (
                "unfilled-placeholder",
                "a `${NAME}` that is not defined: keepalived takes its braces for a block",
            ),
            ("unknown-definition", "a `$NAME` that is not defined"),
            ("unreadable", "the file cannot be read"),
            ("unterminated-quote", "a quote that is not closed on its line"),
            ("zero-byte", "a byte 0 within a line"),
        ],
    ),
];

const HEAD: &str = "\
# What `vipd check` finds

    vipd check /etc/keepalived/keepalived.conf
    vipd check lb1.conf --peer lb2.conf --peer lb3.conf
    vipd check --elsewhere lb2.conf
    vipd check --config-id lb1 both.conf --peer lb2=both.conf
    vipd check --json vipd.toml | jq -r '.findings[] | \"\\(.file):\\(.line) \\(.code)\"'

Reads the files as the daemon does and lists every problem at once: its place, a code, what was found, what was expected, and what
to do or what is done instead. An error keeps the configuration from running. A warning: it runs, but not as it is written, or it
cannot work. A notice is worth knowing.

Exit codes: 0 no errors, whatever warnings there are; 1 errors; 2 wrong options.

`--peer FILE` names the configuration of another router of the same addresses; the file is read as if on that router, so nothing of this
host is asked for it. `--peer ID=FILE` reads `@ID` lines as that router does, so one file for all routers can be compared with itself.
Of its own problems only errors are shown. An instance and one of
a peer are taken for the same virtual router when they share an address, or when they have the same virtual router id and family and the
same interface or name. A weight is said to move nothing when the priorities that the instance can have, with each of its checks good or
bad, all lie on one side of those that the peer can have. A tracked file can hold any number, so nothing is said about it.

Interfaces, addresses and scripts are looked up on this host, unless `--elsewhere` is given. Scripts are judged as the daemon judges them.

`--json` (the same as `--format json`) gives `errors`, `warnings`, `notices` (counts) and `findings`: `severity`, `code`, `message`, `file`, `line`,
`column`, `length`, `expected`, `help`. Codes stay the same from release to release; sentences may change.
";

/// `docs/check.md`.
pub(crate) fn page() -> String {
    let mut page = HEAD.to_owned();
    for (heading, codes) in SECTIONS {
        let _ = write!(page, "\n## {heading}\n\n| code | what it says |\n| --- | --- |\n");
        for (code, sentence) in *codes {
            let _ = writeln!(page, "| `{code}` | {sentence} |");
        }
    }
    page
}
