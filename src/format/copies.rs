//! Names of the copies of what opens a repository. Format: `format-spec/15-damage.md#copies`.

/// Key of the copy of an object.
pub fn copy_key(key: &str) -> String {
    format!("copies/{key}")
}

/// Key of the object of which this is the copy.
pub fn original_of(key: &str) -> Option<&str> {
    key.strip_prefix("copies/").filter(|key| *key == "config" || key.starts_with("keys/"))
}
