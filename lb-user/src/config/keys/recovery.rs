//! Keys of `[service.recovery]` and `[[service.hook]]`.

use super::budget::CA_FILE;
use super::{DAY, HOUR, Key, Kind, MINUTE, SECOND, Section, millis};

pub(super) const RECOVERY: Section = Section {
    name: "recovery",
    path: "service.recovery",
    repeated: false,
    doc: "How a backend is brought back.",
    keys: &[
        Key::with_default(
            "quarantine_after",
            Kind::Count { least: 0, most: 1_000 },
            "5",
            "Recoveries that fail in a row, each through all steps, before a backend is left alone while another one \
             serves; 0 means never.",
        ),
        Key::new(
            "diagnose",
            Kind::Arguments,
            "[\"/usr/local/bin/dump-heap\"]",
            "Runs on the drained backend before it is stopped, in a rejuvenation. Left out: nothing does.",
        ),
        Key::with_default(
            "diagnose_timeout",
            millis(SECOND, HOUR),
            "\"1m\"",
            "A diagnosis that takes longer is killed, and the stop follows.",
        ),
        Key::with_default(
            "veto_retry",
            millis(SECOND, DAY),
            "\"1m\"",
            "How long after a veto hooks are asked again.",
        ),
        Key::with_default(
            "veto_limit",
            millis(0, 7 * DAY),
            "\"10m\"",
            "A drained backend is stopped so long after `before-stop` hooks were first asked, whatever they say.",
        ),
    ],
    sections: &[],
};

pub(super) const HOOK: Section = Section {
    name: "hook",
    path: "service.hook",
    repeated: true,
    doc: "A hook: a program or an address that is told of a phase, or asked before it. There may be none.",
    keys: &[
        Key::new(
            "on",
            Kind::Choice(&[
                ("before-handover", "a rejuvenation is wanted; a failure vetoes it"),
                ("after-handover", "new flows go elsewhere"),
                ("after-drain", "no flow is left, or the deadline has passed"),
                ("before-stop", "the drained backend is to be stopped; a failure keeps it for a while"),
                ("after-stop", "its processes are gone"),
                ("after-start", "it was started"),
                ("after-rejoin", "it is back, and the rejuvenation is over"),
                ("on-failure", "a backend, a step of its recovery or a rejuvenation failed"),
            ]),
            "\"before-handover\"",
            "When it runs.",
        )
        .required(),
        Key::new(
            "exec",
            Kind::Arguments,
            "[\"/usr/local/bin/may-hand-over\"]",
            "A program that gets the document on its standard input, and fails by its exit status. Either this or \
             `webhook`.",
        ),
        Key::new(
            "webhook",
            Kind::Url,
            "\"https://hooks.example.net/baton\"",
            "Where the document is posted; any status but 2xx is a failure. Either this or `exec`.",
        ),
        CA_FILE,
        Key::with_default(
            "timeout",
            millis(100, 10 * MINUTE),
            "\"10s\"",
            "A hook that takes longer has failed; each attempt of a webhook has so long.",
        ),
        Key::with_default(
            "retries",
            Kind::Count { least: 0, most: 10 },
            "2",
            "Further attempts of a webhook that failed, a second apart.",
        ),
    ],
    sections: &[],
};
