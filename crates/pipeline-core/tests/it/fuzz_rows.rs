//! The reader of rows: what is a row is read as it was given, what is none is named by its line.

use std::path::{Path, PathBuf};

use data_generation_pipeline_core::{
    Place, Record, Report, Run, Source, Workflow, check_rows, first_rows,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::cases::cases;
use crate::harness::block_on;

const MAX: usize = 4096;

fn file(dir: &Path, bytes: &[u8]) -> PathBuf {
    let path = dir.join("rows.jsonl");
    std::fs::write(&path, bytes).unwrap();
    path
}

/// A line, and whether it is a row.
fn line() -> impl Strategy<Value = (Vec<u8>, bool)> {
    let deep = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let good = prop_oneof![
        object().prop_map(|(plain, _)| plain),
        object().prop_map(|(_, other)| other),
        select(vec![
            "{}".to_owned(),
            " {\"a\": 1.50} \t".to_owned(),
            "{\"n\":1e400,\"m\":18446744073709551616}".to_owned(),
            "{\"a\":\"\\u2028\u{2028}\u{85}\"}".to_owned(),
            deep(126),
        ]),
    ];
    let bad = prop_oneof![
        select(vec![
            "[1]",
            "7",
            "null",
            "\"x\"",
            "{\"a\":1,\"a\":2}",
            "{\"a\":1,\"\\u0061\":2}",
            "{\"a\":",
            "{\"a\":1} x",
            "{\"a\":NaN}",
            "{'a':1}",
            "{\"a\":\"\\ud83d\"}",
            "{\"a\":01}",
            "{\"a\":1}{\"b\":2}",
            "a,b,c",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        Just(deep(200).into_bytes()),
        select(vec![
            &b"{\"a\":\"\xff\"}"[..],
            b"\xc3",
            b"{\"a\":\"\xed\xa0\x80\"}"
        ])
        .prop_map(<[u8]>::to_vec),
    ];
    prop_oneof![
        4 => good.prop_map(|text| (text.into_bytes(), true)),
        1 => bad.prop_map(|bytes| (bytes, false)),
    ]
}

/// An object and a second way to write it: other order, white space, escapes, on one line.
fn object() -> impl Strategy<Value = (String, String)> {
    let leaf = prop_oneof![
        select(vec![
            "null",
            "true",
            "1",
            "1.0",
            "1.50",
            "-0",
            "1e5",
            "123456789012345678901234567890"
        ])
        .prop_map(|text| (text.to_owned(), text.to_owned())),
        "[^\n\r]{0,6}".prop_map(|text| written(&text)),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        let list = vec(inner.clone(), 0..3).prop_map(|items| {
            let (plain, other): (Vec<_>, Vec<_>) = items.into_iter().unzip();
            (
                format!("[{}]", plain.join(",")),
                format!("[\t{} ]", other.join(" , ")),
            )
        });
        prop_oneof![list, members(inner)]
    });
    members(value)
}

fn members(
    value: impl Strategy<Value = (String, String)>,
) -> impl Strategy<Value = (String, String)> {
    proptest::collection::btree_map("[^\n\r]{0,4}", value, 0..4).prop_map(|members| {
        let members: Vec<_> = members
            .into_iter()
            .map(|(key, value)| (written(&key), value))
            .collect();
        let plain: Vec<_> = members
            .iter()
            .map(|(key, value)| format!("{}:{}", key.0, value.0))
            .collect();
        let other: Vec<_> = members
            .iter()
            .rev()
            .map(|(key, value)| format!("{} :\r {}", key.1, value.1))
            .collect();
        (
            format!("{{{}}}", plain.join(",")),
            format!("{{ {} }}", other.join(",\t")),
        )
    })
}

fn written(text: &str) -> (String, String) {
    let escaped: String = text
        .encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect();
    (
        serde_json::to_string(text).unwrap(),
        format!("\"{escaped}\""),
    )
}

/// A row is written down as it was given, but that nothing in it ends a line.
fn as_given(row: &str) -> String {
    let written = |c: char| match c {
        '\t' | '\r' => " ".to_owned(),
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    row.trim_matches([' ', '\t', '\r'])
        .chars()
        .map(written)
        .collect()
}

fn make(dir: &Path, rows: &[String]) -> (Report, Vec<Record>) {
    let place = Place {
        output_dir: dir.into(),
        experiment_name: "demo".into(),
        need_time_stamp: false,
    };
    let path = file(dir, rows.join("\n").as_bytes());
    let mut run = Run::new(place, Source::jsonl(path), Workflow::new());
    run.options.add = true;
    let report = block_on(run.execute()).unwrap();
    let text = std::fs::read_to_string(report.result_path()).unwrap();
    let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let records = records.collect();
    (report, records)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn rows_are_read_and_what_is_none_is_named_by_its_line(
        lines in vec((line(), 0..3usize, select(vec!["\n", "\r\n"])), 0..12),
        mark in any::<bool>(), last_newline in any::<bool>(),
    ) {
        let mut bytes = if mark { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        let (mut number, mut rows, mut bad) = (1, 0, Vec::new());
        for (at, ((line, is_row), blanks, end)) in lines.iter().enumerate() {
            for blank in ["", "  \t"].iter().cycle().take(*blanks) {
                bytes.extend_from_slice(blank.as_bytes());
                bytes.extend_from_slice(end.as_bytes());
                number += 1;
            }
            bytes.extend_from_slice(line);
            if last_newline || at + 1 < lines.len() {
                bytes.extend_from_slice(end.as_bytes());
            }
            rows += 1;
            if !is_row {
                bad.push(number);
            }
            number += 1;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), &bytes);
        let checked = check_rows(Source::jsonl(&path), &mut (), MAX).unwrap();
        let found: Vec<u64> = checked.problems.first.iter().map(|problem| problem.line).collect();
        prop_assert_eq!((checked.rows, &found), (rows, &bad), "{:?}", String::from_utf8_lossy(&bytes));
        for problem in &checked.problems.first {
            let said = problem.to_string();
            prop_assert!(said.starts_with(&path.display().to_string()) && !said.contains(char::is_control), "{:?}", said);
        }
        // The first rows are those very texts, up to the first that is none.
        let count = lines.iter().take_while(|((_, is_row), ..)| *is_row).count();
        let first = first_rows(Source::jsonl(&path), count, MAX).unwrap();
        let expected: Vec<&[u8]> = lines[..count].iter().map(|((line, _), ..)| line.trim_ascii_end()).collect();
        let got: Vec<&[u8]> = first.iter().map(|row| row.as_bytes()).collect();
        prop_assert_eq!(got, expected);
        prop_assert_eq!(first_rows(Source::jsonl(&path), count + 1, MAX).is_err(), count < lines.len());
    }

    #[test]
    fn any_bytes_are_rows_or_problems(bytes in prop_oneof![vec(any::<u8>(), 0..200), vec(select(b"{}[]\":,\\\n\r\0\xff\xef\xbb\xbf a1\xfe".to_vec()), 0..120)], max in 1..64usize) {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), &bytes);
        match check_rows(Source::jsonl(&path), &mut (), max) {
            Ok(checked) => {
                let marked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                let lines = marked.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
                // A line of blanks beyond the limit is not held, so nobody knows that it is blank.
                if bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= max) {
                    prop_assert_eq!(checked.rows, lines.count() as u64);
                }
                let last = bytes.split(|byte| *byte == b'\n').count() as u64;
                prop_assert!(checked.problems.first.iter().all(|problem| (1..=last).contains(&problem.line)));
                prop_assert!(checked.problems.first.is_sorted_by_key(|problem| problem.line));
                prop_assert!(checked.problems.rows <= checked.rows);
            }
            Err(error) => prop_assert!(error.to_string().contains("is UTF-16"), "{}", error),
        }
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn a_row_is_kept_as_it_was_given_and_known_again_however_it_is_written(
        rows in vec(object(), 1..8), changed in any::<Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (plain, other): (Vec<String>, Vec<String>) = rows.into_iter().unzip();
        let (report, records) = make(dir.path(), &plain);
        prop_assert_eq!((report.counts.ok, records.len()), (plain.len() as u64, plain.len()));
        for record in &records {
            prop_assert_eq!(record.input.get(), as_given(&plain[record.index as usize]));
        }
        let ids: std::collections::HashSet<_> = records.iter().map(|record| record.id).collect();
        prop_assert_eq!(ids.len(), records.len());

        // Written another way, and the other way round.
        let mut other: Vec<String> = other.into_iter().rev().collect();
        let (report, records) = make(dir.path(), &other);
        prop_assert_eq!((report.counts.skipped, report.counts.ok, records.len()), (plain.len() as u64, 0, plain.len()));

        // A number that is written in another way is another row.
        let at = changed.index(other.len());
        other[at] = format!("{{\"new\":1.0,\"row\":{}}}", other[at]);
        let (report, _) = make(dir.path(), &other);
        prop_assert_eq!((report.counts.ok, report.not_in_input), (1, 1));
        other[at] = other[at].replacen("1.0", "1.00", 1);
        let (report, records) = make(dir.path(), &other);
        prop_assert_eq!((report.counts.ok, report.not_in_input), (1, 2));
        prop_assert_eq!(records.last().map(|record| record.input.get().to_owned()), Some(as_given(&other[at])));
    }
}
