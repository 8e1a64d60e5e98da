//! Golden scripts: one behaviour per file of `golden/`. `MAINSTAY_RECORD=1 cargo test -p mainstay-engine --test all golden` writes the
//! outputs anew; read the difference before it is kept.

use crate::support;

use std::fs;
use std::path::PathBuf;

#[test]
fn golden_scripts_give_what_was_recorded() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).expect("the folder exists").map(|f| f.unwrap().path()).collect();
    files.sort();
    let only = std::env::var("MAINSTAY_ONLY").unwrap_or_default();
    let record = std::env::var_os("MAINSTAY_RECORD").is_some();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|f| f.to_string_lossy().contains(&only)) {
        let recorded = fs::read_to_string(file).unwrap();
        let fresh = support::script::run(&recorded);
        assert!(!fresh.contains("PROBLEM"), "{}:\n{fresh}", file.display());
        if fresh == recorded {
            continue;
        }
        if record {
            fs::write(file, &fresh).unwrap();
        } else {
            wrong.push(format!("{}:\n{}", file.display(), difference(&recorded, &fresh)));
        }
    }
    assert!(wrong.is_empty(), "{} scripts differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first lines that differ.
fn difference(recorded: &str, fresh: &str) -> String {
    let pairs = recorded.lines().zip(fresh.lines()).enumerate();
    let changed = pairs.filter(|(_, (old, new))| old != new).take(5);
    let lines: Vec<String> = changed.map(|(at, (old, new))| format!("{}: - {old}\n{0}: + {new}", at + 1)).collect();
    if lines.is_empty() { "one is longer than the other".into() } else { lines.join("\n") }
}
