//! What the server says of itself.

use mainstay_api::temporal::enums::v1::IndexedValueType as Type;
use mainstay_api::temporal::version::v1::{ReleaseInfo, VersionInfo};
use mainstay_api::temporal::workflowservice::v1::{
    GetClusterInfoRequest, GetClusterInfoResponse, GetSearchAttributesRequest, GetSearchAttributesResponse,
    GetSystemInfoRequest, GetSystemInfoResponse, get_system_info_response::Capabilities,
};
use mainstay_node::Service;
use mainstay_runtime::Runtime;

use super::{Call, Frontend};
use crate::SERVER_VERSION;
use crate::operator::columns;
use crate::status::Answer;
use mainstay_engine::search_attributes::{PREDEFINED, SYSTEM};

/// Clients, and the versions of theirs that work.
const CLIENTS: [(&str, &str); 10] = [
    ("temporal-cli", "<2.0.0"),
    ("temporal-dotnet", "<2.0.0"),
    ("temporal-go", "<2.0.0"),
    ("temporal-java", "<2.0.0"),
    ("temporal-php", "<2.0.0"),
    ("temporal-python", "<2.0.0"),
    ("temporal-ruby", "<2.0.0"),
    ("temporal-server", "<2.0.0"),
    ("temporal-typescript", "<2.0.0"),
    ("temporal-ui", "<3.0.0"),
];

impl<R: Runtime, S: Service> Frontend<R, S> {
    pub(super) async fn get_system_info(&self, _: Call<GetSystemInfoRequest>) -> Answer<GetSystemInfoResponse> {
        let capabilities = Capabilities {
            signal_and_query_header: true,
            internal_error_differentiation: true,
            activity_failure_include_heartbeat: true,
            supports_schedules: true,
            encoded_failure_attributes: true,
            build_id_based_versioning: true,
            upsert_memo: true,
            eager_workflow_start: true,
            sdk_metadata: true,
            count_group_by_execution_status: true,
            nexus: false,
            server_scaled_deployments: false,
            ..Capabilities::default()
        };
        Ok(GetSystemInfoResponse { server_version: SERVER_VERSION.into(), capabilities: Some(capabilities) })
    }

    pub(super) async fn get_cluster_info(&self, _: Call<GetClusterInfoRequest>) -> Answer<GetClusterInfoResponse> {
        let current = Some(ReleaseInfo { version: SERVER_VERSION.into(), ..ReleaseInfo::default() });
        Ok(GetClusterInfoResponse {
            supported_clients: CLIENTS.map(|(name, versions)| (name.to_string(), versions.to_string())).into(),
            server_version: SERVER_VERSION.into(),
            cluster_id: self.service.cluster_id(),
            version_info: Some(VersionInfo { current, ..VersionInfo::default() }),
            cluster_name: super::namespaces::CLUSTER.into(),
            history_shard_count: self.config.shard_count,
            persistence_store: self.config.store_name.clone(),
            visibility_store: self.config.store_name.clone(),
            initial_failover_version: 1,
            failover_version_increment: 10,
        })
    }

    pub(super) async fn get_search_attributes(
        &self,
        _: Call<GetSearchAttributesRequest>,
    ) -> Answer<GetSearchAttributesResponse> {
        let named = SYSTEM.iter().chain(&PREDEFINED).map(|(name, kind)| (name.to_string(), *kind as i32));
        let columns = columns().map(|(name, kind): (String, Type)| (name, kind as i32));
        Ok(GetSearchAttributesResponse { keys: named.chain(columns).collect() })
    }
}
