//! The files of a run folder, whatever became of them: every answer reads back as it was kept, and what is
//! no line of ours is named or cut off, never a panic and never a row that is lost in silence.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use data_generation_pipeline_core::{
    Draft, ErrorKind, JournaledAnswer, Manifest, PaidAnswer, Place, Row, Run, Source, Step,
    StepContext, StepError, Workflow,
};
use futures::future::{BoxFuture, FutureExt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::cases::cases;
use crate::harness::{block_on, read_lines};

/// An answer as it is handed to the journal.
#[derive(Debug, Clone)]
struct Given {
    key: String,
    attempt: u32,
    status: u16,
    at_ms: u64,
    latency_ms: u64,
    body: Vec<u8>,
}

/// Answers that came back, each with the position of its row.
type Back = Arc<Mutex<Vec<(usize, JournaledAnswer)>>>;

/// Gives each row its answer, or takes back what the journal holds for it.
struct Keep {
    given: Vec<Given>,
    back: Back,
}

impl Step for Keep {
    fn name(&self) -> &str {
        "keep"
    }

    fn run<'a>(
        &'a self,
        row: &'a Row,
        draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let index = row.index() as usize;
            let given = &self.given[index];
            match cx.replay(&given.key) {
                Some(old) => self.back.lock().unwrap().push((index, old)),
                None => {
                    let paid = PaidAnswer {
                        key: &given.key,
                        attempt: given.attempt,
                        status: given.status,
                        at: SystemTime::UNIX_EPOCH + Duration::from_millis(given.at_ms),
                        latency: Duration::from_millis(given.latency_ms),
                        prompt_guess: given.attempt.is_multiple_of(2).then_some(given.latency_ms),
                        body: &given.body,
                    };
                    cx.journal(paid).await?;
                }
            }
            draft.response = "fine".into();
            Ok(())
        }
        .boxed()
    }
}

fn command(dir: &Path, given: &[Given]) -> (Run, Back) {
    let place = Place {
        output_dir: dir.into(),
        experiment_name: "demo".into(),
        need_time_stamp: false,
    };
    let back = Back::default();
    let keep = Keep {
        given: given.to_vec(),
        back: Arc::clone(&back),
    };
    let rows = Source::rows((0..given.len()).map(|n| json!({ "n": n })));
    (Run::new(place, rows, Workflow::new().then(keep)), back)
}

