//! Programs of the operator's, run to their end: checks, drivers, hooks and diagnoses.
//!
//! What always holds:
//! - A program is an argument vector, which no shell sees, and runs in `/`. It learns from `BATON_*` variables
//!   whom it is about.
//! - It leads a process group of its own, and one that takes longer than its limit, or that nobody waits for
//!   any more, is killed with the whole group. Its first process is reaped last, so that the group's number is
//!   still its own when the group is killed.
//! - Neither what it writes nor what it does not read holds anybody up.

use std::fs::{self, File};
use std::io::{self, Seek, Write, pipe};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::names::{BackendName, ServiceName};
use crate::net::netns::{NetnsHandle, inside};

/// So much of what a program writes is kept, in bytes; the rest is read and thrown away.
const KEPT_BYTES: usize = 1 << 10;
/// So much of the end of a file that a program wrote is looked at, in bytes.
const TAIL_BYTES: usize = 16 << 10;
/// Lines of a program's output that a message repeats.
const QUOTED_LINES: usize = 3;
/// A killed process is gone within this, unless it hangs in the kernel.
const KILL_LIMIT: Duration = Duration::from_secs(1);

/// Whom a program is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    /// `BATON_SERVICE`.
    pub(crate) service: Option<ServiceName>,
    /// `BATON_BACKEND`.
    pub(crate) backend: Option<BackendName>,
    /// `BATON_ADDRESS` and `BATON_PORT`.
    pub(crate) address: SocketAddr,
}

/// What becomes of the output, and of processes that a program leaves behind when it ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leaves<'a> {
    /// They are killed; the beginning of the output is kept.
    Nothing,
    /// They go on, and may go on writing to this file.
    Daemons(&'a Path),
}

/// A program that is to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job<'a> {
    /// Its path, and its arguments.
    pub(crate) command: &'a [String],
    /// Whom it is about.
    pub(crate) subject: &'a Subject,
    /// Variables besides those of the subject.
    pub(crate) variables: &'a [(&'static str, String)],
    /// What it reads from its standard input.
    pub(crate) input: &'a [u8],
    /// What may be left of it.
    pub(crate) leaves: Leaves<'a>,
    /// Where it runs; `None` means in the caller's own network.
    pub(crate) netns: Option<&'a NetnsHandle>,
    /// How long it may take.
    pub(crate) limit: Duration,
}

/// How a program ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What it wrote, of a program that leaves nothing.
    pub(crate) output: Vec<u8>,
}

/// Why there is no exit status.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be run.
    NotRun(io::Error),
    /// Its time was over, and it was killed.
    TimedOut,
}

impl Job<'_> {
    /// Runs it to its end.
    pub(crate) async fn run(&self) -> Result<Ended, Failure> {
        self.run_telling(|_| ()).await
    }

    /// Runs it to its end, and tells the id of its first process as soon as there is one.
    pub(crate) async fn run_telling(&self, started: impl FnOnce(u32)) -> Result<Ended, Failure> {
        let mut running = self.start().map_err(Failure::NotRun)?;
        if let Some(child) = &running.group.0 {
            started(child.id());
        }
        let ended = timeout(self.limit, running.end()).await;
        if ended.is_err() || matches!(self.leaves, Leaves::Nothing) {
            running.group.kill();
        }
        let Ok(ended) = ended else {
            // The killed leave at once; what does not is reaped whenever it does.
            if let Ok(Ok(())) = timeout(KILL_LIMIT, running.end()).await {
                running.group.reap().map_err(Failure::NotRun)?;
            }
            return Err(Failure::TimedOut);
        };
        ended.map_err(Failure::NotRun)?;
        let status = running.group.reap().map_err(Failure::NotRun)?;
        running.drain();
        Ok(Ended { status, output: running.output })
    }

    fn start(&self) -> io::Result<Running> {
        let mut command = self.command()?;
        let pipe = match self.leaves {
            Leaves::Nothing => {
                let (reader, writer) = pipe()?;
                command.stdout(writer.try_clone()?).stderr(writer);
                Some(Receiver::from_owned_fd(reader.into())?)
            }
            Leaves::Daemons(path) => {
                // Whoever cuts it meanwhile finds the rest at its new end.
                let output = File::options().create(true).append(true).open(path)?;
                if output.metadata()?.is_file() {
                    output.set_len(0)?;
                }
                command.stdout(output.try_clone()?).stderr(output);
                None
            }
        };
        // A process begins in the namespace of the thread that makes it.
        let child = match self.netns {
            Some(netns) => inside(netns, || command.spawn()).map_err(io::Error::other)?,
            None => command.spawn(),
        };
        let group = Group(Some(child?));
        // Closes our copies of the end of the pipe that is the program's.
        drop(command);
        let end = group.leader().ok_or(io::ErrorKind::NotFound).map(watch_end)?;
        Ok(Running { group, end, pipe, output: Vec::new() })
    }

    fn command(&self) -> io::Result<Command> {
        let (program, arguments) = self.command.split_first().ok_or(io::ErrorKind::NotFound)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/").process_group(0);
        self.subject.describe_to(&mut command);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if self.input.is_empty() {
            command.stdin(Stdio::null());
        } else {
            // A file in memory takes whatever is written, also of a program that never reads.
            let mut input = File::from(memfd_create("baton-input", MemfdFlags::CLOEXEC)?);
            input.write_all(self.input)?;
            input.rewind()?;
            command.stdin(input);
        }
        Ok(command)
    }
}

