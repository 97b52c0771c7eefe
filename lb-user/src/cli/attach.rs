//! `baton attach`: the XDP program on one interface, without a service; for trying and debugging.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use lb_common::{LAYOUT_VERSION, Reason};

use super::out::say;
use crate::dataplane::{AttachPoint, Attached, Dataplane, Mode, XdpProgram, unload};
use crate::paths::Roots;

/// Attaches the XDP program to an interface, and detaches it on Ctrl-C.
///
/// Without a service every packet passes; it shows that the kernel loads and runs the program there.
#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// Interface to attach to, as `ip link` names it.
    #[arg(long, value_name = "IF")]
    iface: String,
    /// Run in the driver, or in the stack where the driver cannot.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Stay attached after this command ends; `baton detach --iface IF` detaches.
    #[arg(long)]
    pin: bool,
    /// Print a line for every packet; needs a build with `--features debug-log`.
    #[arg(long)]
    debug: bool,
}

/// Where the pins of an interface that was attached by hand are.
pub(super) fn pins(iface: &str) -> PathBuf {
    Roots::default().bpf.join(format!("v{LAYOUT_VERSION}-attached")).join(iface)
}

impl AttachArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.debug && !cfg!(feature = "debug-log") {
            return Err(super::UsageError(
                "--debug needs a build with log lines: `cargo xtask build-and-load --debug` makes one".into(),
            )
            .into());
        }
        super::require_root("attaching XDP programs")?;
        let pins = pins(&self.iface);
        let result = self.attach(&pins);
        if result.is_err() || !self.pin {
            unload(&pins).with_context(|| format!("cannot remove {}", pins.display()))?;
        }
        result.map(|()| ExitCode::SUCCESS)
    }

    fn attach(&self, pins: &Path) -> Result<()> {
        let mut dataplane = Dataplane::open(pins, *lb_common::bucket::FLOWS.start())?;
        let point = AttachPoint { netns: None, interface: self.iface.clone(), program: XdpProgram::Steer };
        let attached = dataplane.attach(&point, "link", self.mode)?;
        let how = match attached {
            Attached::New => "attached",
            Attached::Replaced => "replaced the program",
        };
        let mode = match self.mode {
            Mode::Native => "native",
            Mode::Generic => "generic",
        };
        say!("{how}: program `baton`, interface {}, mode {mode}, pins {}", self.iface, pins.display());
        if self.pin && !self.debug {
            say!("it stays attached; `baton detach --iface {}` detaches it", self.iface);
            return Ok(());
        }
        say!("Ctrl-C ends this");
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(watch(&mut dataplane, self.debug))?;
        for count in dataplane.reasons()?.iter().filter(|count| count.packets > 0) {
            say!("{:>12} packets {}", count.packets, count.reason);
        }
        Ok(())
    }
}

/// Streams log lines, if wanted, until a signal comes.
async fn watch(dataplane: &mut Dataplane, debug: bool) -> Result<()> {
    let ended = super::told_to_end()?;
    if !debug {
        ended.await;
        return Ok(());
    }
    let mut lines = dataplane.log_lines(PrintLines).context("cannot read the program's log lines")?;
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => return Ok(()),
            forwarded = lines.forward() => forwarded?,
        }
    }
}

/// Prints the program's lines, with the names of reasons for their numbers.
struct PrintLines;

impl log::Log for PrintLines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        let words = line.split(' ').map(|word| match word.strip_prefix("reason=") {
            Some(index) => {
                let reason = index.parse().ok().and_then(|index: usize| Reason::ALL.get(index));
                format!("reason={}", reason.map_or(index, |reason| reason.name()))
            }
            None => word.to_owned(),
        });
        say!("{}", words.collect::<Vec<_>>().join(" "));
    }

    fn flush(&self) {}
}
