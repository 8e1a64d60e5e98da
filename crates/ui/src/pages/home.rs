//! The root: recent workflows of the default namespace.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Redirect;

use crate::Ui;
use crate::link::Links;

pub async fn home(State(ui): State<Arc<Ui>>) -> Redirect {
    Redirect::to(&Links { base: &ui.config.public_path, namespace: "default" }.workflows(""))
}
