//! Pieces of manual pages, as `man` reads them (`man(7)`).

use std::fmt::Write;

/// A page under way.
pub(crate) struct Page(String);

impl Page {
    /// Goes on after what has been rendered so far.
    pub(crate) fn after(rendered: String) -> Self {
        Self(rendered)
    }

    /// Begins a page.
    pub(crate) fn begin(name: &str, section: u8, summary: &str) -> Self {
        let mut page = Self(format!(".TH {name} {section}\n"));
        page.section("NAME");
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(page.0, "{} \\- {}", escaped(name), escaped(summary));
        page
    }

    /// A heading.
    pub(crate) fn section(&mut self, name: &str) {
        let _ = writeln!(self.0, ".SH \"{}\"", escaped(name));
    }

    /// A paragraph.
    pub(crate) fn text(&mut self, text: &str) {
        let _ = writeln!(self.0, ".PP\n{}", lines(text));
    }

    /// A term, and what is to be said of it, a paragraph each.
    pub(crate) fn item(&mut self, term: &str, texts: &[String]) {
        let _ = writeln!(self.0, ".TP\n\\fB{}\\fR", escaped(term));
        for (number, text) in texts.iter().enumerate() {
            let apart = if number == 0 { "" } else { ".br\n" };
            let _ = writeln!(self.0, "{apart}{}", lines(text));
        }
    }

    /// Lines that are shown as they are.
    pub(crate) fn verbatim(&mut self, text: &str) {
        let _ = writeln!(self.0, ".PP\n.nf\n.RS 4\n{}\n.RE\n.fi", lines(text));
    }

    /// The whole page.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// Text of several lines, none of which is taken for a request.
fn lines(text: &str) -> String {
    let safe = |line: &str| {
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        format!("{guard}{}", escaped(line))
    };
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

/// Text in which nothing means anything to roff. Backquotes, which mark code elsewhere, set it in bold.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut bold = false;
    for letter in text.chars() {
        match letter {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '\'' => out.push_str("\\(aq"),
            '–' => out.push_str("\\(en"),
            '…' => out.push_str("..."),
            '`' => {
                bold = !bold;
                out.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_text_is_taken_for_a_request() {
        assert_eq!(lines(".PP\n'x"), "\\&.PP\n\\&\\(aqx");
        assert_eq!(lines("a\\b `--json` \"c\""), "a\\eb \\fB\\-\\-json\\fR \\(dqc\\(dq");
    }

    #[test]
    fn a_page_has_its_parts_in_order() {
        let mut page = Page::begin("baton.toml", 5, "configuration of baton");
        page.item("rise", &["How many.".to_owned(), "Default: 2".to_owned()]);
        let text = page.finish();
        assert!(text.starts_with(".TH baton.toml 5\n.SH \"NAME\"\nbaton.toml \\- configuration of baton\n"));
        assert!(text.ends_with(".TP\n\\fBrise\\fR\nHow many.\n.br\nDefault: 2\n"), "{text}");
    }
}
