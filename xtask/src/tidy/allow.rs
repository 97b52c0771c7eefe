//! The exceptions: which rule does not hold where, and why.

use std::path::Path;

use super::files::SourceFile;
use super::{Finding, Weight};

/// A file, or a directory if it ends in `/`, in which a rule does not hold.
struct Allowance {
    path: &'static str,
    /// For whoever reads the list.
    #[expect(dead_code, reason = "an exception without a reason must not compile")]
    reason: &'static str,
}

/// Where the clock may be read.
const CLOCK: [Allowance; 9] = [
    Allowance { path: "lb-user/src/cli/check.rs", reason: "tells how long a check took" },
    Allowance { path: "lb-user/src/cli/down.rs", reason: "bounds the wait for a controller to end" },
    Allowance { path: "lb-user/src/driver/lives.rs", reason: "a test bounds its wait for processes" },
    Allowance { path: "lb-user/src/driver/process/", reason: "bounds waits for processes and the kernel" },
    Allowance { path: "lb-user/src/load/", reason: "the load generator measures real connections" },
    Allowance { path: "lb-user/src/net/genetlink.rs", reason: "bounds the wait for the kernel's answer" },
    Allowance {
        path: "lb-user/src/service/runtime.rs",
        reason: "the shell that tells the coordinator the time",
    },
    Allowance { path: "tests/", reason: "tests wait for real kernels and processes" },
    Allowance { path: "xtask/src/", reason: "tasks time themselves" },
];

/// Where `unsafe` may stand.
const UNSAFE: [Allowance; 3] = [
    Allowance { path: "lb-common/src/lib.rs", reason: "one macro marks the map types as plain data for aya" },
    Allowance { path: "lb-ebpf/src/", reason: "packets and helpers are raw pointers in the kernel" },
    Allowance { path: "lb-user/src/dataplane/", reason: "maps shared with the kernel are raw memory" },
];

/// Where banned words and foreign paths may be written out.
const WORDS: [Allowance; 1] =
    [Allowance { path: "xtask/src/tidy/text.rs", reason: "the list of banned words itself" }];

pub(super) fn clock(file: &SourceFile) -> bool {
    holds(&CLOCK, file)
}

pub(super) fn unsafe_code(file: &SourceFile) -> bool {
    holds(&UNSAFE, file)
}

pub(super) fn words(file: &SourceFile) -> bool {
    holds(&WORDS, file)
}

/// Exceptions for what is no longer there; they would silently cover whatever comes next.
pub(super) fn gone(root: &Path) -> Vec<Finding> {
    let all = CLOCK.iter().chain(&UNSAFE).chain(&WORDS);
    all.filter(|allowance| !root.join(allowance.path).exists())
        .map(|allowance| Finding {
            path: "xtask/src/tidy/allow.rs".to_owned(),
            line: 1,
            rule: "allowance",
            weight: Weight::Error,
            message: format!("`{}` does not exist; remove its exception", allowance.path),
        })
        .collect()
}

fn holds(allowances: &[Allowance], file: &SourceFile) -> bool {
    allowances.iter().any(|allowance| match allowance.path.strip_suffix('/') {
        Some(_) => file.path.starts_with(allowance.path),
        None => file.path == allowance.path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(path: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: String::new() }
    }

    #[test]
    fn an_exception_covers_its_directory_and_nothing_beside_it() {
        assert!(unsafe_code(&at("lb-user/src/dataplane/maps.rs")));
        assert!(!unsafe_code(&at("lb-user/src/dataplane.rs")));
        assert!(words(&at("xtask/src/tidy/text.rs")));
        assert!(!words(&at("xtask/src/tidy/text.rs.md")));
    }
}
