//! Namespaces: register, describe, list, update, deprecate.

use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::enums::v1::{ArchivalState, NamespaceState, ReplicationState};
use mainstay_api::temporal::namespace::v1::{
    NamespaceConfig, NamespaceInfo, UpdateNamespaceInfo,
    namespace_info::{Capabilities, Limits},
};
use mainstay_api::temporal::replication::v1::{ClusterReplicationConfig, NamespaceReplicationConfig};
use mainstay_api::temporal::workflowservice::v1::{
    DeprecateNamespaceRequest, DeprecateNamespaceResponse, DescribeNamespaceRequest, DescribeNamespaceResponse,
    ListNamespacesRequest, ListNamespacesResponse, RegisterNamespaceRequest, RegisterNamespaceResponse,
    UpdateNamespaceRequest, UpdateNamespaceResponse,
};
use mainstay_base::limits::MEMO_SIZE_MAX;
use mainstay_base::{RunId, Timestamp};
use mainstay_engine::Error;
use mainstay_node::service::{Namespace, Service};
use mainstay_runtime::Runtime;
use prost_types::Duration;

use super::{Call, Frontend};
use crate::operator::{aliases, update_aliases};
use crate::status::{Answer, invalid};
use crate::validate;

/// The one cluster's name.
pub(crate) const CLUSTER: &str = "active";
/// Name and id of the namespace that belongs to the server.
pub(crate) const SYSTEM_NAMESPACE: &str = "temporal-system";
const SYSTEM_NAMESPACE_ID: &str = "32049b68-7872-4094-8e63-d0dd59896a83";
const SECOND: i64 = 1_000_000_000;
const RETENTION_MIN: i64 = 3600 * SECOND;
const PAGE_SIZE_MAX: usize = 1_000;
/// How often a change is tried when others change the same namespace, and how long it rests between.
const CHANGE_TRIES: u32 = 20;
const CHANGE_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// A completion may come in several pages in newer SDKs; this is what all together may weigh.
const COMPLETION_SIZE_MAX: i64 = 40 << 20;

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn register_namespace(
        &self,
        call: Call<RegisterNamespaceRequest>,
    ) -> Answer<RegisterNamespaceResponse> {
        let r = call.request;
        name_is_set(&r.namespace)?;
        validate::length("Namespace", &r.namespace)?;
        let retention_ns = retention(r.workflow_execution_retention_period.as_ref())?;
        if r.is_global_namespace {
            return Err(invalid("Cannot register global namespace when not enabled"));
        }
        check_clusters(&r.active_cluster_name, &r.clusters)?;
        if self.namespace_by_name(&r.namespace).is_some() {
            return Err(Error::NamespaceAlreadyExists(format!("Namespace \"{}\" already exists", r.namespace)).into());
        }
        let record = NamespaceRecord {
            id: RunId::from_random(R::random()).to_string(),
            name: r.namespace,
            state: NamespaceState::Registered as i32,
            description: r.description,
            owner_email: r.owner_email,
            data: r.data,
            retention_ns,
            created_ns: R::wall_clock().as_nanos(),
            ..NamespaceRecord::default()
        };
        self.service.put_namespace(record).await?;
        Ok(RegisterNamespaceResponse::default())
    }

    pub(super) async fn describe_namespace(
        &self,
        call: Call<DescribeNamespaceRequest>,
    ) -> Answer<DescribeNamespaceResponse> {
        let r = call.request;
        let (found, asked) = match (r.namespace.as_str(), r.id.as_str()) {
            ("", "") => return Err(invalid("Namespace not set on request.")),
            ("", id) => (self.namespace_with_id(id), id),
            (name, "") => (self.namespace_by_name(name), name),
            _ => return Err(invalid("GetNamespace operation failed. Both ID and Name specified in request.")),
        };
        let found = found.ok_or_else(|| self.service.no_namespace(asked))?;
        Ok(self.describe(&found))
    }

    /// In order of name; a page token is the last name of a page.
    pub(super) async fn list_namespaces(&self, call: Call<ListNamespacesRequest>) -> Answer<ListNamespacesResponse> {
        let r = call.request;
        let all = r.namespace_filter.is_some_and(|filter| filter.include_deleted);
        let mut listed = self.service.namespaces();
        if !listed.iter().any(|namespace| namespace.name == SYSTEM_NAMESPACE) {
            listed.push(system_namespace());
        }
        listed.retain(|n| (all || n.state() != NamespaceState::Deleted) && n.name.as_bytes() > &r.next_page_token[..]);
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        let size = usize::try_from(r.page_size).ok().filter(|size| (1..=PAGE_SIZE_MAX).contains(size));
        let size = size.unwrap_or(PAGE_SIZE_MAX);
        let more = listed.len() > size;
        listed.truncate(size);
        let next = listed.last().filter(|_| more).map(|last| last.name.clone().into_bytes()).unwrap_or_default();
        let namespaces = listed.iter().map(|namespace| self.describe(namespace)).collect();
        Ok(ListNamespacesResponse { namespaces, next_page_token: next.into() })
    }

    pub(super) async fn update_namespace(&self, call: Call<UpdateNamespaceRequest>) -> Answer<UpdateNamespaceResponse> {
        let r = call.request;
        name_is_set(&r.namespace)?;
        let stored = self.change_namespace(&r.namespace, |record| update(record, &r, R::wall_clock())).await?;
        let DescribeNamespaceResponse { namespace_info, config, replication_config, failover_version, .. } =
            self.describe(&stored);
        Ok(UpdateNamespaceResponse {
            namespace_info,
            config,
            replication_config,
            failover_version,
            is_global_namespace: false,
        })
    }

    pub(super) async fn deprecate_namespace(
        &self,
        call: Call<DeprecateNamespaceRequest>,
    ) -> Answer<DeprecateNamespaceResponse> {
        let name = call.request.namespace;
        name_is_set(&name)?;
        let deprecate = |record: &mut NamespaceRecord| {
            record.state = NamespaceState::Deprecated as i32;
            Ok(())
        };
        self.change_namespace(&name, deprecate).await?;
        Ok(DeprecateNamespaceResponse::default())
    }

    /// Reads, changes and writes a namespace; again, if somebody else changed it between.
    pub(crate) async fn change_namespace(
        &self,
        name: &str,
        change: impl Fn(&mut NamespaceRecord) -> Answer<()>,
    ) -> Answer<Namespace> {
        let mut tries = CHANGE_TRIES;
        loop {
            let found = self.namespace_by_name(name).ok_or_else(|| self.service.no_namespace(name))?;
            let mut record = (*found).clone();
            change(&mut record)?;
            if record == *found {
                return Ok(found);
            }
            tries -= 1;
            match self.service.put_namespace(record).await {
                Err(Error::Unavailable(_)) if tries > 0 => R::sleep(CHANGE_PAUSE).await,
                answer => return Ok(answer?),
            }
        }
    }

    /// A namespace of any state.
    pub(crate) fn namespace_by_name(&self, name: &str) -> Option<Namespace> {
        let system = || (name == SYSTEM_NAMESPACE).then(system_namespace);
        self.service.namespace(name).or_else(system)
    }

    pub(crate) fn namespace_with_id(&self, id: &str) -> Option<Namespace> {
        let system = || (id == SYSTEM_NAMESPACE_ID).then(system_namespace);
        self.service.namespace_by_id(id).or_else(system)
    }
}

