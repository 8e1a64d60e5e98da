//! The layer rules of ARCHITECTURE.md, checked on the sources as text.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// Crates whose behaviour must be a function of their arguments: no async runtime, no clock, no ambient randomness.
const PURE: [&str; 9] =
    ["base", "api", "engine", "matching", "visibility", "calendar", "storage", "storage-rocksdb", "shard"];
const BANNED_IN_PURE: [(&str, &str); 5] = [
    ("async fn", "pure crates do not wait; the caller does"),
    ("tokio::", "pure crates know no runtime"),
    ("SystemTime::now", "take a Timestamp as an argument"),
    ("Instant::now", "take a Timestamp as an argument"),
    ("rand::", "use base::Prng, seeded by the caller"),
];
const LINES_MAX: usize = 800;

/// Checks every source file below `crates/`; the failure lists each offence with what to do instead.
pub fn check() -> Result<(), Failure> {
    let mut offences = Vec::new();
    for file in sources(Path::new("crates"))? {
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        examine(&file, &text, &mut offences);
    }
    if offences.is_empty() { Ok(()) } else { Err(format!("tidy found:\n  {}", offences.join("\n  "))) }
}

fn examine(file: &Path, text: &str, offences: &mut Vec<String>) {
    let crate_name = file.components().nth(1).map(|c| c.as_os_str().to_string_lossy().into_owned()).unwrap_or_default();
    if text.lines().count() > LINES_MAX {
        offences.push(format!("{}: over {LINES_MAX} lines; split it by idea", file.display()));
    }
    if crate_name != "storage-rocksdb" && names(text, "rocksdb::") {
        offences.push(format!("{}: only storage-rocksdb names RocksDB", file.display()));
    }
    if crate_name == "ui"
        && ["mainstay_node", "mainstay_frontend", "mainstay_engine"].iter().any(|below| names(text, below))
    {
        offences.push(format!("{}: the web interface is a client; it knows the API alone", file.display()));
    }
    if text.contains("cfg(madsim)") {
        offences.push(format!("{}: production code does not know the simulator", file.display()));
    }
    // A bench measures with a clock; it is not the crate.
    let is_bench = file.components().any(|part| matches!(part.as_os_str().to_str(), Some("examples" | "benches")));
    if is_bench || !PURE.contains(&crate_name.as_str()) {
        return;
    }
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
        for (word, instead) in BANNED_IN_PURE.iter().filter(|(word, _)| names(line, word)) {
            offences.push(format!("{}:{}: `{word}`: {instead}", file.display(), number + 1));
        }
    }
}

/// Whether a text has this word, not as the end of a longer one.
fn names(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| !text[..at].chars().next_back().is_some_and(is_part))
}

fn sources(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_in_a_pure_crate_is_found_and_elsewhere_is_not() {
        let mut offences = Vec::new();
        examine(Path::new("crates/server/src/main.rs"), "let t = Instant::now();", &mut offences);
        assert!(offences.is_empty());
        examine(Path::new("crates/engine/src/lib.rs"), "let t = Instant::now();", &mut offences);
        assert_eq!(offences.len(), 1);
        examine(Path::new("crates/engine/src/lib.rs"), "let t = Operand::One;", &mut offences);
        examine(Path::new("crates/engine/examples/speed.rs"), "let t = Instant::now();", &mut offences);
        examine(Path::new("crates/server/src/stores.rs"), "use mainstay_storage_rocksdb::RocksLog;", &mut offences);
        assert_eq!(offences.len(), 1);
        examine(Path::new("crates/node/src/lib.rs"), "use rocksdb::DB;", &mut offences);
        assert_eq!(offences.len(), 2);
        examine(Path::new("crates/ui/src/lib.rs"), "use mainstay_node::Node;", &mut offences);
        assert_eq!(offences.len(), 3);
    }
}
