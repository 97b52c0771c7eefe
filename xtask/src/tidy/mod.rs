//! Tidy: the part of the style that no other tool enforces, held by a test instead of by memory.
//!
//! Each rule is a pure function from a file's text to findings; only this module and [`files`] read the
//! disk. A rule's exceptions stand beside it, few, each with its reason.

mod allow;
mod files;
mod links;
mod rust;
mod size;
mod text;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};

use files::SourceFile;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// Printed only.
    Warning,
    /// Fails the check.
    Error,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    /// Path from the root of the workspace.
    path: String,
    /// Line, counted from 1.
    line: usize,
    rule: &'static str,
    weight: Weight,
    /// What was found, and what to do about it.
    message: String,
}

impl Finding {
    fn error(file: &SourceFile, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        let path = file.path.clone();
        Self { path, line, rule, weight: Weight::Error, message: message.into() }
    }

    fn warning(file: &SourceFile, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { weight: Weight::Warning, ..Self::error(file, line, rule, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = match self.weight {
            Weight::Warning => "warning: ",
            Weight::Error => "",
        };
        write!(f, "{}:{}: {}{}: {}", self.path, self.line, weight, self.rule, self.message)
    }
}

/// Checks every text file below `root`; fails if there is a finding that is more than a warning.
pub(crate) fn check(root: &Path) -> Result<()> {
    let files = files::read(root)?;
    let mut findings = allow::gone(root);
    for file in &files {
        findings.extend(findings_in(file, root));
    }
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.weight == Weight::Error).count();
    if errors > 0 {
        bail!("{errors} of the findings above must be mended");
    }
    println!("{} files looked at", files.len());
    Ok(())
}

fn findings_in(file: &SourceFile, root: &Path) -> Vec<Finding> {
    let mut findings = text::findings(file);
    if file.is("rs") {
        findings.extend(size::file_length(file));
        findings.extend(rust::findings(file));
    }
    if file.is("md") {
        findings.extend(links::findings(file, |target| root.join(target).exists()));
    }
    findings
}
