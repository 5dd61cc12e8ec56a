//! The rows of a run, one after the other, each with its identity.

use futures::StreamExt;
use serde_json::value::RawValue;

use crate::check::{Check, Examined};
use crate::error::Error;
use crate::failed::{FailedRow, FailedRows};
use crate::identity::Occurrences;
use crate::pass::{Fault, Pass, invalid, judge_written, too_large};
use crate::row::{Content, Row, RowId};
use crate::seal::{FinishedBlocks, Seal, next_sum};
use crate::source::{Lasting, RowStream};

/// A row to be asked, or one that cannot be.
pub(crate) struct Next {
    pub(crate) id: RowId,
    pub(crate) index: u64,
    pub(crate) content: Content,
    pub(crate) row: Result<Row, (Fault, Option<Box<RawValue>>)>,
}

/// The rows of a run, each with its identity.
pub(crate) struct Rows {
    reader: Reader,
    occurrences: Occurrences,
    check: Option<Box<dyn Check>>,
    index: u64,
    scratch: Vec<u8>,
    max_row_bytes: usize,
}

enum Reader {
    Pass {
        pass: Pass,
        seal: Seal,
        /// A sum over the contents of all rows so far.
        so_far: u64,
        over: FinishedBlocks,
    },
    Stream(RowStream),
    Failed(FailedRows),
}

/// What ends the rows before their end.
pub(crate) enum RowsError {
    /// The input is not what was checked.
    Changed(String),
    Io(Error),
}

impl Rows {
    /// The second reading of an input; `check` where bad rows may be among them and fail alone.
    pub(crate) fn again(
        source: &Lasting,
        examined: &Examined,
        max_row_bytes: usize,
        check: Option<Box<dyn Check>>,
    ) -> Result<Rows, Error> {
        let (pass, file) = Pass::open(source, max_row_bytes)?;
        if file != examined.seal.file {
            return Err(Error::usage(format!(
                "{} changed while it was read; run again when it is at rest",
                source.name
            )));
        }
        Ok(Rows {
            reader: Reader::Pass {
                pass,
                seal: examined.seal.clone(),
                so_far: 0,
                over: FinishedBlocks::default(),
            },
            occurrences: Occurrences::after_a_pass(examined.repeated.clone()),
            check,
            index: 0,
            scratch: Vec::new(),
            max_row_bytes,
        })
    }

    /// The only reading of a stream.
    pub(crate) fn once(rows: RowStream, max_row_bytes: usize, check: Box<dyn Check>) -> Rows {
        Rows {
            reader: Reader::Stream(rows),
            occurrences: Occurrences::of_a_stream(),
            check: Some(check),
            index: 0,
            scratch: Vec::new(),
            max_row_bytes,
        }
    }

    /// Rows that failed before, under their own ids.
    pub(crate) fn failed(rows: FailedRows, max_row_bytes: usize, check: Box<dyn Check>) -> Rows {
        Rows {
            reader: Reader::Failed(rows),
            occurrences: Occurrences::after_a_pass(Default::default()),
            check: Some(check),
            index: 0,
            scratch: Vec::new(),
            max_row_bytes,
        }
    }

    /// Finished rows may be passed over where they stand in blocks; none of them has an equal.
    pub(crate) fn passing_over(mut self, finished: FinishedBlocks) -> Rows {
        if let Reader::Pass { over, .. } = &mut self.reader {
            *over = finished;
        }
        self
    }

    /// Passes over finished rows, if it can from here on: how many.
    pub(crate) fn pass_over(&mut self) -> Result<u64, RowsError> {
        let Reader::Pass {
            pass,
            seal,
            so_far,
            over,
        } = &mut self.reader
        else {
            return Ok(0);
        };
        let Some(behind) = seal.behind(self.index, over) else {
            return Ok(0);
        };
        pass.go_to(behind.mark).map_err(RowsError::Io)?;
        *so_far = behind.so_far;
        let passed = behind.rows - self.index;
        self.index = behind.rows;
        Ok(passed)
    }

    pub(crate) fn any_repeated(&self) -> bool {
        self.occurrences.any_repeated()
    }

