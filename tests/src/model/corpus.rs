//! Histories that are kept: each is the shortest that showed something for the first time. The suite replays them all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::history::History;

/// Files of a corpus, at the most.
pub const FILES: usize = 200;

/// Where the corpus of this crate is.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/packets")
}

/// All histories of a directory, by file name.
pub fn load(directory: &Path) -> io::Result<Vec<(PathBuf, History)>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.into_iter().map(|path| read(&path).map(|history| (path, history))).collect()
}

/// The history of a file.
pub fn read(path: &Path) -> io::Result<History> {
    let text = fs::read(path)?;
    serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// A history as it stands in a file: a line for each step, so that people can read and compare them.
///
/// # Panics
///
/// Never: a history has no part that JSON cannot hold.
pub fn text(history: &History) -> String {
    let json = |step| serde_json::to_string(step).expect("plain data");
    let steps: Vec<String> = history.steps.iter().map(json).collect();
    let what = serde_json::to_string(&history.what).expect("a string");
    format!("{{\"what\":{what},\"steps\":[\n{}\n]}}\n", steps.join(",\n"))
}

/// A file name for what a history shows.
pub fn file_name(what: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    format!("{}.json", what.chars().map(plain).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::World;
    use crate::model::generate::history;

    #[test]
    fn a_history_survives_the_file() {
        let before = history(&World::new(), 11, 300);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file_name("after 1: what & why"));
        fs::write(&path, text(&before)).unwrap();
        assert_eq!(load(directory.path()).unwrap(), [(path, before)]);
    }

    #[test]
    fn the_corpus_is_small_and_each_file_is_called_after_what_it_shows() {
        let corpus = load(&directory()).unwrap();
        assert!(corpus.len() <= FILES, "{} files", corpus.len());
        for (path, history) in corpus {
            assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(&*file_name(&history.what)));
        }
    }
}
