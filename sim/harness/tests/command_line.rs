//! The simulator as people and pipelines use it: exit codes, sentences, reports, the page, a failure made smaller.

use std::path::PathBuf;
use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mainstay-sim")).args(arguments).output().expect("the simulator runs")
}

fn said(output: &Output) -> String {
    [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ends by itself")
}

/// A directory of this test's own, empty.
fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("mainstay-sim-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    directory
}

#[test]
fn a_clean_batch_says_its_sum() {
    let ran = sim(&["run", "--seeds", "2", "--scenario", "smallest", "--twice", "--coverage"]);
    assert_eq!(code(&ran), 0, "{}", said(&ran));
    assert!(said(&ran).contains("smallest: 2 seeds, 0 failed"), "{}", said(&ran));
    assert!(said(&ran).contains("runs a minute and core") && said(&ran).contains("capability"), "{}", said(&ran));
}

#[test]
fn a_violation_says_which_and_how_to_see_it_again() {
    let ran = sim(&["run", "--seeds", "6", "--scenario", "crashes", "--mutant", "skip-log-sync"]);
    assert_eq!(code(&ran), 1, "{}", said(&ran));
    assert!(said(&ran).contains("FAILED at") && said(&ran).contains("cargo xtask sim replay"), "{}", said(&ran));
}

#[test]
fn wrong_usage_is_a_sentence_and_code_two() {
    for wrong in
        [&["run", "--scenario", "none"][..], &["replay"], &["replay", "seven"], &["dance"], &["mutants", "--only", "x"]]
    {
        let ran = sim(wrong);
        assert_eq!(code(&ran), 2, "{wrong:?}: {}", said(&ran));
        assert!(said(&ran).starts_with("error:"), "{wrong:?}: {}", said(&ran));
    }
    let ran = sim(&["report", "--seeds", "1", "--to", "/dev/null/nowhere"]);
    assert_eq!(code(&ran), 2);
    assert!(said(&ran).contains("cannot be written"), "{}", said(&ran));
    let ran = sim(&["replay", "1", "--scenario", "smallest", "--quiet", "--page", "/dev/null/nowhere"]);
    assert_eq!(code(&ran), 2);
}

#[test]
fn a_report_is_json_and_junit() {
    let to = directory("report");
    let ran = sim(&["report", "--seeds", "2", "--scenario", "smallest", "--to", &to.to_string_lossy()]);
    assert_eq!(code(&ran), 0, "{}", said(&ran));
    let json = std::fs::read_to_string(to.join("report.json")).expect("a report");
    let junit = std::fs::read_to_string(to.join("junit.xml")).expect("a report");
    assert!(json.contains("\"seed\": 2") && json.contains("\"failure\": null"), "{json}");
    assert!(junit.contains("tests=\"2\" failures=\"0\"") && junit.contains("name=\"seed 1\""), "{junit}");
    std::fs::remove_dir_all(to).expect("removes");
}

#[test]
fn a_page_shows_what_happened() {
    let to = directory("page");
    let file = to.join("page.html");
    let ran = sim(&["replay", "1", "--scenario", "smallest", "--quiet", "--page", &file.to_string_lossy()]);
    assert_eq!(code(&ran), 0, "{}", said(&ran));
    let page = std::fs::read_to_string(&file).expect("a page");
    assert!(page.contains("\"lanes\":[\"node1\"") && page.contains("fault: "), "no lanes or no faults");
    assert!(!page.contains("src=") && !page.contains("href="), "it needs nothing from elsewhere");
    std::fs::remove_dir_all(to).expect("removes");
}

#[test]
fn a_failure_gets_smaller_and_stays_the_same() {
    let ran = sim(&["minimize", "1", "--scenario", "smallest"]);
    assert_eq!(code(&ran), 0, "{}", said(&ran));
    assert!(said(&ran).contains("seed 1 does not fail"), "{}", said(&ran));
    let ran = sim(&["minimize", "1", "--scenario", "calm", "--mutant", "drop-timer-row"]);
    let text = said(&ran);
    assert_eq!(code(&ran), 1, "{text}");
    let operations = |line: &str| line.split(", ").nth(1)?.strip_suffix(" operations")?.parse::<u32>().ok();
    let counts: Vec<u32> = text.lines().filter_map(operations).collect();
    assert!(counts.len() > 1 && counts.last() < counts.first(), "{counts:?}");
    assert!(text.contains("what is left of seed 1"), "{text}");
}
