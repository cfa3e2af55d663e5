//! Where passwords and keys come from. None is ever an argument, and none is ever printed or logged.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[cfg(target_os = "linux")]
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::process::{Resource, Rlimit, setrlimit};
use zeroize::Zeroizing;

use super::Globals;
use super::config::SettingsFile;
use super::context::path;
use super::error::{Exit, Failure, Result, said};
use super::places::{Places, variable, write_private};
use crate::crypto::{CryptoError, KeyFile, PasswordCost, RecoveryCode, Secret};
use crate::repo::NewSlot;
use crate::text;
use crate::world::World;

/// The variable that carries a password; no process that is started from here sees it.
pub const PASSWORD_VARIABLE: &str = "HOLDALL_PASSWORD";

/// Longest password, bytes.
const PASSWORD_LEN_MAX: u64 = 64 << 10;
/// A shorter password is warned of.
const PASSWORD_LEN_ADVISED: usize = 12;

/// What opening with a new password shall take here.
const PASSWORD_TIME: Duration = Duration::from_millis(250);

/// A slot that this secret will open; guessing costs what this machine can bear.
pub fn new_slot(secret: Secret, label: &str) -> NewSlot {
    let cost = match &secret {
        Secret::Password(_) => PasswordCost::measured(PASSWORD_TIME),
        Secret::KeyFile(_) | Secret::Recovery(_) => PasswordCost::DEFAULT,
    };
    NewSlot { secret, cost, label: label.to_owned() }
}

/// What a try costs, for people.
pub fn show_cost(cost: PasswordCost) -> String {
    let (mib, passes) = (cost.memory_kib >> 10, cost.passes);
    format!("each try costs {mib} MiB and {passes} passes of argon2id")
}

/// Where to look.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A key file that was named.
    pub key_file: Option<PathBuf>,
    /// A file that holds a password.
    pub password_file: Option<PathBuf>,
    /// A command that prints a password.
    pub password_command: Option<OsString>,
}

impl Sources {
    /// Those that are named. Where an option names a password, of whatever form, those of the
    /// environment are not looked at; where either does, those of the file are not.
    pub fn find(globals: &Globals, file: &SettingsFile) -> Self {
        let settings = &file.settings;
        let of_file = |named: &Option<PathBuf>| named.as_ref().map(|named| file.path(named));
        let mut sources = Self {
            key_file: path(&globals.key_file, "HOLDALL_KEY_FILE")
                .or_else(|| of_file(&settings.key_file)),
            password_file: globals.password_file.clone(),
            password_command: globals.password_command.clone(),
        };
        if sources.password_file.is_none() && sources.password_command.is_none() {
            sources.password_file = variable("HOLDALL_PASSWORD_FILE").map(PathBuf::from);
            sources.password_command = variable("HOLDALL_PASSWORD_COMMAND");
        }
        if !sources.has_password() {
            sources.password_file = of_file(&settings.password_file);
            sources.password_command = settings.password_command.clone();
        }
        sources
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.key_file.is_none() && self.password_file.is_none() && self.password_command.is_none()
    }

    /// Whether a password comes from anywhere but a prompt.
    pub fn has_password(&self) -> bool {
        self.password_file.is_some()
            || self.password_command.is_some()
            || variable(PASSWORD_VARIABLE).is_some()
    }

