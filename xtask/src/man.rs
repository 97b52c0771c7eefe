//! `cargo xtask man`: the manual pages, as a package installs them, and whether `man` likes them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;

use crate::run::{find, run as run_command};
use crate::{cargo, workspace};

/// Writes the manual pages of `baton`, its subcommands and `baton.toml`.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory that gets them; by default `target/man`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &ManArgs) -> Result<ExitCode> {
    let out = args.out.clone().unwrap_or_else(|| cargo::target_dir().join("man"));
    println!("{} pages are in {}", write(&out)?.len(), out.display());
    Ok(ExitCode::SUCCESS)
}

/// Renders every page; a page that `groff` warns about is an error.
pub(crate) fn check() -> Result<()> {
    let directory = tempfile::tempdir().context("cannot make a directory for the pages")?;
    let pages = write(directory.path())?;
    if find("groff").is_none() {
        println!("skipped the look at {} pages: there is no groff here", pages.len());
        return Ok(());
    }
    for page in &pages {
        let mut groff = Command::new("groff");
        groff.args(["-man", "-Tutf8", "-ww", "-z"]).arg(page);
        let output = groff.output().context("cannot run groff")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
    }
    println!("{} pages", pages.len());
    Ok(())
}

/// Writes the pages, and says which there are.
fn write(out: &std::path::Path) -> Result<Vec<PathBuf>> {
    let built = cargo::build(&["--package", "lb-user", "--bins"])?;
    let mut baton = Command::new(built.executable("baton")?);
    run_command(baton.current_dir(workspace()).args(["man", "--out"]).arg(out))?;
    let entries = fs::read_dir(out).with_context(|| format!("cannot list {}", out.display()))?;
    let mut pages: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    pages.retain(|path| path.extension().is_some_and(|section| section == "1" || section == "5"));
    pages.sort();
    Ok(pages)
}
