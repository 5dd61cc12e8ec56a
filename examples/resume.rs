//! A run that is stopped in the middle, and the same run again: only what is missing is asked.
//!
//! `cargo run --example resume`; a crash or a `kill -9` in place of the stop comes to the same.

use std::sync::atomic::{AtomicUsize, Ordering};

use data_generation::{DataGenerationPipeline, Event, Resume, StopHandle};
use serde_json::json;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pipeline = DataGenerationPipeline::builder()
        .offline()
        .set("offline.latency_ms", 20)
        .system_prompt(None)
        .user_prompt("Name a use for {{number}} paper clips.")
        .experiment_name("resume")
        .build()?;
    let rows: Vec<_> = (1..=40).map(|number| json!({"number": number})).collect();

    // The first time, somebody presses stop after fifteen rows. What is under way is still finished.
    let stop = StopHandle::new();
    let pressed = stop.clone();
    let finished = AtomicUsize::new(0);
    let first = pipeline
        .run(&rows[..])
        .stop_handle(&stop)
        .observer(move |event: &Event<'_>| {
            if let Event::Finished { .. } = event
                && finished.fetch_add(1, Ordering::Relaxed) + 1 == 15
            {
                pressed.interrupt();
            }
        })
        .await?;
    println!("{first}\n");

    // The second time goes on in the same folder. With `need_time_stamp(false)` there is only one folder,
    // and `resume` is not needed.
    let second = pipeline
        .run(&rows[..])
        .resume(Resume::Dir(first.run_dir.clone()))
        .await?;
    println!("{second}\n");

    println!(
        "{} rows: {} by the first run, {} by the second; {} requests, none of them twice",
        second.counts.rows,
        first.counts.ok,
        second.counts.ok,
        first.requests + second.requests,
    );
    Ok(())
}
