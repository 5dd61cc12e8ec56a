//! The journal: every answer that was paid for, once, before anything else is done with it.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::line::{Body, push_line};
use crate::row::RowId;
use crate::skim::Skim;

/// An answer that was paid for, as a step hands it to the journal: [`StepContext::journal`](crate::StepContext::journal).
#[derive(Debug, Clone, Copy)]
pub struct PaidAnswer<'a> {
    /// Which call it answers: what [`call_key`] gives, or another text.
    pub key: &'a str,
    /// The number of the request among those that were sent for its row, from 1.
    pub attempt: u32,
    /// The HTTP status.
    pub status: u16,
    /// When it arrived; kept to the millisecond.
    pub at: SystemTime,
    /// Sending to last byte; kept to the millisecond.
    pub latency: Duration,
    /// Tokens of the prompt by a guess, where the answer does not say what it cost.
    pub prompt_guess: Option<u64>,
    /// The body, byte for byte. JSON is kept as it is written, but for white space between values; anything
    /// else is kept as text, with U+FFFD for bytes that are no UTF-8.
    pub body: &'a [u8],
}

/// An answer out of the journal: [`StepContext::replay`](crate::StepContext::replay).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct JournaledAnswer {
    /// Its number in the journal, from 1.
    pub seq: u64,
    /// The number of the request among those that the command of that time sent for its row, from 1.
    pub attempt: u32,
    /// The HTTP status.
    pub status: u16,
    /// When it arrived.
    pub at: SystemTime,
    /// Sending to last byte.
    pub latency: Duration,
    /// Tokens of the prompt by a guess: [`PaidAnswer::prompt_guess`]. `None` also for an answer that an older version
    /// kept.
    pub prompt_guess: Option<u64>,
    /// The body as [`PaidAnswer::body`] was kept.
    pub body: Vec<u8>,
}

/// The key of a call: 32 hex digits of BLAKE3 over row, step, provider and the request.
///
/// Give the request without what may change between two commands and still ask the same, such as the
/// maximum of tokens; an answer is only found again under the key that it was kept under.
///
/// ```
/// use data_generation_pipeline_core::{RowId, call_key};
///
/// let row = RowId::from_hex("e1d7f3e28f9bdb147db2853118862046").unwrap();
/// let key = call_key(row, "ask", "openai", br#"{"messages":[],"model":"small"}"#);
/// assert_eq!(key.len(), 32);
/// assert_ne!(key, call_key(row, "ask", "offline", br#"{"messages":[],"model":"small"}"#));
/// ```
pub fn call_key(row: RowId, step: &str, provider: &str, request: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"data-generation call 1\n").update(&row.0);
    for part in [step.as_bytes(), provider.as_bytes(), request] {
        hasher
            .update(&(part.len() as u64).to_le_bytes())
            .update(part);
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

const VERSION: u32 = 1;

/// What each line begins with. Within one it can only stand in a body that is JSON and says the same: in a string the
/// quotes are escaped.
pub(crate) const BEGINNING: &[u8] = b"{\"v\":1,\"seq\":";

/// All of a line but its beginning, `{"v":1,"seq":n`, which the writer puts before it.
#[derive(Serialize)]
struct Tail<'a> {
    row: RowId,
    key: &'a str,
    step: &'a str,
    attempt: u32,
    status: u16,
    at: String,
    latency_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_guess: Option<u64>,
    body: Body<'a>,
}

/// The line of an answer, without its number.
pub(crate) fn tail(row: RowId, step: &str, answer: &PaidAnswer<'_>) -> Vec<u8> {
    let at = jiff::Timestamp::try_from(answer.at).unwrap_or_default();
    let tail = Tail {
        row,
        key: answer.key,
        step,
        attempt: answer.attempt,
        status: answer.status,
        at: format!("{at:.3}"),
        latency_ms: u64::try_from(answer.latency.as_millis()).unwrap_or(u64::MAX),
        prompt_guess: answer.prompt_guess,
        body: Body::new(answer.body),
    };
    let mut line = Vec::with_capacity(answer.body.len() + 256);
    push_line(&mut line, &tail).expect("a struct of texts and numbers is JSON");
    line
}

/// Puts the number before a tail, at the end of `out`.
pub(crate) fn push_numbered(out: &mut Vec<u8>, seq: u64, tail: &[u8]) {
    out.extend_from_slice(format!("{{\"v\":{VERSION},\"seq\":{seq},").as_bytes());
    out.extend_from_slice(&tail[1..]);
}

/// Numbers of answers stay below this, which no journal comes to: a higher one is damaged, and whoever counted on
/// from it would come to an end.
pub(crate) const NUMBERS: u64 = 1 << 53;

