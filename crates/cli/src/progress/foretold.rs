//! What a bar says of the time that is left, against the time that it takes: whole runs, on a clock that only tests can
//! have.

use std::collections::BTreeMap;

use data_generation::llm::Offline;
use data_generation::{Builder, DataGenerationPipeline};

use super::*;

/// Where the runs go, and how they are asked for.
struct Bench {
    dir: tempfile::TempDir,
    latency_s: u64,
    settings: Vec<(&'static str, u64)>,
    error_rate: f64,
}

/// What was said while a run worked, after how many seconds each, and how many it took.
struct Told {
    left: Vec<(f64, Option<f64>)>,
    took: f64,
    /// Nobody can tell better than by one answer.
    latency_s: f64,
}

impl Bench {
    fn new(latency_s: u64, settings: &[(&'static str, u64)]) -> Bench {
        Bench {
            dir: tempfile::tempdir().unwrap(),
            latency_s,
            settings: settings.to_vec(),
            error_rate: 0.0,
        }
    }

    fn pipeline(&self) -> DataGenerationPipeline {
        let model = Offline::new(|_| Ok("word ".repeat(80)));
        let model = model.latency(Duration::from_secs(self.latency_s));
        let model = model.error_rate(self.error_rate);
        let output = self.dir.path().to_str().unwrap();
        let builder = DataGenerationPipeline::builder()
            .own_model(model)
            .system_prompt(None)
            .user_prompt("{{n}}")
            .output_dir(output)
            .experiment_name("demo")
            .need_time_stamp(false);
        let set = |builder: Builder, (key, value): &(&str, u64)| builder.set(key, *value);
        self.settings.iter().fold(builder, set).build().unwrap()
    }

    /// A run of the first so many rows.
    async fn run(&self, rows: u64) -> Told {
        self.look_at(rows, f64::INFINITY).await
    }

    /// The same for so many seconds at most.
    async fn look_at(&self, rows: u64, seconds: f64) -> Told {
        let pipeline = self.pipeline();
        let rows: Vec<_> = (0..rows).map(|n| BTreeMap::from([("n", n)])).collect();
        let (screen, steering) = (Screen::with_style(Style::Lines, true), Steering::new());
        screen.steered_by(steering.clone());
        let run = pipeline
            .run(rows)
            .steering(&steering)
            .observer(screen.clone());
        let mut run = std::pin::pin!(run.into_future());
        let begin = Instant::now();
        let (mut left, latency_s) = (Vec::new(), self.latency_s as f64);
        let report = loop {
            tokio::select! {
                report = &mut run => break report.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
            if begin.elapsed().as_secs_f64() > seconds {
                return Told {
                    left,
                    took: f64::NAN,
                    latency_s,
                };
            }
            let mut state = screen.state();
            screen.look(&mut state);
            let open = state.rows.map(|rows| rows - (screen.done() + state.before));
            if let Some(open) = open.filter(|open| *open > 0) {
                let said = screen.left(&state, open).map(|left| left.as_secs_f64());
                left.push((begin.elapsed().as_secs_f64(), said));
            }
        };
        assert_eq!(report.counts.pending, 0, "{report}");
        let took = begin.elapsed().as_secs_f64();
        Told {
            left,
            took,
            latency_s,
        }
    }
}

impl Told {
    /// Asserts that all of it was true within a tenth, two seconds and an answer, and that there was always something but for so
    /// many seconds.
    fn is_true(&self, what: &str, silent_s: f64, took: std::ops::Range<f64>) {
        assert!(took.contains(&self.took), "{what}: it took {} s", self.took);
        let silent = self.left.iter().filter(|(_, said)| said.is_none()).count();
        assert!(
            silent as f64 / 2.0 <= silent_s,
            "{what}: silent {silent} times"
        );
        let wrong = self.left.iter().filter_map(|(at, said)| {
            let (said, rest) = ((*said)?, self.took - at);
            let is_wrong = (said - rest).abs() > 0.1 * rest + 2.0 + self.latency_s;
            is_wrong.then(|| format!("at {at:.1} s {said:.0} s, and it was {rest:.0} s"))
        });
        let wrong: Vec<String> = wrong.collect();
        assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn right_after_a_start_that_has_to_wait_for_the_one_before() {
    let settings = [("model.rate_limit", 120), ("run.concurrency_limit", 30)];
    let bench = Bench::new(2, &settings);
    bench.run(120).await.is_true("the first", 2.5, 60.0..65.0);
    bench.run(123).await.is_true("three more", 2.5, 57.0..65.0);
    let bench = Bench::new(2, &settings);
    bench.run(120).await;
    // A minute of waiting, and 25.
    let mut told = bench.look_at(3_120, 180.0).await;
    told.took = 1_560.0;
    told.is_true("3,000 rows at 120 a minute", 2.5, 0.0..2_000.0);
    assert!(told.left.len() > 300);
}

#[tokio::test(start_paused = true)]
async fn in_bursts() {
    let settings = [
        ("model.rate_limit", 60),
        ("limits.burst", 60),
        ("run.concurrency_limit", 10),
    ];
    let bench = Bench::new(1, &settings);
    bench.run(270).await.is_true("burst", 1.5, 240.0..260.0);
}

#[tokio::test(start_paused = true)]
async fn under_a_limit_of_tokens() {
    let settings = [
        ("model.token_limit", 3_000),
        ("run.concurrency_limit", 10),
        ("model.max_tokens", 300),
    ];
    let bench = Bench::new(2, &settings);
    // Nobody knows what a row costs before the first answer.
    bench.run(150).await.is_true("tokens", 2.5, 250.0..400.0);
}

#[tokio::test(start_paused = true)]
async fn where_places_are_scarcer_than_permits() {
    let settings = [("model.rate_limit", 60), ("run.concurrency_limit", 4)];
    let bench = Bench::new(10, &settings);
    bench.run(120).await.is_true("places", 10.5, 300.0..310.0);
}

#[tokio::test(start_paused = true)]
async fn where_requests_are_sent_again() {
    let mut bench = Bench::new(
        1,
        &[("model.rate_limit", 60), ("run.concurrency_limit", 10)],
    );
    bench.error_rate = 0.1;
    bench.run(300).await.is_true("again", 1.5, 320.0..350.0);
}
