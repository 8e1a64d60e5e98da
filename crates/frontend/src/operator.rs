//! OperatorService: search attributes of a namespace, the cluster, deleting namespaces.
//!
//! As on Temporal's SQL stores, a namespace has a pool of columns for each type, and a custom attribute is an alias of one. Here a
//! column is no storage, only a name that the namespace's record keeps beside the attribute.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::enums::v1::{IndexedValueType as Type, NamespaceState};
use mainstay_api::temporal::operatorservice::v1::operator_service_server::OperatorService;
use mainstay_api::temporal::operatorservice::v1::*;
use mainstay_node::service::{Namespace, Service};
use mainstay_runtime::Runtime;
use tonic::{Request, Response, Status};

use crate::measure::Calls;
use crate::status::{Answer, invalid, not_found, precondition, status_of};
use crate::workflow_service::{CLUSTER, Frontend, SYSTEM_NAMESPACE};
use mainstay_engine::search_attributes::{PREDEFINED, SYSTEM, type_name};

/// Columns of each type.
const POOL: [(Type, usize); 7] = [
    (Type::Bool, 3),
    (Type::Datetime, 3),
    (Type::Double, 3),
    (Type::Int, 3),
    (Type::Keyword, 10),
    (Type::KeywordList, 3),
    (Type::Text, 3),
];
/// Names that Temporal's stores use themselves.
const RESERVED: [&str; 2] = ["NamespaceId", "VisibilityTaskKey"];
const RESERVED_PREFIX: &str = "Temporal";
const DELETED_ID_LENGTH: usize = 5;

/// The operator's view of a frontend.
pub(crate) struct Operator<R, S> {
    frontend: Arc<Frontend<R, S>>,
    calls: Calls,
}

impl<R: Runtime, S: Service> Operator<R, S> {
    pub(crate) fn new(frontend: Arc<Frontend<R, S>>) -> Self {
        Self { frontend, calls: Calls::new(&NAMES, "Operator") }
    }

    fn namespace(&self, name: &str) -> Answer<Namespace> {
        if name.is_empty() {
            return Err(invalid("Namespace is not set on request."));
        }
        let service = &self.frontend.service;
        Ok(service.namespace(name).ok_or_else(|| service.no_namespace(name))?)
    }

    async fn add(&self, r: AddSearchAttributesRequest) -> Answer<AddSearchAttributesResponse> {
        if r.search_attributes.is_empty() {
            return Err(invalid("SearchAttributes are not set on request."));
        }
        for (name, kind) in &r.search_attributes {
            if is_reserved(name) {
                return Err(invalid(format!("Search attribute {name} is reserved by system.")));
            }
            if Type::try_from(*kind).is_err() {
                return Err(invalid(format!("Unknown search attribute type: {kind}.")));
            }
        }
        self.namespace(&r.namespace)?;
        let add = |record: &mut NamespaceRecord| {
            let mut all = r.search_attributes.iter();
            all.try_for_each(|(name, kind)| add_attribute(record, name, Type::try_from(*kind).unwrap_or_default()))
        };
        self.frontend.change_namespace(&r.namespace, add).await?;
        Ok(AddSearchAttributesResponse::default())
    }

    async fn remove(&self, r: RemoveSearchAttributesRequest) -> Answer<RemoveSearchAttributesResponse> {
        if r.search_attributes.is_empty() {
            return Err(invalid("SearchAttributes are not set on request."));
        }
        self.namespace(&r.namespace)?;
        for name in &r.search_attributes {
            let column = || columns().any(|(column, _)| column == *name);
            let known = |all: &[(&str, Type)]| all.iter().any(|(known, _)| known == name);
            if known(&SYSTEM) || known(&PREDEFINED) || column() {
                return Err(invalid(format!("Unable to remove non-custom search attributes: {name}.")));
            }
        }
        let remove = |record: &mut NamespaceRecord| {
            record.search_attribute_columns = aliases(record);
            record.search_attributes.retain(|name, _| !r.search_attributes.contains(name));
            record.search_attribute_columns.retain(|_, name| !r.search_attributes.contains(name));
            Ok(())
        };
        self.frontend.change_namespace(&r.namespace, remove).await?;
        Ok(RemoveSearchAttributesResponse::default())
    }

    async fn list(&self, r: ListSearchAttributesRequest) -> Answer<ListSearchAttributesResponse> {
        let found = self.namespace(&r.namespace)?;
        let named = |(name, kind): &(&str, Type)| (name.to_string(), *kind as i32);
        Ok(ListSearchAttributesResponse {
            custom_attributes: found.search_attributes.clone(),
            system_attributes: SYSTEM.iter().chain(&PREDEFINED).map(named).collect(),
            storage_schema: BTreeMap::new(),
        })
    }

