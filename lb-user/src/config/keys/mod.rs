//! The table of keys: the only place that says which there are, what they take and what they default to.
//!
//! The reader, the example, the JSON Schema and the reference of the documentation are all made from it.

mod backend;
mod budget;
mod check;
mod recovery;
mod service;
mod shared;
mod warm_up;

use std::time::Duration;

/// A table of the file.
#[derive(Debug)]
pub(super) struct Section {
    /// Its name in the table that holds it; empty for the file itself.
    pub(super) name: &'static str,
    /// Its full name, as in `[service.check]`; empty for the file itself.
    pub(super) path: &'static str,
    /// Whether there may be several: `[[service]]`.
    pub(super) repeated: bool,
    /// What it is about.
    pub(super) doc: &'static str,
    /// Its own keys.
    pub(super) keys: &'static [Key],
    /// The tables in it.
    pub(super) sections: &'static [Section],
}

/// A key of a table.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// What holds if it is not there.
    pub(super) absence: Absence,
    /// A value, as TOML, for the example.
    pub(super) example: &'static str,
    /// With which settings it may be there; with all if not given.
    pub(super) only: Option<Only>,
    /// What it does.
    pub(super) doc: &'static str,
}

/// What holds if a key is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// It has to be there, wherever it may be.
    Refused,
    /// As its description says.
    Fine,
    /// This value, as TOML.
    Default(&'static str),
    /// The value of this key of the table above.
    OfParent(&'static str),
}

/// Some values of another key of the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Only {
    /// The other key, which takes a choice.
    pub(super) key: &'static str,
    /// The values with which it holds.
    pub(super) values: &'static [&'static str],
}

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `true` or `false`.
    Flag,
    /// Bytes of a datagram, as text with escapes.
    Payload,
    /// The name of a service or a backend.
    Name,
    /// One of these values; each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// An integer.
    Count {
        /// At least this.
        least: u64,
        /// At most this.
        most: u64,
    },
    /// A prefix length, as a number or with a slash.
    Prefix {
        /// At most this.
        most: u64,
    },
    /// A time.
    Duration {
        /// At least this.
        least: Duration,
        /// At most this.
        most: Duration,
    },
    /// A number of bytes, 4 MiB or more: less holds no program.
    Size,
    /// A number of bytes, or a percentage.
    Ceiling,
    /// Address and port.
    Endpoint,
    /// Two ports, as `LOW-HIGH`.
    Ports,
    /// An absolute path.
    Path,
    /// A path of a URL.
    UrlPath,
    /// One path of a URL, or several.
    UrlPaths,
    /// A method of HTTP.
    Method,
    /// A host, as the header names it.
    Host,
    /// A regular expression.
    Pattern,
    /// The name of a systemd unit.
    Unit,
    /// Names of network interfaces.
    Interfaces,
    /// A program by its absolute path, and its arguments.
    Arguments,
    /// Statuses of HTTP.
    Statuses,
    /// Header fields of HTTP.
    Headers,
    /// Variables of an environment.
    Variables,
    /// Where a request of HTTP goes.
    Url,
    /// A server of HTTP.
    ServerUrl,
    /// A group of `FleetLock`.
    Group,
    /// A text of visible characters.
    Label,
    /// Days of the week.
    Days,
    /// A time of day, to the minute.
    TimeOfDay,
    /// The name of a time zone.
    TimeZone,
    /// A number of backends, or a percentage of them.
    Share,
    /// A percentage, or a time.
    Jitter {
        /// At most this, in milliseconds.
        most: u64,
    },
}

impl Key {
    /// A key that may be missing; `example` is TOML.
    const fn new(name: &'static str, kind: Kind, example: &'static str, doc: &'static str) -> Self {
        Self { name, kind, absence: Absence::Fine, example, only: None, doc }
    }

    /// A key with a default, which is its example, too.
    const fn with_default(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind, absence: Absence::Default(default), example: default, only: None, doc }
    }

    const fn required(mut self) -> Self {
        self.absence = Absence::Refused;
        self
    }

    const fn of_parent(mut self, key: &'static str) -> Self {
        self.absence = Absence::OfParent(key);
        self
    }

    const fn only(mut self, key: &'static str, values: &'static [&'static str]) -> Self {
        self.only = Some(Only { key, values });
        self
    }
}

/// A kind of duration from and to so many milliseconds.
const fn millis(least: u64, most: u64) -> Kind {
    Kind::Duration { least: Duration::from_millis(least), most: Duration::from_millis(most) }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The whole file.
pub(super) static ROOT: Section = Section {
    name: "",
    path: "",
    repeated: false,
    doc: "The file.",
    keys: &[],
    sections: &[shared::CONTROLLER, shared::DATA_PLANE, budget::BUDGET, service::SERVICE],
};

impl Section {
    /// How its header is written.
    pub(super) fn header(&self) -> String {
        match (self.path, self.repeated) {
            ("", _) => "the file".to_owned(),
            (path, true) => format!("[[{path}]]"),
            (path, false) => format!("[{path}]"),
        }
    }

    /// Whether the table above is nothing without one of these.
    pub(super) fn is_needed(&self) -> bool {
        self.repeated && self.path == "service.backend"
    }

    /// The names of all its keys and tables.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name).chain(self.sections.iter().map(|section| section.name))
    }

    /// It and all tables in it, in order.
    pub(super) fn all(&'static self) -> Vec<&'static Section> {
        let below = self.sections.iter().flat_map(Section::all);
        std::iter::once(self).chain(below).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_named_after_its_place_and_no_name_is_twice() {
        for section in ROOT.all() {
            let mut names: Vec<_> = section.names().collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), section.names().count(), "{}", section.header());
            for below in section.sections {
                let path = format!("{}.{}", section.path, below.name);
                assert_eq!(below.path, path.trim_start_matches('.'));
            }
        }
    }

    #[test]
    fn a_condition_names_a_choice_that_comes_before_it() {
        for section in ROOT.all() {
            for (index, key) in section.keys.iter().enumerate() {
                let Some(Only { key: other, values }) = key.only else { continue };
                let other = section.keys[..index].iter().find(|key| key.name == other).unwrap();
                let Kind::Choice(choices) = other.kind else { panic!("{} is no choice", other.name) };
                for value in values {
                    assert!(choices.iter().any(|(choice, _)| choice == value), "{} = {value}", other.name);
                }
            }
        }
    }

    #[test]
    fn descriptions_are_sentences() {
        for section in ROOT.all() {
            for doc in section.keys.iter().map(|key| key.doc).chain([section.doc]) {
                assert!(doc.ends_with('.') && doc.starts_with(char::is_uppercase), "{doc}");
            }
        }
    }
}