impl Subject {
    fn describe_to(&self, command: &mut Command) {
        command
            .env("BATON_ADDRESS", self.address.ip().to_string())
            .env("BATON_PORT", self.address.port().to_string());
        // An own environment may come from a service that this one runs in.
        match &self.service {
            Some(service) => command.env("BATON_SERVICE", service.as_str()),
            None => command.env_remove("BATON_SERVICE"),
        };
        match &self.backend {
            Some(backend) => command.env("BATON_BACKEND", backend.as_str()),
            None => command.env_remove("BATON_BACKEND"),
        };
    }
}

impl Ended {
    /// How it ended, in words.
    pub(crate) fn in_words(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => self.status.to_string(),
        }
    }
}

/// What a program wrote, so that it does nothing to a terminal: all but plain text and ends of lines is escaped.
pub(crate) fn harmless(output: &[u8]) -> String {
    let mut shown = String::new();
    for chunk in output.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' | '"' | '\'' | '\\' => shown.push(c),
                // Half of the ends of lines of another world.
                '\r' => {}
                c => shown.extend(c.escape_debug()),
            }
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

/// The last lines of what a program wrote.
pub(crate) fn last_words(output: &[u8]) -> Vec<String> {
    let text = harmless(output);
    let lines: Vec<_> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let skipped = lines.len().saturating_sub(QUOTED_LINES);
    lines.into_iter().skip(skipped).map(str::to_owned).collect()
}

/// The last lines of a file that a program wrote; none if there is no file.
pub(crate) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let bytes = fs::read(path).unwrap_or_default();
    let (_, end) = bytes.split_at(bytes.len().saturating_sub(TAIL_BYTES));
    let text = harmless(end);
    let lines: Vec<_> = text.lines().collect();
    let skipped = lines.len().saturating_sub(count);
    lines.into_iter().skip(skipped).map(str::to_owned).collect()
}

/// A program that runs or has just ended.
struct Running {
    group: Group,
    end: oneshot::Receiver<()>,
    /// `None` once nobody has its other end any more, or if there never was one.
    pipe: Option<Receiver>,
    output: Vec<u8>,
}

impl Running {
    /// Waits for the end of the program's first process, and reads meanwhile, so that it can write.
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
        let mut read = [0; KEPT_BYTES];
        while self.output.len() < KEPT_BYTES
            && let Some(Ok(length @ 1..)) = self.pipe.as_ref().map(|pipe| rustix::io::read(pipe, &mut read))
        {
            self.keep(&read[..length]);
        }
    }

    fn keep(&mut self, output: &[u8]) {
        let room = KEPT_BYTES.saturating_sub(self.output.len());
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
    let _ = thread::Builder::new().name("wait-program".to_owned()).spawn(wait);
    receiver
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
        if self.0.is_some() {
            self.kill();
        }
        if let Some(mut child) = self.0.take() {
            // Nobody has to wait for what hangs in the kernel.
            let _ = thread::Builder::new().name("reap-program".to_owned()).spawn(move || child.wait());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            service: "shop".parse().ok(),
            backend: "a".parse().ok(),
            address: "10.1.2.3:80".parse().unwrap(),
        }
    }

    async fn shell(text: &str, input: &[u8], limit: Duration) -> Result<Ended, Failure> {
        let command = ["/bin/sh", "-c", text].map(str::to_owned);
        let job = Job {
            command: &command,
            subject: &subject(),
            variables: &[("BATON_PHASE", "before-stop".to_owned())],
            input,
            leaves: Leaves::Nothing,
            netns: None,
            limit,
        };
        job.run().await
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_program_reads_its_input_and_learns_whom_it_is_about() {
        let text = "cat; echo $BATON_SERVICE $BATON_BACKEND $BATON_ADDRESS $BATON_PORT $BATON_PHASE; exit 3";
        let ended = shell(text, b"{}\n", PATIENCE).await.unwrap();
        assert_eq!(ended.in_words(), "exit status 3");
        assert_eq!(last_words(&ended.output), ["{}", "shop a 10.1.2.3 80 before-stop"]);
    }

    #[tokio::test]
    async fn a_program_that_never_reads_a_large_input_is_not_waited_for() {
        let input = vec![b'x'; 1 << 20];
        assert!(shell("exit 0", &input, PATIENCE).await.unwrap().status.success());
    }

    #[tokio::test]
    async fn a_program_that_takes_too_long_is_killed() {
        let ended = timeout(PATIENCE, shell("sleep 60", b"", Duration::from_millis(50))).await;
        assert!(matches!(ended, Ok(Err(Failure::TimedOut))), "{ended:?}");
    }

    #[test]
    fn the_last_words_are_the_last_lines_that_say_something() {
        assert_eq!(last_words(b"a\nb\n\nc  \nd\n"), ["b", "c", "d"]);
        assert_eq!(last_words(b""), [""; 0]);
    }

    #[test]
    fn what_a_program_wrote_does_nothing_to_a_terminal() {
        let said = last_words("{\"a\": 1}\r\n\x1b]0;title\x07\x1b[2J\u{9b}31mred\u{202e}\tfür\n".as_bytes());
        assert_eq!(said, ["{\"a\": 1}", r"\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31mred\u{202e}	für"]);
        assert_eq!(last_words(b"\xff\x1b"), [r"\xff\u{1b}"]);
    }
}
