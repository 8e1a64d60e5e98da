//! Lists in an order that a filter asks for: each page is the first rows behind a place, out of all that the plan leads to.
//!
//! No index has that order, so every page looks at all rows that the filter's own plan brings, and keeps as many as a page has. A list by
//! start or close, latest first, ends early: a shard's list holds nothing newer behind what was met. What would look at more than
//! [`LOOKED_AT_MAX`] rows is refused.

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_engine::Error;
use mainstay_runtime::Runtime;
use mainstay_shard::ListSpace;
use mainstay_visibility::{Best, Order};

use crate::list::RowPage;
use crate::node::Node;

const TOKEN_VERSION: u8 = 2;
/// Rows that one page looks at.
pub(crate) const LOOKED_AT_MAX: usize = 5_000_000;

impl<R: Runtime> Node<R> {
    /// A page of rows in an order, and the token of the next. Blocks.
    pub(crate) fn ordered_page(
        &self,
        page: &RowPage<'_>,
        order: &Order,
        spaces: &[ListSpace],
    ) -> Result<(Vec<VisibilityRecord>, Vec<u8>), Error> {
        let mut best = Best::new(order, read_token(page.token)?, page.size);
        let lists = self.lists(page.namespace_id)?;
        let plan = lists.plan(page.query, spaces)?;
        let mut rows = lists.rows(&plan, spaces, None);
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            looked_at += 1;
            if looked_at > LOOKED_AT_MAX {
                return Err(too_many());
            }
            if best.excludes(&row) {
                rows.leave_list();
                continue;
            }
            if page.query.matches(&row) {
                best.add(row);
            }
        }
        let (found, end) = best.page();
        let token = end.map(|key| [&[TOKEN_VERSION], key.as_slice()].concat()).unwrap_or_default();
        Ok((found, token))
    }
}

fn too_many() -> Error {
    Error::ResourceExhausted {
        cause: ResourceExhaustedCause::SystemOverloaded,
        message: format!("the order would look at more than {LOOKED_AT_MAX} rows: ask for fewer by the filter"),
    }
}

/// The key of the last row that was shown; before all keys at first.
fn read_token(token: &[u8]) -> Result<&[u8], Error> {
    match token {
        [] => Ok(&[]),
        [TOKEN_VERSION, key @ ..] => Ok(key),
        _ => Err(Error::invalid("Invalid NextPageToken.")),
    }
}
