//! Directives and their blocks.

use super::super::words::words;
use super::expand::Line;

/// Blocks stand in blocks, so deep.
const DEPTH_MAX: usize = 16;

/// A directive, with its block if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) line: usize,
    /// The line where its block ends.
    pub(super) last: usize,
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Item>>,
}

impl Item {
    /// A word; empty if there are not so many.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// What is in its block.
    pub(super) fn block(&self) -> &[Item] {
        self.block.as_deref().unwrap_or_default()
    }

    /// Its words, for people.
    pub(super) fn shown(&self) -> String {
        self.words.join(" ")
    }

    /// What is behind its name.
    pub(super) fn rest(&self) -> String {
        self.words.get(1..).unwrap_or_default().join(" ")
    }

    /// Whether a switch is on: it is if it is there, unless it says otherwise.
    pub(super) fn is_on(&self) -> bool {
        !matches!(self.word(1), "false" | "no" | "off")
    }
}

/// The directives of a file, or where and why it has none.
pub(super) fn parse(lines: &[Line]) -> Result<Vec<Item>, (usize, String)> {
    // The blocks that are open, the file first.
    let mut open: Vec<Vec<Item>> = vec![Vec::new()];
    for (number, line) in lines {
        let Some(words) = words(line) else { return Err((*number, "a quote is not closed".into())) };
        let mut item = None;
        for word in words.iter().flat_map(|word| parted(word)) {
            match word {
                "{" => {
                    begin(&mut open, item.take(), *number)?;
                }
                "}" => {
                    if let (Some(item), Some(block)) = (item.take(), open.last_mut()) {
                        block.push(item);
                    }
                    end(&mut open, *number)?;
                }
                word => {
                    let new = || Item { line: *number, last: *number, words: Vec::new(), block: None };
                    item.get_or_insert_with(new).words.push(word.to_owned());
                }
            }
        }
        if let (Some(item), Some(block)) = (item, open.last_mut()) {
            block.push(item);
        }
    }
    let file = open.swap_remove(0);
    if open.is_empty() {
        return Ok(file);
    }
    let line = file.last().map_or(1, |item| item.line);
    Err((line, "the block that begins here is not closed: it lacks a `}`".into()))
}

/// A brace may touch the end of the word before it.
fn parted(word: &str) -> Vec<&str> {
    match word.strip_suffix('{') {
        Some(before) if !before.is_empty() && !before.ends_with('$') => vec![before, "{"],
        _ => vec![word],
    }
}

/// Opens the block of `item`, or of the directive before if the brace has a line of its own.
fn begin(open: &mut Vec<Vec<Item>>, item: Option<Item>, line: usize) -> Result<(), (usize, String)> {
    if open.len() > DEPTH_MAX {
        return Err((line, format!("more than {DEPTH_MAX} blocks stand in each other")));
    }
    let Some(block) = open.last_mut() else { return Ok(()) };
    match (item, block.last()) {
        (Some(item), _) => block.push(item),
        (None, Some(before)) if before.block.is_none() => {}
        (None, _) => return Err((line, "a block begins without a directive before it".into())),
    }
    open.push(Vec::new());
    Ok(())
}

/// Closes the innermost block.
fn end(open: &mut Vec<Vec<Item>>, line: usize) -> Result<(), (usize, String)> {
    match open.pop() {
        Some(block) if !open.is_empty() => {
            if let Some(owner) = open.last_mut().and_then(|block| block.last_mut()) {
                owner.block = Some(block);
                owner.last = line;
            }
            Ok(())
        }
        _ => Err((line, "a block ends here that has not begun: a `}` too many".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Item>, (usize, String)> {
        let lines: Vec<_> = (1..).zip(text.lines().map(str::to_owned)).collect();
        parse(&lines)
    }

    #[test]
    fn blocks_may_be_in_lines_or_in_one_line() {
        let one = parsed("a 1 {\n b 2\n c {\n  d\n }\n}\ne\n").unwrap();
        assert_eq!((one.len(), one[0].block().len(), one[0].last), (2, 2, 6));
        assert_eq!(one[0].block()[1].block()[0].word(0), "d");
        for same in ["a 1\n{\nb 2\nc { d }\n}\ne", "a 1{ b 2 }"] {
            assert_eq!(parsed(same).unwrap()[0].block()[0].shown(), "b 2", "{same}");
        }
    }

    #[test]
    fn what_does_not_close_is_refused_with_its_line() {
        assert_eq!(parsed("a {\n b {\n }\n").unwrap_err().0, 1);
        assert_eq!(parsed("a {\n}\n}\n").unwrap_err().0, 3);
        assert_eq!(parsed("a \"b\nc").unwrap_err().0, 1);
        assert_eq!(parsed("{\n}").unwrap_err().0, 1);
        assert!(parsed(&"a {\n".repeat(100)).is_err());
    }
}
