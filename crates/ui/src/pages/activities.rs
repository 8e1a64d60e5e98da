//! What can be done with one pending activity: pause, unpause, reset. Each has a page that says what it means and asks; then it is
//! one call of the API, and the run's page again.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use mainstay_api::temporal::enums::v1::PendingActivityState;
use mainstay_api::temporal::workflow::v1::PendingActivityInfo;
use mainstay_api::temporal::workflowservice::v1::{
    PauseActivityExecutionRequest, ResetActivityExecutionRequest, UnpauseActivityExecutionRequest,
};
use maud::{Markup, html};
use serde::Deserialize;

use super::workflow::{Run, Shown};
use super::{IDENTITY, request_id, secret};
use crate::Ui;
use crate::api::ask;
use crate::link::parameters;
use crate::problem::Problem;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;

/// The fields of the links and of the forms.
#[derive(Debug, Default, Deserialize)]
pub struct Fields {
    /// The activity's id.
    #[serde(default)]
    id: String,
    #[serde(default)]
    act: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    keep_paused: String,
    #[serde(default)]
    heartbeat: String,
}

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Pause,
    Unpause,
    Reset,
}

impl Act {
    fn of(name: &str) -> Result<Self, Problem> {
        match name {
            "pause" => Ok(Self::Pause),
            "unpause" => Ok(Self::Unpause),
            "reset" => Ok(Self::Reset),
            _ => Err(Problem::invalid("An activity can be paused, unpaused and reset.")),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Reset => "reset",
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Pause => "Pause",
            Self::Unpause => "Unpause",
            Self::Reset => "Reset",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Self::Pause => {
                "No further attempt is made until it is unpaused. An attempt that runs is told by its next heartbeat; its result still counts."
            }
            Self::Unpause => "The next attempt is made at once, or when its pause between attempts is over.",
            Self::Reset => {
                "Its attempts are counted from one again and the next is made at once. An attempt that runs goes on, and is told by its next heartbeat."
            }
        }
    }
}

/// The links of one activity's row.
pub fn links(ui: &Ui, shown: &Shown, activity: &PendingActivityInfo) -> Markup {
    let name = activity.activity_type.as_ref().map(|kind| kind.name.as_str()).unwrap_or_default();
    let link = |act: Act| {
        let query = parameters(&[("act", act.name()), ("id", &activity.activity_id)]);
        html! {
            a.button.small href={ (shown.address(ui)) "/activity" (query) } {
                (act.words()) span.sr { " activity " (name) " " (activity.activity_id) }
            }
        }
    };
    let asked_to_pause = activity.state() == PendingActivityState::PauseRequested;
    html! {
        div.acts {
            (link(if activity.paused || asked_to_pause { Act::Unpause } else { Act::Pause }))
            (link(Act::Reset))
        }
    }
}

/// Says what it means, before anything is done.
pub async fn confirm(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Query(fields): Query<Fields>,
    visitor: Visitor,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let act = Act::of(&fields.act)?;
    let described = shown.describe(&ui).await?;
    let found = described.pending_activities.iter().find(|activity| activity.activity_id == fields.id);
    let activity = found.ok_or_else(|| Problem::not_found("This activity is not pending any more."))?;
    let kind = activity.activity_type.as_ref().map(|kind| kind.name.as_str()).unwrap_or_default();
    let body = html! {
        section.panel.narrow {
            nav.crumbs aria-label="Where" { a.mono href=(shown.address(&ui)) { (shown.workflow_id) } }
            h1 { (act.words()) " " (kind) "?" }
            p.muted { "Activity " span.mono { (activity.activity_id) } ", attempt " (activity.attempt) }
            p { (act.meaning()) }
            form method="post" action={ (shown.address(&ui)) "/activity" } {
                (secret(&visitor))
                input type="hidden" name="id" value=(activity.activity_id);
                input type="hidden" name="act" value=(act.name());
                (options(act, activity))
                div.buttons { a.button href=(shown.address(&ui)) { "Leave it" } button.primary { (act.words()) } }
            }
        }
    };
    let shell =
        Shell { section: Section::Workflows, namespace: Some(&shown.namespace), title: act.words(), events: None };
    Ok(shell.answer(&ui, &visitor, body).await)
}

fn options(act: Act, activity: &PendingActivityInfo) -> Markup {
    html! {
        @if act == Act::Reset {
            label.check { input type="checkbox" name="heartbeat" value="1"; "Forget the details of its last heartbeat" }
            @if activity.paused { label.check { input type="checkbox" name="keep_paused" value="1" checked; "Keep it paused" } }
        } @else {
            label { "Reason" input name="reason" autocomplete="off"; }
        }
    }
}

/// Does it.
pub async fn act(
    State(ui): State<Arc<Ui>>,
    Path(run): Path<Run>,
    Form(fields): Form<Fields>,
) -> Result<Response, Problem> {
    let shown = Shown::from(run);
    let act = Act::of(&fields.act)?;
    let (namespace, workflow_id, run_id) = (shown.namespace.clone(), shown.workflow_id.clone(), shown.run_id.clone());
    let (identity, request_id, activity_id) = (IDENTITY.to_owned(), request_id(), fields.id);
    let mut api = ui.api.workflows();
    match act {
        Act::Pause => {
            let reason = fields.reason;
            let request = PauseActivityExecutionRequest {
                namespace,
                workflow_id,
                run_id,
                activity_id,
                identity,
                reason,
                request_id,
                ..Default::default()
            };
            ask(api.pause_activity_execution(request)).await.map(drop)?;
        }
        Act::Unpause => {
            let reason = fields.reason;
            let request = UnpauseActivityExecutionRequest {
                namespace,
                workflow_id,
                run_id,
                activity_id,
                identity,
                reason,
                request_id,
                ..Default::default()
            };
            ask(api.unpause_activity_execution(request)).await.map(drop)?;
        }
        Act::Reset => {
            let request = ResetActivityExecutionRequest {
                namespace,
                workflow_id,
                run_id,
                activity_id,
                identity,
                request_id,
                keep_paused: !fields.keep_paused.is_empty(),
                reset_heartbeat: !fields.heartbeat.is_empty(),
                ..Default::default()
            };
            ask(api.reset_activity_execution(request)).await.map(drop)?;
        }
    }
    let done = format!("activity-{}", act.name());
    Ok(Redirect::to(&(shown.address(&ui) + &parameters(&[("done", &done)]))).into_response())
}