    /// The next row. Cancel safe: a row is taken only when it is returned.
    pub(crate) async fn next(&mut self) -> Result<Option<Next>, RowsError> {
        let (content, row) = match &mut self.reader {
            Reader::Failed(rows) => {
                let row = rows.next().map_err(RowsError::Io)?;
                return Ok(row.map(|row| self.once_more(row)));
            }
            Reader::Pass {
                pass, seal, so_far, ..
            } => {
                let Some(given) = pass.next(&mut self.scratch).map_err(RowsError::Io)? else {
                    return match seal.verify(self.index, *so_far, true) {
                        Ok(()) => Ok(None),
                        Err(what) => Err(RowsError::Changed(what)),
                    };
                };
                *so_far = next_sum(*so_far, given.content);
                let content = given.content;
                let row = given.text.map_err(|fault| (fault, None)).map(str::to_owned);
                seal.verify(self.index + 1, *so_far, false)
                    .map_err(RowsError::Changed)?;
                (content, row)
            }
            Reader::Stream(rows) => match rows.next().await {
                None => return Ok(None),
                Some(Ok(text)) if text.len() > self.max_row_bytes => (
                    Content::of_bytes(text.as_bytes()),
                    Err((too_large(text.len() as u64), None)),
                ),
                Some(written) => {
                    let given = judge_written(self.index + 1, &written, &mut self.scratch);
                    (
                        given.content,
                        given.text.map_err(|fault| (fault, None)).map(str::to_owned),
                    )
                }
            },
        };
        let index = self.index;
        self.index += 1;
        let id = content.id(self.occurrences.next(content));
        let row = row.and_then(|text| {
            let json =
                RawValue::from_string(text).map_err(|error| (invalid(error.to_string()), None))?;
            self.checked(Row { id, index, json })
        });
        Ok(Some(Next {
            id,
            index,
            content,
            row,
        }))
    }

    fn once_more(&mut self, row: FailedRow) -> Next {
        let FailedRow { id, index, json } = row;
        Next {
            id,
            index,
            // Nothing is looked up by it: the row has its id.
            content: Content::of_bytes(b""),
            row: self.checked(Row { id, index, json }),
        }
    }

