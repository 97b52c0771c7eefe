//! The text files of the workspace, read once.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What holds nothing written by hand; in a linked worktree `.git` is a file.
const SKIPPED: [&str; 2] = [".git", "target"];

/// Written by cargo.
const GENERATED: &str = "Cargo.lock";

/// A text file and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Path from the root of the workspace, with `/` between its parts.
    pub(super) path: String,
    pub(super) text: String,
}

impl SourceFile {
    /// Whether the file's name ends in `.extension`.
    pub(super) fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }

    /// Whether the whole file is test code.
    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs")
    }

    /// Number of the lines before the tests at the foot; all lines if there are none.
    pub(super) fn lines_before_tests(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ");
        lines.windows(2).position(opens_tests).unwrap_or(lines.len())
    }
}

/// All text files below `root`, sorted by path.
pub(super) fn read(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    walk(root, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn walk(directory: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<()> {
    let cannot = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().with_context(cannot)?;
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        if kind.is_dir() {
            walk(&entry.path(), &format!("{path}/"), files)?;
        } else if kind.is_file() && name != GENERATED {
            let bytes = fs::read(entry.path()).with_context(cannot)?;
            // What is no UTF-8 is a picture or a recording.
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(SourceFile { path, text });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_what_is_built_or_binary_is_not() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: &[u8]| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("src/a.rs", b"//! A.\n");
        write("README.md", b"# A\n");
        write("Cargo.lock", b"");
        write("target/debug/b.rs", b"");
        write("picture.gif", &[0xff, 0xfe]);
        let paths: Vec<String> = read(root.path()).unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(paths, ["README.md", "src/a.rs"]);
    }
}
