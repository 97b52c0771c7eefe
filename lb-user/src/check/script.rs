//! The check by a command of the operator's.
//!
//! The command leads a process group of its own, and whatever is left in the group when the command ends, or
//! its time is over, is killed. Its first process is reaped last, so that the group's number is still its own
//! when the group is killed.

use std::fmt::Write;
use std::io::{self, pipe};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::kind::ScriptCheck;
use super::{Target, excerpt, socket};
use crate::net::netns::NetnsHandle;
use crate::recovery::Finding;

/// So much of a command's output is kept, in bytes; the rest is read and thrown away.
const OUTPUT_BYTES: usize = 1 << 10;
/// A killed process is gone within this, unless it hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Runs the command inside `netns`.
pub(super) async fn ask(
    check: &ScriptCheck,
    netns: &NetnsHandle,
    target: &Target,
    limit: Duration,
) -> Result<(), Finding> {
    let failed = |error| unchecked(check, &error);
    let mut running = Running::start(check, netns, target)?;
    let ended = timeout(limit, running.end()).await;
    running.group.kill();
    let Ok(ended) = ended else {
        // The killed leave at once; what does not is reaped whenever it does.
        if let Ok(Ok(())) = timeout(KILL_LIMIT, running.end()).await {
            running.group.reap().map_err(failed)?;
        }
        return Err(Finding::TimedOut);
    };
    ended.map_err(failed)?;
    let status = running.group.reap().map_err(failed)?;
    running.drain();
    verdict(status, &running.output)
}

fn verdict(status: ExitStatus, output: &[u8]) -> Result<(), Finding> {
    if status.success() {
        return Ok(());
    }
    let mut what = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    };
    let said = output.trim_ascii();
    if !said.is_empty() {
        let _ = write!(what, ": {}", excerpt(said));
    }
    Err(Finding::WrongAnswer(what))
}

fn unchecked(check: &ScriptCheck, error: &io::Error) -> Finding {
    Finding::Unchecked(format!("{}: {error}", check.command.first().map_or("", String::as_str)))
}

/// A command that runs or has just ended.
struct Running {
    group: Group,
    end: oneshot::Receiver<()>,
    /// `None` once nobody has its other end any more.
    pipe: Option<Receiver>,
    output: Vec<u8>,
}

impl Running {
    fn start(check: &ScriptCheck, netns: &NetnsHandle, target: &Target) -> Result<Self, Finding> {
        let failed = |error| unchecked(check, &error);
        let (reader, writer) = pipe().map_err(failed)?;
        let pipe = Receiver::from_owned_fd(reader.into()).map_err(failed)?;
        let mut command = command(check, target).map_err(failed)?;
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        // A process begins in the namespace of the thread that makes it.
        let spawned = socket::inside(netns, || Ok(command.spawn()))?;
        let group = Group(Some(spawned.map_err(failed)?));
        // Closes our copies of the end of the pipe that is the command's.
        drop(command);
        let end = group.leader().ok_or_else(|| failed(io::ErrorKind::NotFound.into())).map(watch_end)?;
        Ok(Self { group, end, pipe: Some(pipe), output: Vec::new() })
    }

    /// Waits for the end of the command's first process, and reads meanwhile, so that it can write.
    async fn end(&mut self) -> io::Result<()> {
        let mut read = [0; 4096];
        loop {
            let Some(pipe) = &mut self.pipe else {
                return (&mut self.end).await.map_err(io::Error::other);
            };
            tokio::select! {
                biased;
                ended = &mut self.end => return ended.map_err(io::Error::other),
                length = pipe.read(&mut read) => match length? {
                    0 => self.pipe = None,
                    length => self.keep(&read[..length]),
                },
            }
        }
    }

    /// Reads what is left in the pipe; the runtime need not have heard of it yet, so it is not asked.
    fn drain(&mut self) {
        let mut read = [0; OUTPUT_BYTES];
        while self.output.len() < OUTPUT_BYTES
            && let Some(Ok(length @ 1..)) = self.pipe.as_ref().map(|pipe| rustix::io::read(pipe, &mut read))
        {
            self.keep(&read[..length]);
        }
    }

    fn keep(&mut self, output: &[u8]) {
        let room = OUTPUT_BYTES.saturating_sub(self.output.len());
        self.output.extend_from_slice(&output[..output.len().min(room)]);
    }
}

/// Tells when a child has ended, and leaves it to be reaped. Waits on a thread of its own, which ends with the
/// child.
fn watch_end(child: Pid) -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    let wait = move || {
        let ended = || waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        if retry_on_intr(ended).is_ok() {
            // Nobody may be waiting any more.
            let _ = sender.send(());
        }
    };
    // Without a thread the sender is gone, which the receiver tells.
    let _ = thread::Builder::new().name("wait-check".to_owned()).spawn(wait);
    receiver
}

fn command(check: &ScriptCheck, target: &Target) -> io::Result<Command> {
    let (program, arguments) = check.command.split_first().ok_or(io::ErrorKind::NotFound)?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("BATON_ADDRESS", target.address.ip().to_string())
        .env("BATON_PORT", target.address.port().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .process_group(0);
    // An own environment may come from a service that this one runs in.
    match &target.service {
        Some(service) => command.env("BATON_SERVICE", service.as_str()),
        None => command.env_remove("BATON_SERVICE"),
    };
    match &target.backend {
        Some(backend) => command.env("BATON_BACKEND", backend.as_str()),
        None => command.env_remove("BATON_BACKEND"),
    };
    Ok(command)
}

/// A process group by its leader, until that one is reaped. Dropped before, it is killed and reaped.
struct Group(Option<Child>);

impl Group {
    fn leader(&self) -> Option<Pid> {
        self.0.as_ref().map(Pid::from_child)
    }

    /// Kills whatever is in the group. A leader that has ended still holds the group's number.
    fn kill(&self) {
        if let Some(leader) = self.leader() {
            // It fails if nobody is left.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }

    /// Takes the leader's exit status, once it has ended.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        self.0.take().ok_or(io::ErrorKind::NotFound)?.wait()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut child) = self.0.take() {
            // Nobody has to wait for what hangs in the kernel.
            let _ = thread::Builder::new().name("reap-check".to_owned()).spawn(move || child.wait());
        }
    }
}
