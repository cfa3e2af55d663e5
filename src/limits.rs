//! Every maximum of the format, one constant each. The table of `format-spec/12-limits.md` is
//! compared with these by a test.

/// Longest plaintext of one chunk, bytes.
pub const CHUNK_LEN_MAX: usize = 8 << 20;
/// Smallest value that the chunker's parameters may take, bytes.
pub const CHUNKER_SIZE_MIN: usize = 4 << 10;
/// Longest plaintext of one frame, bytes.
pub const FRAME_PLAIN_LEN_MAX: usize = 16 << 20;
/// Longest frame as stored, header, padding and tag included, bytes.
pub const FRAME_SEALED_LEN_MAX: usize = 18 << 20;
/// Most chunks in one frame.
pub const FRAME_CHUNKS_MAX: usize = 65_535;
/// Most frames in one pack.
pub const PACK_FRAMES_MAX: usize = 65_535;
/// Longest pack, bytes.
pub const PACK_LEN_MAX: u64 = 1 << 30;
/// Longest trailer of a pack, as stored, bytes.
pub const TRAILER_LEN_MAX: usize = 64 << 20;
/// Most shards that a pack has for its parity, and most shards of parity.
pub const PARITY_SHARDS_MAX: usize = 32_768;
/// Longest shard, bytes.
pub const PARITY_SHARD_LEN_MAX: u64 = 1 << 20;
/// Longest head of a parity object, as stored, bytes.
pub const PARITY_HEAD_LEN_MAX: usize = 2 << 20;
/// Most parity, percent of a pack's length.
pub const PARITY_PERCENT_MAX: u8 = 50;
/// Longest sealed object other than a pack, as stored, bytes.
pub const OBJECT_LEN_MAX: usize = 64 << 20;
/// Most packs that one index segment describes.
pub const SEGMENT_PACKS_MAX: usize = 65_536;
/// Longest `config` object, bytes.
pub const CONFIG_LEN_MAX: usize = 64 << 10;
/// Longest key slot, bytes.
pub const SLOT_LEN_MAX: usize = 64 << 10;
/// Most key slots of a repository, and most objects that are read to open it.
pub const SLOTS_MAX: usize = 256;
/// Most keys in one slot's bundle.
pub const BUNDLE_KEYS_MAX: usize = 4_096;
/// argon2id memory accepted from a slot, KiB.
pub const ARGON2_MEMORY_KIB_MIN: u32 = 8 << 10;
/// argon2id memory accepted from a slot, KiB.
pub const ARGON2_MEMORY_KIB_MAX: u32 = 1 << 20;
/// argon2id passes accepted from a slot.
pub const ARGON2_PASSES_MAX: u32 = 64;
/// argon2id lanes accepted from a slot.
pub const ARGON2_LANES_MAX: u32 = 16;
/// Most argon2id memory in KiB times passes, of all slots that are tried with one password.
pub const ARGON2_WORK_KIB_MAX: u64 = 1 << 26;
/// Longest name of an entry, bytes.
pub const NAME_LEN_MAX: usize = 4_096;
/// Longest target of a symbolic link, bytes.
pub const SYMLINK_LEN_MAX: usize = 65_536;
/// Longest name of a user or a group, bytes.
pub const OWNER_LEN_MAX: usize = 1_024;
/// Most extended attributes of an entry.
pub const XATTRS_MAX: usize = 4_096;
/// Longest name of an extended attribute, bytes.
pub const XATTR_NAME_LEN_MAX: usize = 1_024;
/// Longest value of an extended attribute, bytes.
pub const XATTR_VALUE_LEN_MAX: usize = 1 << 20;
/// Longest encoded entry, bytes.
pub const ENTRY_LEN_MAX: usize = 4 << 20;
/// Most references in one list.
pub const REFS_MAX: usize = 65_536;
/// Deepest tree of reference lists.
pub const REFS_DEPTH_MAX: u8 = 8;
/// Deepest nesting of directories.
pub const TREE_DEPTH_MAX: usize = 65_536;
/// Longest content of a file, bytes.
pub const CONTENT_LEN_MAX: u64 = 1 << 62;
/// Longest text field (host, description, tag, label), bytes.
pub const TEXT_LEN_MAX: usize = 65_536;
/// Most items in a list of a snapshot, a note or a session (paths, tags, problems).
pub const LIST_MAX: usize = 65_536;
/// Most packs that an epoch's plan or sweep record names.
pub const EPOCH_PACKS_MAX: usize = 1 << 20;
