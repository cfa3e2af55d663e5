//! Making a repository, and saying what opens it: for `init`, and for the very first backup.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use super::context::{Context, show_path};
use super::error::{Exit, Failure, Result};
use super::prompt;
use super::secrets;
use crate::crypto::{PasswordCost, RecoveryCode, Secret};
use crate::format::config;
use crate::repo::{CreateOptions, Repository};
use crate::storage::{LocalStorage, Storage};

/// What is to be made.
#[derive(Debug, Default)]
pub struct Creation {
    /// How the repository is to be.
    pub options: CreateOptions,
    /// Whether a person is asked for a password that opens it.
    pub ask_password: bool,
    /// Another repository of its family.
    pub relative: Option<Arc<Repository>>,
}

/// What was made.
#[derive(Debug)]
pub struct Created {
    /// The repository, open.
    pub repository: Arc<Repository>,
    /// The key file that opens it, and whether it was made now.
    key_file: Option<(PathBuf, bool)>,
    password: Option<PasswordCost>,
    recovery: Option<Zeroizing<String>>,
}

/// Makes the repository that is meant. Each secret gets a slot of its own, and any of them opens it.
pub fn create(context: &Context, creation: &Creation) -> Result<Created> {
    let path = &context.location.path;
    let storage = LocalStorage::create(path)
        .map_err(|error| Failure::file("make the repository at", path, &error.source))?;
    require_no_repository(context, &storage)?;
    let mut slots = Vec::new();
    let password = match creation.ask_password {
        true => Some(prompt::ask_new()?),
        false => context.sources.password()?.map(secrets::check_new).transpose()?,
    };
    let key_path = match &context.sources.key_file {
        Some(path) => Some(path.clone()),
        None => password.is_none().then(|| context.places.key_file()),
    };
    let mut key_file = None;
    if let Some(path) = key_path {
        let (key, is_new) = secrets::read_or_make_key_file(&path, &*context.world)?;
        slots.push(secrets::new_slot(Secret::KeyFile(key), "key file"));
        key_file = Some((path, is_new));
    }
    let mut cost = None;
    if let Some(password) = password {
        secrets::advice(&password).iter().for_each(|advice| context.output.warn(advice));
        let slot = secrets::new_slot(Secret::Password(password), "password");
        cost = Some(slot.cost);
        slots.push(slot);
    }
    let mut recovery = None;
    if !context.output.json() && std::io::stderr().is_terminal() {
        let code = RecoveryCode::generate(&*context.world);
        recovery = Some(code.to_text());
        slots.push(secrets::new_slot(Secret::Recovery(code), "recovery code"));
    }
    let repository = Repository::create(
        context.patient(Arc::new(storage)),
        context.world.clone(),
        context.environment(),
        &creation.options,
        &slots,
        creation.relative.as_deref(),
    )?;
    repository.keep_reserve()?;
    Ok(Created { repository: Arc::new(repository), key_file, password: cost, recovery })
}

fn require_no_repository(context: &Context, storage: &dyn Storage) -> Result<()> {
    match storage.stat(config::KEY) {
        Ok(_) => {
            let location = context.location.show();
            Err(Failure::new(Exit::Failed, format!("there is a repository already at {location}"))
                .hint("use it, or name another place with --repo")
                .object(location))
        }
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

impl Created {
    /// Tells what was made, and what opens it. What must not be lost is told even when little
    /// is to be said.
    pub fn announce(&self, context: &Context) {
        let output = &context.output;
        let place = context.location.show();
        output.say(&format!("repository created at {place}"));
        if let Some((path, is_new)) = &self.key_file {
            let path_shown = show_path(path);
            let whence = if *is_new { "made now" } else { "it was there already" };
            output.say(&format!("it opens with the key file {path_shown} ({whence})"));
            if !is_new && secrets::is_open_to_others(path) {
                output.warn(&format!("{path_shown} can be read by others; run `chmod 600` on it"));
            }
        }
        if let Some(cost) = self.password {
            output.say(&format!("it opens with the password; {}", secrets::show_cost(cost)));
        }
        if self.key_file.is_some() && self.password.is_none() {
            let or_code = if self.recovery.is_some() { " or the code below" } else { "" };
            output.say(&format!(
                "to restore, both are needed, the repository and the key file{or_code}: keep a copy \
                 of the key file somewhere else",
            ));
        }
        match &self.recovery {
            Some(code) => {
                output.say(
                    "it opens with this recovery code, too; write it down, it is not shown again:",
                );
                output.say(&format!("    {}", code.as_str()));
            }
            None => output.warn(
                "no recovery code was made; `holdall key recovery` makes one, for when what opens \
                 the repository is lost",
            ),
        }
    }

    /// As programs are told; no secret is part of it.
    pub fn to_json(&self, context: &Context) -> JsonCreated {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let config = self.repository.config();
        JsonCreated {
            r#type: "created",
            repository: config.repository.to_hex(),
            family: config.family.to_hex(),
            location: text(&context.location.path),
            key_file: self.key_file.as_ref().map(|(path, _)| text(path)),
            key_file_is_new: self.key_file.as_ref().is_some_and(|(_, is_new)| *is_new),
            has_password: self.password.is_some(),
        }
    }
}

/// A repository that was made.
#[derive(Debug, Serialize)]
pub struct JsonCreated {
    r#type: &'static str,
    repository: String,
    family: String,
    location: String,
    key_file: Option<String>,
    key_file_is_new: bool,
    has_password: bool,
}
