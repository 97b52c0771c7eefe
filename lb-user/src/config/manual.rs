//! The manual page of the file, `baton.toml(5)`, by the table of keys.

use super::keys::{Absence, Key, Kind, ROOT};
use crate::roff::Page;

/// The page, as `man` reads it.
pub fn manual() -> String {
    let mut page = Page::begin("baton.toml", 5, "configuration of baton run");
    page.section("DESCRIPTION");
    page.text(
        "What `baton run` serves: services, their backends, and when those are renewed. The file is TOML. An unknown key \
         is an error. `baton config check` finds all that is wrong with a file at once, and `baton reload` brings a \
         changed file into force while traffic runs.",
    );
    for section in ROOT.all().into_iter().skip(1) {
        page.section(&section.header());
        page.text(section.doc);
        for key in section.keys {
            page.item(key.name, &describe(key));
        }
    }
    page.section("EXAMPLE");
    page.verbatim(EXAMPLE.trim_end());
    page.section("FILES");
    page.item("/etc/baton/baton.toml", &["Where `scripts/baton.service` looks for it.".to_owned()]);
    page.section("SEE ALSO");
    page.text("`baton`(1), `baton-run`(1), `baton-reload`(1), `baton-config`(1)");
    page.finish()
}

/// The least that a service of two backends takes.
const EXAMPLE: &str = r#"[data_plane]
interfaces = ["eth0"]

[[service]]
name = "shop"
vip = "192.0.2.10:80"
check = { type = "http", path = "/health" }

[[service.backend]]
name = "a"
address = "10.0.0.11:80"
driver = { type = "systemd", unit = "shop@a.service" }

[[service.backend]]
name = "b"
address = "10.0.0.12:80"
driver = { type = "systemd", unit = "shop@b.service" }
"#;

fn describe(key: &Key) -> Vec<String> {
    let mut texts = vec![key.doc.to_owned()];
    if let Kind::Choice(choices) = key.kind {
        texts.extend(choices.iter().map(|(value, meaning)| format!("`\"{value}\"`: {meaning}.")));
    } else {
        texts.push(format!("Takes {}.", key.kind.describe()));
    }
    if let Some(only) = key.only {
        let values: Vec<_> = only.values.iter().map(|value| format!("`\"{value}\"`")).collect();
        texts.push(format!("Only with `{}` = {}.", only.key, values.join(" or ")));
    }
    texts.extend(match key.absence {
        Absence::Refused => Some("Has to be there.".to_owned()),
        Absence::Fine => None,
        Absence::Default(default) => Some(format!("Default: `{default}`.")),
        Absence::OfParent(other) => Some(format!("Default: the same as `{other}` of the service.")),
    });
    texts
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn every_key_has_its_place_in_the_page_and_the_example_is_right() {
        let text = manual();
        for section in ROOT.all() {
            for key in section.keys {
                assert!(text.contains(&format!("\\fB{}\\fR\n", key.name)), "{}", key.name);
            }
        }
        assert_eq!(Config::parse(EXAMPLE, "example").unwrap().warnings, []);
    }
}
