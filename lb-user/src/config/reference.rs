//! The reference of the documentation: a table for each table of the file.

use std::fmt::Write;

use super::keys::{Absence, Key, Kind, ROOT, Section};

/// Every table and key, as Markdown.
pub fn reference() -> String {
    let sections = ROOT.all().into_iter().skip(1).map(section);
    sections.collect::<Vec<_>>().join("\n")
}

fn section(section: &Section) -> String {
    let mut out = format!("### `{}`\n\n{}\n\n", section.header(), section.doc);
    out.push_str("| key | takes | default | what it does |\n|---|---|---|---|\n");
    for key in section.keys {
        let cells = [format!("`{}`", key.name), takes(&key.kind), default(key), meaning(key)];
        // A bar would end the cell.
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    }
    out
}

fn takes(kind: &Kind) -> String {
    match kind {
        // The meanings follow beside it.
        Kind::Choice(choices) => {
            let values: Vec<_> = choices.iter().map(|(value, _)| format!("`\"{value}\"`")).collect();
            values.join(", ")
        }
        kind => kind.describe(),
    }
}

fn default(key: &Key) -> String {
    match key.absence {
        Absence::Refused if key.only.is_some() => "has to be there, where it may be".to_owned(),
        Absence::Refused => "has to be there".to_owned(),
        Absence::Fine => "–".to_owned(),
        Absence::Default(default) => format!("`{default}`"),
        Absence::OfParent(other) => format!("the service's `{other}`"),
    }
}

fn meaning(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let Kind::Choice(choices) = key.kind {
        let each: Vec<_> = choices.iter().map(|(value, meaning)| format!("`{value}`: {meaning}")).collect();
        let _ = write!(text, " {}.", each.join("; "));
    }
    if let Some(only) = key.only {
        let values: Vec<_> = only.values.iter().map(|value| format!("`{value}`")).collect();
        let _ = write!(text, " Only with `{}` {}.", only.key, values.join(" or "));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    const BEGIN: &str =
        "<!-- From here on made from the table of keys; BATON_BLESS=1 cargo test renews it. -->\n\n";

    #[test]
    fn the_documentation_has_the_reference() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/config.md");
        let text = fs::read_to_string(&path).unwrap();
        let (by_hand, committed) = text.split_once(BEGIN).expect("the line after which the reference stands");
        if env::var_os("BATON_BLESS").is_some() {
            fs::write(&path, format!("{by_hand}{BEGIN}{}", reference())).unwrap();
        } else {
            assert!(committed == reference(), "docs/config.md is old: run this test with BATON_BLESS=1");
        }
    }
}
