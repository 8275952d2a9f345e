//! Requests and answers that end when whoever they are from or for is revoked.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// How a body ends before its time.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With the status, as the peer reads it: of an answer.
    Trailers,
    /// With an error, which the service reads: of a request.
    Error,
}

/// A body with an end of its own: a status in place of what was still to come.
pub(crate) struct Revocable {
    body: Body,
    end: End,
    /// Gone once it has been told.
    revocation: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
}

impl Revocable {
    /// An answer: whoever reads it is told.
    pub(crate) fn answer(body: Body, revocation: impl Future<Output = Status> + Send + 'static) -> Self {
        Self::new(body, End::Trailers, revocation)
    }

    /// A request: nothing more of it reaches the service. An answer that has ended does not keep its caller from sending.
    pub(crate) fn request(body: Body, revocation: impl Future<Output = Status> + Send + 'static) -> Self {
        Self::new(body, End::Error, revocation)
    }

    fn new(body: Body, end: End, revocation: impl Future<Output = Status> + Send + 'static) -> Self {
        Self {
            body,
            end,
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
            // What waited for an answer to be read learns that nobody reads it.
            self.body = Body::empty();
            return Poll::Ready(Some(match self.end {
                End::Trailers => trailers(&status).map(Frame::trailers),
                End::Error => Err(status),
            }));
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
        let mut body = Revocable::answer(forever, async { revoked.await.unwrap() });
        let waiting = next(&mut body);
        revoke.send(Status::permission_denied("revoked")).unwrap();
        let trailers = waiting.await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(trailers["grpc-status"], "7");
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn nothing_more_of_a_request_is_read() {
        let whole = Body::new(http_body_util::Full::new(Bytes::from_static(b"x")));
        let revoked = std::future::ready(Status::permission_denied("revoked"));
        let mut body = Revocable::request(whole, revoked);
        assert_eq!(next(&mut body).await.unwrap().unwrap_err().message(), "revoked");
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn what_is_not_revoked_is_as_it_was() {
        let whole = Body::new(http_body_util::Full::new(Bytes::from_static(b"x")));
        let mut body = Revocable::answer(whole, std::future::pending());
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
