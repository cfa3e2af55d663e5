//! `holdall init`

use std::ffi::OsString;

use super::context::{Context, Location};
use super::creation::{Creation, create};
use super::error::{Exit, Result};
use super::probe;
use crate::format::config::ChunkerParams;
use crate::limits;
use crate::repo::CreateOptions;
use crate::text;

/// Create a repository
///
/// A key file opens it, unless a password is given: with --password, --password-file,
/// --password-command or HOLDALL_PASSWORD. With both a password and --key-file either opens it.
/// A key file that does not exist is made, with random content.
#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// Ask for a password that opens the repository
    #[arg(long)]
    password: bool,
    /// Cut files into chunks of about this size, a power of two [default: 64KiB]
    ///
    /// Smaller chunks find more that is stored already, larger ones need a smaller index.
    #[arg(long, value_name = "SIZE", value_parser = parse_chunk_size, conflicts_with = "like")]
    chunk_size: Option<u32>,
    /// Compress with `none`, `fast`, `default`, `best`, or a level of zstd from -7 to 22
    #[arg(
        long,
        value_name = "LEVEL",
        value_parser = parse_compression,
        allow_hyphen_values = true,
        default_value = "default"
    )]
    compression: i32,
    /// Collect packs of about this size [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_pack_size)]
    pack_size: Option<u32>,
    /// Add so many percent of parity to each pack, which mends lost sectors and flipped bits
    #[arg(long, value_name = "PERCENT", value_parser = parse_parity)]
    parity: Option<u8>,
    /// Make it a relative of this repository, so that `copy` between them is cheap
    #[arg(long, value_name = "URL")]
    like: Option<OsString>,
    /// Try first what the store guarantees, and say it
    ///
    /// Where a repository is already, only this is done.
    #[arg(long)]
    probe: bool,
}

/// Creates a repository.
pub fn run(args: &InitArgs, context: &Context) -> Result<Exit> {
    if args.probe && probe::run(context)? {
        return Ok(Exit::Done);
    }
    let relative = match &args.like {
        Some(url) => Some(context.open_at(&Location::parse(url)?)?),
        None => None,
    };
    let usual = CreateOptions::default();
    let options = CreateOptions {
        chunker: args.chunk_size.map_or(usual.chunker, chunker),
        compression: args.compression,
        pack_size: args.pack_size.unwrap_or(usual.pack_size),
        ..usual
    };
    let created = create(context, &Creation { options, ask_password: args.password, relative })?;
    if let Some(percent) = args.parity {
        created.repository.set_parity(percent)?;
    }
    if context.output.json() {
        context.output.object(&created.to_json(context))?;
    }
    created.announce(context);
    Ok(Exit::Done)
}

fn chunker(avg_size: u32) -> ChunkerParams {
    ChunkerParams { min_size: avg_size / 4, avg_size, max_size: avg_size * 4 }
}

fn parse_chunk_size(value: &str) -> std::result::Result<u32, String> {
    let size = text::parse_size(value).map_err(|error| error.to_string())?;
    let size = u32::try_from(size).ok().filter(|size| *size <= 1 << 30);
    size.filter(|size| chunker(*size).is_accepted())
        .ok_or_else(|| "a power of two from 16KiB to 2MiB is possible".to_owned())
}

fn parse_pack_size(value: &str) -> std::result::Result<u32, String> {
    let size = text::parse_size(value).map_err(|error| error.to_string())?;
    let size = u32::try_from(size).ok();
    size.filter(|size| (1 << 20..=512 << 20).contains(size))
        .ok_or_else(|| "1MiB to 512MiB are possible".to_owned())
}

/// How much parity a number means, percent.
pub fn parse_parity(value: &str) -> std::result::Result<u8, String> {
    let percent = value.strip_suffix('%').unwrap_or(value).parse();
    let percent = percent.ok().filter(|percent| *percent <= limits::PARITY_PERCENT_MAX);
    percent.ok_or_else(|| format!("0 to {} percent are possible", limits::PARITY_PERCENT_MAX))
}

/// The level of zstd that a word or a number means.
pub fn parse_compression(value: &str) -> std::result::Result<i32, String> {
    match value {
        "none" => Ok(0),
        "fast" => Ok(1),
        "default" => Ok(CreateOptions::default().compression),
        "best" => Ok(19),
        number => match number.parse() {
            Ok(level @ -7..=22) => Ok(level),
            _ => Err("none, fast, default, best, or a number from -7 to 22 are possible".into()),
        },
    }
}
