//! The first bytes of a connection: HTTP/2's preface, or a client that speaks something else and should be told.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const REFUSAL: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 39\r\nconnection: close\r\n\r\n\
    This port speaks gRPC over HTTP/2 only\n";

/// A stream whose first bytes were read already and are given again.
pub(crate) struct Replayed<T> {
    first: Vec<u8>,
    given: usize,
    rest: T,
}

/// Reads the preface. Answers the stream from its beginning, or none after telling another kind of client to go.
pub(crate) async fn expect_http2<T>(mut stream: T) -> io::Result<Option<Replayed<T>>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = vec![0; PREFACE.len()];
    let mut length = 0;
    while length < PREFACE.len() {
        let read = stream.read(&mut first[length..]).await?;
        if read == 0 {
            return Ok(None);
        }
        length += read;
        if first[..length] != PREFACE[..length] {
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            return Ok(None);
        }
    }
    Ok(Some(Replayed { first, given: 0, rest: stream }))
}

impl<T: AsyncRead + Unpin> AsyncRead for Replayed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.given < this.first.len() {
            let count = buffer.remaining().min(this.first.len() - this.given);
            buffer.put_slice(&this.first[this.given..this.given + count]);
            this.given += count;
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.rest).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Replayed<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.rest).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.rest).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.rest.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_preface_is_given_again_and_another_protocol_is_told() {
        let (mut client, server) = tokio::io::duplex(256);
        client.write_all(PREFACE).await.unwrap();
        client.write_all(b"more").await.unwrap();
        let mut replayed = expect_http2(server).await.unwrap().unwrap();
        let mut read = [0; 28];
        replayed.read_exact(&mut read).await.unwrap();
        assert_eq!(&read[..24], PREFACE);
        assert_eq!(&read[24..], b"more");

        let (mut client, server) = tokio::io::duplex(1024);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(expect_http2(server).await.unwrap().is_none());
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400"));
        assert!(head.contains(&format!("content-length: {}", body.len())), "{answer}");
    }
}
