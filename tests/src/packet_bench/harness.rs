//! The program that makes frames, and the kernel's loop around it and the program under test.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::bench::{FRAME_BYTES, Frames};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};

/// Runs programs behind the one that makes frames.
pub(super) struct Harness {
    ebpf: Ebpf,
}

impl Harness {
    /// Loads it from the object of the bench.
    pub(super) fn load(object: &[u8]) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(object).context("load the bench's object")?;
        for name in ["bench", "null"] {
            program_mut(&mut ebpf, name)?.load().with_context(|| format!("load the program `{name}`"))?;
        }
        Ok(Self { ebpf })
    }

    /// Says which frames to make from now on.
    pub(super) fn make(&mut self, frames: &Frames) -> Result<()> {
        let map = self.ebpf.map_mut("FRAMES").context("the bench's object has no map FRAMES")?;
        let mut array: Array<_, Frames> = map.try_into()?;
        Ok(array.set(0, frames, 0)?)
    }

    /// Puts a program under test.
    pub(super) fn test(&mut self, program: &ProgramFd) -> Result<()> {
        let map = self.ebpf.map_mut("UNDER_TEST").context("the bench's object has no map UNDER_TEST")?;
        let mut programs: ProgramArray<_> = map.try_into()?;
        Ok(programs.set(0, program, 0)?)
    }

    /// Puts the program under test that does nothing.
    pub(super) fn test_null(&mut self) -> Result<()> {
        let null = program(&self.ebpf, "null")?.fd()?.try_clone()?;
        self.test(&null)
    }

    /// Makes `count` frames and runs the program under test on each; nanoseconds that one took on average.
    ///
    /// The kernel's own figure is rounded down to whole nanoseconds, of which the quickest programs take
    /// but a few. So it is this thread's time that counts; the system call's own part vanishes in it.
    pub(super) fn run(&mut self, count: u32) -> Result<f64> {
        let frame = [0; FRAME_BYTES];
        let bench = program(&self.ebpf, "bench")?;
        let start = thread_ns()?;
        let result = bench
            .test_run(TestRunOptions { data_in: Some(&frame), repeat: count, ..TestRunOptions::new() })
            .context("run the program under test")?;
        ensure!(result.return_value != 0, "the program under test, or what makes its frames, has failed");
        Ok((thread_ns()? - start) as f64 / f64::from(count))
    }
}

/// Time that this thread has spent on a CPU, in the kernel included, others' turns excluded.
fn thread_ns() -> Result<i64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read this thread's clock")?;
    Ok(time.num_nanoseconds())
}

pub(super) fn program<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp> {
    let program = ebpf.program(name).with_context(|| format!("no program `{name}` in the object"))?;
    program.try_into().with_context(|| format!("`{name}` is no XDP program"))
}

pub(super) fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = ebpf.program_mut(name).with_context(|| format!("no program `{name}` in the object"))?;
    program.try_into().with_context(|| format!("`{name}` is no XDP program"))
}
