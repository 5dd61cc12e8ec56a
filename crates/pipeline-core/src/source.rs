//! Where rows come from, and the check of all of them before the first request.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{BoxStream, Stream};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, InputProblem, InputProblems};
use crate::identity::{Finished, Occurrences, ShortSet, Shorts};
use crate::lines::{LineText, Lines, LinesError};
use crate::manifest::InputFacts;
use crate::row::{Content, Row, RowId};

/// A row as JSON, or why it cannot be.
type Written = Result<Box<str>, String>;
pub(crate) type RowStream = BoxStream<'static, Written>;

fn write(row: &impl Serialize) -> Written {
    serde_json::to_string(row)
        .map(Into::into)
        .map_err(|error| format!("cannot be written as JSON: {error}"))
}

/// Rows, one JSON object each.
pub struct Source {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    /// Can be read again.
    Lasting(Lasting),
    /// Copied into the run folder first, and then a file.
    Stdin,
    /// Seen once: checked row by row.
    Stream(RowStream),
}

/// Rows that are read twice: for the check of all of them, and for the run.
#[derive(Clone)]
pub(crate) struct Lasting {
    name: String,
    from: Where,
}

#[derive(Clone)]
enum Where {
    File(PathBuf),
    /// Only where one reading is enough.
    Stdin,
    /// The caller held them all anyway.
    Rows(Arc<[Written]>),
}

impl Source {
    /// A file of JSON Lines.
    pub fn jsonl(path: impl Into<PathBuf>) -> Source {
        let path = path.into();
        Source::lasting(path.display().to_string(), Where::File(path))
    }

    fn lasting(name: String, from: Where) -> Source {
        Source {
            name: name.clone(),
            kind: Kind::Lasting(Lasting { name, from }),
        }
    }

    /// Standard input, as JSON Lines. It is copied into the run folder before anything else happens.
    pub fn stdin() -> Source {
        Source {
            name: "standard input".into(),
            kind: Kind::Stdin,
        }
    }

    /// Rows that are all there. They are checked as a whole before the first request.
    ///
    /// ```
    /// # use data_generation_pipeline_core::Source;
    /// let source = Source::rows([serde_json::json!({"topic": "tides"})]);
    /// ```
    pub fn rows<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Source {
        let rows: Vec<Written> = rows.into_iter().map(|row| write(&row)).collect();
        Source::lasting("rows".into(), Where::Rows(rows.into()))
    }

    /// Rows that come one by one. Each is checked before its own request; a bad one fails alone.
    pub fn stream<T: Serialize>(rows: impl Stream<Item = T> + Send + 'static) -> Source {
        let rows = rows.map(|row| write(&row)).boxed();
        Source {
            name: "stream".into(),
            kind: Kind::Stream(rows),
        }
    }

    /// Rows out of an iterator, taken as they are needed; as [`stream`](Source::stream).
    pub fn iter<T: Serialize, I>(rows: I) -> Source
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        Source {
            name: "iterator".into(),
            ..Source::stream(futures::stream::iter(rows))
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

/// Whether a row fits what will be done with it.
pub trait Check: Send {
    /// What is wrong with the row, each as a fragment that names variable and prompt; empty where nothing is.
    fn check(&mut self, row: &str) -> Vec<String>;

    /// What only all rows together show: warnings, or mistakes that concern every row. Called once, after
    /// the last row of an input that is read twice.
    fn conclude(&mut self) -> Conclusion {
        Conclusion::default()
    }
}

/// What a check finds in all rows together.
#[derive(Debug, Clone, Default)]
pub struct Conclusion {
    /// Worth a line, but nothing that stops.
    pub warnings: Vec<String>,
    /// Nothing may be sent before these are mended.
    pub mistakes: Vec<String>,
}

/// Nothing to check.
impl Check for () {
    fn check(&mut self, _row: &str) -> Vec<String> {
        Vec::new()
    }
}

/// What the first pass over an input found.
pub(crate) struct Examined {
    pub(crate) facts: InputFacts,
    pub(crate) rows: u64,
    pub(crate) problems: InputProblems,
    pub(crate) warnings: Vec<String>,
    pub(crate) repeated: ShortSet,
    /// How many finished rows the input has as the first of their kind.
    pub(crate) known: u64,
    seal: Seal,
}

/// Recognises an input that changed between its two readings.
#[derive(Clone)]
struct Seal {
    file: Option<FileState>,
    /// A sum over the contents of every so many rows.
    blocks: Arc<[u64]>,
}

const ROWS_A_BLOCK: u64 = 256;

#[derive(Clone, PartialEq, Eq)]
struct FileState {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
}

impl FileState {
    fn of(file: &File) -> io::Result<FileState> {
        let facts = file.metadata()?;
        Ok(FileState {
            inode: (facts.dev(), facts.ino()),
            length: facts.len(),
            modified: (facts.mtime(), facts.mtime_nsec()),
        })
    }
}

/// One row, or why it is none.
struct Given<'a> {
    line: u64,
    content: Content,
    text: Result<&'a str, Fault>,
}

/// Why a row cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) class: &'static str,
    pub(crate) message: String,
}

