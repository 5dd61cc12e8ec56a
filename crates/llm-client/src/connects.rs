//! How long it took lately until a connection was there.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service};

/// A connection that was made so long ago says nothing any more, or twice as long.
const LATELY: Duration = Duration::from_secs(60);

/// The slowest connection of late. A request that waited for it arrived so much later than one that found a connection
/// open, and a limit that looks back on a second notices.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connects(Arc<Mutex<Slowest>>);

#[derive(Debug, Default)]
struct Slowest {
    /// When this stretch of time began, the slowest in it, and the slowest in the one before.
    since: Option<Instant>,
    now: Duration,
    before: Duration,
}

impl Connects {
    pub(crate) fn slowest(&self) -> Duration {
        let mut slowest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nearly always there is nothing to forget.
        if slowest.since.is_some() {
            slowest.turn(Instant::now());
        }
        slowest.now.max(slowest.before)
    }

    fn made(&self, took: Duration) {
        let mut slowest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slowest.turn(Instant::now());
        slowest.now = slowest.now.max(took);
    }
}

impl Slowest {
    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let passed = now.saturating_duration_since(since);
        if passed < LATELY {
            return;
        }
        let last = std::mem::take(&mut self.now);
        let is_next = passed < 2 * LATELY;
        self.before = if is_next { last } else { Duration::ZERO };
        self.since = (is_next || !last.is_zero()).then_some(now);
    }
}

impl<S> Layer<S> for Connects {
    type Service = Timed<S>;

    fn layer(&self, connector: S) -> Timed<S> {
        Timed {
            connector,
            connects: self.clone(),
        }
    }
}

/// A connector that is timed.
#[derive(Debug, Clone)]
pub(crate) struct Timed<S> {
    connector: S,
    connects: Connects,
}

impl<S, R> Service<R> for Timed<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let (begun, connects) = (Instant::now(), self.connects.clone());
        let connecting = self.connector.call(to);
        Box::pin(async move {
            let connection = connecting.await?;
            connects.made(begun.elapsed());
            Ok(connection)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so long.
    struct Slow;

    impl Service<Duration> for Slow {
        type Response = ();
        type Error = ();
        type Future = Pin<Box<dyn Future<Output = Result<(), ()>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, takes: Duration) -> Self::Future {
            Box::pin(async move {
                tokio::time::sleep(takes).await;
                Ok(())
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_connection_counts_until_it_is_long_ago() {
        let connects = Connects::default();
        let mut connector = connects.layer(Slow);
        assert_eq!(connects.slowest(), Duration::ZERO);
        for millis in [20, 250, 30] {
            let connected = connector.call(Duration::from_millis(millis)).await;
            connected.unwrap();
        }
        assert_eq!(connects.slowest(), Duration::from_millis(250));
        tokio::time::sleep(LATELY).await;
        assert_eq!(connects.slowest(), Duration::from_millis(250));
        connector.call(Duration::from_millis(40)).await.unwrap();
        tokio::time::sleep(LATELY).await;
        assert_eq!(connects.slowest(), Duration::from_millis(40));
        tokio::time::sleep(2 * LATELY).await;
        assert_eq!(connects.slowest(), Duration::ZERO);
        tokio::time::sleep(10 * LATELY).await;
        connector.call(Duration::from_millis(10)).await.unwrap();
        assert_eq!(connects.slowest(), Duration::from_millis(10));
    }
}
