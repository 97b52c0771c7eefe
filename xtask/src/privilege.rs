//! Root, only where it is needed: as root a command just runs, as an ordinary user it goes through `sudo`
//! and the reason is said.
//!
//! What always holds: nothing is compiled as root on behalf of an ordinary user, so `target/` stays theirs.

use std::convert::Infallible;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use crate::run::{exec, find};

/// What a child under `sudo` must see to find the same tools, and to run the tests that the caller asked for; `sudo`
/// itself clears them.
const KEPT: [&str; 11] = [
    "PATH",
    "CARGO_HOME",
    "CARGO_TARGET_DIR",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "BATON_PACKETS",
    "BATON_SEED",
    "BATON_REPLAY",
    "BATON_TRUST_ROUNDS",
    "BATON_TRUST_BACKENDS",
    "BATON_TRUST_FIGURES",
];

/// Whether this is root.
pub(crate) fn is_root() -> bool {
    Uid::effective().is_root()
}

/// A command that will run as root, because of `why`.
pub(crate) fn as_root(program: impl AsRef<OsStr>, why: &str) -> Result<Command> {
    let mut words = sudo(why)?.into_iter().chain([program.as_ref().to_owned()]);
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    Ok(command)
}

/// The words to put before a command so that it runs as root: none if we are root already.
pub(crate) fn sudo(why: &str) -> Result<Vec<OsString>> {
    if is_root() {
        return Ok(Vec::new());
    }
    if find("sudo").is_none() {
        bail!("root is needed to {why}, and there is no sudo here: run this as root");
    }
    println!("asking sudo: root is needed to {why}");
    Ok(sudo_words(|name| env::var_os(name)))
}

/// Lets a `cargo test` start what it compiled as root, because of `why`; to be called before the words for the tests.
pub(crate) fn run_tests_as_root(test: &mut Command, why: &str) -> Result<()> {
    let sudo = sudo(why)?;
    if !sudo.is_empty() {
        let words: Vec<String> = sudo.iter().map(|word| format!("{:?}", word.to_string_lossy())).collect();
        test.arg("--config").arg(format!("target.'cfg(all())'.runner = [{}]", words.join(", ")));
    }
    Ok(())
}

/// Becomes this very command line as root, with `argument` added; returns only on failure.
pub(crate) fn rerun_as_root(argument: &str, why: &str) -> Result<Infallible> {
    let myself = env::current_exe().context("cannot find my own program")?;
    exec(as_root(myself, why)?.args(env::args_os().skip(1)).arg(argument))
}

/// `PATH` is handed over through `env`: `sudo` replaces it by its own, whatever it is told to keep.
fn sudo_words(var: impl Fn(&str) -> Option<OsString>) -> Vec<OsString> {
    let home = var("HOME");
    let in_home = |directory| home.as_ref().map(|home| Path::new(home).join(directory).into_os_string());
    let kept = KEPT.into_iter().filter_map(|name| {
        // Unset means "in the home directory", and under sudo that is another one.
        let value = var(name).or_else(|| match name {
            "CARGO_HOME" => in_home(".cargo"),
            "RUSTUP_HOME" => in_home(".rustup"),
            _ => None,
        })?;
        let mut assignment = OsString::from(name);
        assignment.push("=");
        assignment.push(value);
        Some(assignment)
    });
    ["sudo", "env"].map(OsString::from).into_iter().chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_finds_the_callers_tools_even_if_their_homes_are_the_default_ones() {
        let words = sudo_words(|name| match name {
            "PATH" => Some("/opt/bin:/bin".into()),
            "HOME" => Some("/somewhere/me".into()),
            "RUSTUP_HOME" => Some("/opt/rustup".into()),
            _ => None,
        });
        let expected = [
            "sudo",
            "env",
            "PATH=/opt/bin:/bin",
            "CARGO_HOME=/somewhere/me/.cargo",
            "RUSTUP_HOME=/opt/rustup",
        ];
        assert_eq!(words, expected.map(OsString::from));
    }
}
