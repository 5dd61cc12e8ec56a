//! Stops a run whose rows all fail of the same thing: then it is no matter of the rows.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU32;

use crate::record::FailureReason;

/// So many of the rows that ended last are looked at.
const LAST: usize = 100;

/// Watches how rows end, in the order in which they do.
pub(crate) struct Breaker {
    /// So many rows at the beginning; as few may not fail alike.
    first: u32,
    /// Classes that say something about one answer, and so count at the beginning only.
    of_one_answer: Vec<String>,
    ended: u32,
    /// The kind of all rows until now, while they are the first ones and have all failed alike.
    all: Option<Kind>,
    last: VecDeque<Option<Kind>>,
    alike: HashMap<Kind, usize>,
}

/// Failures of one kind have the same class and the same message, numbers aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind(u64);

impl Kind {
    fn of(reason: &FailureReason) -> Kind {
        let mut hasher = DefaultHasher::new();
        reason.class.hash(&mut hasher);
        unify(&reason.message).hash(&mut hasher);
        Kind(hasher.finish())
    }
}

/// The message without what is different in each: every word with a digit in it, so also the numbers that
/// providers give to requests.
pub(crate) fn unify(message: &str) -> String {
    let mut unified = String::with_capacity(message.len());
    let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    for piece in message.split_inclusive(|c| !is_of_word(c)) {
        let word = piece.trim_end_matches(|c| !is_of_word(c));
        if word.contains(|c: char| c.is_ascii_digit()) {
            unified.push('#');
            unified.push_str(&piece[word.len()..]);
        } else {
            unified.push_str(piece);
        }
    }
    unified
}

impl Breaker {
    pub(crate) fn new(first: NonZeroU32, of_one_answer: Vec<String>) -> Breaker {
        Breaker {
            first: first.get(),
            of_one_answer,
            ended: 0,
            all: None,
            last: VecDeque::with_capacity(LAST),
            alike: HashMap::new(),
        }
    }

    pub(crate) fn finished(&mut self) {
        self.ended = self.ended.saturating_add(1);
        self.all = None;
        self.push(None);
    }

    /// Says why the run must stop, where this failure shows that it must.
    pub(crate) fn failed(&mut self, reason: &FailureReason) -> Option<String> {
        let kind = Kind::of(reason);
        self.ended = self.ended.saturating_add(1);
        let alike_until_now = self.ended == 1 || self.all == Some(kind);
        self.all = alike_until_now.then_some(kind);
        let counts_later = !self.of_one_answer.contains(&reason.class);
        self.push(counts_later.then_some(kind));
        let what = if self.ended == self.first && self.all.is_some() {
            format!("all of the first {} rows failed alike", self.first)
        } else if counts_later && self.last.len() == LAST && self.alike[&kind] >= LAST / 2 {
            format!("{} of the last {LAST} rows failed alike", self.alike[&kind])
        } else {
            return None;
        };
        let FailureReason { class, message } = reason;
        Some(format!(
            "{what}: {class}: {message}; mend that and run again, which asks them anew, or set `run.stop_on_failures` to null to let such rows fail"
        ))
    }

    fn push(&mut self, kind: Option<Kind>) {
        if self.last.len() == LAST
            && let Some(Some(old)) = self.last.pop_front()
            && let Some(count) = self.alike.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.alike.remove(&old);
            }
        }
        if let Some(kind) = kind {
            *self.alike.entry(kind).or_insert(0) += 1;
        }
        self.last.push_back(kind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(
            NonZeroU32::new(20).unwrap(),
            vec!["refusal".into(), "extraction_miss".into()],
        )
    }

    fn reason(class: &str, message: &str) -> FailureReason {
        FailureReason {
            class: class.into(),
            message: message.into(),
        }
    }

    /// After how many failures in a row it breaks.
    fn breaks_after(breaker: &mut Breaker, class: &str, most: usize) -> Option<usize> {
        (1..=most).find(|n| {
            let message = format!("status 400, request req_{n}x");
            breaker.failed(&reason(class, &message)).is_some()
        })
    }

    #[test]
    fn the_first_twenty_alike_are_enough_whatever_their_class() {
        assert_eq!(breaks_after(&mut breaker(), "bad_request", 99), Some(20));
        assert_eq!(breaks_after(&mut breaker(), "refusal", 999), Some(20));
    }

    #[test]
    fn one_good_row_among_the_first_makes_them_unlike() {
        let mut breaker = breaker();
        assert_eq!(breaks_after(&mut breaker, "bad_request", 10), None);
        breaker.finished();
        // The last hundred are not full before that.
        assert_eq!(breaks_after(&mut breaker, "bad_request", 200), Some(89));
    }

    #[test]
    fn one_of_another_kind_among_the_first_makes_them_unlike() {
        let mut breaker = breaker();
        for n in 0..40 {
            let class = if n == 19 { "other" } else { "bad_request" };
            assert_eq!(breaker.failed(&reason(class, "x")), None, "row {n}");
        }
    }

    #[test]
    fn half_of_the_last_hundred_alike_is_too_many() {
        let mut breaker = breaker();
        for _ in 0..500 {
            breaker.finished();
        }
        let broke = (1..=200).find(|_| {
            breaker.finished();
            breaker.failed(&reason("bad_request", "x")).is_some()
        });
        assert_eq!(broke, Some(50));
    }

    #[test]
    fn fewer_than_half_are_never_too_many() {
        let mut breaker = breaker();
        for n in 0..5_000 {
            for _ in 0..2 {
                breaker.finished();
            }
            assert_eq!(breaker.failed(&reason("bad_request", "x")), None, "row {n}");
        }
    }

    #[test]
    fn what_is_about_one_answer_counts_among_the_first_only() {
        let mut breaker = breaker();
        breaker.finished();
        assert_eq!(breaks_after(&mut breaker, "extraction_miss", 999), None);
    }

    #[test]
    fn numbers_and_names_of_requests_make_no_difference() {
        assert_eq!(
            unify("status 429: request req_011CSH, 8,193 of 8192 tokens (gpt-4o-2024)."),
            unify("status 429: request req_7f, 12,001 of 8192 tokens (gpt-4o-2025).")
        );
        assert_ne!(unify("no parameter `top_k`"), unify("no parameter `top_q`"));
        assert_eq!(unify("人工智能 7é."), "人工智能 #.");
        assert_eq!(unify(""), "");
    }

    #[test]
    fn the_message_says_what_happened_and_what_to_do() {
        let mut breaker = breaker();
        let reason = reason("bad_request", "status 400: roles must alternate");
        let said = (0..20).find_map(|_| breaker.failed(&reason));
        insta::assert_snapshot!(said.unwrap(), @"all of the first 20 rows failed alike: bad_request: status 400: roles must alternate; mend that and run again, which asks them anew, or set `run.stop_on_failures` to null to let such rows fail");
    }
}
