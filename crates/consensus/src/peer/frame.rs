//! What two nodes say to each other on a connection: frames, each with its length, a checksum and a version.
//!
//! | bytes | |
//! |---|---|
//! | 4 | length of what follows the first eight bytes |
//! | 4 | checksum of it: the lower half of its XXH3 |
//! | 1 | version of the frame's form, [`VERSION`] |
//! | 1 | kind |
//! | … | as the kind says; integers are big-endian |
//!
//! Whoever connects sends a hello and gets a welcome or a refusal; after that it sends calls, cancels and pings, and gets answers,
//! refusals and pongs, in any order. A frame that is too long, damaged or unknown ends the connection.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use xxhash_rust::xxh3::xxh3_64;

use super::Hello;

pub(crate) const VERSION: u8 = 1;
/// Bytes of one frame. Larger than any message that this crate makes.
pub(crate) const FRAME_BYTES_MAX: usize = 64 << 20;
/// Bytes of a frame from someone who was not let in yet.
pub(crate) const GREETING_BYTES_MAX: usize = 64 << 10;
/// Bytes before the part that the length counts.
const PREFIX: usize = 8;
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

const HELLO: u8 = 0;
const WELCOME: u8 = 1;
const UNWELCOME: u8 = 2;
const CALL: u8 = 3;
const ANSWER: u8 = 4;
const REFUSAL: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;
const CANCEL: u8 = 8;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Who connects, and to whom.
    Hello(Hello),
    /// The hello was accepted; by the node with this id.
    Welcome { node: u64 },
    /// It was not, in a sentence.
    Unwelcome { reason: String },
    /// A call of a service.
    Call { id: u64, service: u16, body: Bytes },
    /// What a call came to.
    Answer { id: u64, body: Bytes },
    /// A call that the other side did not do, in a sentence.
    Refusal { id: u64, reason: String },
    /// Nobody waits for the answer of a call any more.
    Cancel { id: u64 },
    /// Asks for a sign of life.
    Ping,
    /// The sign.
    Pong,
}

/// Adds a frame to what is to be written.
pub(crate) fn encode(frame: &Frame, out: &mut BytesMut) {
    let start = out.len();
    out.put_u64(0);
    out.put_u8(VERSION);
    match frame {
        Frame::Hello(hello) => {
            out.put_u8(HELLO);
            out.put_u64(hello.from);
            out.put_u64(hello.to);
            out.put_u64(hello.incarnation);
            out.put_slice(hello.cluster.as_bytes());
        }
        Frame::Welcome { node } => {
            out.put_u8(WELCOME);
            out.put_u64(*node);
        }
        Frame::Unwelcome { reason } => {
            out.put_u8(UNWELCOME);
            out.put_slice(reason.as_bytes());
        }
        Frame::Call { id, service, body } => {
            out.put_u8(CALL);
            out.put_u64(*id);
            out.put_u16(*service);
            out.put_slice(body);
        }
        Frame::Answer { id, body } => {
            out.put_u8(ANSWER);
            out.put_u64(*id);
            out.put_slice(body);
        }
        Frame::Refusal { id, reason } => {
            out.put_u8(REFUSAL);
            out.put_u64(*id);
            out.put_slice(reason.as_bytes());
        }
        Frame::Cancel { id } => {
            out.put_u8(CANCEL);
            out.put_u64(*id);
        }
        Frame::Ping => out.put_u8(PING),
        Frame::Pong => out.put_u8(PONG),
    }
    let payload = &out[start + PREFIX..];
    let (length, checksum) = (payload.len() as u32, xxh3_64(payload) as u32);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + PREFIX].copy_from_slice(&checksum.to_be_bytes());
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn need(rest: &Bytes, bytes: usize) -> io::Result<()> {
    if rest.len() < bytes { Err(bad("a frame is too short")) } else { Ok(()) }
}

fn text(rest: Bytes) -> String {
    String::from_utf8_lossy(&rest).into_owned()
}

