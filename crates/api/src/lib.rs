//! Temporal's public API as Rust types: messages, client and server traits of every service, error details.
//!
//! Everything is generated from the newest descriptor set of `temporalio-protos`, so an RPC that nobody has written yet is
//! still registered and answers UNIMPLEMENTED. This crate knows the wire; it knows nothing of what a message means.

mod addressed;
mod raw_history;

pub use addressed::Addressed;
pub use raw_history::RawHistory;

/// The generated modules, laid out as the proto packages are.
#[allow(clippy::all, rustdoc::all, missing_docs)]
pub mod pb {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

pub use pb::mainstay::admin::v1 as admin;
pub use pb::mainstay::log::v1 as log;
pub use pb::mainstay::peer::v1 as peer;
pub use pb::mainstay::record::v1 as record;
pub use pb::temporal::api as temporal;

/// The encoded `FileDescriptorSet` of everything served, for gRPC reflection and for tables made from descriptors.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/reflection.bin"));

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    /// RPC names of one service, in the descriptor's order.
    fn methods(service: &str) -> Vec<String> {
        let set = FileDescriptorSet::decode(super::DESCRIPTOR_SET).expect("own descriptor set decodes");
        let services = set.file.iter().flat_map(|f| &f.service);
        let found = services.filter(|s| s.name() == service).flat_map(|s| &s.method);
        found.map(|m| m.name().to_string()).collect()
    }

    #[test]
    fn every_rpc_of_both_services_is_generated() {
        assert_eq!(methods("WorkflowService").len(), 123);
        assert_eq!(methods("OperatorService").len(), 12);
        assert_eq!(methods("Health").len(), 2);
    }
}