    /// The key files that are there: the one that was named, and the one at its usual place.
    pub fn key_files(&self, places: &Places) -> Result<Vec<Secret>> {
        let mut secrets = Vec::new();
        if let Some(path) = &self.key_file {
            secrets.push(Secret::KeyFile(read_key_file(path)?));
        }
        let usual = places.key_file();
        if self.key_file.as_ref() != Some(&usual) && usual.exists() {
            match read_key_file(&usual) {
                Ok(key) => secrets.push(Secret::KeyFile(key)),
                // What was named counts; this one is only a try.
                Err(_) if self.key_file.is_some() || self.has_password() => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(secrets)
    }

    /// The password that is given without asking a person, if there is one.
    pub fn password(&self) -> Result<Option<Zeroizing<String>>> {
        if let Some(path) = &self.password_file {
            return read_password_file(path).map(Some);
        }
        if let Some(command) = &self.password_command {
            return run_password_command(command).map(Some);
        }
        match variable(PASSWORD_VARIABLE) {
            Some(value) => {
                let text = value.into_string().map_err(|raw| {
                    drop(Zeroizing::new(raw.into_encoded_bytes()));
                    no_secret(format!("{PASSWORD_VARIABLE} is not UTF-8 text"))
                })?;
                Ok(Some(Zeroizing::new(text)))
            }
            None => Ok(None),
        }
    }
}

/// What a text may be: a recovery code if its digits say so, and a password.
pub fn secrets_of(text: Zeroizing<String>) -> Vec<Secret> {
    let code = RecoveryCode::from_text(&text).map(Secret::Recovery);
    code.into_iter().chain([Secret::Password(text)]).collect()
}

/// There is no secret, or none of use.
pub fn no_secret(message: impl Into<String>) -> Failure {
    Failure::new(Exit::WrongSecret, message)
}

/// So much room that it never grows: what it had before would not be wiped.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(2 * PASSWORD_LEN_MAX as usize))
}

/// Keeps what this process holds in memory out of core files, and other processes of the same user
/// from reading it. Where the system refuses, everything works all the same.
pub fn keep_in_memory() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    #[cfg(target_os = "linux")]
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn cannot_read(what: &str, path: &Path, why: &str) -> Failure {
    let path = text::escape(path.as_os_str().as_encoded_bytes());
    no_secret(format!("cannot read the {what} {path}: {why}")).object(path)
}

fn read_secret_file(what: &str, path: &Path) -> Result<Zeroizing<String>> {
    let mut bytes = buffer();
    std::fs::File::open(path)
        .and_then(|file| file.take(PASSWORD_LEN_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| cannot_read(what, path, &said(&error)))?;
    text_of(&bytes).map_err(|why| cannot_read(what, path, why))
}

/// Text without the line feed that ends it.
fn text_of(bytes: &[u8]) -> std::result::Result<Zeroizing<String>, &'static str> {
    if bytes.len() as u64 > PASSWORD_LEN_MAX {
        return Err("it is too long");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
    let line = text.strip_suffix('\n').unwrap_or(text);
    Ok(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

/// A key file.
pub fn read_key_file(path: &Path) -> Result<KeyFile> {
    let text = read_secret_file("key file", path)?;
    KeyFile::from_text(&text).map_err(|error| match error {
        CryptoError::KeyFile => cannot_read("key file", path, "this is no key file of holdall"),
        other => other.into(),
    })
}

/// A password from a file.
pub fn read_password_file(path: &Path) -> Result<Zeroizing<String>> {
    let password = read_secret_file("password file", path)?;
    match password.is_empty() {
        true => Err(cannot_read("password file", path, "it is empty")),
        false => Ok(password),
    }
}

/// Whether others than its owner may read a file.
pub fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 != 0)
}

fn run_password_command(command: &OsString) -> Result<Zeroizing<String>> {
    let failed = |why: String| no_secret(format!("the password command {why}"));
    // It may ask a person by itself, so it has the terminal; the command may hold something
    // secret, so it is not repeated here.
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env_remove(PASSWORD_VARIABLE)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("did not start: {}", said(&error))))?;
    let mut bytes = buffer();
    if let Some(pipe) = child.stdout.take() {
        pipe.take(PASSWORD_LEN_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| failed(format!("could not be read: {}", said(&error))))?;
    }
    let status = child.wait().map_err(|error| failed(said(&error)))?;
    if !status.success() {
        return Err(failed(format!("failed: {status}")));
    }
    let password = text_of(&bytes).map_err(|why| failed(format!("printed no password: {why}")))?;
    match password.is_empty() {
        true => Err(failed("printed nothing".into())),
        false => Ok(password),
    }
}

/// A password that may open something from now on.
pub fn check_new(password: Zeroizing<String>) -> Result<Zeroizing<String>> {
    match password.is_empty() {
        true => Err(no_secret("a password must not be empty")),
        false => Ok(password),
    }
}

/// What is to be said of a new password, if anything.
pub fn advice(password: &str) -> Option<String> {
    let count = password.chars().count();
    (count < PASSWORD_LEN_ADVISED).then(|| {
        format!(
            "the password has only {}; whoever copies the repository can try guesses at leisure, \
             so several words are better",
            text::plural(count as u64, "character", "characters")
        )
    })
}

/// The key file at a path, made with random content where it is missing; says whether it was made.
pub fn read_or_make_key_file(path: &Path, world: &dyn World) -> Result<(KeyFile, bool)> {
    if path.exists() {
        return Ok((read_key_file(path)?, false));
    }
    let key = KeyFile::generate(world);
    write_private(path, key.to_text().as_bytes())
        .map_err(|error| Failure::file("write the key file", path, &error))?;
    // What opens the repository is read back before anything depends on it.
    Ok((read_key_file(path)?, true))
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn nothing_is_dumped() {
        super::keep_in_memory();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }
}
