//! Keys of `[budget]` and of the windows of rejuvenations.

use super::{DAY, HOUR, Key, Kind, MINUTE, SECOND, Section, millis};

/// More than a controller has services, or a host backends.
const MANY: u64 = 1_024;

pub(super) const BUDGET: Section = Section {
    name: "budget",
    path: "budget",
    repeated: false,
    doc: "How much may be rejuvenated at once over all services. The dead are replaced whatever it says.",
    keys: &[
        Key::with_default(
            "rejuvenations",
            Kind::Count { least: 1, most: MANY },
            "1",
            "Rejuvenations under way at once. What wants to begin beyond that waits: operators' first, then whoever \
             waits for the longest.",
        ),
        Key::new(
            "per_host",
            Kind::Count { least: 1, most: MANY },
            "1",
            "Backends of one `host` that may be out at once, for whatever reason, when another one is taken out. Left \
             out: any number.",
        ),
    ],
    sections: &[FLEET_LOCK],
};

const FLEET_LOCK: Section = Section {
    name: "fleet_lock",
    path: "budget.fleet_lock",
    repeated: false,
    doc: "A lock that the hosts of a site share, by the protocol FleetLock. Without `url` none is taken.",
    keys: &[
        Key::new(
            "url",
            Kind::ServerUrl,
            "\"https://locks.example/base\"",
            "Where the server of the lock is; the paths of the protocol come after it.",
        ),
        Key::with_default("group", Kind::Group, "\"default\"", "The group whose lock is taken."),
        Key::new(
            "id",
            Kind::Label,
            "\"balancer-1\"",
            "Who takes it, different on each host. Left out: made from /etc/machine-id, which it does not tell.",
        ),
        CA_FILE,
        Key::with_default(
            "timeout",
            millis(100, 10 * MINUTE),
            "\"10s\"",
            "A request that takes longer has failed, and is made again.",
        ),
        Key::with_default(
            "required_for",
            Kind::Choice(&[
                ("restart", "every planned restart, by rules and by operators"),
                ("rules", "what rules want; operators go without"),
            ]),
            "\"restart\"",
            "What needs the lock. The dead are restarted without it.",
        ),
    ],
    sections: &[],
};

pub(super) const WINDOW: Section = Section {
    name: "window",
    path: "service.rejuvenation.window",
    repeated: true,
    doc: "When rules may rejuvenate. Without any window, at all times; with several, in each of them.",
    keys: &[
        Key::with_default("days", Kind::Days, "\"daily\"", "The days on which it begins."),
        Key::new(
            "start",
            Kind::TimeOfDay,
            "\"02:00\"",
            "When it begins. A time that clocks skip comes as much later as they go forward; of one that comes twice \
             the first counts.",
        )
        .required(),
        Key::new(
            "length",
            millis(MINUTE, DAY),
            "\"4h\"",
            "How long it lasts, beyond midnight too. What has begun is not broken off.",
        )
        .required(),
        Key::new(
            "time_zone",
            Kind::TimeZone,
            "\"Europe/Berlin\"",
            "Whose time that is. Left out: the machine's.",
        ),
    ],
    sections: &[],
};

/// Who is trusted to be a server that is posted to.
pub(super) const CA_FILE: Key = Key::new(
    "ca_file",
    Kind::Path,
    "\"/etc/baton/ca.pem\"",
    "PEM file with the authorities that are trusted, for a URL of `https`; read anew each time. Left out: those that the \
     system trusts.",
);

/// When a life is old.
pub(super) const MAX_AGE: Key = Key::new(
    "max_age",
    millis(SECOND, 365 * DAY),
    "\"7days\"",
    "A backend that has run for this long is renewed. Left out: at no age.",
);

/// How far apart equal lives are renewed.
pub(super) const JITTER: Key = Key::with_default(
    "jitter",
    Kind::Jitter { most: 30 * 24 * HOUR },
    "\"0%\"",
    "How much earlier than at `max_age` that may be: a share of it, or a time. Drawn once for each life, so that \
     backends that were started together are not renewed together.",
);

/// What a window means to a ceiling.
pub(super) const CEILING_BREAKS_WINDOW: Key = Key::with_default(
    "ceiling_breaks_window",
    Kind::Flag,
    "true",
    "Whether `ceiling` renews a backend outside the windows, too: one that waits may fail before the next.",
);

/// How many stay.
pub(super) const MIN_ACTIVE: Key = Key::with_default(
    "min_active",
    Kind::Share,
    "1",
    "Backends that stay active when one is taken out: a number, or a share of all, rounded up.",
)
.only("policy", &["rr", "wrr", "lc", "wlc", "sh", "maglev", "fo", "random2"]);
