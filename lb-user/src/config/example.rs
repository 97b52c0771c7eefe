//! `baton config example`: every key with its meaning, what it takes and its default, as a file that is right.

use std::fmt::Write;

use super::keys::{Absence, Key, Kind, ROOT, Section};

/// Columns of a comment.
const WIDTH: usize = 100;

/// What stands in the file; everything else is commented out.
const WRITTEN: [(&str, &str, &str); 8] = [
    ("data_plane", "interfaces", "[\"eth0\"]"),
    ("service", "name", "\"shop\""),
    ("service", "vip", "\"192.0.2.10:80\""),
    ("service.check", "type", "\"http\""),
    ("service.check", "path", "\"/health\""),
    ("service.backend", "name", "\"a\""),
    ("service.backend", "address", "\"10.0.0.11:80\""),
    ("service.backend.driver", "type", "\"manual\""),
];

const HEAD: &str = "\
# baton.toml: every key, what it does, what it takes, and its default.
# Keys that are commented out show their default, or an example where they have none.
# `baton config check FILE` says what is wrong with a file.
";

/// A second backend, so that one can take over from the other.
const TAIL: &str = "
[[service.backend]]
name = \"b\"
address = \"10.0.0.12:80\"
";

/// The file.
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    for section in ROOT.all().into_iter().skip(1) {
        write_section(&mut out, section);
    }
    out.push_str(TAIL);
    out
}

fn write_section(out: &mut String, section: &Section) {
    out.push('\n');
    comment(out, section.doc);
    // One that there may be many of, or none, and that is not shown is a comment whole.
    let is_written = !section.repeated || WRITTEN.iter().any(|(path, _, _)| *path == section.path);
    let _ = writeln!(out, "{}{}", if is_written { "" } else { "# " }, section.header());
    for key in section.keys {
        out.push('\n');
        comment(out, &describe(key));
        let written = WRITTEN.iter().find(|(path, name, _)| (*path, *name) == (section.path, key.name));
        let _ = match written {
            Some((_, _, value)) => writeln!(out, "{} = {value}", key.name),
            None => writeln!(out, "# {} = {}", key.name, key.example),
        };
    }
}

/// What a key does, what it takes, where it may be, and what holds without it.
fn describe(key: &Key) -> String {
    let mut text = key.doc.to_owned();
    if let Kind::Choice(choices) = key.kind {
        let each: Vec<_> = choices.iter().map(|(value, meaning)| format!("\"{value}\": {meaning}")).collect();
        let _ = write!(text, "\n- {}", each.join("\n- "));
    } else {
        let _ = write!(text, "\nTakes {}.", key.kind.describe());
    }
    if let Some(only) = key.only {
        let values: Vec<_> = only.values.iter().map(|value| format!("\"{value}\"")).collect();
        let _ = write!(text, "\nOnly with {} = {}.", only.key, values.join(" or "));
    }
    match key.absence {
        Absence::Refused => text.push_str("\nHas to be there."),
        Absence::Fine => {}
        Absence::Default(default) => {
            let _ = write!(text, "\nDefault: {default}");
        }
        Absence::OfParent(other) => {
            let _ = write!(text, "\nDefault: the same as `{other}` of the service.");
        }
    }
    text
}

/// Lines of comment, wrapped at words.
fn comment(out: &mut String, text: &str) {
    for paragraph in text.lines() {
        let indent = if paragraph.starts_with("- ") { "  " } else { "" };
        let mut line = String::from("#");
        for word in paragraph.split(' ') {
            if line.len() + 1 + word.len() > WIDTH {
                let _ = writeln!(out, "{line}");
                line = format!("# {indent}{word}");
            } else {
                line.push(' ');
                line.push_str(word);
            }
        }
        let _ = writeln!(out, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn the_example_is_right_and_says_nothing_but_defaults() {
        let loaded = Config::parse(&example(), "example").unwrap();
        assert_eq!(loaded.warnings, []);
        let mut bare = String::new();
        let mut header = "";
        for (path, name, value) in WRITTEN {
            if path != header {
                let _ = writeln!(bare, "{}", ROOT.all().iter().find(|s| s.path == path).unwrap().header());
                header = path;
            }
            let _ = writeln!(bare, "{name} = {value}");
        }
        bare.push_str(TAIL);
        assert_eq!(Config::parse(&bare, "bare").unwrap().config, loaded.config);
    }

    #[test]
    fn every_key_is_in_the_example() {
        let text = example();
        for section in ROOT.all() {
            let start = text.find(&section.header()).unwrap_or(0);
            for key in section.keys {
                assert!(text[start..].contains(&format!("{} = ", key.name)), "{}.{}", section.path, key.name);
            }
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH + 20 && line.trim_end() == line));
    }
}
