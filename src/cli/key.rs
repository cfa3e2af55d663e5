//! `holdall key`

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::context::{Context, show_path};
use super::error::{Exit, Failure, Result};
use super::output::{Align, Style, Table};
use super::prompt;
use super::secrets;
use crate::calendar;
use crate::crypto::{PasswordCost, RecoveryCode, Secret};
use crate::format::slot::SlotKind;
use crate::id::{SlotId, by_prefix};
use crate::repo::{NewSlot, Repository, SlotRecord};
use crate::text;

/// List, add and remove what opens the repository
#[derive(Debug, clap::Args)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, clap::Subcommand)]
enum KeyCommand {
    /// List the key slots
    List,
    /// Add a password or a key file that opens the repository
    Add(AddArgs),
    /// Remove a key slot
    ///
    /// Whoever copied the slot before, and knows its secret, can still open what they have
    /// copied of the repository.
    Remove {
        /// Id of the slot, or how it begins
        slot: String,
    },
    /// Change the password
    Passwd(PasswdArgs),
    /// Make a recovery code, to be kept on paper
    ///
    /// It opens the repository like a password. It is shown once, on standard output.
    Recovery {
        /// What to call it
        #[arg(long, value_name = "TEXT", default_value = "recovery code")]
        label: String,
    },
}

/// What is to be added.
#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Add this key file; it is made where it is missing
    #[arg(long, value_name = "FILE", conflicts_with = "new_password_file")]
    new_key_file: Option<PathBuf>,
    /// Add the password in this file, instead of asking for one
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// What to call it
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
}

/// What the password becomes.
#[derive(Debug, clap::Args)]
struct PasswdArgs {
    /// Take the new password from this file, instead of asking for it
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    /// The slot whose password changes, where there are several
    #[arg(long, value_name = "ID")]
    slot: Option<String>,
}

/// Works on the key slots.
pub fn run(args: &KeyArgs, context: &Context) -> Result<Exit> {
    let repository = context.open()?;
    match &args.command {
        KeyCommand::List => list(context, &repository.slots()?)?,
        KeyCommand::Add(args) => add(args, context, &repository)?,
        KeyCommand::Remove { slot } => {
            let id = by_prefix(repository.slots()?.iter().map(|slot| slot.id), slot)?;
            repository.remove_slot(&id)?;
            context.output.say(&format!(
                "removed slot {}; a copy of it made before still opens what was copied with it",
                id.short()
            ));
            told(context, "removed", &id, None)?;
        }
        KeyCommand::Passwd(args) => passwd(args, context, &repository)?,
        KeyCommand::Recovery { label } => recovery(label, context, &repository)?,
    }
    Ok(Exit::Done)
}

fn kind_name(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Password { .. } => "password",
        SlotKind::KeyFile => "key file",
        SlotKind::Recovery => "recovery code",
    }
}

#[derive(Serialize)]
struct JsonSlot {
    r#type: &'static str,
    id: String,
    kind: &'static str,
    label: String,
    host: String,
    created: String,
}

fn list(context: &Context, slots: &[SlotRecord]) -> Result<()> {
    let output = &context.output;
    if output.json() {
        return slots.iter().try_for_each(|slot| {
            output.object(&JsonSlot {
                r#type: "slot",
                id: slot.id.to_hex(),
                kind: kind_name(slot.kind),
                label: slot.about.label.clone(),
                host: slot.about.host.clone(),
                created: calendar::rfc3339(slot.about.created, &context.zone),
            })
        });
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("Kind", Align::Left),
        ("Created", Align::Left),
        ("Host", Align::Left),
        ("Label", Align::Left),
    ]);
    for slot in slots {
        table.row(vec![
            (slot.id.short(), Some(Style::Id)),
            (kind_name(slot.kind).into(), None),
            (calendar::show_time(slot.about.created, &context.zone), None),
            (text::escape(slot.about.host.as_bytes()), None),
            (text::escape(slot.about.label.as_bytes()), None),
        ]);
    }
    table.print(output)
}

#[derive(Serialize)]
struct JsonDone<'a> {
    r#type: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
}

/// Tells a program what was done to which slot.
fn told(context: &Context, done: &'static str, id: &SlotId, code: Option<&str>) -> Result<()> {
    match context.output.json() {
        true => context.output.object(&JsonDone { r#type: done, id: id.to_hex(), code }),
        false => Ok(()),
    }
}

fn new_password(context: &Context, file: Option<&Path>) -> Result<Secret> {
    let password = match file {
        Some(path) => secrets::read_password_file(path)?,
        None => prompt::ask_new()?,
    };
    secrets::advice(&password).iter().for_each(|advice| context.output.warn(advice));
    Ok(Secret::Password(password))
}

fn add(args: &AddArgs, context: &Context, repository: &Repository) -> Result<()> {
    let output = &context.output;
    let secret = match &args.new_key_file {
        Some(path) => {
            let (key, is_new) = secrets::read_or_make_key_file(path, &*context.world)?;
            let shown = show_path(path);
            if is_new {
                output.say(&format!("key file {shown} made"));
            } else if secrets::is_open_to_others(path) {
                output.warn(&format!("{shown} can be read by others; run `chmod 600` on it"));
            }
            Secret::KeyFile(key)
        }
        None => new_password(context, args.new_password_file.as_deref())?,
    };
    let label = args.label.clone();
    let id = repository.add_slot(&NewSlot { secret, cost: PasswordCost::DEFAULT, label })?;
    output.say(&format!("added slot {}", id.short()));
    told(context, "added", &id, None)
}

fn passwd(args: &PasswdArgs, context: &Context, repository: &Repository) -> Result<()> {
    let slots = repository.slots()?;
    let is_password = |slot: &&SlotRecord| matches!(slot.kind, SlotKind::Password { .. });
    let passwords: Vec<&SlotRecord> = slots.iter().filter(is_password).collect();
    let old = match (&args.slot, passwords.as_slice()) {
        (Some(prefix), _) => {
            let id = by_prefix(passwords.iter().map(|slot| slot.id), prefix)?;
            passwords.iter().find(|slot| slot.id == id).copied()
        }
        (None, [one]) => Some(*one),
        (None, []) => None,
        (None, several) => {
            return Err(Failure::usage(format!("there are {} passwords", several.len()))
                .hint("name the slot with --slot; `holdall key list` shows them"));
        }
    };
    let Some(old) = old else {
        return Err(Failure::new(Exit::Failed, "no password opens this repository")
            .hint("add one with `holdall key add`"));
    };
    let secret = new_password(context, args.new_password_file.as_deref())?;
    let label = old.about.label.clone();
    // The new one is stored before the old one goes.
    let id = repository.add_slot(&NewSlot { secret, cost: PasswordCost::DEFAULT, label })?;
    repository.remove_slot(&old.id)?;
    context.output.say(&format!(
        "slot {} with the new password replaces slot {}; a copy of that one made before still opens \
         what was copied with it",
        id.short(),
        old.id.short()
    ));
    told(context, "replaced", &id, None)
}

fn recovery(label: &str, context: &Context, repository: &Repository) -> Result<()> {
    let code = RecoveryCode::generate(&*context.world);
    let shown = code.to_text();
    let secret = Secret::Recovery(code);
    let label = label.to_owned();
    let id = repository.add_slot(&NewSlot { secret, cost: PasswordCost::DEFAULT, label })?;
    context.output.say(&format!(
        "slot {} opens with this recovery code; write it down, it is not shown again:",
        id.short()
    ));
    match context.output.json() {
        true => told(context, "recovery", &id, Some(&shown)),
        false => context.output.line(&shown),
    }
}
