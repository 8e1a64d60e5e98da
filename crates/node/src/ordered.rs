//! Lists in an order that a filter asks for: what `shard::ordered` reads of the shards at hand, pages of others, and the page token.

use mainstay_api::peer::RowsRead;
use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_engine::Error;
use mainstay_runtime::Runtime;
use mainstay_shard::{ListSpace, OrderedPosition, PageError};
use mainstay_visibility::{Best, Order, Query};
use prost::Message;

use crate::gather::{self, Ask};
use crate::list::RowPage;
use crate::node::Node;
use crate::unreadable;

const TOKEN_VERSION: u8 = 3;

impl<R: Runtime> Node<R> {
    /// A page of rows in an order, and the token of the next. Blocks.
    pub(crate) fn ordered_page(
        &self,
        page: &RowPage<'_>,
        order: &Order,
        spaces: &[ListSpace],
    ) -> Result<(Vec<VisibilityRecord>, Vec<u8>), Error> {
        let position = read_token(page.token)?;
        let lists = self.lists(page.namespace_id, page.part)?;
        let plan = lists.plan(page.query, spaces)?;
        let (rows, end) = lists.ordered(page, order, &plan, spaces, position.as_ref()).map_err(refusal)?;
        Ok((rows, end.map(|end| write_token(&end)).unwrap_or_default()))
    }
}

fn refusal(error: PageError) -> Error {
    match error {
        PageError::Storage(error) => unreadable(error),
        PageError::Position => invalid_token(),
        PageError::TooMany(message) => {
            Error::ResourceExhausted { cause: ResourceExhaustedCause::SystemOverloaded, message }
        }
    }
}

fn invalid_token() -> Error {
    Error::invalid("Invalid NextPageToken.")
}

pub(crate) fn write_token(end: &OrderedPosition) -> Vec<u8> {
    let mut token = vec![TOKEN_VERSION];
    token.extend(end.encode_to_vec());
    token
}

/// Behind which place a page begins.
pub(crate) fn read_token(token: &[u8]) -> Result<Option<OrderedPosition>, Error> {
    match token {
        [] => Ok(None),
        [TOKEN_VERSION, end @ ..] => OrderedPosition::decode(end).map(Some).map_err(|_| invalid_token()),
        _ => Err(invalid_token()),
    }
}

/// One page out of the first pages of several shards, which had the same time.
pub(crate) fn merge(
    query: &Query,
    order: &Order,
    ask: &Ask,
    pages: Vec<RowsRead>,
) -> Result<(Vec<VisibilityRecord>, Vec<u8>), Error> {
    let position = read_token(&ask.token)?;
    let as_of_ns = position.as_ref().map_or(ask.as_of_ns, OrderedPosition::as_of_ns);
    // Behind the nearest end of a page nothing is known of its shard.
    let mut cut: Option<OrderedPosition> = None;
    for page in &pages {
        if let Some(end) = read_token(&page.token)?
            && cut.as_ref().is_none_or(|nearest| end.key() < nearest.key())
        {
            cut = Some(end);
        }
    }
    let mut best = Best::new(order, as_of_ns, position.as_ref().map_or(&[], OrderedPosition::key), ask.size);
    let is_known =
        |row: &VisibilityRecord| cut.as_ref().is_none_or(|cut| order.key(row, as_of_ns).as_slice() <= cut.key());
    pages.into_iter().flat_map(gather::rows).filter(is_known).for_each(|row| best.add(row));
    let is_full = best.is_full();
    let rows = best.page();
    let last = rows.last().filter(|_| is_full).map(|row| OrderedPosition::of(query, order, row, as_of_ns));
    Ok((rows, last.or(cut).map(|end| write_token(&end)).unwrap_or_default()))
}
