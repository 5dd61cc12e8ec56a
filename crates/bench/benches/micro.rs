//! What single pieces cost, through the public interface: `just bench-micro`.
//!
//! Where a piece is private it is measured through the nearest public function, and the name says so.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use data_generation::extract::{Extract, json, regex, tag};
use data_generation::llm::{
    Answer, ClassifyOptions, LimitFile, LimitOptions, Limiter, Model, OpenAi, OpenAiOptions,
    Request, classify,
};
use data_generation::pipeline::{
    Draft, PaidAnswer, Place, Row, RowId, Run, Source, Step, StepContext, StepError, Workflow,
    call_key, check_rows,
};
use data_generation::templating::{Prompt, Prompts, Syntax};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use futures::future::{BoxFuture, FutureExt};
use serde_json::Value;

const KB: [usize; 2] = [1_000, 200_000];

fn main() {
    divan::main();
}

/// A row of 300 bytes.
fn row(n: usize) -> String {
    let notes = "the reader is eleven years old and has never seen the sea. ".repeat(4);
    format!(r#"{{"topic": "tides {n:06}", "audience": "a school class", "notes": "{notes}"}}"#)
}

fn prompts() -> Prompts {
    let prompt = |name, text| Prompt::from_text(name, text, Syntax::Handlebars).expect("a prompt");
    Prompts::new(
        Some(prompt("system", "You write short texts for {{audience}}.")),
        prompt("user", "Write about {{topic}}. Keep in mind: {{notes}}"),
    )
}

fn model() -> OpenAi {
    OpenAi::new(OpenAiOptions::new("http://127.0.0.1:1/v1", "bench-1")).expect("options")
}

fn request() -> Request {
    let messages = prompts().render_row(&row(1)).expect("a row");
    let mut request = Request::user(messages.user);
    request.system = messages.system;
    request
}

/// A good answer of 1.3 kB.
fn body() -> String {
    let text = "The tide comes in twice a day, because the moon pulls at the water.\n".repeat(14);
    let choice = serde_json::json!({
        "index": 0, "message": {"role": "assistant", "content": text, "refusal": null},
        "logprobs": null, "finish_reason": "stop",
    });
    serde_json::json!({
        "id": "chatcmpl-Bk7Qw2zYt9uV4xR8nL1mC6pA", "object": "chat.completion", "created": 1795305600,
        "model": "bench-1", "choices": [choice],
        "usage": {"prompt_tokens": 87, "completion_tokens": 214, "total_tokens": 301},
    })
    .to_string()
}

#[divan::bench]
fn two_prompts_rendered(bencher: Bencher) {
    let (prompts, row) = (prompts(), row(1));
    bencher.bench_local(|| prompts.render_row(black_box(&row)));
}

#[divan::bench]
fn two_prompts_checked(bencher: Bencher) {
    let (mut checker, row) = (prompts().checker(), row(1));
    bencher.bench_local(|| checker.check(black_box(&row)).len());
}

/// Private: through the check of a thousand rows that looks at nothing but what they are.
#[divan::bench]
fn row_identity_times_1000(bencher: Bencher) {
    let rows: Vec<Value> = (0..1000)
        .map(|n| serde_json::from_str(&row(n)).expect("JSON"))
        .collect();
    bencher
        .counter(ItemsCount::new(rows.len()))
        .with_inputs(|| Source::rows(&rows))
        .bench_local_values(|rows| check_rows(rows, &mut (), 1 << 20).map(|checked| checked.rows));
}

#[divan::bench]
fn call_key_of_a_request(bencher: Bencher) {
    let (model, request) = (model(), request());
    let row = RowId::from_hex("e1d7f3e28f9bdb147db2853118862046").expect("an id");
    bencher.bench_local(|| {
        let identity = model.identity(black_box(&request));
        call_key(row, "ask", model.provider(), &identity)
    });
}

#[divan::bench]
fn good_answer_classified(bencher: Bencher) {
    let outcome = Ok(Answer::from_body(200, body()));
    let options = ClassifyOptions::default();
    bencher
        .counter(BytesCount::of_str(&body()))
        .bench_local(|| classify(black_box(&outcome), &options));
}

#[divan::bench]
fn limiter_grants(bencher: Bencher) {
    let limiter = Limiter::per_minute(NonZeroU32::MAX);
    bencher.bench_local(|| limiter.acquire().now_or_never());
}

/// By a process that keeps its limits together with others, in the middle of a minute in which much was sent.
#[divan::bench]
fn shared_limiter_grants(bencher: Bencher) {
    let dir = tempfile::tempdir().expect("a folder");
    let file = LimitFile::open(dir.path().join("limits")).expect("a file");
    let limiter = Limiter::new(&LimitOptions {
        share: Some(file),
        ..LimitOptions::per_minute(Some(NonZeroU32::MAX))
    });
    for n in 0..600 {
        limiter.sent_before(Duration::from_millis(100 * n), 0);
    }
    bencher.bench_local(|| limiter.acquire().now_or_never());
}

#[divan::bench(args = KB)]
fn one_long_tag(bencher: Bencher, bytes: usize) {
    let text = "text & more ".repeat(bytes / 12);
    extracted(
        bencher,
        &tag("draft"),
        &format!("Here it is:\n<draft>{text}</draft>"),
    );
}

#[divan::bench(args = KB)]
fn many_short_tags(bencher: Bencher, bytes: usize) {
    extracted(bencher, &tag("a"), &"<a>text</a> and ".repeat(bytes / 16));
}

#[divan::bench(args = KB)]
fn pattern(bencher: Bencher, bytes: usize) {
    let answer = "Answer: 42 apples, as was said. ".repeat(bytes / 32);
    let pattern = regex(r"Answer: (\d+)").expect("a pattern");
    extracted(bencher, &pattern, &answer);
}

#[divan::bench(args = KB)]
fn json_in_a_fence(bencher: Bencher, bytes: usize) {
    let list = vec![r#"{"q": "How many?", "a": [1, 2]}"#; bytes / 33].join(", ");
    let answer = format!("Here it is:\n```json\n[{list}]\n```\n");
    extracted(bencher, &json(), &answer);
}

fn extracted(bencher: Bencher, extractor: &impl Extract, answer: &str) {
    assert!(
        extractor.extract(answer).is_ok(),
        "the answer has what is looked for"
    );
    bencher
        .counter(BytesCount::of_str(answer))
        .bench_local(|| extractor.extract(black_box(answer)));
}

/// Private: through a run over a thousand rows whose only step hands an answer of 1.3 kB to the journal; the
/// dataset, its syncs and the folder are in it.
#[divan::bench(sample_count = 20)]
fn journal_and_dataset_times_1000(bencher: Bencher) {
    let rows: Vec<Value> = (0..1000)
        .map(|n| serde_json::from_str(&row(n)).expect("JSON"))
        .collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    bencher
        .counter(ItemsCount::new(rows.len()))
        .with_inputs(|| tempfile::tempdir().expect("a folder"))
        .bench_local_refs(|dir| {
            let place = Place {
                output_dir: dir.path().into(),
                experiment_name: "bench".into(),
                need_time_stamp: false,
            };
            let workflow = Workflow::new().then(Paid(body()));
            let mut run = Run::new(place, Source::rows(&rows), workflow);
            run.options.concurrency = 256.try_into().expect("not nothing");
            let report = runtime.block_on(run.execute()).expect("it runs");
            assert_eq!(report.counts.ok, 1000);
        });
}

/// A step that has its answer already.
struct Paid(String);

impl Step for Paid {
    fn name(&self) -> &str {
        "ask"
    }

    fn run<'a>(
        &'a self,
        _row: &'a Row,
        draft: &'a mut Draft,
        cx: &'a StepContext<'a>,
    ) -> BoxFuture<'a, Result<(), StepError>> {
        async move {
            let paid = PaidAnswer {
                key: "e1d7f3e28f9bdb147db2853118862046",
                attempt: 1,
                status: 200,
                at: SystemTime::now(),
                latency: Duration::from_millis(50),
                prompt_guess: None,
                body: self.0.as_bytes(),
            };
            cx.journal(paid).await?;
            draft.response.clone_from(&self.0);
            Ok(())
        }
        .boxed()
    }
}
