//! A connection's socket, noting what its timers need to know, and the bytes that were read before.

use std::io::{IoSlice, Result};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_stats::ConnectionStats;

/// How HTTP/2 begins. No HTTP/1 method is called `PRI`.
const PREFACE: &[u8] = b"PRI ";

/// Bytes that may still come after a refusal: many times what a body may have, and soon read.
const LINGER_MOST: usize = 16 * 1024 * 1024;
/// So much of it at a time.
const SCRAP: usize = 8 * 1024;

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HttpVersion {
    One,
    Two,
}

/// Bytes that were read from a connection and not used yet.
#[derive(Default)]
pub(super) struct Unread {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// Room for the usual request; a connection that says nothing holds no more.
const USUAL: usize = 1024;
/// A request that is larger with its head is for hyper.
const MOST: usize = 8 * 1024;

impl Unread {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Uses the first bytes up.
    pub(super) fn take(&mut self, bytes: usize) {
        self.start += bytes;
        debug_assert!(self.start <= self.end);
    }

    /// Where more may be read to; `None` when there is too much already.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == MOST {
                return None;
            }
            if self.end == self.buffer.len() {
                self.buffer.resize((self.buffer.len() * 2).clamp(USUAL, MOST), 0);
            }
        }
        Some(&mut self.buffer[self.end..])
    }

    /// So many bytes were read to the room.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
        debug_assert!(self.end <= self.buffer.len());
    }

    /// The protocol that begins like this; `None` while it cannot be told.
    pub(super) fn version(&self) -> Option<HttpVersion> {
        let bytes = self.bytes();
        let compared = bytes.len().min(PREFACE.len());
        if bytes[..compared] != PREFACE[..compared] {
            return Some(HttpVersion::One);
        }
        (compared == PREFACE.len()).then_some(HttpVersion::Two)
    }
}

/// A socket under watch.
pub(super) struct Io<T> {
    inner: T,
    /// Read before.
    unread: Unread,
    stats: Arc<ConnectionStats>,
    /// Bytes read after everything was said.
    lingered: usize,
}

impl<T> Io<T> {
    pub(super) fn new(inner: T, unread: Unread, stats: Arc<ConnectionStats>) -> Self {
        Self { inner, unread, stats, lingered: 0 }
    }

    fn note(&self, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                self.stats.wrote(*bytes as u64);
                self.stats.set_blocked(false);
            }
            Poll::Pending => self.stats.set_blocked(true),
            Poll::Ready(Err(_)) => {}
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Io<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if !this.unread.is_empty() {
            let moved = this.unread.bytes().len().min(buffer.remaining());
            buffer.put_slice(&this.unread.bytes()[..moved]);
            this.unread.take(moved);
            if this.unread.is_empty() {
                this.unread = Unread::default();
            }
            this.stats.read(moved as u64);
            return Poll::Ready(Ok(()));
        }
        let allowed = this.stats.may_read().min(buffer.remaining());
        if allowed == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut room = ReadBuf::new(buffer.initialize_unfilled_to(allowed));
        let read = Pin::new(&mut this.inner).poll_read(context, &mut room);
        let bytes = room.filled().len();
        if bytes > 0 {
            buffer.advance(bytes);
            this.stats.read(bytes as u64);
        }
        read
    }
}

impl<T: AsyncRead + Unpin> Io<T> {
    /// Reads what still comes, to its end. Closed with bytes unread, a socket resets the connection, and a client that is
    /// still sending loses the answer it was refused with (RFC 9112, section 9.6).
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [MaybeUninit::uninit(); SCRAP];
        loop {
            if self.stats.may_read() == 0 {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let mut room = ReadBuf::uninit(&mut scrap);
            let read = ready!(Pin::new(&mut self.inner).poll_read(context, &mut room));
            let bytes = room.filled().len();
            self.stats.discarded(bytes as u64);
            self.lingered += bytes;
            if read.is_err() || bytes == 0 || self.lingered > LINGER_MOST {
                return Poll::Ready(());
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Io<T> {
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
        self.stats.set_blocked(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.stats.is_lingering() {
            let shut = Pin::new(&mut self.inner).poll_shutdown(context);
            // TLS says goodbye, and waits for room to say it.
            self.stats.set_blocked(shut.is_pending());
            ready!(shut)?;
            if !self.stats.is_interrupted() {
                return Poll::Ready(Ok(()));
            }
            self.stats.linger();
        }
        self.poll_linger(context).map(Ok)
    }
}
