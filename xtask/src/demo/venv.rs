//! The virtual environment of the real service, made once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::child::run;

const LIMIT: Duration = Duration::from_mins(5);
const NO_VENV: &str = "make a virtual environment with `python3 -m venv`; on Debian it needs the packages python3 \
                       and python3-venv: apt-get install python3-venv";
const NO_PACKAGES: &str = "install the service's packages from PyPI; it takes a network and Python 3.8 to 3.13, for \
                           which the pinned aiohttp has wheels";

/// Makes the environment in `directory` with the packages of `requirements` unless it is there, and returns its
/// Python. One that was left half made is made again.
pub(super) fn prepare(directory: &Path, requirements: &Path) -> Result<PathBuf> {
    let wanted =
        fs::read_to_string(requirements).with_context(|| format!("read {}", requirements.display()))?;
    let ready = directory.join("ready");
    let python = directory.join("bin/python");
    if fs::read_to_string(&ready).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    eprintln!("preparing a virtual environment in {}", directory.display());
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(directory).stdin(Stdio::null());
    run(&mut venv, LIMIT).context(NO_VENV)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    pip.arg(requirements).stdin(Stdio::null());
    run(&mut pip, LIMIT).context(NO_PACKAGES)?;
    fs::write(&ready, wanted).with_context(|| format!("write {}", ready.display()))?;
    Ok(python)
}
