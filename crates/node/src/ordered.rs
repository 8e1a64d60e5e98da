//! Lists in an order that a filter asks for: what `shard::ordered` reads of all shards, and its page token.

use mainstay_api::record::VisibilityRecord;
use mainstay_api::temporal::enums::v1::ResourceExhaustedCause;
use mainstay_engine::Error;
use mainstay_runtime::Runtime;
use mainstay_shard::{ListSpace, OrderedPosition, PageError};
use mainstay_visibility::Order;
use prost::Message;

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
        let lists = self.lists(page.namespace_id)?;
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

fn write_token(end: &OrderedPosition) -> Vec<u8> {
    let mut token = vec![TOKEN_VERSION];
    token.extend(end.encode_to_vec());
    token
}

/// Behind which place a page begins.
fn read_token(token: &[u8]) -> Result<Option<OrderedPosition>, Error> {
    match token {
        [] => Ok(None),
        [TOKEN_VERSION, end @ ..] => OrderedPosition::decode(end).map(Some).map_err(|_| invalid_token()),
        _ => Err(invalid_token()),
    }
}
