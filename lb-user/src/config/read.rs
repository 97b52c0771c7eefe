//! Reads a file by the table of keys: every key known, every value right, or a finding.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Findings, closest};
use super::keys::{Absence, Key, Section};
use super::types::{Ceiling, Share};
use super::value::{self, Value};
use crate::recovery::Jitter;
use crate::recovery::window::Zone;

/// The type of a table in TOML's parser.
type Table<'i> = DeTable<'i>;

/// A table of the file after reading. What is not there has its default; what was wrong is `None`, with a
/// finding.
pub(super) struct Fields {
    /// Where it stands: its header, or its place in the table above.
    pub(super) span: Range<usize>,
    section: &'static Section,
    values: BTreeMap<&'static str, Field>,
    sections: BTreeMap<&'static str, Vec<Fields>>,
}

struct Field {
    /// Where its value stands, if it does.
    span: Option<Range<usize>>,
    value: Option<Value>,
}

/// Reads `table`, which starts at `span`, as `section`.
pub(super) fn read(
    section: &'static Section,
    table: &Table<'_>,
    span: Range<usize>,
    above: Option<&Fields>,
    findings: &mut Findings<'_>,
) -> Fields {
    let mut fields = Fields { span, section, values: BTreeMap::new(), sections: BTreeMap::new() };
    for (name, _) in table {
        if !section.names().any(|known| known == name.get_ref()) {
            unknown(section, name, findings);
        }
    }
    for key in section.keys {
        let written = table.get_key_value(key.name);
        if let Some(field) = read_key(key, written, &fields, above, findings) {
            fields.values.insert(key.name, field);
        }
    }
    for below in section.sections {
        if let Some(tables) = read_section(below, table.get(below.name), &fields, findings) {
            fields.sections.insert(below.name, tables);
        }
    }
    fields
}

fn unknown(section: &Section, name: &Spanned<impl AsRef<str>>, findings: &mut Findings<'_>) {
    let text = name.get_ref().as_ref();
    let known: Vec<_> = section.names().map(|known| format!("`{known}`")).collect();
    let message = format!("unknown key `{}` in {}", text.escape_debug(), section.header());
    let help = format!("known are {}", known.join(", "));
    findings.error(&name.span(), message, help).suggestion =
        closest(text, section.names()).map(str::to_owned);
}

/// One key: as written, or as it is if it is not; nothing if it does not belong here.
fn read_key(
    key: &'static Key,
    written: Option<(&Spanned<toml::de::DeString<'_>>, &Spanned<DeValue<'_>>)>,
    fields: &Fields,
    above: Option<&Fields>,
    findings: &mut Findings<'_>,
) -> Option<Field> {
    if let Some(only) = key.only {
        // If the other key is wrong itself, nobody knows what belongs here.
        let other = fields.text(only.key)?;
        if !only.values.contains(&other) {
            if let Some((name, _)) = written {
                let values: Vec<_> = only.values.iter().map(|value| format!("\"{value}\"")).collect();
                let message = format!("`{}` has no meaning with {} = \"{other}\"", key.name, only.key);
                let help = format!("it belongs to {} = {}", only.key, values.join(" or "));
                findings.error(&name.span(), message, help);
            }
            return None;
        }
    }
    if let Some((name, value)) = written {
        let read = value::read(&key.kind, value).map_err(|problems| {
            for (span, problem) in problems {
                let message = format!("`{}`: {}", name.get_ref(), problem.message);
                let finding = findings.error(&span, message, format!("it takes {}", key.kind.describe()));
                finding.suggestion = problem.suggestion;
            }
        });
        return Some(Field { span: Some(value.span()), value: read.ok() });
    }
    let value = match key.absence {
        Absence::Fine => None,
        Absence::Refused => {
            let message = format!("`{}` is missing in {}", key.name, fields.section.header());
            findings.error(&fields.span, message, format!("it takes {}", key.kind.describe()));
            None
        }
        Absence::Default(default) => default_of(key, default),
        Absence::OfParent(name) => above.and_then(|above| above.values.get(name)?.value.clone()),
    };
    Some(Field { span: None, value })
}

/// A default, read as if it were written; a test holds that each of them can be.
fn default_of(key: &Key, default: &str) -> Option<Value> {
    let value = DeValue::parse(default).ok()?;
    value::read(&key.kind, &value).ok()
}

