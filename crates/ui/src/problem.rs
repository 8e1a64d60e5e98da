//! What went wrong, as a page that says what it is and what to do.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, html};
use tonic::{Code, Status};

use crate::Ui;
use crate::shell::{Section, Shell};
use crate::visitor::Visitor;

/// A failure, as people read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub status: StatusCode,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What exactly: the server's own words where there are some.
    pub message: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, message: impl Into<String>, advice: &'static str) -> Self {
        Self { status, title, message: message.into(), advice }
    }

    pub fn host(host: &str) -> Self {
        let message = format!("This server does not answer to the name {host:?}.");
        let advice =
            "Open it as localhost or by its IP address, or start the server with --ui-allowed-host and this name.";
        Self::new(StatusCode::FORBIDDEN, "Unknown host", message, advice)
    }

    pub fn foreign_form() -> Self {
        let message = "The form was not sent by a page of this server.";
        Self::new(StatusCode::FORBIDDEN, "Refused", message, "Nothing was done. Use the form on the page itself.")
    }

    pub fn stale_form() -> Self {
        let message = "The form does not carry the secret of this browser.";
        let advice = "Nothing was done. Reload the page and try again; cookies of this server must be allowed.";
        Self::new(StatusCode::FORBIDDEN, "Refused", message, advice)
    }

    pub fn form_too_large(limit: usize) -> Self {
        let message = format!("A form may have {} MiB.", limit >> 20);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Too large", message, "Nothing was done. Send less.")
    }

    pub fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "Refused", "Pages are read with GET and forms sent with POST.", "")
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "That is not valid",
            message,
            "Nothing was done. Go back, correct it and try again.",
        )
    }

    pub fn changed() -> Self {
        let message = "Somebody changed it since this form was opened. Open it again, so that nobody's change is lost.";
        Self::new(StatusCode::CONFLICT, "Changed meanwhile", message, "Nothing was done.")
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "Not found",
            message,
            "It may have been deleted, or the address has a mistake.",
        )
    }

    /// A page that needs neither the server nor any other file.
    pub fn bare(self) -> Response {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { (self.title) } }
                body { h1 { (self.title) } p { (self.message) } p { (self.advice) } }
            }
        };
        (
            self.status,
            [(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))],
            page.into_string(),
        )
            .into_response()
    }
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let (code, title, advice) = match status.code() {
            Code::NotFound => {
                (StatusCode::NOT_FOUND, "Not found", "It may have been deleted, or its retention is over.")
            }
            Code::InvalidArgument | Code::OutOfRange => {
                (StatusCode::BAD_REQUEST, "That is not valid", "Go back, correct it and try again.")
            }
            Code::FailedPrecondition | Code::Aborted => {
                (StatusCode::CONFLICT, "Not possible now", "What it concerns is not in a state that allows this.")
            }
            Code::AlreadyExists => (StatusCode::CONFLICT, "Exists already", "Choose another name."),
            Code::PermissionDenied | Code::Unauthenticated => (StatusCode::FORBIDDEN, "Not allowed", ""),
            Code::ResourceExhausted => {
                (StatusCode::TOO_MANY_REQUESTS, "Too much", "A limit is reached. Try again later, or ask for less.")
            }
            Code::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not available",
                "The server is starting, stopping or without a leader. Try again.",
            ),
            Code::DeadlineExceeded | Code::Cancelled => (
                StatusCode::GATEWAY_TIMEOUT,
                "No answer in time",
                "If this needs a worker, check that one polls the task queue.",
            ),
            Code::Unimplemented => (StatusCode::NOT_IMPLEMENTED, "Not there yet", "This server does not offer it."),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "Something is wrong in the server", "Its log says more."),
        };
        Self::new(code, title, status.message(), advice)
    }
}

/// The page is made by [`as_page`], which knows who asked.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives a failure the looks of a page. What the router itself refuses (a path that does not decode) becomes one as well.
pub async fn as_page(State(ui): State<Arc<Ui>>, visitor: Visitor, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let problem = response.extensions().get::<Problem>().cloned();
    let refused = || response.status().is_client_error() && !response.headers().contains_key("x-mainstay-page");
    let Some(problem) =
        problem.or_else(|| refused().then(|| Problem::invalid("The address or the form is not complete.")))
    else {
        return response;
    };
    let body = html! {
        section.problem {
            h1 { (problem.title) }
            p.mono { (problem.message) }
            p.muted { (problem.advice) }
            p { a href={ (ui.config.public_path) "/" } { "Recent workflows" } }
        }
    };
    let shell = Shell { section: Section::None, namespace: None, title: problem.title, events: None };
    let mut page = shell.page(&ui, &visitor, &[], &body);
    *page.status_mut() = problem.status;
    page
}

/// What is behind no route.
pub async fn no_such_page() -> Problem {
    Problem::not_found("There is no page at this address.")
}
