//! Several attempts at the same thing, the earlier ones with a start.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

/// The first to succeed; the others are dropped. The next attempt begins when the last one begun has had `start`, or as
/// soon as nothing else is under way. The errors are in the order in which they came.
pub(super) async fn race<F, T, E>(attempts: impl IntoIterator<Item = F>, start: Duration) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut attempts = attempts.into_iter();
    let mut running = FuturesUnordered::new();
    let mut errors = Vec::new();
    let mut next = pin!(tokio::time::sleep(Duration::ZERO));
    running.extend(attempts.next());
    next.as_mut().reset(tokio::time::Instant::now() + start);
    let mut more = true;
    while !running.is_empty() {
        tokio::select! {
            outcome = running.next() => match outcome {
                Some(Ok(won)) => return Ok(won),
                Some(Err(error)) => {
                    errors.push(error);
                    if !running.is_empty() {
                        continue;
                    }
                }
                None => {}
            },
            () = &mut next, if more => {}
        }
        match attempts.next() {
            Some(attempt) => {
                running.push(attempt);
                next.as_mut().reset(tokio::time::Instant::now() + start);
            }
            None => more = false,
        }
    }
    Err(errors)
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const START: Duration = Duration::from_millis(250);

    async fn after(ms: u64, outcome: Result<u64, u64>) -> Result<u64, u64> {
        sleep(Duration::from_millis(ms)).await;
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_has_a_start_and_no_more() {
        let began = Instant::now();
        assert_eq!(race([after(9_000, Ok(1)), after(100, Ok(2))], START).await, Ok(2));
        assert_eq!(began.elapsed(), START + Duration::from_millis(100));
        assert_eq!(race([after(300, Ok(1)), after(100, Ok(2))], START).await, Ok(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_lets_the_next_begin_at_once_and_all_are_told() {
        let began = Instant::now();
        let outcome = race([after(10, Err(1)), after(20, Err(2)), after(30, Ok(3))], START).await;
        assert_eq!(outcome, Ok(3));
        assert_eq!(began.elapsed(), Duration::from_millis(60));
        assert_eq!(
            race([after(10, Err(1)), after(5, Err(2))], START).await,
            Err(vec![1, 2])
        );
        assert_eq!(
            race(Vec::<std::future::Ready<Result<u64, u64>>>::new(), START).await,
            Err(vec![])
        );
    }
}