/// A line as it is read back.
#[derive(Deserialize)]
pub(crate) struct Line<'a> {
    v: u32,
    pub(crate) seq: u64,
    pub(crate) row: RowId,
    #[serde(borrow)]
    pub(crate) key: Cow<'a, str>,
    #[serde(borrow)]
    step: Cow<'a, str>,
    pub(crate) attempt: u32,
    status: u16,
    #[serde(borrow)]
    at: Cow<'a, str>,
    pub(crate) latency_ms: u64,
    #[serde(default)]
    pub(crate) prompt_guess: Option<u64>,
    #[serde(borrow)]
    pub(crate) body: &'a RawValue,
}

impl<'a> Line<'a> {
    /// Reads a line, or says what is wrong with it. Whatever is read back later is read here, so that damage is met
    /// before the first request and not when a row needs its answer.
    pub(crate) fn read(line: &'a str) -> Result<Line<'a>, String> {
        let read: Line<'a> = serde_json::from_str(line).map_err(|error| {
            let version = serde_json::from_str::<Version>(line).map(|line| line.v);
            match version {
                Ok(version) if version != VERSION => other_version(version),
                _ => format!("is no line of a journal ({})", at_column(&error)),
            }
        })?;
        if read.v != VERSION {
            return Err(other_version(read.v));
        }
        if read.seq >= NUMBERS {
            return Err(format!("has the number {}, which no answer has", read.seq));
        }
        read.time()?;
        body_bytes(read.body)?;
        Ok(read)
    }

    fn time(&self) -> Result<SystemTime, String> {
        let at: Result<jiff::Timestamp, _> = self.at.parse();
        at.map(SystemTime::from)
            .map_err(|_| format!("has the time {:?}, which is none", self.at))
    }

    fn into_entry(self) -> Result<Entry, String> {
        let (at, body) = (self.time()?, body_bytes(self.body)?.into_owned());
        Ok(Entry {
            key: self.key.into_owned(),
            step: self.step.into_owned(),
            answer: JournaledAnswer {
                seq: self.seq,
                attempt: self.attempt,
                status: self.status,
                at,
                latency: Duration::from_millis(self.latency_ms),
                prompt_guess: self.prompt_guess,
                body,
            },
        })
    }
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

fn other_version(version: u32) -> String {
    format!("has version {version}, this version of the program knows {VERSION}")
}

/// serde counts from the line; the place in the file is said beside it.
pub(crate) fn at_column(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let why = text.split(" at line ").next().unwrap_or(&text);
    format!("{why}, column {}", error.column())
}

/// Number and row of a line that is whole and as we write it.
pub(crate) fn skim(line: &str) -> Option<(u64, RowId)> {
    let mut skim = Skim::new(line)?;
    skim.literal("{\"v\":1,\"seq\":")?;
    let seq = skim.whole_number().filter(|seq| *seq < NUMBERS)?;
    skim.literal(",\"row\":\"")?;
    let row = RowId::from_hex(skim.ascii(32)?)?;
    skim.literal("\",\"key\":")?;
    skim.text()?;
    skim.literal(",\"step\":")?;
    skim.text()?;
    skim.literal(",\"attempt\":")?;
    u32::try_from(skim.whole_number()?).ok()?;
    skim.literal(",\"status\":")?;
    u16::try_from(skim.whole_number()?).ok()?;
    skim.literal(",\"at\":\"")?;
    skim.time()?;
    skim.literal("\",\"latency_ms\":")?;
    skim.whole_number()?;
    if skim.literal(",\"prompt_guess\":").is_some() {
        skim.whole_number()?;
    }
    skim.literal(",\"body\":")?;
    skim.text_or_value()?;
    skim.ends().then_some((seq, row))
}

/// The same line under another number.
pub(crate) fn push_renumbered(out: &mut Vec<u8>, seq: u64, line: &str) {
    out.extend_from_slice(format!("{{\"v\":{VERSION},\"seq\":{seq},").as_bytes());
    out.extend_from_slice(tail_of(line).as_bytes());
    out.push(b'\n');
}

/// What follows the first two members of a line: the tail as it was written.
fn tail_of(line: &str) -> &str {
    &line[line.find("\"row\":").unwrap_or(line.len())..]
}

/// Whether two lines are the same but for their numbers.
pub(crate) fn same_but_number(one: &str, other: &str) -> bool {
    tail_of(one) == tail_of(other)
}

/// An answer with the call that it answers.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) step: String,
    pub(crate) answer: JournaledAnswer,
}

/// The line that starts at `offset`, without its newline.
pub(crate) fn line_at(file: &File, offset: u64) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut block = vec![0; 16 * 1024];
    loop {
        let read = file.read_at(&mut block, offset + line.len() as u64)?;
        let end = memchr::memchr(b'\n', &block[..read]);
        line.extend_from_slice(&block[..end.unwrap_or(read)]);
        if end.is_some() || read == 0 {
            return Ok(line);
        }
    }
}