/// JSON is kept as it is written but for what would end a line; anything else as text.
fn kept(body: &[u8]) -> Vec<u8> {
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    let text = match std::str::from_utf8(body) {
        Ok(text) if is_json => text.trim_matches([' ', '\t', '\n', '\r']),
        _ => return String::from_utf8_lossy(body).into_owned().into_bytes(),
    };
    if text.starts_with('"') {
        return body.to_vec();
    }
    let written = |c: char| match c {
        '\t' | '\n' | '\r' => " ".to_owned(),
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(written).collect::<String>().into_bytes()
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec![
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "\\\"",
        ":",
        ",",
        "null",
        "1.50",
        "1e400",
        "\"a\"",
        "\u{2028}",
        "\u{85}",
        "\u{7f}",
        "\u{feff}",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u{1b}",
        " ",
        "人",
        "\\ud83d",
        "{\"choices\": []}",
        "<html>",
    ];
    let value = prop_oneof![
        Just(json!(null)),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        vec(any::<String>(), 0..3).prop_map(Value::from),
    ];
    let object = proptest::collection::btree_map(any::<String>(), value, 0..4);
    prop_oneof![
        vec(any::<u8>(), 0..60),
        vec(select(pieces), 0..12).prop_map(|pieces| pieces.concat().into_bytes()),
        (object.clone(), any::<bool>()).prop_map(|(object, pretty)| match pretty {
            true => serde_json::to_vec_pretty(&object).unwrap(),
            false => serde_json::to_vec(&object).unwrap(),
        }),
        // The escapes of these are for us to make.
        (object, "[\u{80}-\u{9f}\u{2028}\u{2029}\u{7f}a]{1,6}").prop_map(|(object, odd)| {
            serde_json::to_string(&json!({ "odd": odd, "object": object }))
                .unwrap()
                .into_bytes()
        }),
        any::<String>().prop_map(|text| serde_json::to_vec(&text).unwrap()),
        select(vec![
            "7",
            "true",
            "null",
            " \"x\" \n",
            "",
            " ",
            "\"\\ud83d\"",
            "-0",
            "[1]\r\n"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    let key = prop_oneof!["[0-9a-f]{32}", any::<String>()];
    // To the year 9999, the last that a time stamp may have.
    let times = (0..253_370_764_800_000u64, any::<u32>());
    (key, any::<u32>(), 200..300u16, times, body()).prop_map(
        |(key, attempt, status, (at_ms, latency_ms), body)| Given {
            key,
            attempt,
            status,
            at_ms,
            latency_ms: u64::from(latency_ms),
            body,
        },
    )
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn every_answer_reads_back_as_it_was_kept(given in vec(given(), 1..16)) {
        let dir = tempfile::tempdir().unwrap();
        block_on(async {
            let (run, back) = command(dir.path(), &given);
            assert_eq!(run.execute().await.unwrap().counts.ok, given.len() as u64);
            assert!(back.lock().unwrap().is_empty());
            std::fs::remove_file(dir.path().join("demo/result.jsonl")).unwrap();
            let (run, back) = command(dir.path(), &given);
            assert_eq!(run.execute().await.unwrap().counts.ok, given.len() as u64);
            let back = back.lock().unwrap();
            assert_eq!(back.len(), given.len(), "each once");
            for (index, old) in back.iter() {
                let Given { attempt, status, at_ms, latency_ms, body, .. } = &given[*index];
                assert_eq!((old.attempt, old.status), (*attempt, *status));
                assert_eq!(old.at, SystemTime::UNIX_EPOCH + Duration::from_millis(*at_ms));
                assert_eq!(old.latency, Duration::from_millis(*latency_ms));
                assert_eq!(
                    String::from_utf8_lossy(&old.body),
                    String::from_utf8_lossy(&kept(body)),
                    "{:?}", String::from_utf8_lossy(body),
                );
            }
        });
        let journal = std::fs::read_to_string(dir.path().join("demo/journal.jsonl")).unwrap();
        let ends = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        for (line, seq) in journal.lines().zip(1..) {
            prop_assert!(!line.contains(ends), "{:?}", line);
            #[derive(serde::Deserialize)]
            struct Head { seq: u64 }
            prop_assert_eq!(serde_json::from_str::<Head>(line).map(|head| head.seq).ok(), Some(seq), "{}", line);
        }
    }
}

/// A folder with six finished rows and two failed ones.
fn folder() -> Vec<(&'static str, Vec<u8>)> {
    struct Odd;
    impl Step for Odd {
        fn name(&self) -> &str {
            "odd"
        }
        fn run<'a>(
            &'a self,
            row: &'a Row,
            _draft: &'a mut Draft,
            _cx: &'a StepContext<'a>,
        ) -> BoxFuture<'a, Result<(), StepError>> {
            async move {
                match row.index() {
                    6.. => Err(crate::harness::fails("odd")),
                    _ => Ok(()),
                }
            }
            .boxed()
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut run, _) = command(dir.path(), &plain());
    run.workflow = run.workflow.then(Odd);
    let report = block_on(run.execute()).unwrap();
    assert_eq!((report.counts.ok, report.counts.failed), (6, 2));
    FILES
        .iter()
        .map(|name| (*name, std::fs::read(report.run_dir.join(name)).unwrap()))
        .collect()
}

const FILES: [&str; 4] = [
    "journal.jsonl",
    "result.jsonl",
    "failures.jsonl",
    "run.json",
];

fn plain() -> Vec<Given> {
    let given = |n: u64| Given {
        key: format!("key {n}"),
        attempt: 1,
        status: 200,
        at_ms: n,
        latency_ms: n,
        body: format!("{{\"text\": \"answer {n}\"}}").into_bytes(),
    };
    (0..8).map(given).collect()
}

/// What befalls a file: cut, overwritten, grown, its lines lost or doubled.
#[derive(Debug, Clone)]
enum Harm {
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    LoseLine(Index),
    DoubleLine(Index),
    Nuls(usize, bool),
    /// Of another version.
    Version(Index),
    Replace(Vec<u8>),
}

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = prop_oneof![
        vec(any::<u8>(), 0..20),
        select(vec![
            "\n",
            "\n\n",
            "{}\n",
            "\0",
            "{\"v\":2,\"seq\":1}\n",
            "null\n",
            "\r",
            "{",
            "\u{feff}",
            "{\"id\":7}\n"
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    prop_oneof![
        3 => any::<Index>().prop_map(Harm::Cut),
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Harm::Flip(at, byte)),
        2 => (any::<Index>(), bytes.clone()).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => any::<Index>().prop_map(Harm::LoseLine),
        1 => any::<Index>().prop_map(Harm::DoubleLine),
        1 => (1..50usize, any::<bool>()).prop_map(|(count, ended)| Harm::Nuls(count, ended)),
        1 => any::<Index>().prop_map(Harm::Version),
        1 => bytes.prop_map(Harm::Replace),
    ]
}

impl Harm {
    fn befall(&self, text: &mut Vec<u8>) {
        let lines = |text: &[u8]| -> Vec<Vec<u8>> {
            text.split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect()
        };
        match self {
            Harm::Cut(at) => text.truncate(at.index(text.len() + 1)),
            Harm::Flip(at, byte) => {
                if !text.is_empty() {
                    let at = at.index(text.len());
                    text[at] = *byte;
                }
            }
            Harm::Insert(at, bytes) => {
                let at = at.index(text.len() + 1);
                drop(text.splice(at..at, bytes.iter().copied()));
            }
            Harm::LoseLine(at) | Harm::DoubleLine(at) => {
                let mut lines = lines(text);
                if !lines.is_empty() {
                    let at = at.index(lines.len());
                    match self {
                        Harm::LoseLine(_) => drop(lines.remove(at)),
                        _ => lines.insert(at, lines[at].clone()),
                    }
                }
                *text = lines.concat();
            }
            Harm::Nuls(count, ended) => {
                text.extend(std::iter::repeat_n(0, *count));
                text.extend(ended.then_some(b'\n'));
            }
            Harm::Version(at) => {
                let lines: Vec<String> = lines(text)
                    .iter()
                    .enumerate()
                    .map(|(n, line)| {
                        let line = String::from_utf8_lossy(line);
                        match n == at.index(8) {
                            true => line.replacen("{\"v\":1,", "{\"v\":2,", 1),
                            false => line.into_owned(),
                        }
                    })
                    .collect();
                *text = lines.concat().into_bytes();
            }
            Harm::Replace(bytes) => text.clone_from(bytes),
        }
    }
}

/// The lines that are left once the end is repaired: a torn one, or one with NULs in it, is cut off.
fn repaired(text: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    if let Some(last) = lines.last() {
        let is_json =
            last.starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(last).is_ok();
        let torn = match last.ends_with(b"\n") {
            true => last.contains(&0),
            false => !is_json,
        };
        if torn {
            lines.pop();
        }
    }
    lines
}

/// Whether a line has what every line of this file must have.
fn is_whole(file: &str, line: &[u8]) -> bool {
    // Field by field, because a number in a body may be beyond what a `Value` can hold.
    let Ok(fields) = serde_json::from_slice::<HashMap<String, Box<RawValue>>>(line) else {
        return false;
    };
    let field = |name: &str| {
        fields
            .get(name)
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
    };
    let names = "v seq row key step attempt status at latency_ms id answers";
    let value: HashMap<&str, Value> = names
        .split(' ')
        .map(|name| (name, field(name).unwrap_or_default()))
        .collect();
    let is_id = |value: &Value| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        value
            .as_str()
            .is_some_and(|id| id.len() == 32 && id.bytes().all(digit))
    };
    match file {
        "journal.jsonl" => {
            let below = |name: &str, end: u64| value[name].as_u64().is_some_and(|n| n < end);
            let at = value["at"].as_str().map(str::parse::<jiff::Timestamp>);
            let body = fields.get("body").map(|body| body.get());
            let text = |body: &str| serde_json::from_str::<String>(body).is_ok();
            value["v"] == 1
                && below("seq", 1 << 53)
                && is_id(&value["row"])
                && value["key"].is_string()
                && value["step"].is_string()
                && below("attempt", 1 << 32)
                && below("status", 1 << 16)
                && at.is_some_and(|at| at.is_ok())
                && below("latency_ms", u64::MAX)
                && body.is_some_and(|body| !body.starts_with('"') || text(body))
        }
        "result.jsonl" => is_id(&value["id"]),
        _ => {
            let numbers = value["answers"].as_array();
            let is_number = |seq: &Value| seq.as_u64().is_some_and(|seq| seq < 1 << 53);
            is_id(&value["id"]) && numbers.is_some_and(|numbers| numbers.iter().all(is_number))
        }
    }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn a_harmed_folder_is_read_repaired_or_refused_by_its_line(
        which in 0..FILES.len(), harms in vec(harm(), 1..4),
    ) {
        // One folder is enough to be harmed again and again.
        static WHOLE: std::sync::LazyLock<Vec<(&str, Vec<u8>)>> = std::sync::LazyLock::new(folder);
        let dir = tempfile::tempdir().unwrap();
        let demo = dir.path().join("demo");
        std::fs::create_dir(&demo).unwrap();
        let file = FILES[which];
        let mut harmed = Vec::new();
        for (name, text) in WHOLE.iter() {
            let mut text = text.clone();
            if *name == file {
                harms.iter().for_each(|harm| harm.befall(&mut text));
                harmed.clone_from(&text);
            }
            std::fs::write(demo.join(name), text).unwrap();
        }
        let shown = String::from_utf8_lossy(&harmed).into_owned();
        let (run, _) = command(dir.path(), &plain());
        let outcome = block_on(run.execute());
        if file == "run.json" {
            match &outcome {
                Ok(report) => {
                    prop_assert_eq!(report.counts.skipped, 6);
                    prop_assert!(Manifest::read(&demo).unwrap().is_some());
                }
                Err(error) => prop_assert!(error.to_string().contains("run.json"), "{}", error),
            }
            return Ok(());
        }
        let lines = repaired(&harmed);
        let falls = |at: usize| {
            file == "journal.jsonl" && at > 0 && is_whole(file, lines[at - 1]) && seq(lines[at]) <= seq(lines[at - 1])
        };
        let bad = (0..lines.len()).find(|at| !is_whole(file, lines[*at]) || falls(*at));
        let seen_before = |at: usize| lines[..at].iter().any(|line| id(line) == id(lines[at]));
        let doubled: Vec<usize> = match file {
            "result.jsonl" if bad.is_none() => (0..lines.len()).filter(|at| seen_before(*at)).collect(),
            _ => Vec::new(),
        };
        match outcome {
            Ok(report) => {
                prop_assert!(bad.is_none() && doubled.is_empty(), "line {:?} or {:?} is bad:\n{}", bad, doubled, shown);
                let counts = report.counts;
                // A line whose id was harmed is a line of another row; where only its second half was, the
                // count before the first request, which has half of each id, takes it for the old one.
                let ids: Vec<String> = WHOLE.iter().filter(|(name, _)| name.starts_with("res") || name.starts_with("fai"))
                    .flat_map(|(_, text)| text.split_inclusive(|byte| *byte == b'\n')).map(id).collect();
                if file != "result.jsonl" || lines.iter().all(|line| ids.contains(&id(line))) {
                    prop_assert_eq!(counts.rows, counts.ok + counts.failed + counts.skipped + counts.pending);
                }
                // What is whole is kept as it is, and everything is whole JSON again.
                for name in &FILES[..3] {
                    read_lines(&demo.join(name));
                }
                if file == "result.jsonl" {
                    let after = std::fs::read(demo.join(file)).unwrap();
                    prop_assert!(after.starts_with(lines.concat().trim_ascii_end()));
                    prop_assert!(counts.pending > 0 || read_lines(&demo.join(file)).len() >= 8);
                }
                prop_assert!(report.stopped.is_none(), "{:?}\n{}", report.stopped, shown);
            }
            Err(error) => match error.kind() {
                ErrorKind::Damaged { path, line, .. } => {
                    prop_assert!(path.ends_with(file));
                    let at = *line as usize - 1;
                    prop_assert!(bad == Some(at) || doubled.contains(&at), "{}\n{:?} {:?}\n{}", error, bad, doubled, shown);
                    let (mut run, _) = command(dir.path(), &plain());
                    run.options.repair = true;
                    match block_on(run.execute()) {
                        Ok(report) => prop_assert!(report.stopped.is_none(), "{:?}\n{}", report.stopped, shown),
                        Err(error) => prop_assert!(matches!(error.kind(), ErrorKind::OtherInput { .. }), "{}\n{}", error, shown),
                    }
                    for name in &FILES[..3] {
                        read_lines(&demo.join(name));
                    }
                    // Nothing is thrown away: each line is in its file still, or aside.
                    let aside = aside(&demo);
                    let whole = std::fs::read(demo.join(file)).unwrap();
                    let kept = whole.split_inclusive(|byte| *byte == b'\n').count();
                    // A line of NULs that stood before a torn end is itself one once that is cut off.
                    let is_end = at + 1 == lines.len() && lines[at].contains(&0);
                    prop_assert!(aside > 0 || is_end, "{} {}\n{}", kept, aside, shown);
                    prop_assert!(file == "failures.jsonl" || kept + aside >= lines.len(), "{} {}\n{}", kept, aside, shown);
                }
                // Nothing of what is finished is asked for any more.
                ErrorKind::OtherInput { .. } => prop_assert_eq!(file, "result.jsonl"),
                other => prop_assert!(false, "{:?}\n{}", other, shown),
            },
        }
    }
}

/// How many lines were moved aside.
fn aside(demo: &Path) -> usize {
    let entries = std::fs::read_dir(demo).unwrap();
    let names = entries.map(|entry| entry.unwrap().path());
    let aside = names.filter(|path| path.to_string_lossy().contains(".damaged-"));
    aside.map(|path| read_lines(&path).len()).sum()
}

fn seq(line: &[u8]) -> u64 {
    #[derive(serde::Deserialize)]
    struct Head {
        seq: u64,
    }
    serde_json::from_slice::<Head>(line).unwrap().seq
}

fn id(line: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Head {
        id: String,
    }
    serde_json::from_slice::<Head>(line).unwrap().id
}
