//! Numbers for Prometheus, made from a status: there is no second set of counters that could differ.

mod forward;

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge};
use prometheus_client::registry::{Registry, Unit};

use super::event::{Health, State};
use super::status::{Histogram, InstanceStatus, Status};
use super::tally::Tally;

/// `Content-Type` of [`encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The text that Prometheus reads.
pub fn encode(status: &Status) -> String {
    let mut registry = Registry::with_prefix("vipd");
    registry.register_collector(Box::new(Snapshot(status.clone())));
    let mut text = String::new();
    // Writing to a string does not fail, and the names below are ours.
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
        tracing::error!(%error, "metrics could not be written");
    }
    text
}

#[derive(Debug)]
struct Snapshot(Status);

type Labels<'a, const N: usize> = [(&'a str, String); N];

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut out = Families(encoder);
        let status = &self.0;
        out.gauges(
            "build_info",
            "Always 1; the version is a label",
            [([("version", status.version.clone())], 1.0)],
        )?;
        out.gauges("start_time_seconds", "When the daemon started", [([], epoch(status.started))])?;
        let restarts = status.guard.as_ref().map(|guard| ([], u64::from(guard.restarts)));
        out.counters("daemon_restarts", "Daemons that died and were started again by their guard", restarts)?;
        instances(&mut out, status)?;
        groups(&mut out, status)?;
        adverts(&mut out, status)?;
        checks(&mut out, status)?;
        bfd(&mut out, status)?;
        forward::all(&mut out, status)?;
        let dropped = |what: &str, count| ([("what", what.to_owned())], count);
        out.counters(
            "dropped",
            "Events and log lines that did not fit their queues",
            [dropped("events", status.dropped.events), dropped("log_lines", status.dropped.log_lines)],
        )
    }
}

fn instances(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let each =
        |value: fn(&InstanceStatus) -> f64| status.instances.iter().map(move |i| (instance(i), value(i)));
    out.gauges(
        "instance_state",
        "1 for the state that the instance is in, 0 for the others",
        status.instances.iter().flat_map(|i| {
            [State::Initialize, State::Backup, State::Active, State::Fault].map(|state| {
                let [a, b, c, d] = instance(i);
                ([a, b, c, d, ("state", state.to_string())], one_if(i.state == state))
            })
        }),
    )?;
    out.gauges(
        "instance_active",
        "1 if the instance holds its addresses",
        each(|i| one_if(i.state == State::Active)),
    )?;
    out.gauges("instance_priority", "Effective priority", each(|i| f64::from(i.priority)))?;
    out.gauges("instance_base_priority", "Configured priority", each(|i| f64::from(i.base_priority)))?;
    out.gauges("instance_state_since_seconds", "When the state last changed", each(|i| epoch(i.since)))?;
    out.gauges(
        "address_present",
        "1 if the kernel has the address",
        status.instances.iter().flat_map(|i| {
            i.addresses.iter().map(|a| {
                let labels = [
                    ("instance", i.name.clone()),
                    ("address", a.address.clone()),
                    ("interface", a.interface.clone()),
                ];
                (labels, one_if(a.present))
            })
        }),
    )?;
    out.gauges(
        "address_claims",
        "Packets in which another host claimed the address, since this one is active",
        status.instances.iter().flat_map(|i| {
            i.addresses.iter().filter_map(|a| {
                let labels = [("instance", i.name.clone()), ("address", a.address.clone())];
                Some((labels, a.claimed_by.as_ref()?.times as f64))
            })
        }),
    )?;
    out.counters(
        "transitions",
        "State changes by reason",
        status.instances.iter().flat_map(|i| by_reason(&i.name, &i.counters.transitions)),
    )?;
    let count = |value: fn(&InstanceStatus) -> u64| {
        status.instances.iter().map(move |i| ([("instance", i.name.clone())], value(i)))
    };
    out.counters(
        "became_active",
        "Times that the instance became active",
        count(|i| i.counters.became_active),
    )?;
    out.counters(
        "announcements_sent",
        "Gratuitous ARP and neighbour advertisements sent",
        count(|i| i.counters.announcements_sent),
    )
}

