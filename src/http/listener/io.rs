//! A connection's socket, noting what its timers need to know, and the bytes that told the protocol.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pulse::Pulse;

/// How HTTP/2 begins. No HTTP/1 method is called `PRI`.
const PREFACE: &[u8] = b"PRI ";

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// What was read to find out.
#[derive(Default)]
pub(super) struct Prefix {
    bytes: [u8; 24],
    taken: usize,
    filled: usize,
}

impl Prefix {
    /// Reads until the protocol is known; `None` when the client leaves first.
    pub(super) async fn sniff(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Version>> {
        loop {
            let read = std::future::poll_fn(|context| {
                let mut free = ReadBuf::new(&mut self.bytes[self.filled..]);
                match Pin::new(&mut *stream).poll_read(context, &mut free) {
                    Poll::Ready(Ok(())) => Poll::Ready(Ok(free.filled().len())),
                    Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
                    Poll::Pending => Poll::Pending,
                }
            });
            let read = read.await?;
            if read == 0 {
                return Ok(None);
            }
            self.filled += read;
            let compared = self.filled.min(PREFACE.len());
            if self.bytes[..compared] != PREFACE[..compared] {
                return Ok(Some(Version::One));
            }
            if self.filled >= PREFACE.len() {
                return Ok(Some(Version::Two));
            }
        }
    }
}

/// A socket under watch.
pub(super) struct Io<T> {
    inner: T,
    prefix: Prefix,
    pulse: Arc<Pulse>,
}

impl<T> Io<T> {
    pub(super) fn new(inner: T, prefix: Prefix, pulse: Arc<Pulse>) -> Self {
        Self { inner, prefix, pulse }
    }

    fn note(&self, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                self.pulse.wrote(*bytes as u64);
                self.pulse.set_blocked(false);
            }
            Poll::Pending => self.pulse.set_blocked(true),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        let prefix = &mut this.prefix;
        if prefix.taken < prefix.filled {
            let left = &prefix.bytes[prefix.taken..prefix.filled];
            let moved = left.len().min(buffer.remaining());
            buffer.put_slice(&left[..moved]);
            prefix.taken += moved;
            return Poll::Ready(Ok(()));
        }
        if !this.pulse.may_read() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            this.pulse.read(bytes as u64);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Io<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, parts);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(context);
        self.pulse.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(context);
        // TLS says goodbye, and waits for room to say it.
        self.pulse.set_blocked(shut.is_pending());
        shut
    }
}
