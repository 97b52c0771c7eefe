//! What a run leaves: the table on standard output, JSON and CSV where they were asked for.
//!
//! Files are opened before the run: a wrong path should not cost a run.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::LoadArgs;
use crate::cli::out::say;
use crate::load::{Report, render, write_requests_csv, write_seconds_csv};

/// Everything that is to be written at the end of a run.
pub(super) struct Outputs {
    table: bool,
    json: Option<Output>,
    seconds: Option<Output>,
    requests: Option<Output>,
}

/// One open file or standard output.
struct Output {
    path: PathBuf,
    to: Box<dyn Write>,
}

impl Outputs {
    /// Opens what the arguments name.
    pub(super) fn create(args: &LoadArgs) -> anyhow::Result<Self> {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Output::create).transpose();
        Ok(Self {
            table: args.json.as_deref() != Some(Path::new("-")),
            json: open(&args.json)?,
            seconds: open(&args.csv)?,
            requests: open(&args.requests_csv)?,
        })
    }

    /// Writes everything.
    pub(super) fn write(self, report: &Report) -> anyhow::Result<()> {
        if self.table {
            say!("{}", render(&report.summary));
        }
        if let Some(Output { path, mut to }) = self.json {
            let text = serde_json::to_string_pretty(&report.summary)?;
            writeln!(to, "{text}").with_context(|| cannot_write(&path))?;
        }
        if let Some(Output { path, to }) = self.seconds {
            write_seconds_csv(report, to).with_context(|| cannot_write(&path))?;
        }
        if let Some(Output { path, to }) = self.requests {
            write_requests_csv(report, to).with_context(|| cannot_write(&path))?;
        }
        Ok(())
    }
}

impl Output {
    fn create(path: &Path) -> anyhow::Result<Self> {
        let to: Box<dyn Write> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(File::create(path).with_context(|| cannot_write(path))?)
        };
        Ok(Self { path: path.to_owned(), to })
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}; check the path and the room on its disk", path.display())
}
