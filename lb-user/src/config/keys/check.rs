//! Keys of `[service.check]`.

use super::{DAY, HOUR, Key, Kind, SECOND, Section, millis};

pub(super) const HTTP: &[&str] = &["http", "https"];
const HTTPS: &[&str] = &["https"];
const UDP: &[&str] = &["udp"];
const SCRIPT: &[&str] = &["script"];

/// How a request asks, of a check as of a warm-up.
pub(super) const METHOD: Key =
    Key::with_default("method", Kind::Method, "\"GET\"", "The method of the request.").only("type", HTTP);
/// What else it says.
pub(super) const HEADERS: Key =
    Key::with_default("headers", Kind::Headers, "{}", "More header fields of the request.")
        .only("type", HTTP);

pub(super) const CHECK: Section = Section {
    name: "check",
    path: "service.check",
    repeated: false,
    doc: "How its backends are checked.",
    keys: &[
        Key::new(
            "type",
            Kind::Choice(&[
                ("tcp", "the port accepts a connection"),
                ("http", "a request is answered as it should"),
                ("https", "the same over TLS"),
                ("udp", "a datagram is answered, or at least not refused"),
                ("script", "a program ends with status 0"),
            ]),
            "\"http\"",
            "What is asked of a backend.",
        )
        .of_parent("protocol"),
        Key::with_default("path", Kind::UrlPath, "\"/\"", "What is requested.").only("type", HTTP),
        METHOD,
        Key::new(
            "host",
            Kind::Host,
            "\"shop.example\"",
            "The `Host` header and the name that TLS asks for. Left out: the backend's address.",
        )
        .only("type", HTTP),
        HEADERS,
        Key::with_default("status", Kind::Statuses, "[\"200-399\"]", "The statuses that are right.")
            .only("type", HTTP),
        Key::new(
            "body",
            Kind::Pattern,
            "'\"status\":\\s*\"ok\"'",
            "What the first 64 KiB of the answer's body must match. Left out: any body is right.",
        )
        .only("type", HTTP),
        Key::with_default("verify", Kind::Flag, "true", "Whether the certificate must be valid for `host`.")
            .only("type", HTTPS),
        Key::new(
            "ca_file",
            Kind::Path,
            "\"/etc/ssl/shop-ca.pem\"",
            "Certificates to trust, as PEM. Left out: those that the system trusts.",
        )
        .only("type", HTTPS),
        Key::new(
            "expires_in",
            millis(0, 3650 * DAY),
            "\"14days\"",
            "A certificate that ends sooner than this fails the check. Left out: it only has to be valid now.",
        )
        .only("type", HTTPS),
        Key::with_default(
            "payload",
            Kind::Payload,
            "''",
            "What the datagram carries; `\\n`, `\\r`, `\\t`, `\\0` and `\\xHH` are bytes, best in single quotes.",
        )
        .only("type", UDP),
        Key::new(
            "answer",
            Kind::Pattern,
            "'^pong'",
            "What the answer must match. Left out: no answer is needed, and only a refusal fails.",
        )
        .only("type", UDP),
        Key::new(
            "command",
            Kind::Arguments,
            "[\"/usr/local/bin/check-shop\", \"--quick\"]",
            "The program and its arguments; no shell sees them. BATON_SERVICE, BATON_BACKEND, BATON_ADDRESS and \
             BATON_PORT say whom it is about.",
        )
        .required()
        .only("type", SCRIPT),
        Key::with_default("interval", millis(10, HOUR), "\"250ms\"", "Time between checks."),
        Key::new(
            "fast_interval",
            millis(10, HOUR),
            "\"100ms\"",
            "Time between checks while it is undecided whether a backend is up. Left out: `interval`.",
        ),
        Key::with_default("timeout", millis(10, HOUR), "\"1s\"", "A check that takes longer has failed."),
        Key::with_default(
            "rise",
            Kind::Count { least: 1, most: 1000 },
            "2",
            "Passed checks in a row that make a backend ready.",
        ),
        Key::with_default(
            "fall",
            Kind::Count { least: 1, most: 1000 },
            "3",
            "Failed checks in a row that make it unfit.",
        ),
        Key::new(
            "fall_hits",
            Kind::Count { least: 1, most: 1000 },
            "4",
            "Failed checks among the last `fall_window` that make it unfit although passes are among them. Left out: \
             only failures in a row do.",
        ),
        Key::new(
            "fall_window",
            Kind::Count { least: 2, most: 1000 },
            "10",
            "The checks among which `fall_hits` are counted.",
        ),
        Key::with_default(
            "fall_ignored",
            Kind::Count { least: 1, most: 1000 },
            "2",
            "Unanswered checks in a row that make it unfit if clients have asked meanwhile, and none was answered; \
             or resets, if clients were reset, too.",
        ),
        Key::with_default(
            "slow_factor",
            Kind::Count { least: 0, most: 1000 },
            "5",
            "A check that takes so many times as long as usual has failed, unless the backend is busier than usual \
             or no other one is quick. 0: time alone fails no check.",
        ),
        Key::with_default(
            "slow_least",
            millis(1, HOUR),
            "\"100ms\"",
            "A check that takes no longer than this is never slow.",
        ),
        Key::with_default(
            "ejection_step",
            millis(0, DAY),
            "\"10s\"",
            "Each further time that a backend fails its checks it stays out so much longer; the first time it may \
             come back as soon as it passes them.",
        ),
        Key::with_default(
            "ejection_most",
            millis(0, DAY),
            "\"5m\"",
            "It never stays out for longer than this, nor while it is needed.",
        ),
        Key::with_default(
            "ejection_forget",
            millis(SECOND, 30 * DAY),
            "\"10m\"",
            "Each time that it has been fit for so long, one of the times is forgotten.",
        ),
        Key::with_default(
            "shadow",
            Kind::Flag,
            "false",
            "Whether a backend that fails its checks is only spoken of, in events and in `baton status`, and goes on \
             serving.",
        ),
        Key::new(
            "agent_port",
            Kind::Count { least: 1, most: 65_535 },
            "9990",
            "A port of each backend's address on which an agent says in a line how the backend is, as HAProxy's agents \
             do: `up`, `down`, `ready`, `drain`, `75%`. Left out: no agent is asked.",
        ),
        Key::with_default(
            "agent_interval",
            millis(100, HOUR),
            "\"1s\"",
            "Time from the answer of an agent to the next question.",
        ),
        Key::with_default(
            "agent_timeout",
            millis(10, HOUR),
            "\"1s\"",
            "An agent that takes longer has said nothing, which changes nothing.",
        ),
    ],
    sections: &[],
};
