//! Namespaces as this node knows them: the metadata group's records, and how far each shard's log knows them.
//!
//! A shard must not depend on another group's log, so a namespace is logged to it before the first command that needs it; the
//! registry remembers which revision each shard has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mainstay_api::log::{Command, PutNamespace, command::Op};
use mainstay_api::peer::call;
use mainstay_api::record::NamespaceRecord;
use mainstay_base::RunId;
use mainstay_engine::Error;
use mainstay_runtime::{Instant, Runtime};

use crate::execute::Proposal;
use crate::lock;
use crate::node::{METADATA_GROUP, Node};
use crate::route::Here;
use crate::service::Namespace;

/// How long a change of a namespace waits for the other nodes to know it.
const KNOWN_WITHIN: Duration = Duration::from_millis(500);
const KNOWN_PAUSE: Duration = Duration::from_millis(5);

#[derive(Default)]
struct Known {
    by_id: BTreeMap<String, Namespace>,
    id_by_name: BTreeMap<String, String>,
    /// By namespace id, then by group.
    revisions: BTreeMap<String, BTreeMap<u32, u64>>,
}

/// Namespaces in memory.
#[derive(Default)]
pub(crate) struct Registry {
    known: Mutex<Known>,
}

impl Registry {
    /// A group's log set a namespace.
    pub(crate) fn applied(&self, group: u32, record: NamespaceRecord) {
        let mut known = lock(&self.known);
        if group != METADATA_GROUP {
            known.revisions.entry(record.id).or_default().insert(group, record.revision);
            return;
        }
        if let Some(old) = known.by_id.get(&record.id).map(|old| old.name.clone()) {
            known.id_by_name.remove(&old);
        }
        known.id_by_name.insert(record.name.clone(), record.id.clone());
        known.by_id.insert(record.id.clone(), Arc::new(record));
    }