    /// The name is free at once; what the namespace holds is not erased.
    async fn delete(&self, r: DeleteNamespaceRequest) -> Answer<DeleteNamespaceResponse> {
        let (found, asked) = match (r.namespace.as_str(), r.namespace_id.as_str()) {
            ("", "") => return Err(invalid("Namespace not set on request.")),
            (name, "") => (self.frontend.namespace_by_name(name), name),
            ("", id) => (self.frontend.namespace_with_id(id), id),
            _ => return Err(invalid("Only one of namespace name or Id should be set on request.")),
        };
        let found = found.ok_or_else(|| self.frontend.service.no_namespace(asked))?;
        if found.name == SYSTEM_NAMESPACE {
            return Err(precondition("unable to delete system namespace"));
        }
        let short_id: String = found.id.chars().take(DELETED_ID_LENGTH).collect();
        let deleted_namespace = format!("{}-deleted-{short_id}", found.name);
        let delete = |record: &mut NamespaceRecord| {
            record.name.clone_from(&deleted_namespace);
            record.state = NamespaceState::Deleted as i32;
            Ok(())
        };
        self.frontend.change_namespace(&found.name, delete).await?;
        Ok(DeleteNamespaceResponse { deleted_namespace })
    }

    async fn clusters(&self, _: ListClustersRequest) -> Answer<ListClustersResponse> {
        let cluster = ClusterMetadata {
            cluster_name: CLUSTER.into(),
            cluster_id: self.frontend.service.cluster_id(),
            initial_failover_version: 1,
            history_shard_count: self.frontend.config.shard_count,
            is_connection_enabled: true,
            ..ClusterMetadata::default()
        };
        Ok(ListClustersResponse { clusters: vec![cluster], ..ListClustersResponse::default() })
    }

    /// None: they are not supported, so nobody can have made one. Whoever asks for all of them gets all of them.
    async fn nexus_endpoints(&self, _: ListNexusEndpointsRequest) -> Answer<ListNexusEndpointsResponse> {
        Ok(ListNexusEndpointsResponse::default())
    }

    async fn remove_cluster(&self, _: RemoveRemoteClusterRequest) -> Answer<RemoveRemoteClusterResponse> {
        Err(not_found("The cluster to be deleted cannot be found in clusters cache."))
    }
}

fn is_reserved(name: &str) -> bool {
    let known = |all: &[(&str, Type)]| all.iter().any(|(known, _)| *known == name);
    known(&SYSTEM) || known(&PREDEFINED) || RESERVED.contains(&name) || name.starts_with(RESERVED_PREFIX)
}

/// An attribute that exists keeps its type; an empty name is no attribute, and no error.
fn add_attribute(record: &mut NamespaceRecord, name: &str, kind: Type) -> Answer<()> {
    if name.is_empty() || record.search_attributes.contains_key(name) {
        return Ok(());
    }
    let limit = POOL.iter().find(|(of, _)| *of == kind).map_or(0, |(_, count)| *count);
    let used = record.search_attributes.values().filter(|of| **of == kind as i32).count();
    if used >= limit {
        let text = format!("cannot have more than {limit} search attribute of type {}.", type_name(kind));
        return Err(invalid(format!("Unable to create search attributes: {text}")));
    }
    record.search_attributes.insert(name.into(), kind as i32);
    record.search_attribute_columns = aliases(record);
    Ok(())
}

/// All columns by name: `Bool01` and so on.
pub(crate) fn columns() -> impl Iterator<Item = (String, Type)> {
    POOL.into_iter().flat_map(|(kind, count)| (1..=count).map(move |n| (format!("{}{n:02}", type_name(kind)), kind)))
}

/// Which column stands for which custom attribute. An attribute that was given without a column has the first free one of its type.
pub(crate) fn aliases(namespace: &NamespaceRecord) -> BTreeMap<String, String> {
    let mut aliases = namespace.search_attribute_columns.clone();
    for (name, kind) in &namespace.search_attributes {
        if aliases.values().any(|alias| alias == name) {
            continue;
        }
        let free = (1..).map(|n| format!("{}{n:02}", type_name(Type::try_from(*kind).unwrap_or_default())));
        if let Some(column) = free.into_iter().find(|column| !aliases.contains_key(column)) {
            aliases.insert(column, name.clone());
        }
    }
    aliases
}

/// Adds and removes attributes by their columns, as UpdateNamespace does. A name that another column has is left there, and a
/// column that does not exist is only remembered. (Recorded.)
pub(crate) fn update_aliases(record: &mut NamespaceRecord, update: &BTreeMap<String, String>) -> Answer<()> {
    if update.is_empty() {
        return Ok(());
    }
    let mut present = aliases(record);
    for (column, alias) in update {
        match (present.get(column), alias.as_str()) {
            (Some(name), "") => {
                record.search_attributes.remove(name);
                present.remove(column);
            }
            (Some(name), alias) if name != alias => {
                return Err(invalid("Custom search attribute field name already allocated."));
            }
            (None, alias) if !alias.is_empty() && !present.values().any(|name| name == alias) => {
                present.insert(column.clone(), alias.to_string());
                if let Some((_, kind)) = columns().find(|(name, _)| name == column) {
                    record.search_attributes.insert(alias.to_string(), kind as i32);
                }
            }
            _ => {}
        }
    }
    record.search_attribute_columns = present;
    Ok(())
}

