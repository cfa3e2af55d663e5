//! `holdall key`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use super::context::{Context, show_path};
use super::error::{Exit, Failure, Result};
use super::output::{Align, Style, Table};
use super::prompt;
use super::prune;
use super::secrets;
use crate::calendar;
use crate::crypto::{RecoveryCode, Secret};
use crate::format::slot::SlotKind;
use crate::id::{SlotId, by_prefix};
use crate::repo::{RepoError, Repository, Rotation, SlotRecord};
use crate::text;

/// List, add and remove what opens the repository, and change its keys
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
    /// Whoever copied the slot before, and knows its secret, can still open the repository with
    /// the copy: change the keys with `holdall key rotate` afterwards.
    Remove {
        /// Id of the slot, or of an object that is none, or how it begins
        slot: String,
    },
    /// Change the password
    Passwd(PasswdArgs),
    /// Change the keys that everything is sealed with from now on
    ///
    /// Every slot gets the new keys; passwords, key files and recovery codes stay as they are.
    /// What is stored already moves to the new keys when prune writes it anew, or with --now.
    Rotate {
        /// Write all that is stored anew under the new keys now, as `prune --reseal` does
        #[arg(long)]
        now: bool,
    },
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
        KeyCommand::List => list(context, &repository)?,
        KeyCommand::Add(args) => add(args, context, &repository)?,
        KeyCommand::Remove { slot } => {
            let slots = repository.slots()?;
            let strange = repository.strange_slots()?;
            let ids = slots.iter().map(|slot| slot.id);
            let id = by_prefix(ids.chain(strange.iter().map(|(id, _)| *id)), slot)?;
            repository.remove_slot(&id)?;
            context.output.say(&match slots.iter().any(|slot| slot.id == id) {
                true => format!("removed slot {}; {}", id.short(), still_opens(context)),
                false => format!("removed keys/{id}, which was no slot of this repository"),
            });
            told(context, "removed", &id, None)?;
        }
        KeyCommand::Passwd(args) => passwd(args, context, &repository)?,
        KeyCommand::Rotate { now } => return rotate(*now, context, &repository),
        KeyCommand::Recovery { label } => recovery(label, context, &repository)?,
    }
    Ok(Exit::Done)
}

/// What to think of when a slot goes.
fn still_opens(context: &Context) -> String {
    let repo = match context.location.named_by_option {
        true => format!(" --repo {}", context.location.show()),
        false => String::new(),
    };
    format!(
        "a copy of it made before still opens the repository: if somebody may have one, and its \
         secret, change the keys with `holdall key rotate{repo}`"
    )
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
    current: Option<bool>,
}

#[derive(Serialize)]
struct JsonStrange {
    r#type: &'static str,
    id: String,
    problem: String,
}

fn list(context: &Context, repository: &Repository) -> Result<()> {
    let output = &context.output;
    let slots = repository.slots()?;
    let strange = repository.strange_slots()?;
    for (id, why) in &strange {
        output.warn(&format!(
            "keys/{id} is no slot of this repository ({why}); `holdall key remove {}` removes it",
            id.short()
        ));
    }
    if slots.iter().any(|slot| slot.is_current == Some(false)) {
        output.warn("not every slot has the newest keys; `holdall key rotate` gives them to all");
    }
    if output.json() {
        for (id, why) in &strange {
            let (id, problem) = (id.to_hex(), why.to_string());
            output.object(&JsonStrange { r#type: "strange_slot", id, problem })?;
        }
        return slots.iter().try_for_each(|slot| {
            output.object(&JsonSlot {
                r#type: "slot",
                id: slot.id.to_hex(),
                kind: kind_name(slot.kind),
                label: slot.about.label.clone(),
                host: slot.about.host.clone(),
                created: calendar::rfc3339(slot.about.created, &context.zone),
                current: slot.is_current,
            })
        });
    }
    let mut table = Table::new(&[
        ("ID", Align::Left),
        ("Kind", Align::Left),
        ("Created", Align::Left),
        ("Keys", Align::Left),
        ("Host", Align::Left),
        ("Label", Align::Left),
    ]);
    for slot in &slots {
        let keys = match slot.is_current {
            Some(true) => "newest",
            Some(false) => "older",
            None => "",
        };
        table.row(vec![
            (slot.id.short(), Some(Style::Id)),
            (kind_name(slot.kind).into(), None),
            (calendar::show_time(slot.about.created, &context.zone), None),
            (keys.into(), None),
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
    let id = repository.add_slot(&secrets::new_slot(secret, &args.label))?;
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
    // The new one is stored before the old one goes.
    let id = repository.add_slot(&secrets::new_slot(secret, &old.about.label))?;
    repository.remove_slot(&old.id)?;
    context.output.say(&format!(
        "slot {} with the new password replaces slot {}; {}",
        id.short(),
        old.id.short(),
        still_opens(context)
    ));
    told(context, "replaced", &id, None)
}

fn recovery(label: &str, context: &Context, repository: &Repository) -> Result<()> {
    let code = RecoveryCode::generate(&*context.world);
    let shown = code.to_text();
    let secret = Secret::Recovery(code);
    let id = repository.add_slot(&secrets::new_slot(secret, label))?;
    context.output.say(&format!(
        "slot {} opens with this recovery code; write it down, it is not shown again:",
        id.short()
    ));
    match context.output.json() {
        true => told(context, "recovery", &id, Some(&shown)),
        false => context.output.line(&shown),
    }
}

#[derive(Serialize)]
struct JsonRotated {
    r#type: &'static str,
    slots: usize,
}

fn rotate(now: bool, context: &Context, repository: &Repository) -> Result<Exit> {
    let Rotation { repository, slot_count, is_shared } = repository.rotate().map_err(|error| {
        let is_strange =
            matches!(&error, RepoError::Object { key, .. } if key.starts_with("keys/"));
        let failure = Failure::from(error);
        match is_strange {
            true => failure.hint("`holdall key remove` removes what is no slot"),
            false => failure,
        }
    })?;
    let slots = text::plural(slot_count as u64, "slot has", "slots have");
    context
        .output
        .say(&format!("{slots} new keys; what is written from now on is sealed with them"));
    if is_shared {
        let warning =
            "somebody else changed the keys at the same time; each slot has both new ones";
        context.output.warn(warning);
    }
    if context.output.json() {
        context.output.object(&JsonRotated { r#type: "rotated", slots: slot_count })?;
    }
    match now {
        true => prune::reseal_now(&Arc::new(repository), context),
        false => Ok(Exit::Done),
    }
}
