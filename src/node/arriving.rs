//! The bytes of a medium on their way from another server.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;

/// A medium as it comes. An error is the last thing that comes; when the end comes without one, there were as many bytes as
/// the server had promised. A digest is for the caller to compare.
pub struct Arriving<E> {
    pub(super) length: Option<u64>,
    pub(super) content_type: Option<String>,
    pub(super) pieces: BoxStream<'static, Result<Bytes, E>>,
}

impl<E> Arriving<E> {
    /// How many bytes will come, if known beforehand.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The `Content-Type` that was sent along, if any.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }
}

impl<E> Stream for Arriving<E> {
    type Item = Result<Bytes, E>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.pieces.as_mut().poll_next(cx)
    }
}

impl<E> fmt::Debug for Arriving<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving")
            .field("length", &self.length)
            .field("content_type", &self.content_type)
            .finish_non_exhaustive()
    }
}
