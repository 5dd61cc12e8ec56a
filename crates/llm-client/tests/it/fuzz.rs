//! Whatever an endpoint sends, there is a verdict, and what it says of it is fit to be read.

use std::time::Duration;

use data_generation_fault_server::{Disposition, FAULTS, Play};
use data_generation_llm_client::{Answer, ClassifyOptions, Headers, Verdict, classify};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::cases::cases;

/// A sentence of the client with 300 characters of the endpoint in it, and nothing like a whole answer.
const LONGEST_MESSAGE: usize = 700;

/// Words that the client looks for.
const NAMES: [&str; 26] = [
    "choices",
    "message",
    "delta",
    "content",
    "text",
    "error",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "reasoning",
    "reasoning_content",
    "refusal",
    "tool_calls",
    "index",
    "model",
    "code",
    "type",
    "status",
    "param",
    "detail",
    "msg",
    "thinking",
    "value",
    "x",
];

/// Pieces that JSON, streams and pages are made of, and that break them.
const PIECES: [&[u8]; 34] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b":",
    b",",
    b"null",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"123456789012345678901234567890",
    b"\\ud83d",
    b"\\ude00",
    b"\\u0000",
    b"\\u2028",
    b"\xff",
    b"\xe4\xba",
    b"\xef\xbb\xbf",
    b"\0",
    b"\n",
    b"\r\n\r\n",
    b"\x1b[31m",
    b"data: ",
    b"data: [DONE]",
    b"event: error\n",
    b"\"error\":",
    b"\"choices\":[",
    b"\"finish_reason\":\"error\",",
    b"\"status\":429,",
    b"<html>",
    b"[[[[{\"error\":[[",
];

fn statuses() -> impl Strategy<Value = u16> {
    prop_oneof![
        4 => Just(200),
        2 => select(vec![201, 204, 302, 400, 401, 402, 403, 404, 413, 422, 429, 500, 503, 529]),
        1 => 100u16..1000,
    ]
}

/// Status, headers and body.
type Entry = (u16, Vec<(&'static str, &'static str)>, Vec<u8>);

/// What the table of faults says, and good answers.
fn corpus() -> Vec<Entry> {
    let filled = |body: &str| {
        let body = body
            .replace("{row}", "7")
            .replace("{text}", "answer to row 7");
        ["{prompt}", "{completion}", "{total}"]
            .iter()
            .fold(body, |body, name| body.replace(name, "11"))
            .into_bytes()
    };
    let played = FAULTS.iter().filter_map(|fault| match fault.play {
        Play::Answer {
            status,
            headers,
            body,
        } => Some((status, headers.to_vec(), filled(body))),
        Play::Bytes(bytes) => Some((200, Vec::new(), bytes.to_vec())),
        _ => None,
    });
    played.collect()
}

/// An entry of the table with something cut, put in, doubled or flipped.
fn mutated() -> impl Strategy<Value = Entry> {
    let edit = (
        0..5u8,
        any::<Index>(),
        any::<Index>(),
        select(PIECES.to_vec()),
        any::<u8>(),
    );
    (select(corpus()), vec(edit, 0..6)).prop_map(|((status, headers, mut body), edits)| {
        for (kind, at, to, piece, byte) in edits {
            let (at, to) = (at.index(body.len() + 1), to.index(body.len() + 1));
            let (from, to) = (at.min(to), at.max(to));
            match kind {
                0 => drop(body.drain(from..to)),
                1 => drop(body.splice(at..at, piece.iter().copied())),
                2 => {
                    let copied = body[from..to].to_vec();
                    body.splice(at..at, copied);
                }
                3 => body.truncate(at),
                _ => {
                    if let Some(flipped) = body.get_mut(at) {
                        *flipped = byte;
                    }
                }
            }
        }
        (status, headers, body)
    })
}

/// JSON, more or less: names that the client looks for, doubled ones too, over values of every kind.
fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "0",
            "-1",
            "1e999",
            "429",
            "2.0",
            "\"3.0\"",
            "NaN",
            "\"\"",
            "\"stop\"",
            "\"length\"",
            "\"error\"",
            "\"insufficient_quota\"",
            "\"\\ud83d\"",
            "\"try again in 1e9d\"",
            "[]",
            "{}",
            "\"<think>\"",
            "123456789012345678901234567890",
            "\"a\\u2028\\u0007b\"",
            "\"unsupported parameter: 'x'\"",
        ])
        .prop_map(str::to_owned),
        ".{0,12}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(6, 48, 5, |inner| {
        let name =
            prop_oneof![9 => select(NAMES.to_vec()).prop_map(str::to_owned), 1 => "[a-z]{1,4}"];
        let list = vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",")));
        let object = vec((name, inner), 0..6).prop_map(|members| {
            let members: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("\"{name}\":{value}"))
                .collect();
            format!("{{{}}}", members.join(","))
        });
        prop_oneof![1 => list, 3 => object]
    })
}

