//! Search attributes as a client sets them: how many, how large, and the engine's checks of each.

use std::collections::BTreeMap;

use mainstay_api::record::NamespaceRecord;
use mainstay_api::temporal::common::v1::SearchAttributes;
use mainstay_engine::search_attributes::add_type;
use prost::Message;

use crate::status::{Answer, invalid};

const KEYS_MAX: usize = 100;
const VALUE_SIZE_MAX: usize = 2 << 10;
const TOTAL_SIZE_MAX: usize = 40 << 10;

/// Checks what a client sets and adds each value's type; null and empty lists mean "not set".
pub(crate) fn normalise(attributes: &mut Option<SearchAttributes>, namespace: &NamespaceRecord) -> Answer<()> {
    let Some(all) = attributes else { return Ok(()) };
    let count = all.indexed_fields.len();
    if count > KEYS_MAX {
        return Err(invalid(format!("number of search attributes {count} exceeds limit {KEYS_MAX}")));
    }
    let mut kept = BTreeMap::new();
    for (name, mut value) in std::mem::take(&mut all.indexed_fields) {
        if add_type(&name, &mut value, namespace).map_err(invalid)? {
            kept.insert(name, value);
        }
    }
    all.indexed_fields = kept;
    if let Some((name, value)) = all.indexed_fields.iter().find(|(_, value)| value.data.len() > VALUE_SIZE_MAX) {
        let size = value.data.len();
        return Err(invalid(format!("search attribute {name} value size {size} exceeds size limit {VALUE_SIZE_MAX}")));
    }
    let total = all.encoded_len();
    if total > TOTAL_SIZE_MAX {
        return Err(invalid(format!("total size of search attributes {total} exceeds size limit {TOTAL_SIZE_MAX}")));
    }
    if all.indexed_fields.is_empty() {
        *attributes = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use mainstay_api::temporal::common::v1::Payload;
    use mainstay_api::temporal::enums::v1::IndexedValueType as Type;

    use super::*;
    use crate::status::status_of;

    fn set(name: &str, json: &str) -> Result<Option<SearchAttributes>, String> {
        let kinds = [("I", Type::Int), ("K", Type::Keyword), ("L", Type::KeywordList), ("T", Type::Datetime)];
        let namespace = NamespaceRecord {
            name: "ns".into(),
            search_attributes: kinds.map(|(name, kind)| (name.to_string(), kind as i32)).into(),
            ..NamespaceRecord::default()
        };
        let metadata = [("encoding".to_string(), Bytes::from_static(b"json/plain"))].into();
        let value = Payload { metadata, data: json.as_bytes().to_vec().into(), ..Payload::default() };
        let mut all = Some(SearchAttributes { indexed_fields: [(name.to_string(), value)].into() });
        match normalise(&mut all, &namespace) {
            Ok(()) => Ok(all),
            Err(refusal) => Err(status_of(&refusal).message().to_string()),
        }
    }

    #[test]
    fn values_have_their_type() {
        let typed = set("I", "42").unwrap().unwrap();
        assert_eq!(typed.indexed_fields["I"].metadata["type"], "Int");
        assert_eq!(set("I", "4.0").unwrap_err(), "invalid value for search attribute I of type Int: 4");
        assert_eq!(
            set("K", r#"["a","b"]"#).unwrap_err(),
            "invalid value for search attribute K of type Keyword: [a b]"
        );
        assert!(set("K", r#"["one"]"#).is_ok());
        assert_eq!(set("L", "[1]").unwrap_err(), "invalid value for search attribute L of type KeywordList: [1]");
        assert_eq!(
            set("T", "\"yesterday\"").unwrap_err(),
            "invalid value for search attribute T of type Datetime: yesterday"
        );
        assert_eq!(set("X", "1").unwrap_err(), "Namespace ns has no mapping defined for search attribute X");
        assert_eq!(set("WorkflowId", "1").unwrap_err(), "WorkflowId attribute can't be set in SearchAttributes");
    }

    #[test]
    fn null_and_empty_lists_are_not_set() {
        assert_eq!(set("I", "null").unwrap(), None);
        assert_eq!(set("L", "[]").unwrap(), None);
    }

    #[test]
    fn sizes_are_bounded() {
        let long = format!("\"{}\"", "x".repeat(2100));
        assert_eq!(set("K", &long).unwrap_err(), "search attribute K value size 2102 exceeds size limit 2048");
    }
}
