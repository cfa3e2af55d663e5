//! Asking a person for a password.

use std::io::{ErrorKind, IsTerminal};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zeroize::Zeroizing;

use super::error::{Exit, Failure, Result, said};
use super::secrets::{self, no_secret};

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a person, without echo.
pub fn ask(prompt: &str) -> Result<Zeroizing<String>> {
    watch_signals();
    let typed = rpassword::prompt_password(prompt).map(Zeroizing::new);
    typed.map_err(|error| match error.kind() {
        ErrorKind::Interrupted => Failure::new(Exit::Interrupted, "interrupted"),
        _ => no_secret(format!("no password was typed: {}", said(&error))),
    })
}

/// Asks a person for a new password, twice.
pub fn ask_new() -> Result<Zeroizing<String>> {
    if !can_ask() {
        return Err(no_secret("a new password is needed, and there is no terminal to ask on")
            .hint("give it with --password-file or --password-command"));
    }
    let first = ask("new password: ")?;
    let second = ask("the same again: ")?;
    match *first == *second {
        true => secrets::check_new(first),
        false => Err(no_secret("the two passwords differ")),
    }
}

/// Asks a person whether something shall be done; `false` where nobody can be asked.
pub fn confirm(question: &str) -> Result<bool> {
    if !can_ask() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.map_err(|error| {
        Failure::new(Exit::Failed, format!("no answer was typed: {}", said(&error)))
    })?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether signals are somebody else's by now.
static WORK_HAS_BEGUN: AtomicBool = AtomicBool::new(false);

/// From now on an operation listens for signals by itself.
pub fn work_begins() {
    WORK_HAS_BEGUN.store(true, Ordering::Relaxed);
}

/// Ctrl-C while a password is typed would leave the terminal without echo: it is set back first.
/// Signals stay caught after that, so until work begins they end the process from here.
fn watch_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let terminal = std::io::stdin();
        let (Ok(before), Ok(mut signals)) = (tcgetattr(&terminal), Signals::new([SIGINT, SIGTERM]))
        else {
            // Then a signal ends the process as it always does.
            return;
        };
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if !WORK_HAS_BEGUN.load(Ordering::Relaxed) {
                    let _ = tcsetattr(&terminal, OptionalActions::Now, &before);
                    eprintln!();
                    std::process::exit(Exit::Interrupted.code().into());
                }
            }
        });
    });
}
