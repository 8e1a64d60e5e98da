//! Page tokens of histories: opaque to clients, bound to a run and a direction.

use bytes::Bytes;
use mainstay_node::service::HistoryPosition;

use crate::status::{Answer, invalid};
use crate::token::Seal;

#[derive(Clone, PartialEq, prost::Message)]
struct Page {
    #[prost(string, tag = "1")]
    run_id: String,
    #[prost(int64, tag = "2")]
    event_id: i64,
    #[prost(int64, tag = "3")]
    until_event_id: i64,
    #[prost(bool, tag = "4")]
    wait: bool,
    #[prost(bool, tag = "5")]
    reverse: bool,
}

/// A token for the next page; empty at the end.
pub(crate) fn write(seal: Seal, next: Option<HistoryPosition>, reverse: bool) -> Bytes {
    let Some(next) = next else { return Bytes::new() };
    let HistoryPosition { run_id, event_id, until_event_id, wait } = next;
    seal.close(&Page { run_id, event_id, until_event_id, wait, reverse }).into()
}

/// Where a token goes on; none for the first page. `run_id` is the request's, empty for the current run.
///
/// # Errors
/// If the token is not ours, or of another run.
pub(crate) fn read(seal: Seal, token: &[u8], run_id: &str, reverse: bool) -> Answer<Option<HistoryPosition>> {
    if token.is_empty() {
        return Ok(None);
    }
    let page: Option<Page> = seal.open(token).filter(|page: &Page| page.reverse == reverse);
    let Page { run_id: of, event_id, until_event_id, wait, .. } =
        page.ok_or_else(|| invalid("Invalid NextPageToken."))?;
    if !run_id.is_empty() && run_id != of {
        return Err(invalid("RunId in the request does not match the NextPageToken."));
    }
    Ok(Some(HistoryPosition { run_id: of, event_id, until_event_id, wait }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_and_is_bound_to_run_and_direction() {
        let seal = Seal::new("c");
        let at = HistoryPosition { run_id: "r1".into(), event_id: 7, until_event_id: 12, wait: true };
        let token = write(seal, Some(at.clone()), false);
        assert_eq!(read(seal, &token, "r1", false).unwrap(), Some(at.clone()));
        assert_eq!(read(seal, &token, "", false).unwrap(), Some(at));
        assert!(read(seal, &token, "r2", false).is_err());
        assert!(read(seal, &token, "r1", true).is_err());
        assert!(read(seal, b"garbage", "r1", false).is_err());
        assert_eq!(read(seal, b"", "r1", false).unwrap(), None);
        assert!(write(seal, None, false).is_empty());
    }
}
