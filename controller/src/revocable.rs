//! An answer that ends when whoever it is for is revoked.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// A body with an end of its own: a status in place of what was still to come.
pub(crate) struct Revocable {
    body: Body,
    /// Gone once it has been told.
    revocation: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
}

impl Revocable {
    pub(crate) fn new(body: Body, revocation: impl Future<Output = Status> + Send + 'static) -> Self {
        Self {
            body,
            revocation: Some(Box::pin(revocation)),
        }
    }
}

impl http_body::Body for Revocable {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(revocation) = &mut self.revocation else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(status) = revocation.as_mut().poll(context) {
            self.revocation = None;
            // What waited for this answer to be read learns that nobody reads it.
            self.body = Body::empty();
            return Poll::Ready(Some(trailers(&status).map(Frame::trailers)));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.revocation.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A status as the end of a stream.
fn trailers(status: &Status) -> Result<tonic::codegen::http::HeaderMap, Status> {
    let mut headers = tonic::codegen::http::HeaderMap::new();
    status.add_header(&mut headers)?;
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use tokio::sync::oneshot;

    use super::*;

    async fn next(body: &mut Revocable) -> Option<Result<Frame<Bytes>, Status>> {
        std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await
    }

    #[tokio::test]
    async fn what_is_under_way_ends_with_the_reason() {
        let (revoke, revoked) = oneshot::channel();
        let forever = Body::new(Stuck);
        let mut body = Revocable::new(forever, async { revoked.await.unwrap() });
        let waiting = next(&mut body);
        revoke.send(Status::permission_denied("revoked")).unwrap();
        let trailers = waiting.await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "7");
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_revoked_is_as_it_was() {
        let whole = Body::new(http_body_util::Full::new(Bytes::from_static(b"x")));
        let mut body = Revocable::new(whole, std::future::pending());
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), "x");
        assert!(next(&mut body).await.is_none());
    }

    /// A body that never has anything.
    struct Stuck;

    impl http_body::Body for Stuck {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Pending
        }
    }
}
