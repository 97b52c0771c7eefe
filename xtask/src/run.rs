//! Child processes: shown before they run, and an error that names them when they fail.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, iter};

use anyhow::{Context, Error, Result, bail};

/// Where Debian keeps administrators' tools; an ordinary user's `PATH` often lacks them.
const ADMIN_PATHS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// Runs `command` to its end, its output going where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().map_err(|error| not_started(command, error))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Runs `command` to its end and returns what it printed; its errors go where ours go.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| not_started(command, error))?;
    if !output.status.success() {
        bail!("`{}` failed: {}", shown(command), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no UTF-8", shown(command)))
}

/// Becomes `command`, so that signals and the exit status need no forwarding; returns only on failure.
pub(crate) fn exec(command: &mut Command) -> Result<Infallible> {
    println!("$ {}", shown(command));
    let error = command.exec();
    Err(not_started(command, error))
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| quoted(&word.to_string_lossy()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Where a program is, looked for along `PATH` and in the administrators' directories.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMIN_PATHS.map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

fn not_started(command: &Command, error: io::Error) -> Error {
    Error::new(error).context(format!("cannot run `{}`", command.get_program().to_string_lossy()))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("echo");
        command.args(["-n", "two words", "it's", ""]);
        assert_eq!(shown(&command), r"echo -n 'two words' 'it'\''s' ''");
    }

    #[test]
    fn a_failure_names_the_command_and_its_status() {
        let error = run(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(error.to_string(), "`sh -c 'exit 3'` failed: exit status: 3");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = capture(&mut Command::new("no-such-program-here")).unwrap_err();
        assert_eq!(error.to_string(), "cannot run `no-such-program-here`");
    }
}