fn groups(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    if status.groups.is_empty() {
        return Ok(());
    }
    out.gauges(
        "group_state",
        "1 for the state that the sync group is in, 0 for the others",
        status.groups.iter().flat_map(|group| {
            [State::Initialize, State::Backup, State::Active, State::Fault].map(|state| {
                ([("group", group.name.clone()), ("state", state.to_string())], one_if(group.state == state))
            })
        }),
    )?;
    out.gauges(
        "group_state_since_seconds",
        "When the state last changed",
        status.groups.iter().map(|group| ([("group", group.name.clone())], epoch(group.since))),
    )
}

fn adverts(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let count = |value: fn(&InstanceStatus) -> u64| {
        status.instances.iter().map(move |i| ([("instance", i.name.clone())], value(i)))
    };
    out.counters("adverts_sent", "Adverts sent", count(|i| i.counters.adverts_sent))?;
    out.counters("adverts_received", "Adverts accepted", count(|i| i.counters.adverts_received))?;
    out.counters(
        "priority_zero_sent",
        "Adverts of priority 0 sent",
        count(|i| i.counters.priority_zero_sent),
    )?;
    out.counters(
        "priority_zero_received",
        "Adverts of priority 0 accepted",
        count(|i| i.counters.priority_zero_received),
    )?;
    out.counters("advert_send_errors", "Adverts that the kernel refused", count(|i| i.counters.send_errors))?;
    out.counters(
        "adverts_discarded",
        "Adverts discarded by reason; no instance: they were for none of ours",
        status
            .instances
            .iter()
            .flat_map(|i| by_reason(&i.name, &i.counters.discarded))
            .chain(by_reason("", &status.discarded)),
    )?;
    out.counters(
        "advert_oddities",
        "Adverts accepted, but odd, by reason",
        status.instances.iter().flat_map(|i| by_reason(&i.name, &i.counters.oddities)),
    )?;
    out.histograms(
        "advert_lateness_seconds",
        "How late the engine's timers fired",
        [([], &status.lateness)],
    )?;
    out.gauges(
        "advert_lateness_max_seconds",
        "The latest that a timer fired",
        [([], status.lateness.max.as_secs_f64())],
    )?;
    stalls(out, status)
}

fn stalls(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let stalls = &status.stalls;
    out.counters(
        "resurrections",
        "Times that an instance woke up so late that it let go and listened first",
        [([], stalls.resurrected)],
    )?;
    out.gauges(
        "resurrection_lateness_max_seconds",
        "The latest that it woke up then",
        [([], stalls.longest.as_secs_f64())],
    )?;
    out.gauges(
        "host_suspended_seconds",
        "How long the machine was suspended since the daemon started",
        [([], stalls.slept.as_secs_f64())],
    )?;
    out.gauges(
        "host_steal_seconds",
        "How long the machine below this virtual one ran others instead of it, since it was started",
        [([], stalls.steal.as_secs_f64())],
    )?;
    let leased = status.instances.iter().filter_map(|i| Some(([("instance", i.name.clone())], i.lease?)));
    out.gauges(
        "lease_seconds",
        "The addresses of the instance fall silent so long after its last advert",
        leased.map(|(labels, lease)| (labels, lease.as_secs_f64())),
    )?;
    let Some(lease) = &status.lease else { return Ok(()) };
    out.gauges(
        "lease_tables_work",
        "1 if nf_tables silences addresses in time, 0 if their lifetime alone does",
        [([], one_if(lease.tables))],
    )?;
    out.counters(
        "lease_tables_remade",
        "Times that the tables had been removed by others",
        [([], lease.remade)],
    )?;
    out.counters(
        "lease_lapsed",
        "Times that addresses were silent for a moment because this host was late",
        [([], lease.lapsed)],
    )
}

fn checks(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    let label = |name: &str| ("check", name.to_owned());
    out.gauges(
        "check_health",
        "1 for the health that the check has, 0 for the others",
        status.checks.iter().flat_map(|check| {
            healths(check.health).map(|(health, value)| {
                ([label(&check.name), ("kind", check.kind.clone()), ("health", health)], value)
            })
        }),
    )?;
    out.counters(
        "check_runs",
        "Runs of checks by result",
        status.checks.iter().flat_map(|check| {
            [("success", check.succeeded), ("failure", check.failed), ("skipped", check.skipped)]
                .map(|(result, count)| ([label(&check.name), ("result", result.to_owned())], count))
        }),
    )?;
    out.histograms(
        "check_duration_seconds",
        "How long runs of checks took",
        status.checks.iter().map(|check| ([label(&check.name)], &check.durations)),
    )?;
    out.gauges(
        "check_value",
        "Number read by a check",
        status.checks.iter().filter_map(|check| {
            // Prometheus knows only floats; these are priorities and the like.
            #[expect(clippy::cast_precision_loss, reason = "a sample is a float")]
            check.value.map(|value| ([label(&check.name)], value as f64))
        }),
    )?;
    out.gauges(
        "check_findings",
        "What a check noticed that is no failure, such as a certificate that expires soon",
        status.checks.iter().map(|check| {
            let count = u32::try_from(check.findings.len()).unwrap_or(u32::MAX);
            ([label(&check.name)], f64::from(count))
        }),
    )
}

