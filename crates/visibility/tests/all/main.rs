//! One binary for all tests of this crate, since each one more would be compiled and linked with everything below it.

mod meaning;
mod orders;
mod plans;
mod recorded;

use std::collections::BTreeMap;

use mainstay_api::temporal::enums::v1::IndexedValueType as Kind;

/// A namespace's attributes, one of each type.
fn custom() -> BTreeMap<String, i32> {
    let kinds = [
        ("K", Kind::Keyword),
        ("L", Kind::KeywordList),
        ("T", Kind::Text),
        ("I", Kind::Int),
        ("D", Kind::Double),
        ("B", Kind::Bool),
        ("W", Kind::Datetime),
    ];
    kinds.into_iter().map(|(name, kind)| (name.to_string(), kind as i32)).collect()
}
