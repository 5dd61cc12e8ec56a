//! The whole of it: a configuration, five rows, some values of one's own, a dataset.
//!
//! `cargo run --example generate_sample` writes output/demo_test/result.jsonl, offline and without a key.

use data_generation::settings::OutputSettings;
use data_generation::{DataGenerationPipeline, Row};

/// Each row fills both prompts: `user(..)` for the user prompt, `system(..)` for the system prompt.
fn rows() -> Vec<Row> {
    let row = |topic: &str, word_count: &str, tone: &str| {
        Row::new()
            .user("topic", topic)
            .user("word_count", word_count)
            .system("tone", tone)
    };
    vec![
        row("人工智能", "100字", "专业"),
        row("机器学习", "150字", "通俗易懂"),
        row("数据科学", "200字", "学术"),
        row("深度学习", "180字", "简洁"),
        row("自然语言处理", "160字", "技术性"),
    ]
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let pipeline = DataGenerationPipeline::builder()
        .config_file("config/config.yaml")
        // What is said here wins over the file.
        .temperature(0.9)
        .max_tokens(2048)
        .system_prompt_path("prompts/system_prompts/default.txt")
        .user_prompt_path("prompts/user_prompts/default.txt")
        .output_data(OutputSettings {
            output_dir: "output".into(),
            experiment_name: "demo_test".into(),
            need_time_stamp: true,
        })
        // One value wins over its group, in whatever order: no folder named after the time.
        .need_time_stamp(false)
        // Invents the answers. To ask the model that config/config.yaml names: set OPENAI_API_KEY, take
        // this line out, and give the dataset another name, for invented and real answers do not mix.
        .offline()
        .build()?;

    let report = pipeline
        .run(rows())
        .concurrency_limit(5)
        // Everything between <draft> and </draft>, as a list.
        .extractor(DataGenerationPipeline::make_default_extractor("draft"))
        .await?;

    println!("{report}");
    Ok(())
}
