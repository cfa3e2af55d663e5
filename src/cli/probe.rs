//! What `init --probe` tells.

use std::sync::Arc;

use serde::Serialize;

use super::context::Context;
use super::error::{Exit, Failure, Result};
use super::output::Style;
use crate::format::config;
use crate::ops::probe::{ProbeReport, probe};
use crate::storage::{LocalStorage, Storage};

/// Tries the place of the repository; says whether there is a repository already.
pub fn run(context: &Context) -> Result<bool> {
    let path = &context.location.path;
    let storage = LocalStorage::create(path)
        .map_err(|error| Failure::file("make the repository at", path, &error.source))?;
    let storage: Arc<dyn Storage> = Arc::new(storage);
    let report = probe(&storage, &*context.world)?;
    let is_there = storage.stat(config::KEY).is_ok();
    show(context, &report, is_there)?;
    match report.is_usable() {
        true => Ok(is_there),
        false => Err(Failure::new(
            Exit::Failed,
            format!("the store at {} cannot hold a repository", context.location.show()),
        )
        .hint("use another one")),
    }
}

#[derive(Serialize)]
struct JsonProbe {
    r#type: &'static str,
    location: String,
    reads_what_was_written: bool,
    lists_what_was_written: bool,
    forgets_what_was_deleted: bool,
    refuses_second_put: bool,
    refuses_one_of_two_puts: bool,
    repository_is_there: bool,
}

fn show(context: &Context, report: &ProbeReport, repository_is_there: bool) -> Result<()> {
    let output = &context.output;
    if output.json() {
        return output.object(&JsonProbe {
            r#type: "probe",
            location: context.location.path.to_string_lossy().into_owned(),
            reads_what_was_written: report.reads_what_was_written,
            lists_what_was_written: report.lists_what_was_written,
            forgets_what_was_deleted: report.forgets_what_was_deleted,
            refuses_second_put: report.refuses_second_put,
            refuses_one_of_two_puts: report.refuses_one_of_two_puts,
            repository_is_there,
        });
    }
    output.line(&format!("the store at {}:", context.location.show()))?;
    for (holds, what) in [
        (report.reads_what_was_written, "gives back what was written"),
        (report.lists_what_was_written, "lists what was written"),
        (report.forgets_what_was_deleted, "shows nothing that was deleted"),
        (report.refuses_second_put, "never overwrites"),
        (report.refuses_one_of_two_puts, "lets one of two writers win"),
    ] {
        let (word, style) = if holds { ("yes", Style::Good) } else { ("NO ", Style::Error) };
        output.line(&format!("  {}  {what}", output.paint(style, word)))?;
    }
    if !report.creates_if_absent() {
        output.warn("two machines must not prune here at the same time");
    }
    if repository_is_there {
        output.say("there is a repository already; nothing was created");
    }
    Ok(())
}
