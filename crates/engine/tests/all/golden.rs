//! Golden scripts: one behaviour per file of `golden/`. `MAINSTAY_RECORD=1 cargo test -p mainstay-engine --test all golden` writes the
//! outputs anew; read the difference before it is kept.

use crate::support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use mainstay_api::temporal::enums::v1::{CommandType, EventType, WorkflowTaskFailedCause};

/// Asked for when the test runs: a build may be kept while its checkout moves.
fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is")).join("tests/golden")
}

#[test]
fn golden_scripts_give_what_was_recorded() {
    let folder = folder();
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

/// No event, command, or reason to fail a task is without a script. What this server does not have yet is named here.
#[test]
fn every_kind_has_a_script() {
    let folder = folder();
    let files =
        fs::read_dir(&folder).expect("the folder exists").map(|f| fs::read_to_string(f.unwrap().path()).unwrap());
    let scripts: String = files.collect();
    let words: BTreeSet<&str> = scripts.split_whitespace().collect();
    let causes: BTreeSet<&str> = scripts
        .lines()
        .filter(|line| line.contains(" WORKFLOW_TASK_FAILED "))
        .flat_map(str::split_whitespace)
        .collect();
    let mut missing: Vec<&str> = Vec::new();
    for event in (1..=EVENTS_END).filter_map(|number| EventType::try_from(number).ok()) {
        let name = event.as_str_name().trim_start_matches("EVENT_TYPE_");
        if !words.contains(name) && !NO_EVENT_YET.iter().any(|begin| name.starts_with(begin)) {
            missing.push(event.as_str_name());
        }
    }
    for command in (1..=EVENTS_END).filter_map(|number| CommandType::try_from(number).ok()) {
        let name = command.as_str_name().trim_start_matches("COMMAND_TYPE_");
        let attributes = format!("{}_command_attributes", name.to_lowercase());
        if !words.contains(attributes.as_str()) && !name.contains("NEXUS") {
            missing.push(command.as_str_name());
        }
    }
    for cause in (1..=EVENTS_END).filter_map(|number| WorkflowTaskFailedCause::try_from(number).ok()) {
        if !causes.contains(format!("cause:{}", cause as i32).as_str()) && !NO_CAUSE_HERE.contains(&cause) {
            missing.push(cause.as_str_name());
        }
    }
    assert_eq!(missing, Vec::<&str>::new());
}

/// Above every number of the enumerations that are looked at.
const EVENTS_END: i32 = 200;
/// How the names of events begin that are never written: of what is to come, and of what Temporal itself only reserves.
const NO_EVENT_YET: [&str; 5] = [
    "NEXUS_",
    "WORKFLOW_EXECUTION_UPDATE_REJECTED",
    "WORKFLOW_PROPERTIES_MODIFIED_EXTERNALLY",
    "ACTIVITY_PROPERTIES_MODIFIED_EXTERNALLY",
    "WORKFLOW_EXECUTION_TIME_SKIPPING_TRANSITIONED",
];
/// Causes that no script can show: that workers choose and the server only copies, that a frontend or a limit of 2,000 brings
/// about (`limits.rs`), that end the run instead of its task, and of what is to come.
const NO_CAUSE_HERE: [WorkflowTaskFailedCause; 22] = {
    use WorkflowTaskFailedCause::*;
    [
        BadCompleteWorkflowExecutionAttributes,
        BadCancelWorkflowExecutionAttributes,
        ResetStickyTaskQueue,
        WorkflowWorkerUnhandledFailure,
        BadSignalInputSize,
        BadBinary,
        NonDeterministicError,
        PendingChildWorkflowsLimitExceeded,
        PendingActivitiesLimitExceeded,
        PendingSignalsLimitExceeded,
        PendingRequestCancelLimitExceeded,
        UnhandledUpdate,
        FeatureDisabled,
        BadScheduleNexusOperationAttributes,
        PendingNexusOperationsLimitExceeded,
        BadRequestCancelNexusOperationAttributes,
        GrpcMessageTooLarge,
        PayloadsTooLarge,
        ExternalStorageFailure,
        WorkflowPauseRequestedBeforeTaskStarted,
        RequestTooLarge,
        Unspecified,
    ]
};

/// The first lines that differ.
fn difference(recorded: &str, fresh: &str) -> String {
    let pairs = recorded.lines().zip(fresh.lines()).enumerate();
    let changed = pairs.filter(|(_, (old, new))| old != new).take(5);
    let lines: Vec<String> = changed.map(|(at, (old, new))| format!("{}: - {old}\n{0}: + {new}", at + 1)).collect();
    if lines.is_empty() { "one is longer than the other".into() } else { lines.join("\n") }
}