    /// A group's log forgot a namespace.
    pub(crate) fn removed(&self, group: u32, id: &str) {
        let mut known = lock(&self.known);
        if group != METADATA_GROUP {
            known.revisions.entry(id.to_string()).or_default().remove(&group);
            return;
        }
        known.revisions.remove(id);
        if let Some(record) = known.by_id.remove(id)
            && known.id_by_name.get(&record.name).is_some_and(|found| found == id)
        {
            known.id_by_name.remove(&record.name);
        }
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Namespace> {
        let known = lock(&self.known);
        known.id_by_name.get(name).and_then(|id| known.by_id.get(id)).cloned()
    }

    pub(crate) fn by_id(&self, id: &str) -> Option<Namespace> {
        lock(&self.known).by_id.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Namespace> {
        let known = lock(&self.known);
        known.id_by_name.values().filter_map(|id| known.by_id.get(id)).cloned().collect()
    }

    /// The namespace, if this group's log does not know its newest revision.
    fn missing(&self, group: u32, id: &str) -> Result<Option<Namespace>, Error> {
        let known = lock(&self.known);
        let namespace = known.by_id.get(id).ok_or_else(|| Error::NamespaceNotFound(id.to_string()))?;
        let has = known.revisions.get(id).and_then(|groups| groups.get(&group));
        Ok((has != Some(&namespace.revision)).then(|| Arc::clone(namespace)))
    }
}

impl<R: Runtime> Node<R> {
    /// A namespace that another node, or a row, names. Whoever named it may know more than this node, which may have begun a moment
    /// ago: it catches up before it says that there is none.
    pub(crate) async fn named_namespace(&self, namespace_id: &str) -> Result<Namespace, Error> {
        if let Some(known) = self.board().registry.by_id(namespace_id) {
            return Ok(known);
        }
        self.catch_up(METADATA_GROUP).await?;
        let known = self.board().registry.by_id(namespace_id);
        known.ok_or_else(|| Error::NamespaceNotFound(namespace_id.to_string()))
    }

    /// Makes sure that a shard's log knows a namespace as this node does.
    pub(crate) async fn ensure_namespace(&self, group: u32, namespace_id: &str) -> Result<(), Error> {
        let mut missing = self.board().registry.missing(group, namespace_id);
        if let Err(Error::NamespaceNotFound(_)) = missing {
            self.named_namespace(namespace_id).await?;
            missing = self.board().registry.missing(group, namespace_id);
        }
        match missing? {
            None => Ok(()),
            Some(namespace) => self.stamp_and_propose(group, put(&namespace), Proposal::default()).await.map(|_| ()),
        }
    }

    /// Creates or replaces a namespace, at the metadata group's leader.
    pub(crate) async fn change_namespace(&self, mut record: NamespaceRecord) -> Result<Namespace, Error> {
        if record.id.is_empty() {
            // Here, so that a retry is known as such.
            record.id = RunId::from_random(R::random()).to_string();
        }
        if self.is_alone() {
            return self.store_namespace(record).await;
        }
        let call = || call::Call::PutNamespace(record.clone());
        let here = |_| -> Here<'_, NamespaceRecord> { Box::pin(self.store_and_tell(record.clone())) };
        let stored = self.at_leader(METADATA_GROUP, Duration::ZERO, call, here).await?;
        // If this node is behind, its callers see the change a little later.
        let _known = self.await_namespace(&stored).await;
        Ok(Arc::new(stored))
    }

    /// Stores a namespace, and sees to it that the other nodes know it.
    pub(crate) async fn store_and_tell(&self, record: NamespaceRecord) -> Result<NamespaceRecord, Error> {
        let stored = self.store_namespace(record).await?;
        self.tell_others(&stored).await;
        Ok((*stored).clone())
    }

    /// Creates or replaces a namespace. One at a time, so that two of one name cannot both be new.
    async fn store_namespace(&self, mut record: NamespaceRecord) -> Result<Namespace, Error> {
        let _one_at_a_time = self.namespace_changes().lock().await;
        let registry = &self.board().registry;
        let current = registry.by_id(&record.id);
        if record.revision == 0 {
            if let Some(stored) = current {
                // Its first answer was lost: nobody else knows the id.
                return Ok(stored);
            }
            if registry.by_name(&record.name).is_some() {
                return Err(Error::NamespaceAlreadyExists("Namespace already exists.".into()));
            }
            record.created_ns = self.now().as_nanos();
        } else {
            let current = current.ok_or_else(|| Error::NamespaceNotFound(record.name.clone()))?;
            if current.revision != record.revision {
                return Err(Error::Unavailable("the namespace was changed meanwhile; try again".into()));
            }
        }
        record.revision += 1;
        self.stamp_and_propose(METADATA_GROUP, put(&record), Proposal::default()).await?;
        registry.by_id(&record.id).ok_or_else(|| Error::Internal("a namespace was stored and is not there".into()))
    }
}

impl<R: Runtime> Node<R> {
    /// Waits until the other live members know a namespace as it is now, but not for long: who asks them next finds it.
    async fn tell_others(&self, record: &NamespaceRecord) {
        let cluster = self.board().members.now();
        let mut asked = Vec::new();
        for member in mainstay_shard::live(&cluster).filter(|member| member.node_id != self.id()) {
            let (node, id, record) = (self.clone(), member.node_id, record.clone());
            asked.push(R::spawn(async move {
                let call = call::Call::AwaitNamespace(record);
                let _heard = node.call_node::<()>(id, METADATA_GROUP, call, KNOWN_WITHIN).await;
            }));
        }
        for one in asked {
            let _ended = one.await;
        }
    }

    /// Resolves when this node knows a namespace in this revision.
    pub(crate) async fn await_namespace(&self, record: &NamespaceRecord) -> Result<(), Error> {
        let deadline = R::Instant::now() + KNOWN_WITHIN;
        while self.board().registry.by_id(&record.id).is_none_or(|known| known.revision < record.revision) {
            if R::Instant::now() >= deadline {
                return Err(Error::DeadlineExceeded("the namespace is not known yet".into()));
            }
            R::sleep(KNOWN_PAUSE).await;
        }
        Ok(())
    }
}

fn put(record: &NamespaceRecord) -> Command {
    Command { op: Some(Op::PutNamespace(PutNamespace { namespace: Some(record.clone()) })), ..Command::default() }
}
