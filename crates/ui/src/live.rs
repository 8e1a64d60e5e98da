//! Telling browsers that a page would look different now. A stream sends no content, only that something changed; the browser then
//! asks for the page again, so there is one way to draw it. The stream's address says what the page was drawn from, so that
//! nothing is missed between the two.

use std::convert::Infallible;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use prost::Message;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

/// How often a page's state is looked at while somebody watches it.
const LOOK_EVERY: Duration = Duration::from_millis(700);
/// A stream ends after this and the browser opens another, so that none is forgotten.
const STREAM_MAX: Duration = Duration::from_secs(600);

/// What a page shows, as a number that changes with it; none if it cannot be said now.
pub type Print = Option<u64>;

/// The print of a message.
pub fn print(message: &impl Message) -> Print {
    let mut hasher = DefaultHasher::new();
    message.encode_to_vec().hash(&mut hasher);
    Some(hasher.finish())
}

/// What the address of a stream says.
#[derive(Debug, Default, Deserialize)]
pub struct Seen {
    /// The print that the page was drawn from.
    #[serde(default)]
    seen: String,
}

/// The address of a page's stream.
pub fn address(path: &str, seen: Print) -> String {
    let separator = if path.contains('?') { '&' } else { '?' };
    format!("{path}{separator}seen={:016x}", seen.unwrap_or_default())
}

/// A stream that says `change` whenever the print is another than before, which at first is what the page was drawn from.
pub fn changes<F>(seen: &Seen, mut look: impl FnMut() -> F + Send + 'static) -> Response
where
    F: Future<Output = Print> + Send,
{
    let (tell, told) = mpsc::channel::<()>(1);
    let mut last = u64::from_str_radix(&seen.seen, 16).ok();
    tokio::spawn(async move {
        let until = tokio::time::Instant::now() + STREAM_MAX;
        while tokio::time::Instant::now() < until {
            let now = look().await;
            if now.is_some() && now != last {
                last = now;
                if tell.send(()).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                biased;
                () = tell.closed() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    });
    let events = ReceiverStream::new(told).map(|()| Ok::<_, Infallible>(Event::default().event("change").data("1")));
    Sse::new(events).keep_alive(KeepAlive::default()).into_response()
}
