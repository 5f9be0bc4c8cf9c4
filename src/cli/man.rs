//! `scoreline man` and `scoreline completions`: what a system shows of this command line, made of the command line itself.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Command, ValueEnum};
use clap_complete::aot::{Bash, Fish, Generator, Zsh, generate};

use super::{Failure, print};
use scoreline_domain::durable::{SHARED, write_whole};

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  scoreline man --out /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    /// The folder, which is made when it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  scoreline completions bash > /etc/bash_completion.d/scoreline\n  \
    scoreline completions zsh > ~/.zfunc/_scoreline\n  \
    scoreline completions fish > ~/.config/fish/completions/scoreline.fish")]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl ManArgs {
    /// Writes one page for each command, `scoreline-models-verify.1` and so on.
    pub(super) fn run(self, root: Command) -> Result<(), Failure> {
        let out = &self.out;
        std::fs::create_dir_all(out).with_context(|| format!("folder `{}` cannot be made", out.display()))?;
        let mut pages = Vec::new();
        visit(built(root), &mut pages);
        let count = pages.len();
        for (name, page) in pages {
            let path = out.join(name);
            write_whole(&path, &page, SHARED).with_context(|| format!("`{}` cannot be written", path.display()))?;
        }
        print(&format!("{count} pages are in {}\n", out.display()))
    }
}

impl CompletionsArgs {
    pub(super) fn run(self, root: Command) -> Result<(), Failure> {
        let text = match self.shell {
            Shell::Bash => completions(Bash, root),
            Shell::Zsh => completions(Zsh, root),
            Shell::Fish => completions(Fish, root),
        };
        print(&text)
    }
}

fn completions(shell: impl Generator, mut root: Command) -> String {
    let mut text = Vec::new();
    generate(shell, &mut root, "scoreline", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// With what commands inherit, and without `help`, which every command would have as a page.
fn built(root: Command) -> Command {
    let mut root = root.disable_help_subcommand(true);
    root.build();
    root
}

fn visit(command: Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let below: Vec<_> = command.get_subcommands().filter(|below| !below.is_hide_set()).cloned().collect();
    let page = clap_mangen::Man::new(command);
    let mut text = Vec::new();
    // A vector takes everything.
    if page.render(&mut text).is_ok() {
        pages.push((page.get_filename(), text));
    }
    for command in below {
        visit(command, pages);
    }
}
