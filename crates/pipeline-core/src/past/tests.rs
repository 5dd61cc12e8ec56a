use super::*;
use crate::journal::{PaidAnswer, push_numbered, tail};
use crate::row::RowId;

fn second(n: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + n)
}

fn folder(answers: u64, body: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for n in 0..answers {
        let body = format!("\"{}\"", "x".repeat(body));
        let answer = PaidAnswer {
            key: "k",
            attempt: 1,
            status: 200,
            at: second(n),
            latency: Duration::from_millis(n),
            prompt_guess: None,
            body: body.as_bytes(),
        };
        push_numbered(&mut lines, n + 1, &tail(RowId([1; 16]), "ask", &answer));
    }
    std::fs::write(dir.path().join("journal.jsonl"), lines).unwrap();
    dir
}

fn answers_since(past: &Past<'_>, since: SystemTime) -> Vec<JournaledAnswer> {
    let mut answers = Vec::new();
    let read = past.each_answer_since(since, |answer| answers.push(answer));
    read.unwrap();
    answers
}

#[test]
fn the_answers_since_a_time_are_found_from_the_end() {
    for (answers, body) in [(0, 1), (1, 1), (50, 10), (3_000, 400), (20, 100_000)] {
        let dir = folder(answers, body);
        let past = Past::of(dir.path(), None);
        for since in [0, 1, 7, 49, 2_500, 2_999, 3_000] {
            let found = answers_since(&past, second(since));
            let seqs: Vec<u64> = found.iter().map(|answer| answer.seq).collect();
            let expected: Vec<u64> = (since + 1..=answers).collect();
            assert_eq!(seqs, expected, "{answers} answers, since {since}");
        }
    }
}

#[test]
fn answers_of_a_clock_that_was_ahead_are_as_old_as_the_next_one_that_is_past() {
    let dir = folder(0, 1);
    let at = |n| SystemTime::now() - Duration::from_secs(n);
    let ahead = SystemTime::now() + 3_600 * AHEAD;
    let times = [at(500), ahead, ahead, at(300), ahead, at(30), ahead];
    let mut lines = Vec::new();
    for (n, at) in times.into_iter().enumerate() {
        let answer = PaidAnswer {
            key: "k",
            attempt: 1,
            status: 200,
            at,
            latency: Duration::ZERO,
            prompt_guess: None,
            body: b"{}",
        };
        push_numbered(
            &mut lines,
            n as u64 + 1,
            &tail(RowId([1; 16]), "ask", &answer),
        );
    }
    std::fs::write(dir.path().join("journal.jsonl"), lines).unwrap();
    let past = Past::of(dir.path(), None);
    let found = |ago| -> Vec<(u64, bool)> {
        let found = answers_since(&past, at(ago));
        let now = SystemTime::now();
        found.iter().map(|a| (a.seq, a.at > now)).collect()
    };
    assert_eq!(found(60), [(5, false), (6, false), (7, true)]);
    assert_eq!(found(400).len(), 6);
    assert_eq!(found(600).len(), 7);
}

#[test]
fn only_a_command_that_did_not_say_so_has_died() {
    let dir = folder(1, 1);
    assert_eq!(Past::of(dir.path(), None).died(), None);
    let mut manifest = Manifest::new(serde_json::Map::new(), Default::default());
    std::fs::write(dir.path().join("run.json"), "{}").unwrap();
    assert_eq!(Past::of(dir.path(), Some(&manifest)).died(), None);
    manifest.begin(Default::default(), Default::default(), "run".into());
    let died = Past::of(dir.path(), Some(&manifest)).died().unwrap();
    assert!(died <= SystemTime::now());
    // Whoever only judged again since then has hidden nothing.
    for _ in 0..3 {
        manifest.begin_with_rows(Default::default(), "extract".into());
        manifest.end_with(Default::default(), None);
        let past = Past::of(dir.path(), Some(&manifest));
        assert_eq!(past.died_as(), Some(0), "{}", manifest.commands.len());
    }
    manifest.begin(Default::default(), Default::default(), "run".into());
    assert_eq!(
        Past::of(dir.path(), Some(&manifest)).died_as(),
        Some(4),
        "the one at work"
    );
    manifest.end_with(Default::default(), None);
    assert_eq!(Past::of(dir.path(), Some(&manifest)).died(), None);
    manifest.begin_with_rows(Default::default(), "extract".into());
    manifest.end_with(Default::default(), None);
    assert_eq!(Past::of(dir.path(), Some(&manifest)).died(), None);
}

#[test]
fn answers_are_those_of_the_command_that_asked() {
    let dir = folder(40, 1);
    let mut manifest = Manifest::new(serde_json::Map::new(), Default::default());
    let begins = [(10, Some(11)), (20, Some(21)), (30, None)];
    for (at, first) in begins {
        manifest.begin(Default::default(), Default::default(), "run".into());
        let command = manifest.commands.last_mut().unwrap();
        command.started = crate::record::timestamp(second(at));
        command.first_seq = first;
    }
    let of = |manifest: &Manifest| -> Vec<Option<usize>> {
        let past = Past::of(dir.path(), Some(manifest));
        let answers = answers_since(&past, second(0));
        let answers = answers.iter().step_by(10);
        answers.map(|answer| past.command_of(answer)).collect()
    };
    // What an older version asked after a newer one counts as the newer one's.
    assert_eq!(of(&manifest), [None, Some(0), Some(1), Some(1)]);
    for command in &mut manifest.commands {
        command.first_seq = None;
    }
    assert_eq!(of(&manifest), [None, Some(0), Some(1), Some(2)]);
}

/// A run of which the last word is from then.
fn run(dir: &Path, written: SystemTime, ended: Option<SystemTime>) {
    std::fs::create_dir(dir).unwrap();
    let mut manifest = Manifest::new(serde_json::Map::new(), Default::default());
    manifest.begin(Default::default(), Default::default(), "run".into());
    manifest.commands[0].ended = ended.map(crate::record::timestamp);
    manifest.ended = manifest.commands[0].ended.clone();
    let text = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(dir.join("run.json"), text).unwrap();
    let file = File::options().write(true).open(dir.join("run.json"));
    file.unwrap().set_modified(written).unwrap();
}

#[test]
fn others_count_that_may_have_sent_something_since_their_last_word() {
    let dir = tempfile::tempdir().unwrap();
    let of = |name: &str| dir.path().join(name);
    let since = second(1_000);
    run(&of("demo"), second(2_000), None);
    run(&of("demo-20261122-000001"), second(975), None);
    run(&of("demo-20261122-000002"), second(965), None);
    let ended = |at| Some(second(at));
    run(&of("demo-20261122-000003"), second(1_500), ended(1_500));
    run(&of("demo-20261122-000004"), second(1_600), ended(900));
    let own = of("demo");
    let told = |other: OtherRun| {
        let name = other.past.dir().file_name().map(|name| name.to_owned());
        let died = other.past.died().map(|at| at == second(1_006));
        format!("{:?} died {died:?}", name.unwrap())
    };
    let past = Past::of(own.as_path(), None);
    let names: Vec<String> = past.others_since(since).map(told).collect();
    assert_eq!(
        names,
        [
            r#""demo-20261122-000003" died None"#,
            r#""demo-20261122-000001" died Some(true)"#
        ]
    );
}