/// Clients expect to see it; nothing runs in it here.
fn system_namespace() -> Namespace {
    Namespace::new(NamespaceRecord {
        id: SYSTEM_NAMESPACE_ID.into(),
        name: SYSTEM_NAMESPACE.into(),
        state: NamespaceState::Registered as i32,
        description: "Temporal internal system namespace".into(),
        owner_email: "temporal-core@temporal.io".into(),
        retention_ns: 7 * 24 * RETENTION_MIN,
        ..NamespaceRecord::default()
    })
}

fn name_is_set(name: &str) -> Answer<()> {
    if name.is_empty() { Err(invalid("Namespace not set on request.")) } else { Ok(()) }
}

fn retention(period: Option<&Duration>) -> Answer<i64> {
    let nanos = |d: &Duration| d.seconds.checked_mul(SECOND)?.checked_add(i64::from(d.nanos));
    let period = period.and_then(nanos).filter(|period| *period >= RETENTION_MIN);
    period.ok_or_else(|| invalid("A valid retention period is not set on request."))
}

fn check_clusters(active: &str, clusters: &[ClusterReplicationConfig]) -> Answer<()> {
    let named = clusters.iter().map(|cluster| cluster.cluster_name.as_str()).chain([active]);
    match named.filter(|name| !name.is_empty()).find(|name| *name != CLUSTER) {
        Some(name) => Err(invalid(format!("Invalid cluster name: {name}"))),
        None => Ok(()),
    }
}

