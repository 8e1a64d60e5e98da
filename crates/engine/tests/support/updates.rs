//! Updates as a leader and a worker send them.

#![allow(dead_code)]

use mainstay_api::temporal::common::v1::{Payload, Payloads};
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::protocol::v1::Message;
use mainstay_api::temporal::update::v1::{Acceptance, Input, Meta, Outcome, Rejection, Request, Response, outcome};
use prost::Message as _;

/// The request of an update with this id.
pub fn request(id: &str) -> Request {
    Request {
        meta: Some(Meta { update_id: id.into(), identity: "client".into() }),
        input: Some(Input { name: "up".into(), ..Input::default() }),
        ..Request::default()
    }
}

/// A worker's answer: `accept`, `accept-unknown` (with the request in it), `reject` or `respond`.
pub fn message(how: &str, id: &str) -> Message {
    let message_id = format!("{id}/request");
    let (kind, value) = match how {
        "accept" | "accept-unknown" => {
            let accepted_request = (how == "accept-unknown").then(|| request(id));
            let acceptance =
                Acceptance { accepted_request_message_id: message_id, accepted_request, ..Acceptance::default() };
            ("Acceptance", acceptance.encode_to_vec())
        }
        "reject" => {
            let failure = Some(Failure { message: "no".into(), ..Failure::default() });
            let rejection = Rejection { rejected_request_message_id: message_id, failure, ..Rejection::default() };
            ("Rejection", rejection.encode_to_vec())
        }
        "respond" => {
            let payload = Payload { data: "1".into(), ..Payload::default() };
            let success = outcome::Value::Success(Payloads { payloads: vec![payload] });
            let outcome = Some(Outcome { value: Some(success) });
            ("Response", Response { meta: request(id).meta, outcome }.encode_to_vec())
        }
        other => panic!("unknown answer {other}"),
    };
    let body = prost_types::Any { type_url: format!("type.googleapis.com/temporal.api.update.v1.{kind}"), value };
    Message { id: format!("{id}/{how}"), protocol_instance_id: id.into(), body: Some(body), ..Message::default() }
}
