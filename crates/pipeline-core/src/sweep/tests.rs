use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

fn file(text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lines.jsonl");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

/// Offsets and texts of the lines, and what ended them; a line that says so is refused.
fn seen(
    text: &[u8],
    stretch: u64,
    threads: usize,
    refuses: impl Fn(&str) -> bool + Sync,
) -> (Vec<(u64, String)>, Result<(), String>) {
    let (_dir, path) = file(text);
    let mut all = Vec::new();
    let ended = sweep_by(
        &path,
        stretch,
        |_| threads,
        |lines: &mut Vec<(u64, String)>, offset, line| {
            if refuses(line) {
                return Err("is refused".into());
            }
            lines.push((offset, line.to_owned()));
            Ok(())
        },
        |lines| {
            all.extend(lines);
            Ok(())
        },
    );
    (all, ended.map_err(|error| told(&error, &path)))
}

fn told(error: &Error, path: &Path) -> String {
    error.to_string().replace(&path.display().to_string(), "")
}

/// The same, by somebody who reads one line after the other.
fn one_by_one(
    text: &[u8],
    refuses: impl Fn(&str) -> bool + Sync,
) -> (Vec<(u64, String)>, Result<(), String>) {
    let (_dir, path) = file(text);
    let mut all = Vec::new();
    let ended = crate::append::each_line(&path, |_, offset, line| {
        if refuses(line) {
            return Err("is refused".into());
        }
        all.push((offset, line.to_owned()));
        Ok(())
    });
    (all, ended.map_err(|error| told(&error, &path)))
}

#[test]
fn what_is_no_file_has_no_lines() {
    let nothing = |_: &mut (), _, _: &str| Err("is a line".to_owned());
    let path = Path::new("/nowhere/lines.jsonl");
    sweep(path, nothing, |()| Err("is a stretch".to_owned())).unwrap();
}

#[test]
fn a_file_of_many_stretches_is_gone_through_in_its_order() {
    let text: String = (0..400_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    assert!(text.len() as u64 > 4 * STRETCH);
    let (_dir, path) = file(text.as_bytes());
    let mut next = 0;
    sweep(
        &path,
        |numbers: &mut Vec<u64>, offset, line| {
            assert_eq!(text[offset as usize..].lines().next(), Some(line));
            let number = line.trim_start_matches("{\"n\":").trim_end_matches('}');
            numbers.push(number.parse().map_err(|_| "is no number")?);
            Ok(())
        },
        |numbers| {
            for number in numbers {
                assert_eq!(number, next);
                next += 1;
            }
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(next, 400_000);
}

#[test]
fn a_line_that_is_wrong_is_told_by_its_number_and_of_several_the_first() {
    let text: String = (1..=1000).map(|n| format!("{n}\n")).collect();
    for threads in [1, 4] {
        for stretch in [1, 5, 64, 10_000] {
            for wrong in [1, 9, 10, 500, 999, 1000] {
                let (lines, ended) = seen(text.as_bytes(), stretch, threads, |line| {
                    line.parse::<u32>().unwrap() >= wrong
                });
                assert_eq!(ended, Err(format!(":{wrong}: is refused")));
                assert!(lines.len() < wrong as usize);
            }
        }
    }
}

#[test]
fn what_does_not_fit_to_the_lines_before_it_is_told_with_the_first_line_of_its_stretch() {
    let text = "1\n2\n3\n4\n5\n6\n7\n8\n";
    let (_dir, path) = file(text.as_bytes());
    let at = |refused: &'static str, bad: &'static str| {
        let ended = sweep_by(
            &path,
            4,
            |_| 3,
            |first: &mut Option<String>, _, line| {
                first.get_or_insert_with(|| line.to_owned());
                (line != bad).then_some(()).ok_or("is bad".to_owned())
            },
            |first| match first.as_deref() == Some(refused) {
                true => Err("does not fit".into()),
                false => Ok(()),
            },
        );
        told(&ended.unwrap_err(), &path)
    };
    assert_eq!(at("5", ""), ":5: does not fit");
    assert_eq!(at("5", "6"), ":5: does not fit");
    assert_eq!(at("5", "4"), ":4: is bad");
    assert_eq!(at("1", "1"), ":1: does not fit");
}

#[test]
fn lines_that_are_no_text_are_told_and_a_torn_end_is_no_line() {
    for stretch in [1, 3, 1000] {
        let lines = |text: &[u8]| seen(text, stretch, 2, |_| false);
        assert_eq!(
            lines(b"{}\n\xff\n").1,
            Err(
                ":2: is no UTF-8 text from byte 1 on; a run with `--repair` moves the line aside"
                    .into()
            )
        );
        assert_eq!(lines(b"{}\n{\"a\":").0, [(0, "{}".to_owned())]);
        assert_eq!(
            lines(b"{}\n{\"a\":1}").0,
            [(0, "{}".to_owned()), (3, "{\"a\":1}".to_owned())]
        );
    }
}

#[test]
fn of_very_long_lines_one_is_held_at_a_time() {
    let long = "x".repeat(MOST_KEPT + 1);
    let text = format!("{long}\n").repeat(12);
    let (_dir, path) = file(text.as_bytes());
    let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut count = 0;
    sweep_by(
        &path,
        100_000,
        |_| 4,
        |lines: &mut usize, _, line| {
            most.fetch_max(held.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            thread::yield_now();
            assert_eq!(line, long);
            *lines += 1;
            held.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        },
        |lines| {
            count += lines;
            Ok(())
        },
    )
    .unwrap();
    assert_eq!((count, most.into_inner()), (12, 1));
}

/// Lines that are empty, or short, or as long as a block or a few of them, or no text; the last may be torn.
fn texts() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![20 => 0..40_usize, 2 => BLOCK - 5..BLOCK + 5, 1 => Just(5 * BLOCK)];
    let line = (length, 0..60_u8).prop_map(|(length, kind)| match kind {
        0 => b"\xff".repeat(length),
        1 => b"bad".to_vec(),
        kind => [kind + b'@'].repeat(length),
    });
    let end = prop_oneof![Just(""), Just("\n"), Just("{}"), Just("{")];
    (prop::collection::vec(line, 0..60), end).prop_map(|(lines, end)| {
        let mut text = lines.join(&b'\n');
        text.extend_from_slice(end.as_bytes());
        text
    })
}

#[test]
fn what_the_system_cannot_read_is_an_error_and_no_end_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let each = |_: &mut (), _: u64, _: &str| Ok(());
    // It opens, and has a length; reading it fails.
    let error = sweep_by(dir.path(), 1, |_| 1, each, |()| Ok(())).unwrap_err();
    assert!(error.to_string().contains("could not read"), "{error}");
}

proptest! {
    #![proptest_config(crate::cases::cases(60))]

    #[test]
    fn many_threads_see_what_one_by_one_is_seen(
        text in texts(),
        stretch in prop_oneof![1..200_u64, Just(BLOCK as u64), Just(3 * BLOCK as u64 + 1)],
        threads in 1..5_usize,
    ) {
        let refuses = |line: &str| line == "bad";
        // Of a file that long nobody needs stretches this short.
        let stretch = stretch.max(text.len() as u64 / 5000);
        let (lines, ended) = seen(&text, stretch, threads, refuses);
        let (all, ended_so) = one_by_one(&text, refuses);
        prop_assert_eq!(&ended, &ended_so);
        prop_assert!(all.starts_with(&lines));
        prop_assert!(ended.is_err() || lines.len() == all.len());
    }
}
