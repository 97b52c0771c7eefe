//! What is wrong with a configuration file, and where.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, and is probably not what was meant.
    Warning,
}

/// One thing that is wrong with a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as it was named.
    pub file: String,
    /// Where in the file; nowhere if it cannot be read at all.
    #[serde(flatten)]
    pub place: Option<Place>,
    /// What is wrong, with the offending text.
    pub message: String,
    /// What was probably meant, ready to be written instead.
    pub suggestion: Option<String>,
    /// What would be right.
    pub help: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1 on.
    pub line: usize,
    /// Character in the line, from 1 on.
    pub column: usize,
    /// Characters that are meant, 1 or more; those on later lines do not count.
    pub width: usize,
    /// The line.
    pub source: String,
}

impl Finding {
    /// Whether the file cannot be used because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(Place { line, column, .. }) = &self.place {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean `{suggestion}`?")?;
        }
        if self.help.is_empty() { Ok(()) } else { write!(f, " ({})", self.help) }
    }
}

/// Findings about one file, collected while it is read.
pub(super) struct Findings<'a> {
    file: &'a str,
    text: &'a str,
    found: Vec<(usize, Finding)>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Notes an error at these bytes of the file.
    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> &mut Finding {
        self.note(Severity::Error, span, &message.into(), help.into())
    }

    /// Notes a warning at these bytes of the file.
    pub(super) fn warning(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.note(Severity::Warning, span, &message.into(), help.into());
    }

    fn note(&mut self, severity: Severity, span: &Range<usize>, message: &str, help: String) -> &mut Finding {
        let finding = Finding {
            severity,
            file: self.file.to_owned(),
            place: Some(place_of(self.text, span)),
            // A text of the file may hold anything, and a terminal obeys some of it.
            message: message.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
            suggestion: None,
            help,
        };
        self.found.push((span.start, finding));
        let last = self.found.len() - 1;
        &mut self.found[last].1
    }

    /// The line at these bytes of the file, from 1 on.
    pub(super) fn line_of(&self, span: &Range<usize>) -> usize {
        place_of(self.text, span).line
    }

    /// All findings in the order of the file.
    pub(super) fn sorted(mut self) -> Vec<Finding> {
        self.found.sort_by(|(at, one), (other_at, other)| {
            (at, one.severity, &one.message).cmp(&(other_at, other.severity, &other.message))
        });
        self.found.into_iter().map(|(_, finding)| finding).collect()
    }
}

/// Lines and characters of a range of bytes; a range beyond the end is at the end.
fn place_of(text: &str, span: &Range<usize>) -> Place {
    let start = floor_of(text, span.start);
    let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
    let line = text[line_start..].lines().next().unwrap_or_default();
    let line_end = line_start + line.len();
    // Where a line ends may be meant, but nothing behind it.
    let start = start.min(line_end);
    let end = floor_of(text, span.end).clamp(start, line_end);
    Place {
        line: text[..start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        width: text[start..end].trim_end().chars().count().max(1),
        source: line.to_owned(),
    }
}

/// The last place not after `at` that is between two characters.
fn floor_of(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// What of `known` was probably meant by `text`: at most a third of its letters differ.
pub(super) fn closest<'k>(text: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let text = text.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::damerau_levenshtein(&text, &known.replace('-', "_"));
    let near = |known: &&str| distance(known) <= known.chars().count().max(3) / 3;
    known.into_iter().filter(near).min_by_key(|known| distance(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let text = "a = 1\nü = \"x\"\r\nlast";
        let place = |span| {
            let Place { line, column, width, source } = place_of(text, &span);
            (line, column, width, source)
        };
        assert_eq!(place(0..1), (1, 1, 1, "a = 1".into()));
        assert_eq!(place(11..14), (2, 5, 3, "ü = \"x\"".into()));
        assert_eq!(place(4..14), (1, 5, 1, "a = 1".into()));
        assert_eq!(place(16..20), (3, 1, 4, "last".into()));
        assert_eq!(place(20..99), (3, 5, 1, "last".into()));
        assert_eq!(place(7..8).1, 1);
    }

    #[test]
    fn what_is_near_is_suggested_and_what_is_far_is_not() {
        let known = ["interval", "timeout", "rise", "drain-only"];
        assert_eq!(closest("intervall", known), Some("interval"));
        assert_eq!(closest("Timeuot", known), Some("timeout"));
        assert_eq!(closest("drain_only", known), Some("drain-only"));
        assert_eq!(closest("fall", known), None);
        assert_eq!(closest("colour", known), None);
    }

    #[test]
    fn a_finding_is_one_line_for_logs() {
        let mut findings = Findings::new("baton.toml", "[service]\nnmae = 1\n");
        findings.error(&(10..14), "unknown key `nmae`", "keys: name").suggestion = Some("name".into());
        let found = findings.sorted();
        assert_eq!(
            found[0].to_string(),
            "baton.toml:2:1: unknown key `nmae`; did you mean `name`? (keys: name)"
        );
    }
}