/// The tables of one section, exactly one unless it may be repeated; `None` if it is something else.
fn read_section(
    section: &'static Section,
    written: Option<&Spanned<DeValue<'_>>>,
    above: &Fields,
    findings: &mut Findings<'_>,
) -> Option<Vec<Fields>> {
    let mut one = |table: &Table<'_>, span| read(section, table, span, Some(above), findings);
    let wrong = match (section.repeated, written.map(|value| (value.get_ref(), value.span()))) {
        (false, None) => return Some(vec![one(&Table::new(), above.span.clone())]),
        (true, None) => return Some(Vec::new()),
        (false, Some((DeValue::Table(table), span))) => return Some(vec![one(table, span)]),
        (true, Some((DeValue::Array(items), span))) => {
            let tables: Option<Vec<_>> = items.iter().map(table_of).collect();
            match tables {
                Some(tables) => {
                    return Some(tables.into_iter().map(|(table, span)| one(table, span)).collect());
                }
                None => span,
            }
        }
        (_, Some((_, span))) => span,
    };
    let what = if section.repeated { "a list of tables" } else { "a table" };
    let message = format!("`{}` is not {what}", section.path);
    findings.error(&wrong, message, format!("begin it with a line {}", section.header()));
    None
}

fn table_of<'t, 'i>(item: &'t Spanned<DeValue<'i>>) -> Option<(&'t Table<'i>, Range<usize>)> {
    match item.get_ref() {
        DeValue::Table(table) => Some((table, item.span())),
        _ => None,
    }
}

impl Fields {
    /// Where the value of a key stands; the table's own place if it is not written.
    pub(super) fn at(&self, key: &str) -> Range<usize> {
        self.written(key).unwrap_or_else(|| self.span.clone())
    }

    /// Where the value of a key stands, if it is written.
    pub(super) fn written(&self, key: &str) -> Option<Range<usize>> {
        self.values.get(key)?.span.clone()
    }

    /// The tables of a section in it; `None` if it was something else, with a finding.
    pub(super) fn tables(&self, section: &str) -> Option<&[Fields]> {
        self.sections.get(section).map(Vec::as_slice)
    }

    /// The only table of a section that is not repeated.
    pub(super) fn table(&self, section: &str) -> Option<&Fields> {
        self.tables(section)?.first()
    }

    fn value(&self, key: &str) -> Option<&Value> {
        debug_assert!(self.section.keys.iter().any(|known| known.name == key), "{key}");
        self.values.get(key)?.value.as_ref()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        if let Value::Flag(flag) = self.value(key)? { Some(*flag) } else { None }
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        if let Value::Text(text) = self.value(key)? { Some(text) } else { None }
    }

    pub(super) fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// An integer; the table of keys keeps it within what `N` holds.
    pub(super) fn count<N: TryFrom<u64>>(&self, key: &str) -> Option<N> {
        if let Value::Count(count) = self.value(key)? { N::try_from(*count).ok() } else { None }
    }

    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        if let Value::Duration(time) = self.value(key)? { Some(*time) } else { None }
    }

    pub(super) fn millis(&self, key: &str) -> Option<u64> {
        self.duration(key).and_then(|time| u64::try_from(time.as_millis()).ok())
    }

    pub(super) fn bytes(&self, key: &str) -> Option<u64> {
        if let Value::Bytes(bytes) = self.value(key)? { Some(*bytes) } else { None }
    }

    pub(super) fn ceiling(&self, key: &str) -> Option<Ceiling> {
        if let Value::Ceiling(ceiling) = self.value(key)? { Some(*ceiling) } else { None }
    }

    pub(super) fn share(&self, key: &str) -> Option<Share> {
        if let Value::Share(share) = self.value(key)? { Some(*share) } else { None }
    }

    pub(super) fn jitter(&self, key: &str) -> Option<Jitter> {
        if let Value::Jitter(jitter) = self.value(key)? { Some(*jitter) } else { None }
    }

    pub(super) fn zone(&self, key: &str) -> Option<Zone> {
        self.text(key).and_then(|name| Zone::try_from(name.to_owned()).ok())
    }

    pub(super) fn endpoint(&self, key: &str) -> Option<SocketAddr> {
        if let Value::Endpoint(address) = self.value(key)? { Some(*address) } else { None }
    }

    pub(super) fn ports(&self, key: &str) -> Option<RangeInclusive<u16>> {
        if let Value::Ports(ports) = self.value(key)? { Some(ports.clone()) } else { None }
    }

    pub(super) fn texts(&self, key: &str) -> Option<&[String]> {
        if let Value::Texts(texts) = self.value(key)? { Some(texts) } else { None }
    }

    pub(super) fn statuses(&self, key: &str) -> Option<&[RangeInclusive<u16>]> {
        if let Value::Statuses(ranges) = self.value(key)? { Some(ranges) } else { None }
    }

    pub(super) fn pairs(&self, key: &str) -> Option<&[(String, String)]> {
        if let Value::Pairs(pairs) = self.value(key)? { Some(pairs) } else { None }
    }
}
