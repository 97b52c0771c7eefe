//! Rules on Rust code: module docs, function length, `unsafe`, clocks.
//!
//! They look at tokens, not at lines, so that comments and strings never count as code.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::files::SourceFile;
use super::{Finding, allow};

/// Lines of a function, from its `fn` to its last brace.
const FUNCTION_LINES: usize = 70;

/// Lines of code that may stand between a SAFETY comment and its `unsafe`: the start of one statement.
const SAFETY_REACH: usize = 3;

pub(super) fn findings(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !file.text.starts_with("//! ") {
        let message = "the first line is no `//!`; open with a sentence on what this is and why";
        findings.push(Finding::error(file, 1, "module-doc", message));
    }
    match file.text.parse::<TokenStream>() {
        Ok(tokens) => look(file, tokens, &mut findings),
        Err(error) => {
            let line = error.span().start().line;
            findings.push(Finding::error(file, line, "syntax", format!("cannot be read: {error}")));
        }
    }
    findings
}

/// Applies every rule at every place of one nesting level, then goes into the groups.
fn look(file: &SourceFile, tokens: TokenStream, findings: &mut Vec<Finding>) {
    let level: Vec<TokenTree> = tokens.into_iter().collect();
    for at in 0..level.len() {
        let rest = &level[at..];
        findings.extend(long_function(file, rest));
        findings.extend(unsafe_code(file, rest));
        findings.extend(clock(file, rest));
    }
    for token in level {
        if let TokenTree::Group(group) = token {
            look(file, group.stream(), findings);
        }
    }
}

fn long_function(file: &SourceFile, tokens: &[TokenTree]) -> Option<Finding> {
    let [TokenTree::Ident(keyword), TokenTree::Ident(name), rest @ ..] = tokens else { return None };
    if *keyword != "fn" {
        return None;
    }
    let body = rest.iter().take_while(|token| !is_semicolon(token)).find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    })?;
    let first = keyword.span().start().line;
    let lines = body.span_close().end().line + 1 - first;
    (lines > FUNCTION_LINES).then(|| {
        let message = format!("`{name}` has {lines} lines, at most {FUNCTION_LINES}; give its parts names");
        Finding::error(file, first, "function-length", message)
    })
}

fn is_semicolon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';')
}

fn unsafe_code(file: &SourceFile, tokens: &[TokenTree]) -> Option<Finding> {
    let line = match tokens {
        // `#[unsafe(no_mangle)]` is judged by the lint `unsafe_code`, and needs no comment.
        [TokenTree::Ident(keyword), TokenTree::Group(group), ..]
            if *keyword == "unsafe" && group.delimiter() == Delimiter::Parenthesis =>
        {
            return None;
        }
        [TokenTree::Ident(keyword), ..] if *keyword == "unsafe" => keyword.span().start().line,
        _ => return None,
    };
    if !allow::unsafe_code(file) {
        let message = "`unsafe` outside the kernel side and the data plane; use a safe wrapper";
        return Some(Finding::error(file, line, "unsafe", message));
    }
    let lines: Vec<&str> = file.text.lines().take(line).collect();
    (!says_why_it_is_safe(&lines)).then(|| {
        let message = "no `SAFETY:` comment; say why what it needs holds here";
        Finding::error(file, line, "unsafe", message)
    })
}

/// Whether the comment above the last of `lines` has a word on safety.
fn says_why_it_is_safe(lines: &[&str]) -> bool {
    let is_comment = |line: &str| line.starts_with("//") || line.starts_with("#[");
    let mut code_left = SAFETY_REACH;
    let mut in_comment = false;
    for line in lines.iter().rev().map(|line| line.trim()) {
        if line.contains("// SAFETY:") || line.contains("/// # Safety") {
            return true;
        }
        if is_comment(line) {
            in_comment = true;
        } else if in_comment || code_left == 0 || line.is_empty() {
            return false;
        } else {
            code_left -= 1;
        }
    }
    false
}

fn clock(file: &SourceFile, tokens: &[TokenTree]) -> Option<Finding> {
    let [TokenTree::Ident(kind), TokenTree::Punct(_), TokenTree::Punct(_), TokenTree::Ident(call), ..] =
        tokens
    else {
        return None;
    };
    let reads = (*kind == "Instant" || *kind == "SystemTime") && *call == "now";
    (reads && !allow::clock(file)).then(|| {
        let message = format!("`{kind}::now` outside a shell; take the time as an argument");
        Finding::error(file, kind.span().start().line, "clock", message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found_in(path: &str, text: &str) -> Vec<(usize, &'static str)> {
        let file = SourceFile { path: path.to_owned(), text: format!("//! A module.\n{text}") };
        findings(&file).iter().map(|finding| (finding.line, finding.rule)).collect()
    }

    #[test]
    fn a_file_without_a_module_doc_is_found() {
        let file = SourceFile { path: "a.rs".to_owned(), text: "fn main() {}\n".to_owned() };
        assert_eq!(findings(&file)[0].rule, "module-doc");
        assert_eq!(found_in("a.rs", "fn main() {}\n"), []);
    }

    #[test]
    fn a_function_may_have_70_lines() {
        let function =
            |lines: usize| format!("impl A {{\n    fn f() {{\n{}    }}\n}}\n", "a();\n".repeat(lines - 2));
        assert_eq!(found_in("a.rs", &function(70)), []);
        assert_eq!(found_in("a.rs", &function(71)), [(3, "function-length")]);
    }

    #[test]
    fn a_function_without_a_body_ends_before_the_next_one() {
        let text = format!("trait A {{\n fn f();\n fn g() {{\n{} }}\n}}\n", "a();\n".repeat(60));
        assert_eq!(found_in("a.rs", &text), []);
    }

    #[test]
    fn unsafe_code_stands_only_where_it_may_and_says_why() {
        let bare = "fn f() {\n    unsafe { g() }\n}\n";
        let said = "fn f() {\n    // SAFETY: g needs nothing\n    // more than this.\n    let x =\n        unsafe { g() };\n}\n";
        let documented = "/// # Safety\n///\n/// Once.\n#[inline]\npub unsafe fn f() {}\n";
        assert_eq!(found_in("lb-user/src/api.rs", said), [(6, "unsafe")]);
        assert_eq!(found_in("lb-ebpf/src/a.rs", bare), [(3, "unsafe")]);
        assert_eq!(found_in("lb-ebpf/src/a.rs", said), []);
        assert_eq!(found_in("lb-ebpf/src/a.rs", documented), []);
    }

    #[test]
    fn a_safety_comment_counts_for_its_own_statement_only() {
        let text =
            "fn f() {\n    // SAFETY: g needs nothing.\n    unsafe { g() };\n\n    unsafe { h() };\n}\n";
        assert_eq!(found_in("lb-ebpf/src/a.rs", text), [(6, "unsafe")]);
    }

    #[test]
    fn the_clock_is_read_in_shells_only() {
        let text = "fn f() { std::time::Instant::now(); }\nfn g() { SystemTime::now() }\n";
        assert_eq!(found_in("lb-user/src/recovery/step.rs", text), [(2, "clock"), (3, "clock")]);
        assert_eq!(found_in("xtask/src/steps.rs", text), []);
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "// unsafe Instant::now\nconst A: &str = \"unsafe { Instant::now() }\";\n";
        assert_eq!(found_in("lb-user/src/a.rs", text), []);
    }

    #[test]
    fn what_is_no_rust_is_found() {
        assert_eq!(found_in("a.rs", "fn f() {\n"), [(2, "syntax")]);
    }
}
