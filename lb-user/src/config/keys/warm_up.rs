//! Keys of `[service.warm_up]`.

use super::check::{HEADERS, HTTP, METHOD};
use super::{HOUR, Key, Kind, SECOND, Section, millis};

pub(super) const WARM_UP: Section = Section {
    name: "warm_up",
    path: "service.warm_up",
    repeated: false,
    doc: "Requests that a backend gets before it may get those of clients, to fill its caches. A standby gets them again \
          from a controller that is started again: warm means just now.",
    keys: &[
        Key::with_default(
            "requests",
            Kind::Count { least: 0, most: 100_000 },
            "0",
            "How many; 0 means that there is no warm-up. Only for services over TCP.",
        ),
        Key::with_default(
            "type",
            Kind::Choice(&[
                ("tcp", "a connection is opened and closed again"),
                ("http", "a request is answered"),
                ("https", "the same over TLS, with any certificate"),
            ]),
            "\"http\"",
            "What each of them is.",
        ),
        Key::with_default(
            "path",
            Kind::UrlPaths,
            "\"/\"",
            "What is requested; of a list each path in turn, and from the first again, until there are `requests`.",
        )
        .only("type", HTTP),
        METHOD,
        Key::new(
            "host",
            Kind::Host,
            "\"shop.example\"",
            "The `Host` header and the name that TLS asks for. Left out: the VIP, or the backend's address if the \
             requests go straight to it.",
        )
        .only("type", HTTP),
        HEADERS,
        Key::with_default("status", Kind::Statuses, "[\"200-399\"]", "The statuses of a success.")
            .only("type", HTTP),
        Key::with_default(
            "concurrency",
            Kind::Count { least: 1, most: 1_000 },
            "4",
            "Requests that are under way at the same time.",
        ),
        Key::with_default("timeout", millis(10, HOUR), "\"5s\"", "A request that takes longer has failed."),
        Key::with_default(
            "deadline",
            millis(SECOND, HOUR),
            "\"30s\"",
            "How long all of them may take; those that are not answered by then have failed.",
        ),
        Key::with_default(
            "pass_percent",
            Kind::Count { least: 1, most: 100 },
            "100",
            "So many percent have to succeed. Else the start has failed, and is tried again as `retry` says.",
        ),
    ],
    sections: &[],
};
