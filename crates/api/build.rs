//! Generates Temporal's messages and service traits from the descriptor set that `temporalio-protos` publishes.
//!
//! Payloads become `Bytes` (zero copy from the wire), maps become `BTreeMap` (equal messages encode to equal bytes, which
//! replication and digests rely on), and `History` stays a list of encoded events.

use std::collections::BTreeSet;
use std::error::Error;

use prost::Message;
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::Type;
use protox::Compiler;
use protox::file::{ChainFileResolver, DescriptorSetFileResolver, IncludeFileResolver};

const OWN_PROTOS: &str = "../../proto";
const OWN_FILES: [&str; 7] = [
    "mainstay/log/v1/command.proto",
    "mainstay/record/v1/batch.proto",
    "mainstay/record/v1/message.proto",
    "mainstay/record/v1/record.proto",
    "mainstay/record/v1/schedule.proto",
    "mainstay/peer/v1/peer.proto",
    "mainstay/admin/v1/admin.proto",
];
/// Fields that are seldom set and would make every reply large to move.
const BOXED: [&str; 5] = [
    ".mainstay.log.v1.Reply.eager_workflow_task",
    ".mainstay.log.v1.WorkflowTaskStarted.response",
    ".mainstay.log.v1.ActivityTaskStarted.response",
    ".temporal.api.workflowservice.v1.StartWorkflowExecutionResponse.eager_workflow_task",
    ".temporal.api.workflowservice.v1.RespondWorkflowTaskCompletedResponse.workflow_task",
];
const ROOTS: [&str; 12] = [
    OWN_FILES[0],
    OWN_FILES[1],
    OWN_FILES[2],
    OWN_FILES[3],
    OWN_FILES[4],
    OWN_FILES[5],
    OWN_FILES[6],
    "temporal/api/workflowservice/v1/service.proto",
    "temporal/api/operatorservice/v1/service.proto",
    "temporal/api/errordetails/v1/message.proto",
    "google/rpc/status.proto",
    "health/v1/health.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::var("DEP_TEMPORALIO_PROTOS_DESCRIPTOR_PATH")?;
    println!("cargo:rerun-if-changed={path}");
    let set = FileDescriptorSet::decode(&*std::fs::read(&path)?)?;
    let set = closure_of_roots(with_own_files(set)?)?;
    let out = std::env::var("OUT_DIR")?;
    std::fs::write(format!("{out}/reflection.bin"), set.encode_to_vec())?;
    std::fs::write(format!("{out}/addressed.rs"), addressed(&set))?;
    let generator = tonic_prost_build::configure();
    BOXED
        .into_iter()
        .fold(generator, |generator, field| generator.boxed(field))
        .build_transport(false)
        .generate_default_stubs(true)
        .bytes(".")
        .btree_map(".")
        .extern_path(".temporal.api.history.v1.History", "crate::RawHistory")
        .include_file("all.rs")
        .compile_fds(set)?;
    Ok(())
}

/// Writes `Addressed` for the requests of both services: which workflow a request is about, as far as it says so.
fn addressed(set: &FileDescriptorSet) -> String {
    let mut text = String::new();
    let packages = ["temporal.api.workflowservice.v1", "temporal.api.operatorservice.v1"];
    for file in set.file.iter().filter(|file| packages.contains(&file.package())) {
        for message in file.message_type.iter().filter(|message| message.name().ends_with("Request")) {
            let has = |name: &str, kind: Type| message.field.iter().any(|f| f.name() == name && f.r#type() == kind);
            let mut methods = String::new();
            for field in ["namespace", "workflow_id"].into_iter().filter(|field| has(field, Type::String)) {
                methods += &format!("fn {field}(&self) -> &str {{ &self.{field} }}\n");
            }
            let execution = ["workflow_execution", "execution"].into_iter().find(|field| has(field, Type::Message));
            if let Some(field) = execution.filter(|_| !has("workflow_id", Type::String)) {
                for part in ["workflow_id", "run_id"] {
                    let read = format!("self.{field}.as_ref().map_or(\"\", |execution| execution.{part}.as_str())");
                    methods += &format!("fn {part}(&self) -> &str {{ {read} }}\n");
                }
            }
            let module = file.package().replace("temporal.api.", "crate::temporal::").replace('.', "::");
            text += &format!("impl crate::Addressed for {module}::{} {{\n{methods}}}\n", message.name());
        }
    }
    text
}

/// Adds our own files, which import Temporal's out of the same set.
fn with_own_files(set: FileDescriptorSet) -> Result<FileDescriptorSet, Box<dyn Error>> {
    println!("cargo:rerun-if-changed={OWN_PROTOS}");
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(OWN_PROTOS.into()));
    resolver.add(DescriptorSetFileResolver::decode(set.encode_to_vec().as_slice())?);
    let mut compiler = Compiler::with_file_resolver(resolver);
    compiler.include_imports(true).open_files(OWN_FILES)?;
    let compiled = FileDescriptorSet::decode(compiler.encode_file_descriptor_set().as_slice())?;
    let mut all = set;
    all.file.extend(compiled.file.into_iter().filter(|f| OWN_FILES.contains(&f.name())));
    Ok(all)
}

/// Keeps the files that the served services reach, without comments.
fn closure_of_roots(mut set: FileDescriptorSet) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let mut keep = BTreeSet::new();
    let mut todo: Vec<String> = ROOTS.iter().map(ToString::to_string).collect();
    while let Some(name) = todo.pop() {
        if !keep.insert(name.clone()) {
            continue;
        }
        let file = set.file.iter().find(|f| f.name() == name);
        let file = file.ok_or_else(|| format!("{name} is not in the descriptor set"))?;
        todo.extend(file.dependency.iter().cloned());
    }
    set.file.retain(|f| keep.contains(f.name()));
    for file in &mut set.file {
        file.source_code_info = None;
    }
    Ok(set)
}