/// Reads an input that can be read again.
enum Pass {
    File {
        path: PathBuf,
        lines: Lines<Box<dyn BufRead + Send>>,
    },
    Rows {
        rows: Arc<[Written]>,
        next: usize,
    },
}

impl Pass {
    fn open(source: &Lasting, max_row_bytes: usize) -> Result<(Pass, Option<FileState>), Error> {
        match &source.from {
            Where::File(path) => {
                let file = open_input(path)?;
                let state = FileState::of(&file).map_err(Error::io("could not read", path))?;
                let lines = Lines::new(
                    Box::new(BufReader::with_capacity(256 * 1024, file)) as Box<dyn BufRead + Send>,
                    max_row_bytes,
                );
                Ok((
                    Pass::File {
                        path: path.clone(),
                        lines,
                    },
                    Some(state),
                ))
            }
            Where::Stdin => {
                let reader = Box::new(BufReader::new(io::stdin())) as Box<dyn BufRead + Send>;
                let path = PathBuf::from("standard input");
                Ok((
                    Pass::File {
                        path,
                        lines: Lines::new(reader, max_row_bytes),
                    },
                    None,
                ))
            }
            Where::Rows(rows) => Ok((
                Pass::Rows {
                    rows: Arc::clone(rows),
                    next: 0,
                },
                None,
            )),
        }
    }

    fn next(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Given<'_>>, Error> {
        match self {
            Pass::File { path, lines } => {
                let line = lines.next().map_err(|error| match error {
                    LinesError::Utf16 => Error::usage(format!(
                        "{} is UTF-16; rows are UTF-8 (`iconv -f UTF-16 -t UTF-8` makes it so)",
                        path.display()
                    )),
                    LinesError::Io(error) => Error::io("could not read", path)(error),
                })?;
                Ok(line.map(|line| match line.text {
                    LineText::Whole(text) => judge(line.number, text, scratch),
                    LineText::TooLong { bytes, content } => Given {
                        line: line.number,
                        content,
                        text: Err(too_large(bytes)),
                    },
                    LineText::NotUtf8 { column, content } => Given {
                        line: line.number,
                        content,
                        text: Err(invalid(format!("is no UTF-8 text (column {column})"))),
                    },
                }))
            }
            Pass::Rows { rows, next } => {
                let Some(row) = rows.get(*next) else {
                    return Ok(None);
                };
                *next += 1;
                Ok(Some(judge_written(*next as u64, row, scratch)))
            }
        }
    }
}

fn open_input(path: &Path) -> Result<File, Error> {
    match File::open(path) {
        Ok(file) if file.metadata().is_ok_and(|facts| facts.is_dir()) => {
            Err(Error::usage(format!(
                "{} is a folder; the rows are one file of JSON Lines",
                path.display()
            )))
        }
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::usage(format!(
            "there is no file {}; rows are one JSON object a line",
            path.display()
        ))),
        Err(error) => Err(Error::io("could not read", path)(error)),
    }
}

fn judge<'a>(line: u64, text: &'a str, scratch: &mut Vec<u8>) -> Given<'a> {
    match Content::of(text, scratch) {
        Ok(content) => Given {
            line,
            content,
            text: Ok(text),
        },
        Err(error) => Given {
            line,
            content: Content::of_bytes(text.as_bytes()),
            text: Err(invalid(error.to_string())),
        },
    }
}

