//! Search attributes of the load: up to five, of as many types, with values that differ from workflow to workflow.

use mainstay_api::temporal::common::v1::SearchAttributes;
use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;
use mainstay_api::temporal::operatorservice::v1::AddSearchAttributesRequest;
use mainstay_api::temporal::operatorservice::v1::operator_service_client::OperatorServiceClient;
use tonic::transport::Endpoint;

use crate::Options;
use crate::server::payload;

const ALL: [(&str, Kind); 5] = [
    ("BenchKeyword", Kind::Keyword),
    ("BenchInt", Kind::Int),
    ("BenchText", Kind::Text),
    ("BenchDatetime", Kind::Datetime),
    ("BenchBool", Kind::Bool),
];
/// Different values of the keyword.
pub(crate) const KEYWORDS: u64 = 1_000;

/// Adds to the namespace what the load will set.
pub(crate) async fn add(options: &Options) -> Result<(), String> {
    if options.search_attributes == 0 {
        return Ok(());
    }
    let endpoint = Endpoint::from_shared(format!("http://{}", options.address)).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let wanted = ALL.iter().take(options.search_attributes);
    let request = AddSearchAttributesRequest {
        search_attributes: wanted.map(|(name, kind)| (name.to_string(), *kind as i32)).collect(),
        namespace: options.namespace.clone(),
    };
    let added = OperatorServiceClient::new(channel).add_search_attributes(request).await;
    added.map(drop).map_err(|status| format!("no search attributes: {status}"))
}

/// Those of one workflow.
pub(crate) fn of(count: usize, number: u64) -> Option<SearchAttributes> {
    let value = |kind: Kind| match kind {
        Kind::Keyword => format!("\"k{}\"", number % KEYWORDS),
        Kind::Int => number.to_string(),
        Kind::Text => format!("\"order {} of customer {}\"", number % 50, number % 5_000),
        Kind::Datetime => format!("\"2024-01-{:02}T00:00:00Z\"", 1 + number % 28),
        _ => number.is_multiple_of(2).to_string(),
    };
    let fields = ALL.iter().take(count);
    let fields = fields.map(|(name, kind)| (name.to_string(), payload("json/plain", value(*kind).into())));
    (count > 0).then(|| SearchAttributes { indexed_fields: fields.collect() })
}
