//! Keys of `[[service]]`, its drain and its rejuvenation.

use super::backend::BACKEND;
use super::budget::{CEILING_BREAKS_WINDOW, JITTER, MAX_AGE, MIN_ACTIVE, WINDOW};
use super::check::CHECK;
use super::recovery::{HOOK, RECOVERY};
use super::warm_up::WARM_UP;
use super::{DAY, HOUR, Key, Kind, SECOND, Section, millis};

pub(super) const SERVICE: Section = Section {
    name: "service",
    path: "service",
    repeated: true,
    doc: "A service: what clients reach, and how its flows get to backends.",
    keys: &[
        Key::new("name", Kind::Name, "\"shop\"", "Its name; no other service has it.").required(),
        Key::new(
            "vip",
            Kind::Endpoint,
            "\"192.0.2.10:80\"",
            "Where clients reach it. The address belongs to no machine.",
        )
        .required(),
        Key::with_default(
            "protocol",
            Kind::Choice(&[("tcp", "connections"), ("udp", "datagrams")]),
            "\"tcp\"",
            "The protocol of its flows.",
        ),
        Key::with_default(
            "forwarding",
            Kind::Choice(&[
                ("nat", "addresses are rewritten both ways; replies come back through Baton"),
                ("dsr", "frames are readdressed; the backend holds the VIP and answers clients itself"),
                ("ipip", "packets are put into others, also across routers; the backend answers clients itself"),
            ]),
            "\"nat\"",
            "How packets get to its backends.",
        ),
        Key::new(
            "snat_ports",
            Kind::Ports,
            "\"20000-29999\"",
            "Ports that take the place of the clients', with the balancer's own address: for backends without a \
             route back through Baton. Left out: backends see the clients' addresses.",
        )
        .only("forwarding", &["nat"]),
        POLICY,
        Key::new(
            "affinity",
            millis(SECOND, 39 * HOUR),
            "\"5m\"",
            "How long a client stays with its backend after its last new flow. Left out: every flow for itself.",
        ),
        Key::with_default(
            "affinity_prefix_v4",
            Kind::Prefix { most: 32 },
            "32",
            "IPv4 clients that share so many first bits count as one to `affinity`.",
        ),
        Key::with_default(
            "affinity_prefix_v6",
            Kind::Prefix { most: 128 },
            "128",
            "IPv6 clients that share so many first bits count as one to `affinity`.",
        ),
        Key::with_default(
            "affinity_at_drain",
            Kind::Choice(&[
                ("honour", "they still go to the backend that drains"),
                ("break", "they go elsewhere at once"),
            ]),
            "\"honour\"",
            "New flows of a client whose backend drains.",
        ),
        Key::with_default(
            "udp_drain",
            Kind::Choice(&[
                ("move", "they follow the handover at once"),
                ("pin", "they stay with the old backend until they fall silent"),
            ]),
            "\"move\"",
            "What conversations over UDP do at a handover.",
        )
        .only("protocol", &["udp"]),
        Key::with_default(
            "tracking",
            Kind::Choice(&[
                ("always", "each flow from its first packet on"),
                ("drain-only", "only while a backend drains: cheaper, with fewer figures"),
            ]),
            "\"always\"",
            "When flows are tracked.",
        ),
        Key::with_default(
            "dead_flows",
            Kind::Choice(&[
                ("reset", "the next packet of each is answered with a reset, so clients learn at once"),
                ("keep", "they are left alone"),
            ]),
            "\"reset\"",
            "What becomes of the flows of a backend that is declared dead.",
        ),
        Key::new(
            "memory_limit",
            Kind::Size,
            "\"512M\"",
            "What a `ceiling` in percent is a percentage of. Left out: the smallest `memory_max` of its backends, \
             or else the machine's memory.",
        ),
        MIN_ACTIVE,
    ],
    sections: &[CHECK, DRAIN, REJUVENATION, WARM_UP, RECOVERY, HOOK, BACKEND],
};

const POLICY: Key = Key::with_default(
    "policy",
    Kind::Choice(&[
        ("active-standby", "one backend gets all of them, another waits"),
        ("rr", "each in turn"),
        ("wrr", "each in turn, as often as its weight says"),
        ("lc", "the one with the fewest open flows"),
        ("wlc", "the one with the fewest open flows for its weight"),
        ("sh", "by a hash of the client's address"),
        ("maglev", "by a hash of the client's address and port that moves few flows when backends change"),
        ("fo", "the one of the greatest weight that is not full"),
        ("random2", "the less loaded of two that are drawn"),
    ]),
    "\"active-standby\"",
    "Which backend gets a new flow.",
);

const DRAIN: Section = Section {
    name: "drain",
    path: "service.drain",
    repeated: false,
    doc: "How a backend gets rid of its flows before it is stopped.",
    keys: &[
        Key::with_default(
            "deadline",
            millis(0, 7 * DAY),
            "\"1m\"",
            "How long flows may take to end by themselves.",
        ),
        Key::with_default(
            "settle",
            millis(0, HOUR),
            "\"300ms\"",
            "How long a backend must be seen without flows before it is stopped.",
        ),
        Key::with_default(
            "stragglers",
            Kind::Choice(&[
                ("cut", "they are cut, and the report names them"),
                ("wait", "the drain goes on until they end, or until `baton cut`"),
            ]),
            "\"cut\"",
            "What becomes of flows that are open at the deadline.",
        ),
    ],
    sections: &[],
};

const REJUVENATION: Section = Section {
    name: "rejuvenation",
    path: "service.rejuvenation",
    repeated: false,
    doc: "When a backend is renewed, and how long that may take.",
    keys: &[
        Key::with_default(
            "ceiling",
            Kind::Ceiling,
            "\"50%\"",
            "Memory of a backend beyond which it is renewed: a size, or a percentage of `memory_limit`.",
        ),
        Key::with_default(
            "ceiling_hits",
            Kind::Count { least: 1, most: 100 },
            "2",
            "Samples beyond the ceiling that ask for a rejuvenation, among the last `ceiling_window`.",
        ),
        Key::with_default(
            "ceiling_window",
            Kind::Count { least: 1, most: 100 },
            "3",
            "The samples among which `ceiling_hits` are counted.",
        ),
        Key::with_default(
            "ceiling_shadow",
            Kind::Flag,
            "false",
            "Whether a rejuvenation that the ceiling asks for is only spoken of, in events and in `baton status`.",
        ),
        Key::with_default("probe_interval", millis(100, HOUR), "\"5s\"", "Time between samples of memory."),
        Key::with_default(
            "cooldown",
            millis(0, 7 * DAY),
            "\"1s\"",
            "No automatic rejuvenation within this time after a handover.",
        ),
        Key::with_default(
            "min_uptime",
            millis(0, 30 * DAY),
            "\"0s\"",
            "No automatic rejuvenation of a backend that has run for less than this.",
        ),
        Key::with_default(
            "observation",
            millis(0, HOUR),
            "\"10s\"",
            "How long after a handover a failure of the new active backend is answered by going back.",
        ),
        Key::with_default(
            "ready_timeout",
            millis(SECOND, DAY),
            "\"1m\"",
            "How long a restarted backend may take to pass its checks.",
        ),
        Key::with_default(
            "retry",
            millis(100, HOUR),
            "\"1s\"",
            "Wait before a failed start is tried again; it doubles up to 64 times this.",
        ),
        MAX_AGE,
        JITTER,
        CEILING_BREAKS_WINDOW,
    ],
    sections: &[WINDOW],
};
