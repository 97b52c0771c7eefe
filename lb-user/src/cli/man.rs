//! `baton man` and `baton completions`: what a package installs besides the program, made from the command line's own
//! definition.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, out};
use crate::config;
use crate::roff::Page;

/// Writes the manual pages.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// Directory that gets a file a page
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// Prints what completes `baton`'s command line in a shell.
///
/// For bash, for example: `baton completions bash > /usr/share/bash-completion/completions/baton`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl ManArgs {
    pub(super) fn run(self) -> Result<ExitCode> {
        fs::create_dir_all(&self.out).with_context(|| format!("cannot make {}", self.out.display()))?;
        for (file, text) in pages()? {
            let path = self.out.join(file);
            fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl CompletionsArgs {
    pub(super) fn run(self) -> ExitCode {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "baton", &mut script);
        out::document(&script);
        ExitCode::SUCCESS
    }
}

/// Every page, by the name of its file.
fn pages() -> Result<Vec<(String, String)>> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = vec![("baton.toml.5".to_owned(), config::manual())];
    let mut commands = vec![&program];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|below| !below.is_hide_set()));
        pages.push(page(command)?);
    }
    pages.sort();
    Ok(pages)
}

fn page(command: &clap::Command) -> Result<(String, String)> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let mut rendered = Vec::new();
    Man::new(command.clone()).title(name.as_str()).render(&mut rendered).context("cannot render a page")?;
    let mut page = Page::after(String::from_utf8(rendered).context("a page is no text")?);
    page.section("EXIT STATUS");
    for (code, meaning) in EXIT_STATUS {
        page.item(code, &[meaning.to_owned()]);
    }
    page.section("FILES");
    for (path, what) in FILES {
        page.item(path, &[what.to_owned()]);
    }
    let examples: Vec<_> = EXAMPLES.iter().filter(|(of, ..)| *of == name).collect();
    if !examples.is_empty() {
        page.section("EXAMPLES");
        for (_, line, what) in examples {
            page.text(what);
            page.verbatim(line);
        }
    }
    page.section("SEE ALSO");
    let others = SEE_ALSO.iter().filter(|(other, _)| *other != name);
    let others: Vec<_> = others.map(|(other, section)| format!("`{other}`({section})")).collect();
    page.text(&others.join(", "));
    Ok((format!("{name}.1"), page.finish()))
}

const EXIT_STATUS: [(&str, &str); 4] = [
    ("0", "Done."),
    ("1", "It failed, was refused, something was lost, or the controller did not say what came of it."),
    ("2", "Wrong use, or settings that cannot work."),
    ("3", "Not over in the time that was given; what was begun goes on."),
];

const FILES: [(&str, &str); 4] = [
    ("/etc/baton/baton.toml", "The configuration of `baton run`, where its unit looks for it."),
    ("/run/baton", "Control sockets, and what lasts until the machine reboots."),
    ("/var/lib/baton", "Journals, and the report of each rejuvenation."),
    ("/sys/fs/bpf/baton", "The packet path's programs and tables, which outlive the controller."),
];

const SEE_ALSO: [(&str, u8); 7] = [
    ("baton", 1),
    ("baton-up", 1),
    ("baton-run", 1),
    ("baton-status", 1),
    ("baton-rejuvenate", 1),
    ("baton-config", 1),
    ("baton.toml", 5),
];

/// The page, a command line, and what it does.
const EXAMPLES: [(&str, &str, &str); 12] = [
    (
        "baton",
        "baton up --vip 10.77.0.1:8080 --name shop --memory-max 512M -- ./server --port 8080",
        "Run a server twice, and renew each when it has used half of its memory:",
    ),
    ("baton-up", "baton up --vip 10.77.0.1:8080 -- ./server --port 8080", "Serve a VIP from two replicas:"),
    ("baton-run", "baton run --config /etc/baton/baton.toml", "Serve all services of a file:"),
    ("baton-reload", "baton reload", "Bring the changed file into force:"),
    (
        "baton-rejuvenate",
        "baton rejuvenate shop --wait",
        "Renew the active backend, and see what became of its flows:",
    ),
    ("baton-drain", "baton drain shop a --wait --timeout 5m", "Hold a backend out for maintenance:"),
    ("baton-ready", "baton ready shop a", "Take it back:"),
    (
        "baton-wait",
        "baton wait shop --for standby-ready --timeout 1m",
        "Wait until a standby could take over:",
    ),
    ("baton-events", "baton events --follow", "Watch what happens:"),
    (
        "baton-flows",
        "baton flows --service shop --idle-over 1m",
        "Who is connected and has been silent for a minute:",
    ),
    (
        "baton-explain",
        "baton explain --service shop --from 10.1.2.3:40001",
        "Where a packet would go, and why:",
    ),
    ("baton-config-check", "baton config check baton.toml", "Find all that is wrong with a file:"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_and_every_page_that_is_named_is_there() {
        let pages = pages().unwrap();
        let file = |name: &str, section: u8| format!("{name}.{section}");
        let is_there = |wanted: &str| pages.iter().any(|(file, _)| file == wanted);
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(is_there(&format!("baton-{}.1", command.get_name())), "{}", command.get_name());
        }
        for (name, section) in SEE_ALSO {
            assert!(is_there(&file(name, section)), "{name}");
        }
        for (name, line, _) in EXAMPLES {
            assert!(is_there(&file(name, 1)), "{name}");
            Cli::command()
                .try_get_matches_from(line.split(' '))
                .unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for (file, text) in pages {
            for section in ["NAME", "FILES", "SEE ALSO"] {
                assert!(text.contains(section), "{file} has no {section}");
            }
        }
    }

    #[test]
    fn every_shell_has_completions_that_know_the_commands() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "baton", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("rejuvenate") && script.contains("drain"), "{shell}");
        }
    }
}
