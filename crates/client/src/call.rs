//! One call, repeated while the connection is what fails.

use tonic::{Response, Status};

use crate::error::may_be_repeated;
use crate::{Backoff, CallError};

/// Makes a call until it is answered, or until the waits run out. Every call of the contract may be repeated: ids are
/// chosen by the caller and wishes are the same when made twice.
pub(crate) async fn repeated<T, F>(mut call: impl FnMut() -> F) -> Result<Response<T>, CallError>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut backoff = Backoff::brief();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if may_be_repeated(&status) => match backoff.next_wait() {
                Some(wait) => {
                    tracing::debug!(%status, ?wait, "the call will be repeated");
                    tokio::time::sleep(wait).await;
                }
                None => return Err(status.into()),
            },
            Err(status) => return Err(status.into()),
        }
    }
}

/// Runs on a thread that may block; a panic there is a panic here.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
