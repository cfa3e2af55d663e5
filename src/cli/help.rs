//! `holdall help`: guides, and the help of commands.

use super::context::Context;
use super::error::{Exit, Failure, Result, quoted};
use super::output::Style;

/// Show a guide, or the help of a command
#[derive(Debug, clap::Args)]
pub struct HelpArgs {
    /// A guide or a command
    #[arg(value_name = "TOPIC")]
    topic: Vec<String>,
}

/// A guide: its name, what it tells, its text.
struct Guide(&'static str, &'static str, &'static str);

const GUIDES: &[Guide] = &[
    Guide("start", "the first backup, and getting it back", include_str!("help/start.txt")),
    Guide("snapshots", "how snapshots are named and chosen", include_str!("help/snapshots.txt")),
    Guide("patterns", "what --exclude and --include understand", include_str!("help/patterns.txt")),
    Guide("times", "how times and sizes are written", include_str!("help/times.txt")),
    Guide("keys", "passwords, key files, recovery codes", include_str!("help/keys.txt")),
    Guide("repair", "what to do when something is damaged", include_str!("help/repair.txt")),
    Guide("environment", "variables, files and directories", include_str!("help/environment.txt")),
    Guide("config", "what is the same every time, in a file", include_str!("help/config.txt")),
    Guide("exit-codes", "what the exit codes mean", include_str!("help/exit-codes.txt")),
    Guide("json", "what --json answers", include_str!("help/json.txt")),
];

/// Shows help.
pub fn run(args: &HelpArgs, context: &Context) -> Result<Exit> {
    let words: Vec<&str> = args.topic.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => overview(context)?,
        [topic] if guide(topic).is_some() => {
            let text = guide(topic).map_or("", |guide| guide.2);
            context.output.bytes(text.as_bytes())?;
        }
        path => of_command(context, path)?,
    }
    Ok(Exit::Done)
}

fn guide(name: &str) -> Option<&'static Guide> {
    GUIDES.iter().find(|guide| guide.0 == name)
}

fn overview(context: &Context) -> Result<()> {
    let output = &context.output;
    output.bytes(super::command().render_help().to_string().as_bytes())?;
    output.line("")?;
    output.line(&output.paint(Style::Heading, "Guides:"))?;
    for Guide(name, about, _) in GUIDES {
        output.line(&format!("  {name:<12} {about}"))?;
    }
    Ok(())
}

fn of_command(context: &Context, path: &[&str]) -> Result<()> {
    let mut command = super::command();
    command.build();
    let mut found = &mut command;
    for name in path {
        found = found.find_subcommand_mut(name).ok_or_else(|| {
            Failure::usage(format!("there is no guide and no command {}", quoted(&path.join(" "))))
                .hint("`holdall help` lists them")
        })?;
    }
    context.output.bytes(found.render_long_help().to_string().as_bytes())
}