fn decode(mut rest: Bytes) -> io::Result<Frame> {
    need(&rest, 2)?;
    let (version, kind) = (rest.get_u8(), rest.get_u8());
    if version != VERSION {
        return Err(bad(format!("a frame of version {version}, not {VERSION}")));
    }
    match kind {
        HELLO => {
            need(&rest, 24)?;
            let (from, to, incarnation) = (rest.get_u64(), rest.get_u64(), rest.get_u64());
            Ok(Frame::Hello(Hello { from, to, incarnation, cluster: text(rest) }))
        }
        WELCOME => {
            need(&rest, 8)?;
            Ok(Frame::Welcome { node: rest.get_u64() })
        }
        UNWELCOME => Ok(Frame::Unwelcome { reason: text(rest) }),
        CALL => {
            need(&rest, 10)?;
            Ok(Frame::Call { id: rest.get_u64(), service: rest.get_u16(), body: rest })
        }
        ANSWER => {
            need(&rest, 8)?;
            Ok(Frame::Answer { id: rest.get_u64(), body: rest })
        }
        REFUSAL => {
            need(&rest, 8)?;
            Ok(Frame::Refusal { id: rest.get_u64(), reason: text(rest) })
        }
        CANCEL => {
            need(&rest, 8)?;
            Ok(Frame::Cancel { id: rest.get_u64() })
        }
        PING => Ok(Frame::Ping),
        PONG => Ok(Frame::Pong),
        other => Err(bad(format!("a frame of unknown kind {other}"))),
    }
}

/// Takes a whole frame off what was read, if there is one.
fn take(read: &mut BytesMut, limit: usize) -> io::Result<Option<Frame>> {
    let Some((prefix, _)) = read.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([prefix[0], prefix[1], prefix[2], prefix[3]]) as usize;
    let checksum = u32::from_be_bytes([prefix[4], prefix[5], prefix[6], prefix[7]]);
    if length > limit {
        return Err(bad(format!("a frame of {length} bytes, where at most {limit} are allowed")));
    }
    if read.len() < PREFIX + length {
        read.reserve(PREFIX + length - read.len());
        return Ok(None);
    }
    let payload = read.split_to(PREFIX + length).freeze().slice(PREFIX..);
    if xxh3_64(&payload) as u32 != checksum {
        return Err(bad("a frame with a wrong checksum"));
    }
    decode(payload).map(Some)
}

/// Reads frames off a stream.
pub(crate) struct FrameReader<S> {
    stream: S,
    limit: usize,
    read: BytesMut,
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// Of a stranger: only small frames are read.
    pub fn new(stream: S) -> Self {
        Self { stream, limit: GREETING_BYTES_MAX, read: BytesMut::new() }
    }

    /// The other side is a node of the cluster: from now on all frames are read.
    pub fn trust(&mut self) {
        self.limit = FRAME_BYTES_MAX;
    }

    /// The next frame; an error at the end of the stream.
    pub async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = take(&mut self.read, self.limit)? {
                return Ok(frame);
            }
            self.read.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side closed the connection"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let body = proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        let hello = (any::<u64>(), any::<u64>(), any::<u64>(), "\\PC{0,20}");
        prop_oneof![
            hello.prop_map(|(from, to, incarnation, cluster)| Frame::Hello(Hello { from, to, incarnation, cluster })),
            any::<u64>().prop_map(|node| Frame::Welcome { node }),
            "\\PC{0,20}".prop_map(|reason| Frame::Unwelcome { reason }),
            (any::<u64>(), any::<u16>(), body.clone()).prop_map(|(id, service, body)| Frame::Call {
                id,
                service,
                body
            }),
            (any::<u64>(), body).prop_map(|(id, body)| Frame::Answer { id, body }),
            (any::<u64>(), "\\PC{0,20}").prop_map(|(id, reason)| Frame::Refusal { id, reason }),
            any::<u64>().prop_map(|id| Frame::Cancel { id }),
            Just(Frame::Ping),
            Just(Frame::Pong),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(sent in proptest::collection::vec(frames(), 1..6), cut in 1..50_usize) {
            let mut wire = BytesMut::new();
            sent.iter().for_each(|frame| encode(frame, &mut wire));
            let (mut read, mut found) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(cut) {
                read.extend_from_slice(piece);
                while let Some(frame) = take(&mut read, FRAME_BYTES_MAX).expect("is whole") {
                    found.push(frame);
                }
            }
            prop_assert_eq!(found, sent);
            prop_assert!(read.is_empty());
        }

        #[test]
        fn a_damaged_frame_is_refused(frame in frames(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut wire = BytesMut::new();
            encode(&frame, &mut wire);
            let at = at.index(wire.len());
            wire[at] ^= 1 << bit;
            // A damaged length may only make it wait for more.
            prop_assert!(!matches!(take(&mut wire, FRAME_BYTES_MAX), Ok(Some(_))));
        }
    }
}
