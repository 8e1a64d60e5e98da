//! Task tokens as workers see them: a version, a checksum keyed by the cluster, and the encoded [`TaskToken`].
//!
//! The checksum tells a damaged token, or one of another cluster, from a stale one; it is no secret. Workers keep tokens for
//! days and over restarts, so this format only ever gains versions.
//!
//! A token that Temporal's own server gave out is known by its first fields: what it stands for is not here, which is another answer
//! than that to garbage. Activities that are completed from outside may hold one for days after their team changed servers.

use bytes::Bytes;
use mainstay_api::log::TaskToken;
use mainstay_api::log::task_token::Kind;
use mainstay_base::RunId;
use prost::Message;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::status::{Answer, invalid, not_found};

const VERSION: u8 = 1;
const HEAD: usize = 1 + 8;

/// Seals and opens what clients hold for us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal(u64);

impl Seal {
    /// The seal of a cluster.
    pub(crate) fn new(cluster_id: &str) -> Self {
        Self(xxh3_64(cluster_id.as_bytes()))
    }

    /// Version, checksum, body.
    pub(crate) fn close(self, message: &impl Message) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEAD + message.encoded_len());
        let body = message.encode_to_vec();
        sealed.push(VERSION);
        sealed.extend_from_slice(&xxh3_64_with_seed(&body, self.0).to_be_bytes());
        sealed.extend_from_slice(&body);
        sealed
    }

    /// The message, if the bytes are ours.
    pub(crate) fn open<M: Message + Default>(self, sealed: &[u8]) -> Option<M> {
        let (head, body) = sealed.split_at_checked(HEAD)?;
        let sum = <[u8; 8]>::try_from(&head[1..]).ok()?;
        if head[0] != VERSION || u64::from_be_bytes(sum) != xxh3_64_with_seed(body, self.0) {
            return None;
        }
        M::decode(body).ok()
    }

    /// A task's token for its worker.
    pub(crate) fn task(self, token: &TaskToken) -> Bytes {
        self.close(token).into()
    }

    /// Reads a token of a kind.
    ///
    /// # Errors
    /// If there is none, or it is not ours: that its task is gone if it is one of Temporal's own server.
    pub(crate) fn open_task(self, sealed: &[u8], kind: Kind) -> Answer<TaskToken> {
        if sealed.is_empty() {
            return Err(invalid("Task token not set on request."));
        }
        let token = self.open::<TaskToken>(sealed).filter(|token| token.kind() == kind);
        token.ok_or_else(|| match Foreign::of(sealed) {
            Some(Foreign { workflow_id, run_id, .. }) => not_found(format!(
                "workflow execution not found for workflow ID \"{workflow_id}\" and run ID \"{run_id}\""
            )),
            None => invalid("Error deserializing task token."),
        })
    }
}

/// How a token of Temporal's own server begins.
#[derive(Clone, PartialEq, prost::Message)]
struct Foreign {
    #[prost(string, tag = "1")]
    namespace_id: String,
    #[prost(string, tag = "2")]
    workflow_id: String,
    #[prost(string, tag = "3")]
    run_id: String,
}

impl Foreign {
    fn of(token: &[u8]) -> Option<Self> {
        let is_id = |text: &str| text.parse::<RunId>().is_ok();
        let whole = |read: &Self| is_id(&read.namespace_id) && is_id(&read.run_id) && !read.workflow_id.is_empty();
        Self::decode(token).ok().filter(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> TaskToken {
        TaskToken { kind: Kind::WorkflowTask as i32, run_id: "r".into(), attempt: 3, ..TaskToken::default() }
    }

    #[test]
    fn a_token_opens_only_under_its_cluster_and_kind() {
        let seal = Seal::new("a");
        let sealed = seal.task(&token());
        assert_eq!(seal.open_task(&sealed, Kind::WorkflowTask).unwrap(), token());
        assert!(seal.open_task(&sealed, Kind::ActivityTask).is_err());
        assert!(Seal::new("b").open_task(&sealed, Kind::WorkflowTask).is_err());
    }

    #[test]
    fn a_token_of_temporals_own_server_is_for_what_is_not_here() {
        let id = RunId::from_random(7).to_string();
        let foreign = Foreign { namespace_id: id.clone(), workflow_id: "wf".into(), run_id: id.clone() };
        let mut bytes = foreign.encode_to_vec();
        bytes.extend([0x20, 5]); // further fields
        let refused = Seal::new("a").open_task(&bytes, Kind::ActivityTask).unwrap_err();
        let text = format!("workflow execution not found for workflow ID \"wf\" and run ID \"{id}\"");
        assert_eq!(refused, not_found(text));
        let other = Foreign { namespace_id: "ns".into(), ..foreign }.encode_to_vec();
        assert_eq!(
            Seal::new("a").open_task(&other, Kind::ActivityTask).unwrap_err(),
            invalid("Error deserializing task token.")
        );
    }

    #[test]
    fn damaged_tokens_are_refused() {
        let seal = Seal::new("a");
        let sealed = seal.task(&token()).to_vec();
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(seal.open_task(&bad, Kind::WorkflowTask).is_err(), "byte {at}");
            assert!(seal.open_task(&sealed[..at], Kind::WorkflowTask).is_err(), "cut at {at}");
        }
    }
}