    fn checked(&mut self, row: Row) -> Result<Row, (Fault, Option<Box<RawValue>>)> {
        let check = self.check.as_mut();
        let problems = check
            .map(|check| check.check(row.json()))
            .unwrap_or_default();
        if problems.is_empty() {
            Ok(row)
        } else {
            Err((invalid(problems.join("; ")), Some(row.json)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::examine;
    use crate::identity::Finished;
    use crate::source::{Kind, Source, Where};

    async fn all(mut rows: Rows) -> Result<Vec<(String, Result<String, String>)>, String> {
        let mut seen = Vec::new();
        loop {
            match rows.next().await {
                Ok(None) => return Ok(seen),
                Ok(Some(next)) => seen.push((
                    next.id.to_string(),
                    next.row
                        .map(|row| row.json().to_owned())
                        .map_err(|(fault, _)| format!("{}: {}", fault.class, fault.message)),
                )),
                Err(RowsError::Changed(what)) => return Err(what),
                Err(RowsError::Io(error)) => return Err(error.to_string()),
            }
        }
    }

    fn lasting(source: Source) -> Lasting {
        let Kind::Lasting(lasting) = source.kind else {
            panic!("it can be read twice")
        };
        lasting
    }

    fn file(text: &str) -> (tempfile::TempDir, Lasting) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        (dir, lasting(Source::jsonl(path)))
    }

    fn look(source: &Lasting) -> Examined {
        look_beside(source, &Finished::default())
    }

    fn look_beside(source: &Lasting, finished: &Finished) -> Examined {
        let mut examined = examine(source, 100, &mut (), |_| true).unwrap();
        examined.compare(finished);
        examined
    }

    /// The positions of the rows that are shown where these are finished, and how many are passed over.
    async fn shown(text: &str, finished: impl Fn(u64) -> bool) -> (Vec<u64>, u64) {
        let (_dir, source) = file(text);
        let mut rows = Rows::again(&source, &look(&source), 100, None).unwrap();
        let mut ids = Vec::new();
        while let Ok(Some(next)) = rows.next().await {
            if finished(next.index) {
                ids.push(next.id);
            }
        }
        let (finished, _) = Finished::new(ids);
        let mut examined = look_beside(&source, &finished);
        let over = std::mem::take(&mut examined.finished);
        let rows = Rows::again(&source, &examined, 100, None).unwrap();
        let mut rows = rows.passing_over(over);
        let (mut shown, mut passed) = (Vec::new(), 0);
        loop {
            passed += rows.pass_over().map_err(|_| ()).unwrap();
            match rows.next().await.map_err(|_| ()).unwrap() {
                None => return (shown, passed),
                Some(next) => {
                    let row = next.row.map_err(|_| ()).unwrap();
                    assert_eq!(row.json(), format!("{{\"n\":{}}}", next.index));
                    shown.push(next.index);
                }
            }
        }
    }

    #[tokio::test]
    async fn finished_rows_are_passed_over_in_blocks_and_no_other_row_is() {
        for count in [0, 1, 255, 256, 257, 1000, 1024] {
            let text: String = (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect();
            let all: Vec<u64> = (0..count).collect();
            assert_eq!(shown(&text, |_| true).await, (vec![], count));
            assert_eq!(shown(&text, |_| false).await, (all.clone(), 0));
            // One that is not finished, wherever it is, is shown, and with it only those of its block.
            for open in [0, 255, 256, 511, 600, 1023] {
                let (rows, passed) = shown(&text, |n| n != open).await;
                assert_eq!(rows.contains(&open), open < count);
                assert!(rows.iter().all(|n| n / 256 == open / 256), "{rows:?}");
                assert_eq!(rows.len() as u64 + passed, count);
            }
            assert_eq!(
                shown(&text, |n| n % 256 != 7).await.1,
                if count % 256 > 7 { 0 } else { count % 256 }
            );
        }
    }

    #[tokio::test]
    async fn where_rows_are_equal_none_is_passed_over() {
        let mut text: String = (0..600).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        text.push_str("{\"n\":3}\n");
        let (_dir, source) = file(&text);
        let mut rows = Rows::again(&source, &look(&source), 100, None).unwrap();
        let mut ids = Vec::new();
        while let Ok(Some(next)) = rows.next().await {
            ids.push(next.id);
        }
        assert_eq!(ids.len(), 601);
        let mut examined = look_beside(&source, &Finished::new(ids).0);
        let over = std::mem::take(&mut examined.finished);
        let rows = Rows::again(&source, &examined, 100, None).unwrap();
        assert_eq!(rows.passing_over(over).pass_over().map_err(|_| ()), Ok(0));
    }

    #[tokio::test]
    async fn the_same_rows_have_the_same_ids_from_a_file_a_list_and_a_stream() {
        let values = [
            serde_json::json!({"a": 1}),
            serde_json::json!({"b": "人"}),
            serde_json::json!({"a": 1}),
        ];
        let (_dir, from_file) = file("{\"a\": 1}\n{\"b\":\"\\u4eba\"}\n\n{\"a\":1}\n");
        let from_list = lasting(Source::rows(values.clone()));
        let mut ids = Vec::new();
        for source in [from_file, from_list] {
            let examined = look(&source);
            assert_eq!((examined.rows, examined.repeated.len()), (3, 1));
            let rows = Rows::again(&source, &examined, 100, None).unwrap();
            ids.push(
                all(rows)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|(id, _)| id)
                    .collect::<Vec<_>>(),
            );
        }
        let Kind::Stream(stream) = Source::iter(values).kind else {
            panic!("a stream")
        };
        let rows = Rows::once(stream, 100, Box::new(()));
        ids.push(
            all(rows)
                .await
                .unwrap()
                .into_iter()
                .map(|(id, _)| id)
                .collect(),
        );
        assert_eq!(ids[0], ids[1]);
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0][0], ids[0][2]);
    }

    #[tokio::test]
    async fn an_input_that_changes_between_check_and_run_is_noticed() {
        let text = (0..1000)
            .map(|n| format!("{{\"n\":{n}}}\n"))
            .collect::<String>();
        let (_dir, source) = file(&text);
        let examined = look(&source);
        let Where::File(path) = &source.from else {
            panic!()
        };
        std::fs::write(path, text.replace("700", "701")).unwrap();
        assert!(
            Rows::again(&source, &examined, 100, None)
                .is_err_and(|error| error.to_string().contains("changed while it was read"))
        );
        // The same length, inode and time do not hide it.
        let mut examined = examined;
        examined.seal.file = Pass::open(&source, 100).unwrap().1;
        let noticed = all(Rows::again(&source, &examined, 100, None).unwrap())
            .await
            .unwrap_err();
        assert!(noticed.contains("noticed at row 768"), "{noticed}");
    }

    #[tokio::test]
    async fn a_row_above_the_limit_fails_alone() {
        let (_dir, source) = file(&format!("{{\"a\":1}}\n{{\"a\":\"{}\"}}\n", "x".repeat(200)));
        let mut examined = look(&source);
        examined.refuse_problems(false).unwrap();
        let rows = all(Rows::again(&source, &examined, 100, None).unwrap())
            .await
            .unwrap();
        assert_eq!(
            rows[1].1,
            Err("row_too_large: has 208 bytes, more than input_data.max_row_bytes allows".into())
        );
    }
}