/// Chunks of a stream, whole and torn.
fn stream() -> impl Strategy<Value = String> {
    let choice =
        (json(), select(vec!["stop", "length", "error", ""])).prop_map(|(delta, reason)| {
            format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":"{reason}"}}]}}"#)
        });
    let data = prop_oneof![3 => choice, 2 => json(), 1 => Just("[DONE]".to_owned()), 1 => ".{0,8}"];
    let start = select(vec![
        "data: ",
        "data:",
        "event: x\ndata: ",
        ": ",
        "data: {\ndata: ",
        "",
    ]);
    let end = select(vec!["\n\n", "\n", "\r\n\r\n", ""]);
    vec((start, data, end), 0..6).prop_map(|chunks| {
        chunks
            .iter()
            .map(|(a, b, c)| format!("{a}{b}{c}"))
            .collect()
    })
}

fn judge(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Verdict {
    let mut answer = Answer::from_body(status, body);
    answer.headers = Headers::from_pairs(headers.iter().copied());
    classify(&Ok(answer), &ClassifyOptions::default())
}

fn fits(what: &str, sentence: &str) {
    let length = sentence.chars().count();
    assert!(
        length > 0 && length <= LONGEST_MESSAGE,
        "{what} of {length} characters: {sentence:.200}"
    );
    let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}');
    assert!(!sentence.contains(odd), "{what}: {sentence:?}");
}

/// What holds for the verdict on any answer.
fn obeys(status: u16, headers: &[(&str, &str)], body: &[u8]) {
    let month = Duration::from_secs(31 * 24 * 3600);
    let sensible = |wait: Option<Duration>| {
        assert!(
            wait.is_none_or(|wait| !wait.is_zero() && wait <= month),
            "{wait:?}"
        );
    };
    let named = |class: &str| {
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        assert!(!class.is_empty() && class.chars().all(kebab), "{class:?}");
    };
    match judge(status, headers, body) {
        Verdict::Usable(reply) => {
            assert!(
                (200..300).contains(&status),
                "only what is paid for is usable"
            );
            assert!(!reply.text.trim().is_empty() && reply.text.len() <= body.len());
            // 2^53 for each of both parts.
            assert!(reply.usage.total_tokens <= 1 << 54, "{:?}", reply.usage);
        }
        Verdict::Retry {
            class,
            message,
            hint,
            ..
        }
        | Verdict::Pause {
            class,
            message,
            hint,
        } => {
            named(class);
            fits("message", &message);
            sensible(hint);
        }
        Verdict::FailRow {
            class,
            message,
            text,
        } => {
            named(class);
            fits("message", &message);
            assert!(text.is_none_or(|text| text.len() <= body.len()));
        }
        Verdict::StopRun {
            class,
            message,
            cure,
        } => {
            named(class);
            fits("message", &message);
            fits("cure", &cure);
        }
        Verdict::Later { message, wait } => {
            fits("message", &message);
            sensible(wait);
        }
        other => panic!("a verdict that is new: {other:?}"),
    }
}

