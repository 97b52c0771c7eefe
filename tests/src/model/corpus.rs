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

/// Writes a history: a line for each step, so that people can read and compare them.
pub fn write(path: &Path, history: &History) -> io::Result<()> {
    let steps: Result<Vec<String>, _> = history.steps.iter().map(serde_json::to_string).collect();
    let what = serde_json::to_string(&history.what)?;
    fs::write(path, format!("{{\"what\":{what},\"steps\":[\n{}\n]}}\n", steps?.join(",\n")))
}

/// A file name for what a history shows.
pub fn file_name(what: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    format!("{}.json", what.chars().map(plain).collect::<String>())
}