fn bfd(out: &mut Families<'_>, status: &Status) -> fmt::Result {
    if status.bfd.is_empty() {
        return Ok(());
    }
    let label = |name: &str| ("session", name.to_owned());
    let all = || status.bfd.iter();
    out.gauges(
        "bfd_session_state",
        "1 for the state that the BFD session is in, 0 for the others",
        all().flat_map(|one| {
            ["Up", "Init", "Down", "AdminDown"].map(|state| {
                ([label(&one.name), ("state", state.to_lowercase())], one_if(one.state == state))
            })
        }),
    )?;
    out.gauges(
        "bfd_detection_time_seconds",
        "Silence after which the session is down",
        all().filter_map(|one| Some(([label(&one.name)], one.detection_time?.as_secs_f64()))),
    )?;
    out.counters(
        "bfd_packets",
        "Control packets by direction",
        all().flat_map(|one| {
            [("sent", one.packets_sent), ("received", one.packets_received)]
                .map(|(direction, count)| ([label(&one.name), ("direction", direction.to_owned())], count))
        }),
    )?;
    out.counters(
        "bfd_packets_discarded",
        "Control packets discarded by reason",
        all().flat_map(|one| {
            one.discarded
                .iter()
                .map(|(reason, count)| ([label(&one.name), ("reason", reason.clone())], *count))
        }),
    )?;
    out.counters(
        "bfd_downs",
        "Times that the session went down",
        all().map(|one| ([label(&one.name)], one.went_down)),
    )
}

fn instance(status: &InstanceStatus) -> Labels<'static, 4> {
    [
        ("instance", status.name.clone()),
        ("interface", status.interface.clone()),
        ("vrid", status.vrid.to_string()),
        ("family", status.family.clone()),
    ]
}

fn by_reason(instance: &str, counts: &Tally) -> impl Iterator<Item = (Labels<'static, 2>, u64)> {
    counts.iter().map(move |(reason, count)| {
        ([("instance", instance.to_owned()), ("reason", reason.to_owned())], count)
    })
}

fn healths(now: Health) -> [(String, f64); 3] {
    [Health::Unknown, Health::Up, Health::Down].map(|health| (health.to_string(), one_if(health == now)))
}