const GOOD: &str = r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#;

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn any_bytes_have_a_verdict(status in statuses(), body in vec(any::<u8>(), 0..200)) {
        obeys(status, &[], &body);
    }

    #[test]
    fn any_pieces_have_a_verdict(status in statuses(), pieces in vec(select(PIECES.to_vec()), 0..24)) {
        obeys(status, &[], &pieces.concat());
    }

    #[test]
    fn any_json_has_a_verdict(status in statuses(), body in json()) {
        obeys(status, &[], body.as_bytes());
        // Where it stands matters too.
        obeys(status, &[], format!(r#"{{"error":{body}}}"#).as_bytes());
        obeys(status, &[], format!(r#"{{"choices":[{{"message":{body},"finish_reason":"stop"}}]}}"#).as_bytes());
    }

    #[test]
    fn any_stream_has_a_verdict(status in statuses(), body in stream()) {
        obeys(status, &[], body.as_bytes());
    }

    #[test]
    fn a_known_answer_that_was_spoilt_has_a_verdict((status, headers, body) in mutated()) {
        obeys(status, &headers, &body);
    }

    #[test]
    fn any_headers_have_a_verdict(status in statuses(), location in "\\PC{0,400}", wait in "\\PC{0,20}", body in json()) {
        let headers = [("location", location.as_str()), ("retry-after", &wait), ("retry-after-ms", &wait), ("date", &wait)];
        obeys(status, &headers, body.as_bytes());
    }

    #[test]
    fn a_good_answer_stays_good_whatever_unknown_fields_it_has(
        fields in vec((0..4usize, "[a-z人]{0,6}", json()), 0..5),
    ) {
        let mut body = GOOD.to_owned();
        for (place, name, value) in &fields {
            let before = [r#"{"id""#, r#"{"index""#, r#"{"role""#, r#"{"prompt_tokens""#][*place];
            body = body.replacen(before, &format!(r#"{{"x_{name}":{value},{}"#, &before[1..]), 1);
        }
        match judge(200, &[], body.as_bytes()) {
            Verdict::Usable(reply) => {
                prop_assert_eq!(reply.text, "hello");
                prop_assert_eq!((reply.usage.total_tokens, reply.usage.estimated), (5, false));
                prop_assert!(reply.warnings.is_empty(), "{:?}", reply.warnings);
            }
            other => prop_assert!(false, "{}\n{:?}", body, other),
        }
    }

    #[test]
    fn no_part_of_a_good_answer_is_taken_for_a_whole_one(cut in any::<Index>()) {
        let cut = cut.index(GOOD.len());
        let verdict = judge(200, &[], &GOOD.as_bytes()[..cut]);
        prop_assert!(matches!(verdict, Verdict::Retry { .. }), "{}: {:?}", &GOOD[..cut], verdict);
    }
}

#[test]
fn the_corpus_is_worth_spoiling() {
    let corpus = corpus();
    assert!(corpus.len() > 60, "{}", corpus.len());
    let good = |(status, headers, body): &Entry| {
        matches!(judge(*status, headers, body), Verdict::Usable(_))
    };
    let done = FAULTS
        .iter()
        .filter(|fault| matches!(fault.disposition, Disposition::Ok | Disposition::Warned))
        .filter(|fault| matches!(fault.play, Play::Answer { .. }));
    assert_eq!(
        corpus.iter().filter(|entry| good(entry)).count(),
        done.count()
    );
}

/// Long enough that whoever looks again from every place, or goes one call deeper for every level, does
/// not come to the end.
#[test]
fn hostile_answers_of_any_length_come_to_their_end() {
    let count = 40_000;
    for (before, part, after) in [
        ("", "{", ""),
        ("", "[", ""),
        ("{\"error\":", "[", ""),
        ("{\"detail\":", "[", "]}"),
        ("data: {\"n\":[1\n", "data: ,1\n", ""),
        (
            "data: {\"n\":[1\n",
            "data: ,1\n",
            "data: ]}\n\ndata: [DONE]\n",
        ),
        ("", "data: {}\n", ""),
        (
            "",
            "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n",
            "",
        ),
        ("", "event: x\n\n", ""),
        ("{\"error\":\"", "wait 1s ", "\"}"),
        ("{\"error\":\"", "\\ud83d", "\"}"),
        (
            "{\"choices\":[{\"message\":{\"content\":\"",
            "\\ud83d",
            "\"}}]}",
        ),
        (
            "{\"choices\":[{\"message\":{\"content\":\"",
            "<think>",
            "\"}}]}",
        ),
        ("{\"choices\":[", "{\"index\":1},", "{}]}"),
        ("{", "\"choices\":[null],", "\"x\":1}"),
        ("{", "\"error\":{\"x\":1},", "\"x\":1}"),
        ("{\"n\":", "NaN,", ""),
        ("<", " ", ">"),
        ("", "\u{2028}", "x"),
        (
            "{\"error\":{\"param\":\"",
            "a",
            "\",\"code\":\"unknown_parameter\"}}",
        ),
        ("{\"error\":\"unknown parameter '", "a", "'\"}"),
        ("{\"error\":{\"code\":\"", "a", "\"}}"),
        (
            "{\"choices\":[{\"message\":{\"refusal\":\"",
            "no ",
            "\"}}]}",
        ),
    ] {
        let body = [before, &part.repeat(count), after].concat();
        for status in [200, 400, 429] {
            obeys(status, &[("location", &part.repeat(100))], body.as_bytes());
        }
    }
    // Nested and closed again, so that it is JSON to the last byte.
    for (open, close) in [
        ("[", "]"),
        ("{\"error\":", "}"),
        ("{\"detail\":", "}"),
        ("{\"content\":[", "]}"),
    ] {
        let body = [&open.repeat(count), "{}", &close.repeat(count)].concat();
        for inside in [
            body.clone(),
            format!("{{\"error\":{body}}}"),
            format!("{{\"choices\":[{{\"message\":{{\"content\":{body}}}}}]}}"),
        ] {
            for status in [200, 400] {
                obeys(status, &[], inside.as_bytes());
            }
        }
    }
}
