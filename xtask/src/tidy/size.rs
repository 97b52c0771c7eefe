//! How long a file may be: short enough to be read at one sitting.

use super::Finding;
use super::files::SourceFile;

/// Lines without tests from which a file is worth splitting.
const AIM: usize = 300;
/// Lines without tests that no file may have.
const LIMIT: usize = 400;
/// Lines that no file may have, tests included.
const LIMIT_WITH_TESTS: usize = 600;

const RULE: &str = "file-length";

pub(super) fn file_length(file: &SourceFile) -> Option<Finding> {
    let lines = file.text.lines().count();
    let code = if file.is_test() { 0 } else { file.lines_before_tests() };
    if code > LIMIT {
        let message =
            format!("{code} lines without tests, at most {LIMIT}; split it by what changes together");
        Some(Finding::error(file, LIMIT, RULE, message))
    } else if lines > LIMIT_WITH_TESTS {
        let message =
            format!("{lines} lines, at most {LIMIT_WITH_TESTS}; give the tests a file of their own");
        Some(Finding::error(file, LIMIT_WITH_TESTS, RULE, message))
    } else if code > AIM {
        let message = format!("{code} lines without tests; from {AIM} on a file is worth splitting");
        Some(Finding::warning(file, AIM, RULE, message))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::*;

    fn weight(path: &str, code: usize, tests: usize) -> Option<Weight> {
        let mut text = "x\n".repeat(code);
        if tests > 0 {
            text += "#[cfg(test)]\nmod tests {\n";
            text += &"x\n".repeat(tests - 2);
        }
        file_length(&SourceFile { path: path.to_owned(), text }).map(|finding| finding.weight)
    }

    #[test]
    fn a_file_may_have_400_lines_and_200_of_tests() {
        assert_eq!(weight("a/src/b.rs", 300, 300), None);
        assert_eq!(weight("a/src/b.rs", 301, 0), Some(Weight::Warning));
        assert_eq!(weight("a/src/b.rs", 400, 200), Some(Weight::Warning));
        assert_eq!(weight("a/src/b.rs", 401, 0), Some(Weight::Error));
        assert_eq!(weight("a/src/b.rs", 300, 301), Some(Weight::Error));
    }

    #[test]
    fn a_file_of_tests_may_have_600_lines() {
        assert_eq!(weight("tests/tests/lab.rs", 600, 0), None);
        assert_eq!(weight("tests/tests/lab.rs", 601, 0), Some(Weight::Error));
    }
}
