//! Every file of `invalid_configs/` is refused with exactly the message beside it.
//!
//! `BATON_BLESS=1` writes the messages anew; read the difference before you keep it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use baton::config::{Config, Finding, render};

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/invalid_configs");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn findings(path: &Path) -> Vec<Finding> {
    let name = path.file_name().unwrap().to_str().unwrap();
    Config::parse(&fs::read_to_string(path).unwrap(), name).expect_err(name)
}

/// As a terminal without colours shows them, without the spaces that nobody sees.
fn message(findings: &[Finding]) -> String {
    render(findings, false).lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[test]
fn every_invalid_file_is_refused_with_its_message() {
    let mut wrong = Vec::new();
    for path in files() {
        let (message, golden) = (message(&findings(&path)), path.with_extension("txt"));
        if env::var_os("BATON_BLESS").is_some() {
            fs::write(golden, message).unwrap();
        } else if fs::read_to_string(golden).unwrap_or_default() != message {
            wrong.push(format!("{}:\n{message}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "other messages than before:\n{}", wrong.join("\n"));
}

#[test]
fn every_finding_says_where_it_is_and_what_would_be_right() {
    assert!(files().len() >= 50);
    for path in files() {
        let found = findings(&path);
        assert!(found.iter().any(Finding::is_error), "{}", path.display());
        for finding in found {
            let place = finding.place.as_ref().unwrap();
            assert!(place.line >= 1 && place.column >= 1, "{finding}");
            assert!(!finding.message.is_empty() && !finding.message.ends_with('.'), "{finding}");
            let of_the_parser = finding.message.starts_with("no TOML");
            assert!(of_the_parser || !finding.help.is_empty(), "{finding}");
        }
    }
}
