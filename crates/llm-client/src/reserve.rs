use std::time::{Duration, SystemTime};

use crate::kept::Origin;
use crate::ledger::Limit;
use crate::limit::{Need, Permit, TooLong};
use crate::queue::Lane;
use crate::reply::{estimate_tokens, least_tokens};
use crate::{Answer, Client, Event, LimitKind, Request, TransportError, TransportKind, Usage};

/// What limits allow one request to use, from before it leaves until it is known what it cost.
pub(crate) struct Reserved<'a> {
    client: &'a Client,
    permit: Option<Permit<'a>>,
    /// Tokens of the prompt, by its letters.
    guess: u64,
    counted: bool,
}

/// Why nothing can be reserved.
pub(crate) enum Refused {
    /// It is above a limit, and always will be.
    NeverFits(String),
    TooLong(TooLong),
}

impl<'a> Reserved<'a> {
    /// Waits until all limits allow the request.
    pub(crate) async fn wait(
        client: &'a Client,
        lane: Lane,
        (request, guess): (&Request, u64),
        on_wait: impl FnMut(&str, LimitKind, Duration),
    ) -> Result<Reserved<'a>, Refused> {
        let mut reserved = Reserved {
            client,
            permit: None,
            guess,
            counted: false,
        };
        let limiter = &client.limiter;
        if !limiter.is_in_use() {
            return Ok(reserved);
        }
        reserved.counted = limiter.counts_tokens();
        let most_tokens = limiter.most_tokens();
        if let Some(limit) = most_tokens {
            // A row that fits is never failed by a guess; what is above a limit all the same goes alone, and the
            // endpoint says so.
            if guess >= limit.amount && least_of(request) >= limit.amount {
                let origin = limiter.origin(limit);
                return Err(Refused::NeverFits(never_fits(guess, limit, origin)));
            }
        }
        let most = client.model.max_tokens();
        let need = || {
            let lateness = client.model.lateness();
            match reserved.counted {
                true => Need {
                    tokens: client.estimator.tokens(guess, most),
                    is_first: most_tokens.is_some() && client.estimator.is_blank(most),
                    is_unknown: client.estimator.is_learning(),
                    lateness,
                },
                false => Need {
                    lateness,
                    ..Need::default()
                },
            }
        };
        let longest = Duration::from_secs(client.options.retry.max_pause_s);
        let permit = limiter.acquire_in(lane, need, longest, on_wait);
        reserved.permit = Some(permit.await.map_err(Refused::TooLong)?);
        if reserved.counted {
            client.estimator.opened();
        }
        Ok(reserved)
    }

    /// Nothing is sent with it.
    pub(crate) fn give_back(mut self) {
        if let Some(permit) = self.permit.take() {
            permit.give_back();
        }
    }

    /// Tells what became of the request; what it did not use is given back. Says what else whoever looks on should
    /// know.
    pub(crate) fn settle(
        mut self,
        outcome: &Result<Answer, TransportError>,
        usage: Option<Usage>,
    ) -> Option<Event> {
        let limiter = &self.client.limiter;
        self.permit.as_ref()?;
        let mut news = None;
        if let Ok(answer) = outcome {
            if let Some(permit) = self.permit.as_ref().filter(|_| answer.is_paid()) {
                permit.let_through();
            }
            let said = crate::announced::announced(&answer.headers, answer.at);
            if !said.is_empty() {
                let at = SystemTime::now();
                news = limiter.learn(&said).then_some(Event::LimitsLearnt { at });
            } else if answer.is_paid() {
                let class = "no_limits_announced";
                let message = limiter.learn_nothing();
                news = message.map(|message| Event::Warned { class, message });
            }
        }
        let tokens = match (outcome, usage) {
            (_, Some(usage)) => Some(usage.counted()),
            (Ok(_), None) => Some(0),
            (Err(error), None) => never_arrived(error.kind()).then_some(0),
        };
        // First, because whoever is woken by the other reserves by what is known.
        self.close(usage);
        if let (Some(permit), Some(tokens)) = (self.permit.take(), tokens) {
            permit.settle(tokens);
        }
        news
    }

    fn close(&mut self, usage: Option<Usage>) {
        if std::mem::take(&mut self.counted) {
            self.client.estimator.closed(self.guess, usage);
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// Why a prompt of about so many tokens cannot be sent, and what to do.
pub(crate) fn never_fits(guess: u64, limit: Limit, origin: Origin) -> String {
    format!(
        "the prompt alone has about {guess} tokens, and the limit is {limit}: it never fits; {}",
        cure(origin)
    )
}

fn cure(origin: Origin) -> String {
    match origin {
        Origin::Setting(key) => {
            format!("raise `{key}` if the endpoint allows more, or shorten the row")
        }
        Origin::Endpoint => "the endpoint says so itself: shorten the row".to_owned(),
        Origin::Other => {
            "another process with the same key keeps it: raise it there if the endpoint allows more, or shorten the row"
                .to_owned()
        }
    }
}

/// Nobody counts what nobody got.
pub(crate) fn never_arrived(kind: TransportKind) -> bool {
    use TransportKind as Kind;
    matches!(
        kind,
        Kind::Dns
            | Kind::Tls
            | Kind::Certificate
            | Kind::Connect
            | Kind::ConnectTimeout
            | Kind::TooManyFiles
    )
}

/// What no endpoint counts less than.
fn least_of(request: &Request) -> u64 {
    let system = request.system.as_deref().map_or(0, least_tokens);
    system + least_tokens(&request.user)
}

/// A guess by letters.
pub(crate) fn guess_of(request: &Request) -> u64 {
    let system = request.system.as_deref().map_or(0, estimate_tokens);
    system + estimate_tokens(&request.user)
}