/// Registers the calls: RPC, request, response, method of [`Operator`].
macro_rules! register {
    ($($name:ident($request:ty) -> $response:ty: $method:ident,)*) => {
        /// Each call by the name of its method.
        #[allow(non_camel_case_types)]
        #[derive(Clone, Copy)]
        enum Method {
            $($name,)*
        }

        const NAMES: [&str; [$(Method::$name),*].len()] = [$(stringify!($name)),*];

        #[tonic::async_trait]
        impl<R: Runtime, S: Service> OperatorService for Operator<R, S> {
            $(
                async fn $name(&self, request: Request<$request>) -> Result<Response<$response>, Status> {
                    let service = &self.frontend.service;
                    let measured = self.calls.begin::<R, S>(service, Method::$name as usize, &request);
                    let answer = self.$method(request.into_inner()).await;
                    measured.end(&answer);
                    answer.map(Response::new).map_err(|refusal| status_of(&refusal))
                }
            )*
        }
    };
}

register! {
    add_search_attributes(AddSearchAttributesRequest) -> AddSearchAttributesResponse: add,
    delete_namespace(DeleteNamespaceRequest) -> DeleteNamespaceResponse: delete,
    list_clusters(ListClustersRequest) -> ListClustersResponse: clusters,
    list_nexus_endpoints(ListNexusEndpointsRequest) -> ListNexusEndpointsResponse: nexus_endpoints,
    list_search_attributes(ListSearchAttributesRequest) -> ListSearchAttributesResponse: list,
    remove_remote_cluster(RemoveRemoteClusterRequest) -> RemoveRemoteClusterResponse: remove_cluster,
    remove_search_attributes(RemoveSearchAttributesRequest) -> RemoveSearchAttributesResponse: remove,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Refusal, status_of};

    fn text(answer: Result<(), Refusal>) -> String {
        answer.err().map(|refusal| status_of(&refusal).message().to_string()).unwrap_or_default()
    }

    #[test]
    fn a_pool_bounds_each_type() {
        let mut record = NamespaceRecord::default();
        for n in 0..3 {
            assert_eq!(text(add_attribute(&mut record, &format!("B{n}"), Type::Bool)), "");
        }
        let full = "Unable to create search attributes: cannot have more than 3 search attribute of type Bool.";
        assert_eq!(text(add_attribute(&mut record, "B3", Type::Bool)), full);
        assert_eq!(text(add_attribute(&mut record, "B1", Type::Int)), "");
        assert_eq!(record.search_attributes["B1"], Type::Bool as i32);
    }

    #[test]
    fn columns_stand_for_attributes() {
        let mut record = NamespaceRecord::default();
        let update = |column: &str, alias: &str| BTreeMap::from([(column.to_string(), alias.to_string())]);
        assert_eq!(text(update_aliases(&mut record, &update("Keyword01", "Mine"))), "");
        assert_eq!(aliases(&record), update("Keyword01", "Mine"));
        let allocated = "Custom search attribute field name already allocated.";
        assert_eq!(text(update_aliases(&mut record, &update("Keyword01", "Other"))), allocated);
        assert_eq!(text(update_aliases(&mut record, &update("Keyword01", ""))), "");
        assert!(record.search_attributes.is_empty());
        for (column, alias) in [("Int01", "Number"), ("Keyword02", "Number"), ("NoSuchColumn", "X"), ("Keyword03", "K")]
        {
            assert_eq!(text(update_aliases(&mut record, &update(column, alias))), "");
        }
        let pair = |(column, alias): (&str, &str)| (column.to_string(), alias.to_string());
        let expected = [("Int01", "Number"), ("Keyword03", "K"), ("NoSuchColumn", "X")].map(pair);
        assert_eq!(aliases(&record), BTreeMap::from(expected));
        assert!(!record.search_attributes.contains_key("X"), "a column that does not exist has no type");
        assert_eq!(text(add_attribute(&mut record, "A", Type::Keyword)), "");
        assert_eq!(aliases(&record)["Keyword01"], "A", "a new attribute takes the first free column");
        assert_eq!(aliases(&record)["Keyword03"], "K", "and moves no other");
    }

    #[test]
    fn the_servers_names_are_reserved() {
        for name in ["WorkflowId", "BuildIds", "TemporalMine", "NamespaceId"] {
            assert!(is_reserved(name), "{name}");
        }
        assert!(!is_reserved("Mine"));
    }
}