/// The bytes of a body as the provider sent them: JSON, or the text that stands in a string.
pub(crate) fn body_bytes(body: &RawValue) -> Result<Cow<'_, [u8]>, String> {
    let body = body.get();
    if !body.starts_with('"') {
        return Ok(Cow::Borrowed(body.as_bytes()));
    }
    match serde_json::from_str::<String>(body) {
        Ok(text) => Ok(Cow::Owned(text.into_bytes())),
        Err(_) => Err("has a body that is neither JSON nor text".to_owned()),
    }
}

/// Reads the answer whose line starts at `offset`.
pub(crate) fn read_at(file: &File, offset: u64) -> io::Result<Entry> {
    let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    entry(&line_at(file, offset)?).map_err(damaged)
}

/// The answer of a line without its newline, or what is wrong with it.
pub(crate) fn entry(line: &[u8]) -> Result<Entry, String> {
    let line = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    Line::read(line).and_then(Line::into_entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(body: &[u8]) -> Vec<u8> {
        line_of(body, None)
    }

    fn line_of(body: &[u8], prompt_guess: Option<u64>) -> Vec<u8> {
        let answer = PaidAnswer {
            key: "0011\"\\223344",
            attempt: 2,
            status: 200,
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            latency: Duration::from_millis(812),
            prompt_guess,
            body,
        };
        let mut out = Vec::new();
        push_numbered(&mut out, 7, &tail(RowId([0xab; 16]), "ask", &answer));
        out
    }

    #[test]
    fn a_line_holds_its_beginning_once_whatever_text_it_is_made_of() {
        for body in [
            &line(b"<html>")[..],
            br#"{"text":"{\"v\":1,\"seq\":1,"}"#,
            br#""{\"v\":1,\"seq\":1,""#,
        ] {
            // As text, as it stands in an answer that quotes a journal.
            let body = [body, b"."].concat();
            let line = line(&body);
            let found: Vec<usize> = memchr::memmem::find_iter(&line, BEGINNING).collect();
            assert_eq!(found, [0], "{}", String::from_utf8_lossy(&line));
        }
    }

    #[test]
    fn a_line_holds_everything_that_a_result_needs_besides_the_row() {
        insta::assert_snapshot!(String::from_utf8(line(b"{\"choices\": [],\n\"n\":1.50}")).unwrap(), @r#"{"v":1,"seq":7,"row":"abababababababababababababababab","key":"0011\"\\223344","step":"ask","attempt":2,"status":200,"at":"1970-01-01T00:00:01.500Z","latency_ms":812,"body":{"choices": [], "n":1.50}}"#);
    }

    #[test]
    fn an_answer_reads_back_as_it_was() {
        for body in [&b"{\"choices\": [1.50]}"[..], b"<html>", b"", b"[1]"] {
            let mut file = tempfile::tempfile().unwrap();
            let before = line(&vec![b'x'; 40_000]);
            io::Write::write_all(&mut file, &before).unwrap();
            io::Write::write_all(&mut file, &line(body)).unwrap();
            let entry = read_at(&file, before.len() as u64).unwrap();
            assert_eq!(entry.answer.body, body);
            assert_eq!(
                (entry.answer.seq, entry.answer.attempt, entry.answer.latency),
                (7, 2, Duration::from_millis(812))
            );
            assert_eq!(entry.step, "ask");
            assert_eq!(read_at(&file, 0).unwrap().answer.body.len(), 40_000);
        }
    }

    #[test]
    fn what_was_guessed_of_a_prompt_is_kept_where_the_answer_does_not_say() {
        for guess in [None, Some(0), Some(1_502)] {
            let bytes = line_of(b"{}", guess);
            let mut file = tempfile::tempfile().unwrap();
            io::Write::write_all(&mut file, &bytes).unwrap();
            assert_eq!(read_at(&file, 0).unwrap().answer.prompt_guess, guess);
            let text = std::str::from_utf8(bytes.trim_ascii_end()).unwrap();
            assert_eq!(skim(text), Some((7, RowId([0xab; 16]))), "{text}");
        }
    }

    #[test]
    fn the_time_of_an_answer_is_cut_and_not_rounded_so_that_its_second_stays() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_999_900);
        let answer = PaidAnswer {
            key: "k",
            attempt: 1,
            status: 200,
            at,
            latency: Duration::ZERO,
            prompt_guess: None,
            body: b"{}",
        };
        let mut file = tempfile::tempfile().unwrap();
        let mut line = Vec::new();
        push_numbered(&mut line, 1, &tail(RowId([1; 16]), "ask", &answer));
        io::Write::write_all(&mut file, &line).unwrap();
        let back = read_at(&file, 0).unwrap().answer.at;
        assert_eq!(crate::record::timestamp(back), crate::record::timestamp(at));
    }

    #[test]
    fn a_line_keeps_everything_but_its_number_when_it_is_copied() {
        let old = String::from_utf8(line(b"{\"row\":\"x\"}")).unwrap();
        let mut new = Vec::new();
        push_renumbered(&mut new, 12, old.trim_end());
        let new = String::from_utf8(new).unwrap();
        assert_eq!(new, old.replace("\"seq\":7", "\"seq\":12"));
        assert_eq!(Line::read(new.trim_end()).unwrap().seq, 12);
    }

    #[test]
    fn keys_depend_on_every_part_and_on_where_one_ends() {
        let row = RowId([1; 16]);
        let key = call_key(row, "ask", "openai", b"{}");
        assert_eq!(key.len(), 32);
        assert_ne!(key, call_key(RowId([2; 16]), "ask", "openai", b"{}"));
        assert_ne!(key, call_key(row, "ask", "offline", b"{}"));
        assert_ne!(
            call_key(row, "as", "kopenai", b"{}"),
            call_key(row, "ask", "openai", b"{}")
        );
    }

    #[test]
    fn a_line_that_a_scan_lets_through_can_be_read_back_whatever_was_changed_in_it() {
        let bodies: [&[u8]; 4] = [
            b"{\"choices\": [1.50, \"\\ud83d \\u4eba\"]}",
            "<html>\n\u{2028}人</html>".as_bytes(),
            b"[]",
            b"",
        ];
        let (mut skimmed, mut read, mut refused) = (0, 0, 0);
        for (body, guess) in bodies.into_iter().zip([None, Some(17), None, Some(0)]) {
            let whole = line_of(body, guess);
            let whole = whole.trim_ascii_end();
            for at in 0..whole.len() {
                let mut tried: Vec<Vec<u8>> = b"\"\\{}[],: 0179-+.eEtfnu\0\n\x1fxdZT"
                    .iter()
                    .flat_map(|byte| {
                        let (mut replaced, mut inserted) = (whole.to_vec(), whole.to_vec());
                        replaced[at] = *byte;
                        inserted.insert(at, *byte);
                        [replaced, inserted]
                    })
                    .collect();
                tried.push([&whole[..at], &whole[at + 1..]].concat());
                tried.push([&whole[..at], b"\\ud800", &whole[at..]].concat());
                for bytes in tried {
                    let Ok(text) = std::str::from_utf8(&bytes) else {
                        continue;
                    };
                    let by_walk = skim(text);
                    let by_serde = Line::read(text).map(|line| (line.seq, line.row));
                    skimmed += usize::from(by_walk.is_some());
                    match by_serde {
                        Err(_) => {
                            refused += 1;
                            assert_eq!(by_walk, None, "{text}");
                        }
                        Ok(head) => {
                            assert!(by_walk.is_none_or(|walked| walked == head), "{text}");
                            // A line break makes two lines of it, and each is looked at alone.
                            if bytes.contains(&b'\n') {
                                continue;
                            }
                            read += 1;
                            let mut file = tempfile::tempfile().unwrap();
                            io::Write::write_all(&mut file, &bytes).unwrap();
                            read_at(&file, 0).unwrap_or_else(|error| panic!("{error}: {text}"));
                        }
                    }
                }
            }
        }
        // Or this would prove nothing.
        assert!(
            skimmed > 1_000 && read > skimmed && refused > 10_000,
            "{skimmed} {read} {refused}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let whole = String::from_utf8(line(b"<html>")).unwrap();
        let told = |from: &str, to: &str| {
            let harmed = whole.trim_end().replace(from, to);
            assert_ne!(harmed, whole.trim_end());
            assert_eq!(skim(&harmed), None);
            Line::read(&harmed).err().unwrap()
        };
        insta::assert_snapshot!(told("\"v\":1", "\"v\":2"), @"has version 2, this version of the program knows 1");
        insta::assert_snapshot!(told("\"seq\":7", "\"seq\":18446744073709551615"), @"has the number 18446744073709551615, which no answer has");
        insta::assert_snapshot!(told("\"status\":200", "\"status\":\"200\""), @r#"is no line of a journal (invalid type: string "200", expected u16, column 118)"#);
        insta::assert_snapshot!(told("\"step\"", "\"stop\""), @"is no line of a journal (missing field `step`, column 182)");
        insta::assert_snapshot!(told("1970-01-01", "1970-01-99"), @r#"has the time "1970-01-99T00:00:01.500Z", which is none"#);
        insta::assert_snapshot!(told("<html>", "\\ud83dhtml>"), @"has a body that is neither JSON nor text");
    }
}
