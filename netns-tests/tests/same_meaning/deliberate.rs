//! What differs on purpose, each with its reason.

/// Facts that may differ.
pub struct Deliberate {
    /// Name of the one file it is about; `None`: any.
    pub file: Option<&'static str>,
    /// What the object begins with.
    pub object: &'static str,
    /// The fact.
    pub field: &'static str,
    /// Part of what keepalived says; empty: anything.
    pub keepalived: &'static str,
    /// Part of what vipd says; empty: anything.
    pub vipd: &'static str,
    /// Why.
    pub reason: &'static str,
}

/// All of them.
pub const DELIBERATE: &[Deliberate] = &[
    Deliberate { keepalived: "–", ..any("", "* state transition script", NOTIFY_LATER) },
    Deliberate { keepalived: "–", ..any("global", "fifo script", NOTIFY_LATER) },
    Deliberate {
        file: Some("scripts.conf"),
        ..any("script folder", "*", "a folder is no script: vipd leaves it out")
    },
    Deliberate { vipd: "localhost", keepalived: "127.0.0.1", ..any("global", "Smtp server", LOOKED_UP) },
    Deliberate { keepalived: "–", ..any("global", "Smtp server", LOOKED_UP) },
    Deliberate { keepalived: "–", ..any("global", "Smtp server port", LOOKED_UP) },
    Deliberate { keepalived: "–", ..any("global", "Smtp HELO name", LOOKED_UP) },
    Deliberate { keepalived: "–", ..any("global", "Email notification from", LOOKED_UP) },
    Deliberate { keepalived: "–", ..any("global", "Email notification to", LOOKED_UP) },
    Deliberate { keepalived: "–", ..any("global", "Send emails for fault transitions", LOOKED_UP) },
    Deliberate {
        keepalived: "255",
        vipd: "-1",
        ..any("bfd ", "max_hops", "no packet can pass more than 255")
    },
    Deliberate {
        file: Some("053-tmpl-j2-pigsty-postgres.conf"),
        ..any("global", "Script security", TEMPLATE)
    },
    Deliberate { file: Some("1940.conf"), ..any("", "Tracked BFDs", WITHOUT_NEIGHBOR) },
    Deliberate { file: Some("1940.conf"), ..any("order", "tracked bfd", WITHOUT_NEIGHBOR) },
    Deliberate { file: Some("bfd.conf"), ..any("", "Tracked BFDs", WITHOUT_NEIGHBOR) },
    Deliberate { file: Some("bfd.conf"), ..any("order", "tracked bfd", WITHOUT_NEIGHBOR) },
    Deliberate { file: Some("rest.conf"), ..any("order", "tracked bfd", WITHOUT_NEIGHBOR) },
    Deliberate {
        file: Some("use_vmac.conf"),
        keepalived: "vmac_addr",
        ..any("instance ", "Virtual IP", VMAC_ADDRESS)
    },
    Deliberate {
        file: Some("use_vmac.conf"),
        keepalived: "vmac_addr",
        ..any("instance ", "Virtual IP Excluded", VMAC_ADDRESS)
    },
    Deliberate {
        file: Some("use_vmac.conf"),
        ..any("instance ", "Use VMAC for VIPs on other interfaces", VMAC_ADDRESS)
    },
    Deliberate {
        file: Some("numbers.conf"),
        keepalived: "10.77.1.7/0",
        ..any(
            "instance fourth",
            "Virtual IP",
            "`ADDRESS/` without digits is /0 to keepalived, a network of all addresses; it is one address here",
        )
    },
    Deliberate {
        file: Some("ipv6.conf"),
        keepalived: "vrrp1.7",
        ..any("instance G", "Virtual IP", VMAC_ADDRESS)
    },
    Deliberate {
        vipd: "–",
        ..any(
            "instance ",
            "Skip checking advert IP addresses",
            "keepalived takes `skip_check_adv_addr no` for yes; here it is what it says",
        )
    },
    Deliberate { file: Some("weights.conf"), vipd: "253", ..any("instance B", "Tracked processes", WEIGHT) },
    Deliberate { file: Some("weights.conf"), vipd: "253", ..any("instance C", "Tracked scripts", WEIGHT) },
    Deliberate { file: Some("unicast.conf"), ..any("instance peers", "Unicast Peer", TWICE) },
    Deliberate { file: Some("instances.conf"), ..any("instance six", "VRRP Version", VERSION_2_IPV6) },
    Deliberate { file: Some("instances.conf"), ..any("instance six", "Authentication type", VERSION_2_IPV6) },
    Deliberate {
        keepalived: "–",
        vipd: "255",
        ..any(
            "instance ",
            "Unicast TTL",
            "over IPv6 keepalived leaves the hop limit to the kernel (64); RFC 9568 asks for 255, which every peer takes",
        )
    },
    Deliberate { file: Some("language.conf"), ..any("instance unknown", "Virtual IP", UNKNOWN_BLOCK) },
    Deliberate { file: Some("scripts.conf"), ..any("instance tracks", "Tracked scripts", DEFINED_LATER) },
    Deliberate { file: Some("scripts.conf"), ..any("order", "script", DEFINED_LATER) },
    Deliberate { file: Some("scripts.conf"), ..any("script later", "*", DEFINED_LATER) },
    Deliberate { file: Some("seq2.conf"), ..any("", "Tracked files", FOLDER_LATER) },
    Deliberate { file: Some("seq2.conf"), ..any("file ", "File", FOLDER_LATER) },
    Deliberate { file: Some("seq2.conf"), ..any("order", "file", FOLDER_LATER) },
];