fn one_if(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

fn epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Writes whole families: a name, its help, and every sample under it.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstGauge::new(value)));
        self.family(name, help, MetricType::Gauge, samples)
    }

    /// The name gets `_total` behind it.
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, value)| (labels, ConstCounter::new(value)));
        self.family(name, help, MetricType::Counter, samples)
    }

    fn histograms<'l, 'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, &'h Histogram)>,
    ) -> fmt::Result {
        let samples = samples.into_iter().map(|(labels, histogram)| (labels, Durations(histogram)));
        self.family(name, help, MetricType::Histogram, samples)
    }

    fn family<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        samples: impl Iterator<Item = (Labels<'l, N>, impl EncodeMetric)>,
    ) -> fmt::Result {
        let mut samples = samples.peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let (name, unit) = match (name.strip_suffix("_seconds"), name.strip_suffix("_bytes")) {
            (Some(name), _) => (name, Some(&Unit::Seconds)),
            (None, Some(name)) => (name, Some(&Unit::Bytes)),
            (None, None) => (name, None),
        };
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        for (labels, metric) in samples {
            if N == 0 {
                return metric.encode(family);
            }
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

type NoLabels = [(&'static str, String); 0];

/// A histogram of ours in the way of Prometheus.
struct Durations<'a>(&'a Histogram);

impl EncodeMetric for Durations<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = Histogram::BOUNDS.iter().map(std::time::Duration::as_secs_f64).chain([f64::INFINITY]);
        let counts = self.0.buckets.iter().copied().chain(std::iter::repeat(0));
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabels>(self.0.sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::observe::sample;

    /// Every sample by its name and labels, read back line by line as the format has it.
    fn samples(text: &str) -> BTreeMap<String, f64> {
        let mut samples = BTreeMap::new();
        let mut kinds = BTreeMap::<String, String>::new();
        let mut units = BTreeSet::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line == "# EOF" {
                assert!(lines.peek().is_none(), "nothing follows the end");
                for name in kinds.keys().filter(|name| name.ends_with("_seconds") || name.ends_with("_bytes"))
                {
                    assert!(units.contains(name), "{name} has no UNIT");
                }
                return samples;
            }
            if let Some(rest) = line.strip_prefix("# ") {
                if let Some(family) = rest.strip_prefix("TYPE ") {
                    let (name, kind) = family.split_once(' ').unwrap();
                    assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
                } else if let Some(family) = rest.strip_prefix("UNIT ") {
                    let (name, unit) = family.split_once(' ').unwrap();
                    assert!(name.ends_with(&format!("_{unit}")), "{line}");
                    assert!(units.insert(name.to_owned()), "{name} twice");
                } else {
                    assert!(rest.starts_with("HELP vipd_"), "{line}");
                }
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let belongs = kinds.iter().any(|(family, kind)| match kind.as_str() {
                "gauge" => name == family,
                "counter" => name == format!("{family}_total"),
                "histogram" => ["_bucket", "_sum", "_count"].iter().any(|s| name == format!("{family}{s}")),
                other => panic!("no such type: {other}"),
            });
            assert!(belongs, "{line} has no TYPE");
            assert!(samples.insert(key.to_owned(), value.parse().unwrap()).is_none(), "{key} twice");
        }
        panic!("no # EOF");
    }

    #[test]
    fn every_number_of_the_status_can_be_read_back() {
        let samples = samples(&encode(&sample::status()));
        let one = r#"instance="VI_1",interface="eth0",vrid="51",family="IPv4""#;
        let two = r#"instance="VI_2",interface="eth0",vrid="52",family="IPv4""#;
        let cp1 = r#"listener="api",backend="cp1",address="10.0.0.11:6443""#;
        let cp2 = r#"listener="api",backend="cp2",address="10.0.0.12:6443""#;
        for (key, wanted) in [
            (r#"vipd_build_info{version="vipd 0.1.0"}"#.to_owned(), 1.0),
            ("vipd_start_time_seconds".to_owned(), 1_767_225_600.0 - 273_600.0),
            (format!(r#"vipd_instance_state{{{one},state="active"}}"#), 1.0),
            (format!(r#"vipd_instance_state{{{one},state="backup"}}"#), 0.0),
            (format!(r#"vipd_instance_state{{{two},state="backup"}}"#), 1.0),
            (format!("vipd_instance_active{{{one}}}"), 1.0),
            (format!("vipd_instance_active{{{two}}}"), 0.0),
            (format!("vipd_instance_priority{{{two}}}"), 99.0),
            (format!("vipd_instance_base_priority{{{two}}}"), 101.0),
            (format!("vipd_instance_state_since_seconds{{{two}}}"), 1_767_225_600.0 - 42.0),
            (
                r#"vipd_address_present{instance="VI_1",address="10.0.0.100/32",interface="eth0"}"#
                    .to_owned(),
                1.0,
            ),
            (r#"vipd_transitions_total{instance="VI_1",reason="active_down"}"#.to_owned(), 2.0),
            (r#"vipd_became_active_total{instance="VI_1"}"#.to_owned(), 2.0),
            (r#"vipd_adverts_sent_total{instance="VI_1"}"#.to_owned(), 8040.0),
            (r#"vipd_adverts_received_total{instance="VI_1"}"#.to_owned(), 17.0),
            (r#"vipd_adverts_discarded_total{instance="VI_1",reason="ttl"}"#.to_owned(), 3.0),
            (r#"vipd_adverts_discarded_total{instance="",reason="unknown_vrid"}"#.to_owned(), 9.0),
            (r#"vipd_announcements_sent_total{instance="VI_1"}"#.to_owned(), 20.0),
            ("vipd_advert_lateness_seconds_count".to_owned(), 2.0),
            (r#"vipd_advert_lateness_seconds_bucket{le="0.00005"}"#.to_owned(), 0.0),
            (r#"vipd_advert_lateness_seconds_bucket{le="0.0001"}"#.to_owned(), 1.0),
            (r#"vipd_advert_lateness_seconds_bucket{le="0.0005"}"#.to_owned(), 2.0),
            (r#"vipd_advert_lateness_seconds_bucket{le="+Inf"}"#.to_owned(), 2.0),
            ("vipd_advert_lateness_max_seconds".to_owned(), 0.0003),
            (r#"vipd_check_health{check="apiserver",kind="apiserver",health="down"}"#.to_owned(), 1.0),
            (r#"vipd_check_runs_total{check="apiserver",result="failure"}"#.to_owned(), 16.0),
            (r#"vipd_check_runs_total{check="uplink",result="skipped"}"#.to_owned(), 2.0),
            (r#"vipd_check_duration_seconds_sum{check="apiserver"}"#.to_owned(), 0.035),
            (r#"vipd_check_duration_seconds_bucket{le="0.0025",check="apiserver"}"#.to_owned(), 3.0),
            (r#"vipd_check_duration_seconds_bucket{le="0.1",check="apiserver"}"#.to_owned(), 4.0),
            (r#"vipd_check_value{check="uplink"}"#.to_owned(), -5.0),
            (r#"vipd_listener_open_sessions{listener="api"}"#.to_owned(), 4.0),
            (r#"vipd_listener_sessions_total{listener="api"}"#.to_owned(), 1234.0),
            (r#"vipd_listener_refused_total{listener="api"}"#.to_owned(), 7.0),
            (format!(r#"vipd_backend_health{{{cp1},health="up"}}"#), 1.0),
            (format!(r#"vipd_backend_health{{{cp2},health="up"}}"#), 0.0),
            (format!("vipd_backend_open_sessions{{{cp1}}}"), 4.0),
            (format!("vipd_backend_connect_errors_total{{{cp1}}}"), 2.0),
            (format!(r#"vipd_backend_bytes_total{{{cp1},direction="out"}}"#), 3_221_225_472.0),
            (r#"vipd_listener_retries_total{listener="api"}"#.to_owned(), 3.0),
            (r#"vipd_listener_sessions_max{listener="api"}"#.to_owned(), 40.0),
            (r#"vipd_listener_refusing{listener="api"}"#.to_owned(), 0.0),
            (r#"vipd_listener_ended_total{listener="api",reason="backend_down"}"#.to_owned(), 4.0),
            (r#"vipd_listener_carrier{listener="api",carrier="proxy"}"#.to_owned(), 1.0),
            (format!("vipd_backend_weight{{{cp1}}}"), 1.0),
            (format!(r#"vipd_backend_state{{{cp1},state="ready"}}"#), 1.0),
            (format!(r#"vipd_backend_state{{{cp1},state="maint"}}"#), 0.0),
            (format!("vipd_backend_health_since_seconds{{{cp2}}}"), 1_767_225_600.0 - 42.0),
            (format!("vipd_backend_connect_seconds_count{{{cp1}}}"), 4.0),
            (format!("vipd_backend_connect_seconds_sum{{{cp1}}}"), 0.0046),
            (r#"vipd_dropped_total{what="log_lines"}"#.to_owned(), 0.0),
        ] {
            let got = samples.get(&key).unwrap_or_else(|| panic!("{key} is missing in {samples:#?}"));
            assert!((got - wanted).abs() < 1e-9 * wanted.abs().max(1.0), "{key} is {got}, wanted {wanted}");
        }
    }

    #[test]
    fn a_host_with_nothing_configured_has_valid_metrics() {
        let status = Status {
            instances: vec![],
            groups: vec![],
            checks: vec![],
            bfd: vec![],
            listeners: vec![],
            lateness: Histogram::default(),
            discarded: Tally::default(),
            ..sample::status()
        };
        let samples = samples(&encode(&status));
        assert_eq!(samples[r#"vipd_advert_lateness_seconds_bucket{le="+Inf"}"#], 0.0);
        assert!(!samples.keys().any(|key| key.starts_with("vipd_instance")));
    }

    #[test]
    fn odd_names_are_escaped() {
        let mut status = sample::status();
        status.instances[0].name = "a\"b\\c\nd".into();
        let text = encode(&status);
        assert!(text.contains(r#"instance="a\"b\\c\nd""#), "{text}");
    }
}
