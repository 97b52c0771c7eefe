//! Keys of `[controller]` and `[data_plane]`.

use lb_common::bucket::FLOWS;

use super::{DAY, Key, Kind, SECOND, Section, millis};

pub(super) const CONTROLLER: Section = Section {
    name: "controller",
    path: "controller",
    repeated: false,
    doc: "The controller itself.",
    keys: &[Key::with_default(
        "log_format",
        Kind::Choice(&[("text", "a line of text for each event"), ("json", "a JSON object for each event")]),
        "\"text\"",
        "How log lines are written to standard error.",
    )],
    sections: &[],
};

pub(super) const DATA_PLANE: Section = Section {
    name: "data_plane",
    path: "data_plane",
    repeated: false,
    doc: "What all services share: interfaces and the flow table.",
    keys: &[
        Key::with_default(
            "interfaces",
            Kind::Interfaces,
            "[]",
            "Interfaces of this host that carry packets for VIPs and from backends. Without any, only processes \
             that Baton starts itself can be backends.",
        ),
        Key::with_default(
            "xdp",
            Kind::Choice(&[
                ("native", "in the driver"),
                ("generic", "in the stack: slower, works with every driver"),
            ]),
            "\"native\"",
            "Where the XDP program runs.",
        ),
        Key::with_default(
            "replies",
            Kind::Choice(&[
                ("gateway", "to the router of the default route"),
                ("stack", "each as the host's routes say: slower, and right for clients on its own links"),
            ]),
            "\"gateway\"",
            "Where replies of backends go that come back through Baton.",
        ),
        Key::new(
            "flow_table",
            Kind::Count { least: *FLOWS.start() as u64, most: *FLOWS.end() as u64 },
            "1_000_000",
            "Flows that the table is made for, rounded up to a power of two; 96 bytes of memory each. Left out: \
             by the machine's memory, 65,536 to 1,048,576.",
        ),
    ],
    sections: &[Section {
        name: "timeouts",
        path: "data_plane.timeouts",
        repeated: false,
        doc: "How long a flow without packets is remembered while the table has room.",
        keys: &[
            Key::with_default(
                "half_open",
                millis(SECOND, DAY),
                "\"20s\"",
                "A handshake that does not get on, or a flow that only one side claims.",
            ),
            Key::with_default(
                "established",
                millis(SECOND, 30 * DAY),
                "\"24h\"",
                "An established flow; shorter as the table fills, and never below 20m then.",
            ),
            Key::with_default(
                "half_closed",
                millis(SECOND, DAY),
                "\"2m\"",
                "One side has finished and the other says nothing.",
            ),
            Key::with_default(
                "closed",
                millis(SECOND, DAY),
                "\"1m\"",
                "Both sides have finished; kept for late packets.",
            ),
            Key::with_default("datagram", millis(SECOND, DAY), "\"5m\"", "A conversation over UDP."),
        ],
        sections: &[],
    }],
};
