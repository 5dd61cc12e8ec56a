//! Rows that are read and judged on a thread of their own, while somebody is still at work on those before them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::{panic, thread};

use crate::error::Error;
use crate::lines::Mark;
use crate::pass::{Fault, Given};
use crate::row::Content;

/// A batch is full with so many bytes of text,
const BATCH_BYTES: usize = 64 * 1024;
/// or with so many rows.
const BATCH_ROWS: usize = 1024;
/// One is filled, one is worked on, and with one between them neither side waits for every hiccup of the other.
const BATCHES: usize = 3;

/// Rows one after the other, held by one text.
#[derive(Default)]
pub(crate) struct Batch {
    texts: String,
    rows: Vec<Held>,
}

struct Held {
    line: u64,
    content: Content,
    /// Where its text ends; it begins where the one before ends.
    text: Result<usize, Fault>,
    mark: Option<Mark>,
}

impl Batch {
    pub(crate) fn push(&mut self, row: Given<'_>) {
        let text = row.text.map(|text| {
            self.texts.push_str(text);
            self.texts.len()
        });
        self.rows.push(Held {
            line: row.line,
            content: row.content,
            text,
            mark: None,
        });
    }

    /// Where one could go on behind the last row.
    pub(crate) fn mark(&mut self, mark: Option<Mark>) {
        if let Some(last) = self.rows.last_mut() {
            last.mark = mark;
        }
    }

