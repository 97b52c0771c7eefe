//! The lines of a file without comments, with its parameters put in and its conditions decided.

use std::collections::BTreeMap;

use super::super::Notes;

/// Parameters may stand in parameters, so deep.
const DEPTH_MAX: usize = 16;
/// All lines together are no longer than this, in bytes: parameters could grow without bound.
const BYTES_MAX: usize = 1 << 20;

/// A line to be parsed, with its number.
pub(super) type Line = (usize, String);

/// The lines, or where and why there are none.
pub(super) fn lines(text: &str, notes: &mut Notes) -> Result<Vec<Line>, (usize, String)> {
    let mut expander = Expander { parameters: BTreeMap::new(), lines: Vec::new(), bytes: 0, notes };
    let mut raw = (1..).zip(text.lines());
    while let Some((number, line)) = raw.next() {
        let mut line = line.to_owned();
        // The lines of a definition end in a backslash, all but the last.
        while is_definition(&line) && line.ends_with('\\') {
            line.pop();
            match raw.next() {
                Some((_, next)) => {
                    line.push('\n');
                    line.push_str(next);
                }
                None => break,
            }
        }
        expander.line(number, &line, 0)?;
    }
    Ok(expander.lines)
}

struct Expander<'n> {
    parameters: BTreeMap<String, String>,
    lines: Vec<Line>,
    bytes: usize,
    notes: &'n mut Notes,
}

impl Expander<'_> {
    fn line(&mut self, number: usize, line: &str, depth: usize) -> Result<(), (usize, String)> {
        let Some(line) = self.decided(number, line) else { return Ok(()) };
        if let Some((name, value)) = definition(&line) {
            self.parameters.insert(name.to_owned(), value.to_owned());
            return Ok(());
        }
        let line = without_comment(&line);
        let put_in = self.put_in(line);
        self.bytes += put_in.len();
        if depth > DEPTH_MAX || self.bytes > BYTES_MAX {
            return Err((number, "parameters stand in parameters without end; write this line out".into()));
        }
        if put_in == line {
            self.lines.push((number, put_in));
            return Ok(());
        }
        // What was put in may hold lines, definitions and parameters of its own.
        put_in.split('\n').try_for_each(|line| self.line(number, line, depth + 1))
    }

    /// The line without its condition; `None` if it does not hold.
    fn decided(&mut self, number: usize, line: &str) -> Option<String> {
        let Some(condition) = line.trim_start().strip_prefix('@') else { return Some(line.to_owned()) };
        let (id, rest) = condition.split_once(char::is_whitespace).unwrap_or((condition, ""));
        let holds = id.starts_with('^');
        let what = if holds { "taken" } else { "left out" };
        let message = format!("{what}: which machine this is for cannot be known here");
        self.notes.add(number, format!("@{id} {}", rest.trim()), message);
        holds.then(|| rest.to_owned())
    }

    /// The line with each parameter that is known in its place, once.
    fn put_in(&self, line: &str) -> String {
        let mut out = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let value =
                parameter(after).and_then(|(name, length)| Some((self.parameters.get(name)?, length)));
            if let Some((value, length)) = value {
                out.push_str(value);
                rest = &after[length..];
            } else {
                out.push('$');
                rest = after;
            }
            if out.len() > BYTES_MAX {
                break;
            }
        }
        out.push_str(rest);
        out
    }
}

/// The name at the start of what follows a `$`, and how many bytes it takes: `{NAME}`, or `NAME` and a space.
fn parameter(text: &str) -> Option<(&str, usize)> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if let Some(braced) = text.strip_prefix('{') {
        let (name, _) = braced.split_once('}')?;
        return name.chars().all(legal).then_some((name, name.len() + 2));
    }
    let end = text.find(|c| !legal(c)).unwrap_or(text.len());
    let alone = text[end..].chars().next().is_none_or(char::is_whitespace);
    (end > 0 && alone).then_some((&text[..end], end))
}

fn definition(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start().strip_prefix('$')?.split_once('=')?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let sound = !name.is_empty() && name.chars().all(legal);
    sound.then_some((name, value.trim_start_matches([' ', '\t'])))
}

fn is_definition(line: &str) -> bool {
    definition(
        line.trim_start()
            .split_once(char::is_whitespace)
            .map_or(line, |(first, rest)| if first.starts_with('@') { rest } else { line }),
    )
    .is_some()
}

/// `#` and `!` begin a comment at the start of a word, but within quotes.
fn without_comment(line: &str) -> &str {
    let mut quoted = false;
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '#' | '!' if !quoted && before.is_whitespace() => return &line[..at],
            _ => {}
        }
        before = c;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Vec<String> {
        let lines = lines(text, &mut Notes::default()).unwrap();
        lines.into_iter().map(|(_, line)| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    #[test]
    fn parameters_are_put_in_when_they_are_used() {
        let text = "$BASE=10.2.${SUB}\n$SUB=0\n${BASE}.100/32\n$SUB=10\n${BASE}.100/32 $SUB x$NONE ${NONE}\n";
        assert_eq!(expanded(text), ["10.2.0.100/32", "10.2.10.100/32 10 x$NONE ${NONE}"]);
    }

    #[test]
    fn a_definition_may_have_lines() {
        let text = "$RS= \\\n real_server 10.0.0.${N} 80 { \\\n weight 1 \\\n }\n$N=1\n$RS\n$N=2\n$RS\n";
        let real = |number| [format!("real_server 10.0.0.{number} 80 {{"), "weight 1".into(), "}".into()];
        assert_eq!(expanded(text), [real(1), real(2)].concat());
    }

    #[test]
    fn comments_and_conditions_are_decided() {
        let mut notes = Notes::default();
        let text = "a 1 ! one\n# two\nb \"#3\"\n@main c\n@^main d\n";
        let lines = lines(text, &mut notes).unwrap();
        let kept: Vec<_> =
            lines.iter().map(|(_, line)| line.trim()).filter(|line| !line.is_empty()).collect();
        assert_eq!(kept, ["a 1", "b \"#3\"", "d"]);
        assert_eq!(notes.0.len(), 2);
    }

    #[test]
    fn parameters_without_end_are_refused() {
        let doubled = |n| format!("$A{n}=${{A{0}}} ${{A{0}}} ${{A{0}}}", n - 1);
        let bomb: Vec<_> = (1..20).map(doubled).collect();
        assert!(lines(&format!("$A0=x\n{}\n$A19\n", bomb.join("\n")), &mut Notes::default()).is_err());
        assert_eq!(lines("$A=$A\n\n$A\n", &mut Notes::default()).unwrap().len(), 2);
        assert!(lines("$A=${A}x\n$A\n", &mut Notes::default()).is_err());
    }
}
