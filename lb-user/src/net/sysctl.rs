//! Kernel settings below `/proc/sys/net`, which belong to the network namespace of the calling thread.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

const ROOT: &str = "/proc/sys/net";

/// Why a setting could not be read or written.
#[derive(Debug, Error)]
#[error("{action} {path}: {source}{}", remedy(.source))]
pub struct SysctlError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl SysctlError {
    /// True if the kernel, or the interface, has no such setting.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; /proc/sys is mounted read-only: run in a privileged container"
        }
        io::ErrorKind::PermissionDenied => "; run as root",
        _ => "",
    }
}

/// Reads a setting such as `ipv4/ip_forward`, without its end of line.
pub fn read(key: &str) -> Result<String, SysctlError> {
    let path = path_of(key);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(SysctlError { action: "read", path, source }),
    }
}

/// Reads a setting that the kernel, or the interface, may not have.
pub fn read_if_present(key: &str) -> Result<Option<String>, SysctlError> {
    match read(key) {
        Err(error) if error.is_missing() => Ok(None),
        read => read.map(Some),
    }
}

/// Writes a setting.
pub fn write(key: &str, value: &str) -> Result<(), SysctlError> {
    let path = path_of(key);
    fs::write(&path, value).map_err(|source| SysctlError { action: "write", path, source })
}

/// Writes a setting; a kernel without it is fine. True if it exists.
pub fn write_if_present(key: &str, value: &str) -> Result<bool, SysctlError> {
    match write(key, value) {
        Err(error) if error.is_missing() => Ok(false),
        written => written.map(|()| true),
    }
}

/// The key of an IPv4 setting of one interface.
pub fn ipv4_conf(ifname: &str, setting: &str) -> String {
    format!("ipv4/conf/{ifname}/{setting}")
}

/// The key of an IPv6 setting of one interface.
pub fn ipv6_conf(ifname: &str, setting: &str) -> String {
    format!("ipv6/conf/{ifname}/{setting}")
}

fn path_of(key: &str) -> PathBuf {
    // A path and not a dotted key: names of interfaces may contain dots.
    Path::new(ROOT).join(key)
}