fn judge_written<'a>(number: u64, row: &'a Written, scratch: &mut Vec<u8>) -> Given<'a> {
    match row {
        Ok(text) => judge(number, text, scratch),
        // What cannot be written cannot be told from others either, but by its place.
        Err(what) => Given {
            line: number,
            content: Content::of_bytes(format!("{number} {what}").as_bytes()),
            text: Err(invalid(what.clone())),
        },
    }
}

fn invalid(message: String) -> Fault {
    Fault {
        class: "invalid_row",
        message,
    }
}

fn too_large(bytes: u64) -> Fault {
    Fault {
        class: "row_too_large",
        message: format!("has {bytes} bytes, more than input_data.max_row_bytes allows"),
    }
}

/// Reads all rows once: everything that is wrong with any of them is known before the first request.
///
/// `go_on` hears every now and then how many rows were read, and ends it by answering false.
pub(crate) fn examine(
    source: &Lasting,
    max_row_bytes: usize,
    check: &mut dyn Check,
    finished: &Finished,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Examined, Error> {
    let (mut pass, file) = Pass::open(source, max_row_bytes)?;
    let mut scratch = Vec::new();
    let mut shorts = Shorts::default();
    let mut hash = blake3::Hasher::new();
    let (mut blocks, mut block) = (Vec::new(), 0_u64);
    let mut problems = InputProblems::default();
    let mut rows = 0_u64;
    while let Some(given) = pass.next(&mut scratch)? {
        rows += 1;
        shorts.push(given.content);
        hash.update(&given.content.id(0).0);
        block = block
            .rotate_left(1)
            .wrapping_add(given.content.id(0).short());
        if rows.is_multiple_of(ROWS_A_BLOCK) {
            blocks.push(block);
            if !go_on(rows) {
                return Err(ErrorKind::Interrupted.into());
            }
        }
        let faults = match given.text {
            Ok(text) => check.check(text),
            // A row that is too large fails alone, in the run: it is no mistake of the prompts.
            Err(fault) if fault.class == "row_too_large" => Vec::new(),
            Err(fault) => vec![fault.message],
        };
        problems.rows += u64::from(!faults.is_empty());
        for what in faults {
            problems.add(|| InputProblem {
                source: source.name.clone(),
                line: given.line,
                what,
            });
        }
    }
    blocks.push(block);
    let Conclusion { warnings, mistakes } = check.conclude();
    for what in mistakes {
        problems.add(|| InputProblem {
            source: source.name.clone(),
            line: 1,
            what,
        });
    }
    let (repeated, known) = shorts.conclude(finished);
    let hash = hash.finalize().to_hex()[..32].to_owned();
    Ok(Examined {
        facts: InputFacts {
            source: source.name.clone(),
            rows: Some(rows),
            hash: Some(hash),
        },
        rows,
        problems,
        warnings,
        repeated,
        known,
        seal: Seal {
            file,
            blocks: blocks.into(),
        },
    })
}

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

    pub(crate) fn any_repeated(&self) -> bool {
        self.occurrences.any_repeated()
    }

    /// The next row. Cancel safe: a row is taken only when it is returned.
    pub(crate) async fn next(&mut self) -> Result<Option<Next>, RowsError> {
        let (content, row) = match &mut self.reader {
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
            let problems = self
                .check
                .as_mut()
                .map(|check| check.check(&text))
                .unwrap_or_default();
            let json =
                RawValue::from_string(text).map_err(|error| (invalid(error.to_string()), None))?;
            if problems.is_empty() {
                Ok(Row { id, index, json })
            } else {
                Err((invalid(problems.join("; ")), Some(json)))
            }
        });
        Ok(Some(Next {
            id,
            index,
            content,
            row,
        }))
    }
}

impl Seal {
    /// Whether the rows so far are those that were checked.
    fn verify(&self, rows: u64, block: u64, end: bool) -> Result<(), String> {
        let expected = if end {
            self.blocks.last()
        } else if rows.is_multiple_of(ROWS_A_BLOCK) {
            self.blocks.get((rows / ROWS_A_BLOCK) as usize - 1)
        } else {
            return Ok(());
        };
        if expected == Some(&block) {
            return Ok(());
        }
        Err(format!(
            "the input changed while it was read (noticed at row {rows}); run again to go on with what it is now"
        ))
    }
}

