//! Links between the documents lead somewhere.

use super::Finding;
use super::files::SourceFile;

/// `exists` says whether a path from the root of the workspace is there.
pub(super) fn findings(file: &SourceFile, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let directory = file.path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let mut findings = Vec::new();
    let mut in_code = false;
    for (line, number) in file.text.lines().zip(1..) {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for target in relative_targets(line) {
            if !joined(directory, target).is_some_and(|path| exists(&path)) {
                let message = format!("`{target}` leads nowhere; mend or remove the link");
                findings.push(Finding::error(file, number, "link", message));
            }
        }
    }
    findings
}

/// What the links of a line lead to, without anchors and without what is on the network.
fn relative_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .filter_map(|(target, _)| target.split('#').next())
        .filter(|path| !path.is_empty() && !path.contains("://") && !path.starts_with("mailto:"))
}

/// The path from the root; `None` if it leads out of the workspace.
fn joined(directory: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(text: &str) -> Vec<usize> {
        let file = SourceFile { path: "docs/use.md".to_owned(), text: text.to_owned() };
        let exists = |path: &str| ["docs/drain.md", "README.md"].contains(&path);
        findings(&file, exists).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn links_to_files_anchors_and_the_network_are_good() {
        assert!(broken("[a](drain.md#how), [b](../README.md) [c](#here) [d](https://x.y/z)\n").is_empty());
    }

    #[test]
    fn links_to_nothing_and_out_of_the_workspace_are_found() {
        assert_eq!(broken("[a](gone.md)\n[b](../../README.md)\n"), [1, 2]);
    }

    #[test]
    fn code_blocks_are_no_links() {
        assert_eq!(broken("```rust\nlet x = a[0](gone);\n```\n[a](gone.md)\n"), [4]);
    }
}
