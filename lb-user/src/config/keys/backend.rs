//! Keys of `[[service.backend]]` and its driver.

use super::{HOUR, Key, Kind, SECOND, Section, millis};

const PROCESS: &[&str] = &["process"];
const COMMAND: &[&str] = &["command"];
const SYSTEMD: &[&str] = &["systemd"];
const OTHERS: &[&str] = &["command", "systemd"];

pub(super) const BACKEND: Section = Section {
    name: "backend",
    path: "service.backend",
    repeated: true,
    doc: "A backend: one replica that serves the service.",
    keys: &[
        Key::new("name", Kind::Name, "\"a\"", "Its name; no other backend of the service has it.").required(),
        Key::new(
            "address",
            Kind::Endpoint,
            "\"10.0.0.11:8080\"",
            "Where it is reached. A process that Baton starts leaves it out, or writes `0.0.0.0:PORT`: Baton \
             gives it an address, and without a port it listens on the VIP's.",
        ),
        Key::with_default(
            "weight",
            Kind::Count { least: 0, most: u16::MAX as u64 },
            "1",
            "Its share of new flows in proportion to the others', for policies that know weights; 0 means none.",
        ),
        Key::with_default(
            "max_flows",
            Kind::Count { least: 0, most: u32::MAX as u64 - 1 },
            "0",
            "Open flows from which on new ones go elsewhere; 0 means no limit.",
        ),
        Key::new(
            "host",
            Kind::Name,
            "\"hall-1\"",
            "The machine that it runs on, under the same name for all backends there: what `per_host` counts.",
        ),
    ],
    sections: &[Section {
        name: "driver",
        path: "service.backend.driver",
        repeated: false,
        doc: "How the backend is restarted.",
        keys: &[
            Key::with_default(
                "type",
                Kind::Choice(&[
                    ("manual", "by somebody else: Baton drains it and says so"),
                    ("process", "Baton runs it, in a network namespace of its own"),
                    ("command", "by commands of yours"),
                    ("systemd", "a unit on this machine"),
                ]),
                "\"manual\"",
                "Who restarts it.",
            ),
            Key::new(
                "command",
                Kind::Arguments,
                "[\"/usr/local/bin/shop\", \"--port\", \"8080\"]",
                "The program and its arguments; no shell sees them. It stays in the foreground.",
            )
            .required()
            .only("type", PROCESS),
            Key::with_default("directory", Kind::Path, "\"/\"", "Its working directory.").only("type", PROCESS),
            Key::with_default(
                "environment",
                Kind::Variables,
                "{}",
                "Variables that it gets besides the controller's.",
            )
            .only("type", PROCESS),
            Key::new(
                "memory_max",
                Kind::Size,
                "\"512M\"",
                "Memory limit, enforced by a cgroup. Left out: no limit.",
            )
            .only("type", PROCESS),
            Key::new(
                "start",
                Kind::Arguments,
                "[\"/usr/bin/docker\", \"start\", \"shop-a\"]",
                "Starts it, and ends when it runs. Goes with `stop`.",
            )
            .only("type", COMMAND),
            Key::new(
                "stop",
                Kind::Arguments,
                "[\"/usr/bin/docker\", \"stop\", \"shop-a\"]",
                "Stops it, and ends when it has ended. Goes with `start`.",
            )
            .only("type", COMMAND),
            Key::new(
                "restart",
                Kind::Arguments,
                "[\"/usr/sbin/service\", \"shop\", \"restart\"]",
                "Does both, in place of `start` and `stop`.",
            )
            .only("type", COMMAND),
            Key::new(
                "pid_file",
                Kind::Path,
                "\"/run/shop.pid\"",
                "File with its process id, which tells whether it lives and was restarted. Left out: only checks \
                 tell.",
            )
            .only("type", COMMAND),
            Key::new(
                "timeout",
                millis(SECOND, HOUR),
                "\"1m\"",
                "A command, of yours or of systemd's, that takes longer is killed and has failed. Left out: 1m; for \
                 `systemd` 2m, so that the usual limits of units, 90 s, come first.",
            )
            .only("type", OTHERS),
            Key::new(
                "kill",
                Kind::Arguments,
                "[\"/usr/bin/docker\", \"kill\", \"shop-a\"]",
                "Ends it by force, and ends when it has ended: the step after a restart that did not help. Its start \
                 follows. Left out: there is no such step.",
            )
            .only("type", COMMAND),
            Key::new(
                "reboot",
                Kind::Arguments,
                "[\"/usr/sbin/xl\", \"reboot\", \"-F\", \"shop-a\"]",
                "Starts its machine again, which brings it up by itself: the next step. Left out: there is none.",
            )
            .only("type", COMMAND),
            Key::new(
                "recreate",
                Kind::Arguments,
                "[\"/usr/local/bin/make-vm\", \"shop-a\"]",
                "Makes its machine anew, which brings it up by itself: the last step. Left out: there is none.",
            )
            .only("type", COMMAND),
            Key::new(
                "boot_id",
                Kind::Arguments,
                "[\"/usr/bin/ssh\", \"shop-a\", \"cat /proc/sys/kernel/random/boot_id\"]",
                "Prints which boot of its machine runs: another one proves `reboot` and `recreate`.",
            )
            .only("type", COMMAND),
            Key::new("unit", Kind::Unit, "\"shop@a.service\"", "The unit.").required().only("type", SYSTEMD),
        ],
        sections: &[],
    }],
};