impl Source {
    /// For one reading, without a folder to copy standard input to.
    pub(crate) fn readable_once(self) -> Result<Lasting, Error> {
        match self.kind {
            Kind::Lasting(lasting) => Ok(lasting),
            Kind::Stdin => Ok(Lasting {
                name: self.name,
                from: Where::Stdin,
            }),
            Kind::Stream(_) => Err(Error::usage("a stream shows its rows only while it runs")),
        }
    }
}

impl Lasting {
    pub(crate) fn first(&self, count: usize, max_row_bytes: usize) -> Result<Vec<String>, Error> {
        let (mut pass, _) = Pass::open(self, max_row_bytes)?;
        let mut scratch = Vec::new();
        let mut rows = Vec::new();
        while rows.len() < count
            && let Some(given) = pass.next(&mut scratch)?
        {
            match given.text {
                Ok(text) => rows.push(text.to_owned()),
                Err(fault) => {
                    return Err(Error::usage(format!(
                        "{}:{}: {}",
                        self.name, given.line, fault.message
                    )));
                }
            }
        }
        Ok(rows)
    }
}

/// Copies standard input into the run folder, so that it can be checked first and read again.
pub(crate) fn spool_stdin(name: String, dir: &Path) -> Result<Lasting, Error> {
    let path = dir.join(".input.jsonl");
    let beside = dir.join(".input.jsonl.new");
    let copy = || -> io::Result<()> {
        let mut file = File::create(&beside)?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        file.sync_data()?;
        std::fs::rename(&beside, &path)
    };
    copy().map_err(Error::io("could not copy standard input to", &path))?;
    Ok(Lasting {
        name,
        from: Where::File(path),
    })
}

impl Examined {
    /// Nothing is sent while something is wrong, unless bad rows may fail alone.
    pub(crate) fn refuse_problems(&mut self, skip_invalid: bool) -> Result<(), Error> {
        let whole_input = self.problems.total > 0 && self.problems.rows == 0;
        if self.problems.total == 0 || (skip_invalid && !whole_input) {
            return Ok(());
        }
        Err(ErrorKind::Input(std::mem::take(&mut self.problems)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        examine(source, 100, &mut (), &Finished::default(), |_| true).unwrap()
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

    #[test]
    fn everything_that_is_wrong_is_found_and_the_first_twenty_told() {
        struct Wants;
        impl Check for Wants {
            fn check(&mut self, row: &str) -> Vec<String> {
                if row.contains("topic") {
                    Vec::new()
                } else {
                    vec!["`{{topic}}` is missing".into()]
                }
            }
        }
        let text = format!(
            "{{\"topic\":1}}\n[1]\n{{\"a\":1,\"a\":2}}\n{}",
            "{\"x\":1}\n".repeat(30)
        );
        let (_dir, source) = file(&text);
        let mut examined =
            examine(&source, 100, &mut Wants, &Finished::default(), |_| true).unwrap();
        let problems = examined.problems.clone();
        assert_eq!(
            (problems.total, problems.rows, problems.first.len()),
            (32, 32, 20)
        );
        assert!(
            problems.first[0]
                .to_string()
                .ends_with("rows.jsonl:2: is no JSON object but a list"),
            "{}",
            problems.first[0]
        );
        assert!(
            problems.first[1]
                .to_string()
                .ends_with("rows.jsonl:3: has the key \"a\" twice (column 14)"),
            "{}",
            problems.first[1]
        );
        assert!(
            examined
                .refuse_problems(false)
                .unwrap_err()
                .to_string()
                .ends_with("and 12 more")
        );
        assert!(examined.refuse_problems(true).is_ok());
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

    #[test]
    fn files_that_cannot_be_rows_are_refused_by_name() {
        for (path, what) in [("/nope.jsonl", "there is no file"), ("/", "is a folder")] {
            let error = Pass::open(&lasting(Source::jsonl(path)), 1).err().unwrap();
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
