//! A worker's answers to updates: each asks for what becomes of it, and its answer says whose it is.

use std::time::Duration;

use mainstay_api::temporal::command::v1::Command;
use mainstay_api::temporal::failure::v1::Failure;
use mainstay_api::temporal::protocol::v1::Message;
use mainstay_api::temporal::protocol::v1::message::SequencingId;
use mainstay_api::temporal::update::v1::outcome::Value;
use mainstay_api::temporal::update::v1::{Acceptance, Meta, Outcome, Rejection, Request, Response};
use prost::Message as _;
use prost_types::Any;

use crate::client::payloads;
use crate::commands::{message, start_timer};
use crate::progress::{Progress, wish};

/// What an update asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To be completed with its acceptance.
    Now,
    /// To be completed after a while.
    Later(Duration),
    /// To be accepted and to fail.
    Fail,
    /// To be rejected.
    Reject,
}

impl Wish {
    /// As an update's argument.
    #[must_use]
    pub fn text(self) -> String {
        match self {
            Self::Now => "now".into(),
            Self::Later(pause) => format!("later{}", pause.as_millis()),
            Self::Fail => "fail".into(),
            Self::Reject => "reject".into(),
        }
    }

    fn of(text: &str) -> Self {
        match (text, text.strip_prefix("later").and_then(|millis| millis.parse().ok())) {
            (_, Some(millis)) => Self::Later(Duration::from_millis(millis)),
            ("fail", _) => Self::Fail,
            ("reject", _) => Self::Reject,
            _ => Self::Now,
        }
    }
}

/// What an update that is completed answers.
#[must_use]
pub fn answer(id: &str) -> String {
    format!("updated-{id}")
}

/// A worker's answers.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) commands: Vec<Command>,
    pub(crate) messages: Vec<Message>,
}

impl Answers {
    /// The answers to updates that were sent with a task, and to those that were accepted before and are due now.
    pub(crate) fn of(progress: &Progress, sent: &[Message]) -> Self {
        let mut answers = Self::default();
        for (id, update) in progress.updates.iter().filter(|(_, update)| update.accepted && !update.completed) {
            answers.go_on(progress, id, Wish::of(&update.wish));
        }
        for message in sent {
            let body = message.body.clone().unwrap_or_default();
            let Ok(request) = Request::decode(body.value.as_slice()) else { panic!("{body:?} is no update") };
            answers.first(progress, message, request);
        }
        answers
    }

    fn first(&mut self, progress: &Progress, sent: &Message, request: Request) {
        let id = sent.protocol_instance_id.as_str();
        let wish = Wish::of(&wish(Some(&request)));
        let event_id = match sent.sequencing_id {
            Some(SequencingId::EventId(id)) => id,
            _ => 0,
        };
        if wish == Wish::Reject {
            let failure = Failure { message: "rejected by plan".into(), ..Failure::default() };
            let body = Rejection {
                rejected_request_message_id: sent.id.clone(),
                rejected_request_sequencing_event_id: event_id,
                rejected_request: Some(request),
                failure: Some(failure),
            };
            return self.say(id, "reject", "Rejection", &body, false);
        }
        let body = Acceptance {
            accepted_request_message_id: sent.id.clone(),
            accepted_request_sequencing_event_id: event_id,
            accepted_request: Some(request),
        };
        self.say(id, "accept", "Acceptance", &body, true);
        self.go_on(progress, id, wish);
    }

    /// An accepted update is completed, or waits for its timer.
    fn go_on(&mut self, progress: &Progress, id: &str, wish: Wish) {
        let timer = format!("u-{id}");
        let value = match wish {
            Wish::Later(pause) if !progress.timers_over.contains(&timer) => {
                if !progress.timers.contains(&timer) {
                    self.commands.push(start_timer(&timer, pause.as_millis() as u64));
                }
                return;
            }
            Wish::Fail => Value::Failure(Failure { message: "failed by plan".into(), ..Failure::default() }),
            _ => Value::Success(payloads(&answer(id)).unwrap_or_default()),
        };
        let body = Response {
            meta: Some(Meta { update_id: id.into(), identity: String::new() }),
            outcome: Some(Outcome { value: Some(value) }),
        };
        self.say(id, "complete", "Response", &body, true);
    }

    fn say(&mut self, id: &str, suffix: &str, kind: &str, body: &impl prost::Message, placed: bool) {
        let message_id = format!("{id}/{suffix}");
        if placed {
            self.commands.push(message(&message_id));
        }
        let type_url = format!("type.googleapis.com/temporal.api.update.v1.{kind}");
        let body = Some(Any { type_url, value: body.encode_to_vec() });
        self.messages.push(Message { id: message_id, protocol_instance_id: id.into(), body, sequencing_id: None });
    }
}
