//! Texts that a thread of their own reads and judges, while somebody is still at work on those before them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{panic, thread};

use crate::error::Error;

/// A batch is full with so many bytes of text,
const BATCH_BYTES: usize = 64 * 1024;
/// or with so many texts.
const BATCH_TEXTS: usize = 1024;
/// One is filled, one is worked on, and with one between them neither side waits for every hiccup of the other.
const BATCHES: usize = 3;

/// Texts one after the other, held by one, and what is known of each.
pub(crate) struct Batch<T> {
    texts: String,
    /// Also where each text ends; it begins where the one before ends.
    known: Vec<(T, usize)>,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Batch {
            texts: String::new(),
            known: Vec::new(),
        }
    }
}

impl<T> Batch<T> {
    pub(crate) fn push(&mut self, known: T, text: &str) {
        self.texts.push_str(text);
        self.known.push((known, self.texts.len()));
    }

    /// What is known of the last text.
    pub(crate) fn last(&mut self) -> Option<&mut T> {
        self.known.last_mut().map(|(known, _)| known)
    }

    /// Whether there may be more. What was read before an error is kept.
    fn fill(
        &mut self,
        texts: usize,
        next: &mut impl FnMut(&mut Batch<T>) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        while self.known.len() < texts && self.texts.len() < BATCH_BYTES {
            if !next(self)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Shows the texts, and lets go of them and of what a very long one took.
    fn show(&mut self, each: &mut impl FnMut(T, &str) -> Result<(), Error>) -> Result<(), Error> {
        let mut start = 0;
        for (known, end) in self.known.drain(..) {
            each(known, &self.texts[start..end])?;
            start = end;
        }
        self.texts.clear();
        self.texts.shrink_to(2 * BATCH_BYTES);
        Ok(())
    }

    fn is_oversized(&self) -> bool {
        self.texts.len() > 4 * BATCH_BYTES
    }
}

/// Shows all texts to `each`, in their order. `next` puts the next one into the batch, or answers false. What ends it
/// first, an error of either, is what comes back; what was read before an error of `next` is shown before that.
///
/// Whatever is more than one batch is read by a thread while `each` is at work here. It reads at most two batches
/// ahead, and where `each` fails it ends with the batch that it is at.
pub(crate) fn for_each<T: Send>(
    mut next: impl FnMut(&mut Batch<T>) -> Result<bool, Error> + Send,
    mut each: impl FnMut(T, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    // A small input is over sooner than a thread has begun.
    let mut first = Batch::default();
    let more = first.fill(BATCH_TEXTS, &mut next);
    first.show(&mut each)?;
    if !more? {
        return Ok(());
    }
    let reader = &mut next;
    let ended = thread::scope(|scope| {
        let (give, filled) = sync_channel(BATCHES);
        let (give_back, empty) = sync_channel(BATCHES);
        let reading = thread::Builder::new()
            .name("read-ahead".into())
            .spawn_scoped(scope, move || read(reader, &give, &empty))
            .ok()?;
        let mut spare = Some(first);
        for _ in 0..BATCHES {
            give_back.send(spare.take().unwrap_or_default()).ok();
        }
        for mut batch in filled {
            if let Err(error) = batch.show(&mut each) {
                return Some(Err(error));
            }
            // Nobody takes it where all is read.
            give_back.send(batch).ok();
        }
        let read = reading.join();
        Some(read.unwrap_or_else(|panic| panic::resume_unwind(panic)))
    });
    // Where the system has no thread left.
    ended.unwrap_or_else(|| in_turns(BATCH_TEXTS, next, each))
}

/// As [`for_each`], but so many texts are read and then shown, and nothing at the same time.
pub(crate) fn in_turns<T>(
    texts: usize,
    mut next: impl FnMut(&mut Batch<T>) -> Result<bool, Error>,
    mut each: impl FnMut(T, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    loop {
        let more = batch.fill(texts, &mut next);
        batch.show(&mut each)?;
        if !more? {
            return Ok(());
        }
    }
}

/// Fills batches until there are no more texts or nobody wants them.
fn read<T>(
    next: &mut impl FnMut(&mut Batch<T>) -> Result<bool, Error>,
    give: &SyncSender<Batch<T>>,
    empty: &Receiver<Batch<T>>,
) -> Result<(), Error> {
    let mut spare = Vec::with_capacity(BATCHES);
    while let Some(mut batch) = spare.pop().or_else(|| empty.recv().ok()) {
        let more = batch.fill(BATCH_TEXTS, next);
        let is_oversized = batch.is_oversized();
        if give.send(batch).is_err() || !more? {
            break;
        }
        // Of texts that are much longer than a batch, one is held at a time.
        if is_oversized {
            let missing = BATCHES - spare.len();
            spare.extend(empty.iter().take(missing));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// The texts one after the other, each with its number, and then, if that is wanted, an error.
    fn reader(
        texts: &[String],
        fails: bool,
    ) -> impl FnMut(&mut Batch<usize>) -> Result<bool, Error> + Send + use<'_> {
        let mut at = 0;
        move |batch| {
            let Some(text) = texts.get(at) else {
                return if fails {
                    Err(Error::usage("cannot be read"))
                } else {
                    Ok(false)
                };
            };
            batch.push(0, text);
            // As somebody does who knows it only when the text is let go.
            *batch.last().unwrap() = at;
            at += 1;
            Ok(true)
        }
    }

    /// What is shown, and how it ended; it is ended behind so many texts.
    fn shown(
        texts: &[String],
        fails: bool,
        ends_behind: usize,
        all: impl Fn(
            &mut (dyn FnMut(&mut Batch<usize>) -> Result<bool, Error> + Send),
            &mut dyn FnMut(usize, &str) -> Result<(), Error>,
        ) -> Result<(), Error>,
    ) -> (Vec<String>, Result<(), String>) {
        let mut seen = Vec::new();
        let ended = all(&mut reader(texts, fails), &mut |number, text| {
            assert_eq!(number, seen.len());
            seen.push(text.to_owned());
            if seen.len() == ends_behind {
                return Err(Error::usage("is ended"));
            }
            Ok(())
        });
        (seen, ended.map_err(|error| error.to_string()))
    }

    fn ahead(
        texts: &[String],
        fails: bool,
        ends_behind: usize,
    ) -> (Vec<String>, Result<(), String>) {
        shown(texts, fails, ends_behind, |next, each| for_each(next, each))
    }

    fn text(length: usize, n: usize) -> String {
        format!("{n}").repeat(length)
    }

    /// More texts than all batches hold.
    fn many() -> Vec<String> {
        (0..BATCHES * BATCH_TEXTS * 2 + 7)
            .map(|n| text(3, n))
            .collect()
    }

    #[test]
    fn texts_come_in_their_order_however_many_they_are() {
        let texts = many();
        for count in [
            0,
            1,
            3,
            BATCH_TEXTS - 1,
            BATCH_TEXTS,
            BATCH_TEXTS + 1,
            texts.len(),
        ] {
            assert_eq!(
                ahead(&texts[..count], false, 0),
                (texts[..count].to_vec(), Ok(()))
            );
        }
    }

    #[test]
    fn an_error_comes_behind_the_texts_before_it() {
        let texts = many();
        for count in [0, 1, BATCH_TEXTS, BATCH_TEXTS + 5, texts.len()] {
            let (seen, ended) = ahead(&texts[..count], true, 0);
            assert_eq!(seen, texts[..count]);
            assert_eq!(ended, Err("cannot be read".into()));
        }
    }

    #[test]
    fn who_has_seen_enough_ends_it_at_once() {
        let texts = many();
        for count in [1, BATCH_TEXTS, BATCH_TEXTS + 1, texts.len()] {
            // What was read ahead, an error too, is for nobody then.
            let (seen, ended) = ahead(&texts, true, count);
            assert_eq!(seen, texts[..count]);
            assert_eq!(ended, Err("is ended".into()));
        }
    }

    #[test]
    fn it_reads_no_further_ahead_than_two_batches() {
        let (read, mut seen, mut farthest) = (AtomicUsize::new(0), 0, 0);
        for_each(
            |batch| {
                let n = read.fetch_add(1, Ordering::Relaxed);
                batch.push(n, "x");
                Ok(n < 20 * BATCH_TEXTS)
            },
            |_, _| {
                seen += 1;
                // So that the other side gets as far as it may.
                thread::yield_now();
                farthest = farthest.max(read.load(Ordering::Relaxed) - seen);
                Ok(())
            },
        )
        .unwrap();
        assert!(farthest <= BATCHES * BATCH_TEXTS, "{farthest}");
    }

    #[test]
    fn of_very_long_texts_one_is_held_at_a_time() {
        let long: String = "x".repeat(4 * BATCH_BYTES + 1);
        let (read, mut shown) = (AtomicUsize::new(0), 0);
        for_each(
            |batch| {
                let n = read.fetch_add(1, Ordering::Relaxed);
                batch.push(n, &long);
                Ok(n < 20)
            },
            |_, text| {
                shown += 1;
                assert_eq!(text.len(), long.len());
                thread::yield_now();
                assert!(read.load(Ordering::Relaxed) <= shown);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(shown, 21);
        let mut batch = Batch::default();
        batch.push(0, &long);
        batch.show(&mut |_, _| Ok(())).unwrap();
        assert!(batch.texts.capacity() <= 2 * BATCH_BYTES);
    }

    #[test]
    fn a_panic_on_either_side_is_one_of_the_caller() {
        let said = |panicked: thread::Result<Result<(), Error>>| {
            let what = panicked.err().unwrap();
            what.downcast_ref::<&str>().map(|what| (*what).to_owned())
        };
        for at in [0, BATCH_TEXTS + 1, 5 * BATCH_TEXTS] {
            let (mut read, mut seen) = (0, 0);
            let reading = catch_unwind(AssertUnwindSafe(|| {
                for_each(
                    |batch| {
                        assert!(read < at, "while reading");
                        batch.push(read, "x");
                        read += 1;
                        Ok(true)
                    },
                    |_, _| Ok(()),
                )
            }));
            assert_eq!(said(reading).as_deref(), Some("while reading"));
            let texts = many();
            let showing = catch_unwind(AssertUnwindSafe(|| {
                for_each(reader(&texts, false), |_, _| {
                    assert!(seen < at, "while showing");
                    seen += 1;
                    Ok(())
                })
            }));
            assert_eq!(said(showing).as_deref(), Some("while showing"));
        }
    }

    /// Texts that are empty, or short, or long, or longer than a batch.
    fn texts() -> impl Strategy<Value = Vec<String>> {
        let short = (
            (0..40_usize, 0..9_usize),
            prop_oneof![20 => Just(1), 1 => Just(2 * BATCH_TEXTS)],
        );
        let long = prop_oneof![10 => Just(BATCH_BYTES / 20), 2 => Just(BATCH_BYTES), 1 => Just(5 * BATCH_BYTES)];
        let run = prop_oneof![3 => short, 1 => ((long, 0..9_usize), Just(1))];
        prop::collection::vec(run, 0..80).prop_map(|runs| {
            let of_one = |((length, n), times)| std::iter::repeat_n(text(length, n), times);
            runs.into_iter().flat_map(of_one).collect()
        })
    }

    proptest! {
        #![proptest_config(crate::cases::cases(30))]

        #[test]
        fn what_is_read_ahead_is_what_is_read_one_by_one(texts in texts(), fails in any::<bool>(), ends in 0..4000_usize) {
            let plain = shown(&texts, fails, ends, |next, each| in_turns(1, next, each));
            prop_assert_eq!(&shown(&texts, fails, ends, |next, each| in_turns(BATCH_TEXTS, next, each)), &plain);
            prop_assert_eq!(&ahead(&texts, fails, ends), &plain);
        }
    }
}