const FOLDER_LATER: &str = "a tracked file whose folder is not there when keepalived starts is forgotten by it; vipd \
    watches for the file";
const NOTIFY_LATER: &str = "a notify script that is missing when the file is read is dropped by keepalived; vipd keeps \
    it, since it may be there when it is needed";
const WEIGHT: &str = "more than 253 changes nothing: the priority stays between 1 and 254";
const TWICE: &str = "a peer that is written twice gets each advert once";
const VERSION_2_IPV6: &str =
    "VRRP version 2 has no IPv6 (RFC 3768, RFC 9568): version 3 is spoken, with a warning";
const UNKNOWN_BLOCK: &str = "keepalived ignores the brace behind an unknown keyword and lets its `}` end the block \
    around it, so that the rest is lost; vipd skips the unknown block alone";
const DEFINED_LATER: &str = "keepalived forgets a tracked script that is defined further down; the operator has \
    written both, so vipd tracks it, with a notice";
const LOOKED_UP: &str = "keepalived looks the mail server up once, when it starts, and mails nothing when that \
    fails; vipd looks it up for each mail, so that a name server that comes later is enough";
const TEMPLATE: &str = "a template that nobody filled in: the braces behind `router_id` begin a block, in which \
    keepalived takes the words that follow as unknown; vipd reads them, and there is no instance either way";
const WITHOUT_NEIGHBOR: &str = "a session without a neighbour on this host: keepalived's BFD process drops it, \
    its VRRP process waits for it for ever in FAULT; vipd drops it in both and says so";
const VMAC_ADDRESS: &str = "keepalived's dump has the name of the VMAC that an address is put on, vipd's model the \
    interface below it and the prefix of that name";

/// Any file, any value.
const fn any(object: &'static str, field: &'static str, reason: &'static str) -> Deliberate {
    Deliberate { file: None, object, field, keepalived: "", vipd: "", reason }
}

/// The entry that a difference is accepted by.
pub fn find(file: &str, object: &str, field: &str, keepalived: &str, vipd: &str) -> Option<usize> {
    DELIBERATE.iter().position(|entry| {
        entry.file.is_none_or(|name| name == file)
            && object.starts_with(entry.object)
            && (entry.field == field || entry.field.strip_prefix('*').is_some_and(|end| field.ends_with(end)))
            && keepalived.contains(entry.keepalived)
            && vipd.contains(entry.vipd)
    })
}
