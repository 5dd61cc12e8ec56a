//! The rows of a run, one after the other, each with its identity.

use futures::StreamExt;
use serde_json::value::RawValue;

use crate::check::{Check, Examined, Seal};
use crate::error::Error;
use crate::failed::{FailedRow, FailedRows};
use crate::identity::Occurrences;
use crate::pass::{Fault, Pass, invalid, judge_written, too_large};
use crate::row::{Content, Row, RowId};
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
    Pass { pass: Pass, seal: Seal, block: u64 },
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
                block: 0,
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
            Reader::Pass { pass, seal, block } => {
                let Some(given) = pass.next(&mut self.scratch).map_err(RowsError::Io)? else {
                    return match seal.verify(self.index, *block, true) {
                        Ok(()) => Ok(None),
                        Err(what) => Err(RowsError::Changed(what)),
                    };
                };
                *block = block
                    .rotate_left(1)
                    .wrapping_add(given.content.id(0).short());
                let content = given.content;
                let row = given.text.map_err(|fault| (fault, None)).map(str::to_owned);
                seal.verify(self.index + 1, *block, false)
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
        examine(source, 100, &mut (), |_| true).unwrap()
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