    /// Whether there may be more. What was read before an error is kept.
    fn fill(
        &mut self,
        rows: usize,
        next: &mut impl FnMut(&mut Batch) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        while self.rows.len() < rows && self.texts.len() < BATCH_BYTES {
            if !next(self)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Shows the rows, and lets go of them and of what a very long one took.
    fn show(
        &mut self,
        each: &mut impl FnMut(Given<'_>, Option<Mark>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut start = 0;
        for row in self.rows.drain(..) {
            let text = row.text.map(|end| {
                let text = &self.texts[start..end];
                start = end;
                text
            });
            let given = Given {
                line: row.line,
                content: row.content,
                text,
            };
            each(given, row.mark)?;
        }
        self.texts.clear();
        self.texts.shrink_to(2 * BATCH_BYTES);
        Ok(())
    }

    fn is_oversized(&self) -> bool {
        self.texts.len() > 4 * BATCH_BYTES
    }
}

/// Shows all rows to `each`, in their order and with the marks behind them. `next` puts the next row into the batch, or
/// answers false. What ends it first, an error of either, is what comes back; rows before an error of `next` are
/// shown before that.
///
/// Whatever is more than one batch is read by a thread while `each` is at work here. It reads at most two batches
/// ahead, and where `each` fails it ends with the batch that it is at.
pub(crate) fn for_each(
    mut next: impl FnMut(&mut Batch) -> Result<bool, Error> + Send,
    mut each: impl FnMut(Given<'_>, Option<Mark>) -> Result<(), Error>,
) -> Result<(), Error> {
    // A small input is over sooner than a thread has begun.
    let mut first = Batch::default();
    let more = first.fill(BATCH_ROWS, &mut next);
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
    ended.unwrap_or_else(|| in_turns(BATCH_ROWS, next, each))
}

/// As [`for_each`], but so many rows are read and then shown, and nothing at the same time.
pub(crate) fn in_turns(
    rows: usize,
    mut next: impl FnMut(&mut Batch) -> Result<bool, Error>,
    mut each: impl FnMut(Given<'_>, Option<Mark>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut batch = Batch::default();
    loop {
        let more = batch.fill(rows, &mut next);
        batch.show(&mut each)?;
        if !more? {
            return Ok(());
        }
    }
}

/// Fills batches until there are no more rows or nobody wants them.
fn read(
    next: &mut impl FnMut(&mut Batch) -> Result<bool, Error>,
    give: &SyncSender<Batch>,
    empty: &Receiver<Batch>,
) -> Result<(), Error> {
    let mut spare = Vec::with_capacity(BATCHES);
    while let Some(mut batch) = spare.pop().or_else(|| empty.recv().ok()) {
        let more = batch.fill(BATCH_ROWS, next);
        let is_oversized = batch.is_oversized();
        if give.send(batch).is_err() || !more? {
            break;
        }
        // Of rows that are much longer than a batch, one is held at a time.
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

    fn content(n: usize) -> Content {
        Content::of_bytes(&n.to_le_bytes())
    }

    /// Rows as they are given: texts, or what is wrong with them.
    type Row = Result<String, String>;

    fn push(batch: &mut Batch, n: usize, row: &Row) {
        let fault = |message: &String| Fault {
            class: "invalid_row",
            message: message.clone(),
        };
        batch.push(Given {
            line: n as u64 + 1,
            content: content(n),
            text: row.as_deref().map_err(fault),
        });
    }

    /// The rows one after the other, and then, if that is wanted, an error.
    fn reader(
        rows: &[Row],
        fails: bool,
    ) -> impl FnMut(&mut Batch) -> Result<bool, Error> + Send + use<'_> {
        let mut at = 0;
        move |batch| {
            let Some(row) = rows.get(at) else {
                return if fails {
                    Err(Error::usage("cannot be read"))
                } else {
                    Ok(false)
                };
            };
            push(batch, at, row);
            at += 1;
            Ok(true)
        }
    }

    /// What is shown, and how it ended; it is ended behind so many rows.
    fn shown(
        rows: &[Row],
        fails: bool,
        ends_behind: usize,
        all: impl Fn(
            &mut (dyn FnMut(&mut Batch) -> Result<bool, Error> + Send),
            &mut dyn FnMut(Given<'_>, Option<Mark>) -> Result<(), Error>,
        ) -> Result<(), Error>,
    ) -> (Vec<Row>, Result<(), String>) {
        let mut seen = Vec::new();
        let ended = all(&mut reader(rows, fails), &mut |given, _| {
            assert_eq!(given.line, seen.len() as u64 + 1);
            assert_eq!(given.content, content(seen.len()));
            let text = given.text.map(str::to_owned);
            seen.push(text.map_err(|fault| fault.message));
            if seen.len() == ends_behind {
                return Err(Error::usage("is ended"));
            }
            Ok(())
        });
        (seen, ended.map_err(|error| error.to_string()))
    }

    fn ahead(rows: &[Row], fails: bool, ends_behind: usize) -> (Vec<Row>, Result<(), String>) {
        shown(rows, fails, ends_behind, |next, each| for_each(next, each))
    }

    fn row(length: usize, n: usize) -> Row {
        Ok(format!("{n}").repeat(length))
    }

    /// More rows than all batches hold.
    fn many() -> Vec<Row> {
        (0..BATCHES * BATCH_ROWS * 2 + 7)
            .map(|n| row(3, n))
            .collect()
    }

    #[test]
    fn rows_come_in_their_order_however_many_they_are() {
        let rows = many();
        for count in [
            0,
            1,
            3,
            BATCH_ROWS - 1,
            BATCH_ROWS,
            BATCH_ROWS + 1,
            rows.len(),
        ] {
            assert_eq!(
                ahead(&rows[..count], false, 0),
                (rows[..count].to_vec(), Ok(()))
            );
        }
    }

    #[test]
    fn an_error_comes_behind_the_rows_before_it() {
        let rows = many();
        for count in [0, 1, BATCH_ROWS, BATCH_ROWS + 5, rows.len()] {
            let (seen, ended) = ahead(&rows[..count], true, 0);
            assert_eq!(seen, rows[..count]);
            assert_eq!(ended, Err("cannot be read".into()));
        }
    }

    #[test]
    fn who_has_seen_enough_ends_it_at_once() {
        let rows = many();
        for count in [1, BATCH_ROWS, BATCH_ROWS + 1, rows.len()] {
            // What was read ahead, an error too, is for nobody then.
            let (seen, ended) = ahead(&rows, true, count);
            assert_eq!(seen, rows[..count]);
            assert_eq!(ended, Err("is ended".into()));
        }
    }

    #[test]
    fn it_reads_no_further_ahead_than_two_batches() {
        let (read, mut seen, mut farthest) = (AtomicUsize::new(0), 0, 0);
        for_each(
            |batch| {
                let n = read.fetch_add(1, Ordering::Relaxed);
                push(batch, n, &row(1, n));
                Ok(n < 20 * BATCH_ROWS)
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
        assert!(farthest <= BATCHES * BATCH_ROWS, "{farthest}");
    }

    #[test]
    fn of_very_long_rows_one_is_held_at_a_time() {
        let long: String = "x".repeat(4 * BATCH_BYTES + 1);
        let (read, mut shown) = (AtomicUsize::new(0), 0);
        for_each(
            |batch| {
                let n = read.fetch_add(1, Ordering::Relaxed);
                push(batch, n, &Ok(long.clone()));
                Ok(n < 20)
            },
            |given, _| {
                shown += 1;
                assert_eq!(given.text.unwrap().len(), long.len());
                thread::yield_now();
                assert!(read.load(Ordering::Relaxed) <= shown);
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(shown, 21);
        let mut batch = Batch::default();
        push(&mut batch, 0, &Ok(long.clone()));
        batch.show(&mut |_, _| Ok(())).unwrap();
        assert!(batch.texts.capacity() <= 2 * BATCH_BYTES);
    }

    #[test]
    fn a_panic_on_either_side_is_one_of_the_caller() {
        let said = |panicked: thread::Result<Result<(), Error>>| {
            let what = panicked.err().unwrap();
            what.downcast_ref::<&str>().map(|what| (*what).to_owned())
        };
        for at in [0, BATCH_ROWS + 1, 5 * BATCH_ROWS] {
            let (mut read, mut seen) = (0, 0);
            let reading = catch_unwind(AssertUnwindSafe(|| {
                for_each(
                    |batch| {
                        assert!(read < at, "while reading");
                        push(batch, read, &row(1, read));
                        read += 1;
                        Ok(true)
                    },
                    |_, _| Ok(()),
                )
            }));
            assert_eq!(said(reading).as_deref(), Some("while reading"));
            let rows = many();
            let showing = catch_unwind(AssertUnwindSafe(|| {
                for_each(reader(&rows, false), |_, _| {
                    assert!(seen < at, "while showing");
                    seen += 1;
                    Ok(())
                })
            }));
            assert_eq!(said(showing).as_deref(), Some("while showing"));
        }
    }

    /// Texts that are short, or long, or longer than a batch, and faults.
    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let length = prop_oneof![
            30 => 0..40_usize,
            10 => Just(BATCH_BYTES / 20),
            2 => Just(BATCH_BYTES),
            1 => Just(5 * BATCH_BYTES)
        ];
        let one = (length, 0..10_usize).prop_map(|(length, n)| match n {
            9 => Err(format!("is wrong {length}")),
            n => row(length, n),
        });
        prop::collection::vec(
            (one, prop_oneof![20 => Just(1), 1 => Just(2 * BATCH_ROWS)]),
            0..80,
        )
        .prop_map(|runs| {
            let of_one = |(row, times): (Row, usize)| {
                let times = if row.as_ref().is_ok_and(|text| text.len() > 100) {
                    1
                } else {
                    times
                };
                std::iter::repeat_n(row, times)
            };
            runs.into_iter().flat_map(of_one).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_read_ahead_is_what_is_read_row_by_row(rows in rows(), fails in any::<bool>(), ends in 0..4000_usize) {
            let plain = shown(&rows, fails, ends, |next, each| in_turns(1, next, each));
            prop_assert_eq!(&shown(&rows, fails, ends, |next, each| in_turns(BATCH_ROWS, next, each)), &plain);
            prop_assert_eq!(&ahead(&rows, fails, ends), &plain);
        }
    }
}