fn update(record: &mut NamespaceRecord, r: &UpdateNamespaceRequest, now: Timestamp) -> Answer<()> {
    if r.promote_namespace {
        let text = "global namespace is not enabled on this cluster, cannot update global namespace or promote local namespace";
        return Err(invalid(format!("{text}: {}", r.namespace)));
    }
    if let Some(replication) = &r.replication_config {
        check_clusters(&replication.active_cluster_name, &replication.clusters)?;
    }
    update_bad_binaries(record, r, now)?;
    if let Some(info) = &r.update_info {
        update_info(record, info)?;
    }
    let Some(config) = &r.config else { return Ok(()) };
    if config.workflow_execution_retention_ttl.is_some() {
        record.retention_ns = retention(config.workflow_execution_retention_ttl.as_ref())?;
    }
    update_aliases(record, &config.custom_search_attribute_aliases)
}

/// Given ones replace all others; one can be deleted by its checksum. (Recorded.)
fn update_bad_binaries(record: &mut NamespaceRecord, r: &UpdateNamespaceRequest, now: Timestamp) -> Answer<()> {
    if let Some(given) = r.config.as_ref().and_then(|config| config.bad_binaries.as_ref()) {
        let (seconds, nanos) = now.to_parts();
        let mut binaries = given.clone();
        for info in binaries.binaries.values_mut() {
            info.create_time = Some(prost_types::Timestamp { seconds, nanos });
        }
        record.bad_binaries = Some(binaries);
    }
    let checksum = &r.delete_bad_binary;
    let known = record.bad_binaries.as_mut().and_then(|all| all.binaries.remove(checksum));
    if !checksum.is_empty() && known.is_none() {
        return Err(invalid(format!("Bad binary checksum {checksum} doesn't exists.")));
    }
    Ok(())
}

fn update_info(record: &mut NamespaceRecord, info: &UpdateNamespaceInfo) -> Answer<()> {
    use NamespaceState::{Deleted, Deprecated, Registered, Unspecified};
    if !info.description.is_empty() {
        record.description = info.description.clone();
    }
    if !info.owner_email.is_empty() {
        record.owner_email = info.owner_email.clone();
    }
    record.data.extend(info.data.clone());
    match (record.state(), info.state()) {
        (_, Unspecified) => {}
        (from, to) if from == to => {}
        (Registered | Unspecified, Registered | Deprecated | Deleted) | (Deprecated, Deleted) => {
            record.state = info.state;
        }
        _ => return Err(invalid("Invalid namespace state update.")),
    }
    Ok(())
}

impl<R: Runtime, S: Service> Frontend<R, S> {
    fn describe(&self, namespace: &NamespaceRecord) -> DescribeNamespaceResponse {
        let nanos = namespace.retention_ns;
        let retention = Duration { seconds: nanos / SECOND, nanos: (nanos % SECOND) as i32 };
        let clusters = vec![ClusterReplicationConfig { cluster_name: CLUSTER.into(), ..Default::default() }];
        DescribeNamespaceResponse {
            namespace_info: Some(NamespaceInfo {
                name: namespace.name.clone(),
                state: namespace.state,
                description: namespace.description.clone(),
                owner_email: namespace.owner_email.clone(),
                data: namespace.data.clone(),
                id: namespace.id.clone(),
                capabilities: Some(Capabilities {
                    eager_workflow_start: true,
                    worker_heartbeats: true,
                    reported_problems_search_attribute: true,
                    poller_autoscaling: true,
                    sync_update: true,
                    async_update: true,
                    workflow_pause: self.config.workflow_pause,
                    ..Capabilities::default()
                }),
                limits: Some(Limits {
                    blob_size_limit_error: self.config.blob_size_max as i64,
                    memo_size_limit_error: MEMO_SIZE_MAX as i64,
                    workflow_task_completion_size_limit_error: COMPLETION_SIZE_MAX,
                }),
                supports_schedules: true,
            }),
            config: Some(NamespaceConfig {
                workflow_execution_retention_ttl: Some(retention),
                history_archival_state: ArchivalState::Disabled as i32,
                visibility_archival_state: ArchivalState::Disabled as i32,
                custom_search_attribute_aliases: aliases(namespace),
                // Temporal shows the list even when it is empty.
                bad_binaries: Some(namespace.bad_binaries.clone().unwrap_or_default()),
                ..NamespaceConfig::default()
            }),
            replication_config: Some(NamespaceReplicationConfig {
                active_cluster_name: CLUSTER.into(),
                clusters,
                state: ReplicationState::Normal as i32,
            }),
            ..DescribeNamespaceResponse::default()
        }
    }
}
