//! Findings as a compiler shows them: the line, what is meant in it, and what would be right.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::finding::{Finding, Place, Severity};

/// All findings for a terminal; `coloured` with its escape codes.
pub fn render(findings: &[Finding], coloured: bool) -> String {
    let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
    let groups: Vec<_> = findings.iter().map(group).collect();
    let shown: Vec<_> = groups.iter().map(|group| renderer.render(std::slice::from_ref(group))).collect();
    shown.join("\n\n")
}

fn group(finding: &Finding) -> Group<'_> {
    let level = match finding.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let Some(place) = &finding.place else {
        let message = format!("{} {}", finding.file, finding.message);
        return with_help(Group::with_title(level.primary_title(message)), finding);
    };
    let label = finding.suggestion.as_ref().map(|suggestion| format!("did you mean `{suggestion}`?"));
    let snippet = Snippet::source(place.source.as_str())
        .line_start(place.line)
        .path(finding.file.as_str())
        .annotation(AnnotationKind::Primary.span(bytes_of(place)).label(label));
    with_help(level.primary_title(finding.message.as_str()).element(snippet), finding)
}

fn with_help<'f>(group: Group<'f>, finding: &'f Finding) -> Group<'f> {
    if finding.help.is_empty() { group } else { group.element(Level::HELP.message(finding.help.as_str())) }
}

/// The bytes of the line that a place means.
fn bytes_of(place: &Place) -> std::ops::Range<usize> {
    let byte_of = |character: usize| {
        place.source.char_indices().nth(character).map_or(place.source.len(), |(byte, _)| byte)
    };
    byte_of(place.column - 1)..byte_of(place.column - 1 + place.width)
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn a_finding_shows_its_line_and_a_mark_under_it() {
        let text = "# ü\n[controller]\nlog_fromat = \"json\" # ü\n";
        let findings = Config::parse(text, "baton.toml").unwrap_err();
        let shown = render(&findings[..1], false);
        assert!(shown.contains("baton.toml:"), "{shown}");
        let mark = render(&findings, false).lines().find(|line| line.contains("^^^")).map(str::to_owned);
        assert_eq!(mark.unwrap().trim(), "| ^^^^^^^^^^ did you mean `log_format`?");
        assert!(render(&findings, true).contains('\u{1b}'));
    }
}
