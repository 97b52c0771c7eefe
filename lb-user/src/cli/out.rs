//! Standard output and error of commands. What always holds: nothing panics because nobody reads, and a reader
//! that has gone, as `head` goes, is a good end; all else that keeps a command from being heard is a failure.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Why nothing more is written to standard output.
static TROUBLE: OnceLock<io::Error> = OnceLock::new();

/// Prints a line for whoever reads standard output.
macro_rules! say {
    () => { $crate::cli::out::line(format_args!("")) };
    ($($words:tt)*) => { $crate::cli::out::line(format_args!($($words)*)) };
}

/// Prints a line for whoever reads standard error.
macro_rules! complain {
    ($($words:tt)*) => { $crate::cli::out::complaint(format_args!($($words)*)) };
}

pub(super) use {complain, say};

/// Prints a line to standard output.
pub(super) fn line(text: fmt::Arguments<'_>) {
    write(|to| writeln!(to, "{text}"));
}

/// Prints a document to standard output as it is.
pub(super) fn document(text: &[u8]) {
    write(|to| to.write_all(text));
}

fn write(text: impl FnOnce(&mut io::StdoutLock<'static>) -> io::Result<()>) {
    if !is_read() {
        return;
    }
    let mut to = io::stdout().lock();
    if let Err(error) = text(&mut to).and_then(|()| to.flush()) {
        // The first one is what counts.
        let _ = TROUBLE.set(error);
    }
}

/// Prints a line to standard error; there is nobody to be told that this failed.
pub(super) fn complaint(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether somebody reads standard output, as far as is known. What goes on for ever ends when nobody does.
pub(super) fn is_read() -> bool {
    TROUBLE.get().is_none()
}

/// The exit code of a command that would end with `code`, had all that it printed been taken.
pub(super) fn finish(code: ExitCode) -> ExitCode {
    match TROUBLE.get() {
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain!("baton: standard output cannot be written: {error}");
            ExitCode::FAILURE
        }
        _ => code,
    }
}
