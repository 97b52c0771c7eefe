//! Rules on the lines of any text file: no space at their ends, no banned word, no path of one machine.

use super::files::SourceFile;
use super::{Finding, allow};

/// Words that say "unfinished", or that print for a moment's debugging, and what to do instead.
const BANNED: [(&str, &str); 8] = [
    ("todo!", "finish it, or leave it out"),
    ("TODO", "finish it, or leave it out"),
    ("FIXME", "mend it"),
    ("XXX", "say in a sentence what matters here"),
    ("HACK", "say in a sentence why it is done like this"),
    ("unimplemented!", "finish it, or leave it out"),
    ("dbg!", "remove it"),
    ("Lorem ipsum", "write the text"),
];

/// Directories that exist on one machine only.
const MACHINE_PATHS: [&str; 4] = ["/root/", "/home/", "/work/", "/Users/"];

pub(super) fn findings(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Not `lines`, which would hide a carriage return.
    for (line, number) in file.text.split('\n').zip(1..) {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(Finding::error(
                file,
                number,
                "line-end",
                "space at the end of the line; remove it",
            ));
        }
        if allow::words(file) {
            continue;
        }
        for (word, remedy) in BANNED.iter().filter(|(word, _)| contains_word(line, word)) {
            findings.push(Finding::error(file, number, "banned-word", format!("`{word}`: {remedy}")));
        }
        for path in MACHINE_PATHS.iter().filter(|path| contains_path(line, path)) {
            let message = format!("`{path}` is the path of one machine; make it relative or an argument");
            findings.push(Finding::error(file, number, "machine-path", message));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        let last = file.text.lines().count();
        findings.push(Finding::error(file, last, "line-end", "the last line has no end; add one"));
    }
    findings
}

fn contains_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(part_of_word) && (word.ends_with('!') || !after.is_some_and(part_of_word))
    })
}

/// Only at the start of an absolute path: `net/work/` is none.
fn contains_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || "_-.~}/$".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(usize, &'static str)> {
        let file = SourceFile { path: "a/src/b.rs".to_owned(), text: text.to_owned() };
        findings(&file).iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn good_text_has_no_findings() {
        assert_eq!(found(""), []);
        assert_eq!(found("one\n\ntwo\n"), []);
    }

    #[test]
    fn spaces_at_the_end_of_a_line_and_a_missing_end_are_found() {
        assert_eq!(found("one \ntwo\r\nthree"), [(1, "line-end"), (2, "line-end"), (3, "line-end")]);
    }

    #[test]
    fn banned_words_are_found_as_words_only() {
        assert_eq!(found("// TODO: x\n    todo!()\n// XXX\n").len(), 3);
        assert_eq!(found("let mastodon = not_a_todo; // TODOS aXXX\n"), []);
    }

    #[test]
    fn paths_of_one_machine_are_found_only_where_they_are_absolute() {
        assert_eq!(found("see `/root/x` and \"/home/me\"\n").len(), 2);
        assert_eq!(found("net/work/x ../work/x https://a.b/work/x $HOME/work/ \n").len(), 1);
    }
}
