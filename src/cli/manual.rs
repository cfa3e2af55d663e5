//! `holdall completions` and `holdall man`

use std::path::PathBuf;

use super::context::Context;
use super::error::{Exit, Failure, Result};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command
#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

/// Prints completions.
pub fn completions(args: &CompletionsArgs, context: &Context) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "holdall", &mut script);
    context.output.bytes(&script)?;
    Ok(Exit::Done)
}

/// Prints or writes manual pages.
pub fn pages(args: &ManArgs, context: &Context) -> Result<Exit> {
    if let Some(directory) = &args.directory {
        let cannot = |error| Failure::file("write manual pages into", directory, &error);
        std::fs::create_dir_all(directory).map_err(cannot)?;
        clap_mangen::generate_to(super::command(), directory).map_err(cannot)?;
        return Ok(Exit::Done);
    }
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(super::command()).render(&mut page);
    rendered.map_err(|error| Failure::output(&error))?;
    context.output.bytes(&page)?;
    Ok(Exit::Done)
}
