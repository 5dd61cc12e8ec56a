//! What is asked: the same by everybody.

use std::path::Path;

use serde_json::Value;

/// The system message.
pub(crate) const SYSTEM: &str =
    "You write short texts for a school book. Put the text between <draft> and </draft>.";
const USER: &str = "Write about {{topic}} for {{audience}}. Keep in mind: {{notes}}";

/// The user message, as a bare loop makes it of a row.
pub(crate) fn user(row: &Value) -> String {
    let field = |name: &str| row[name].as_str().unwrap_or_default();
    format!(
        "Write about {} for {}. Keep in mind: {}",
        field("topic"),
        field("audience"),
        field("notes")
    )
}

/// The prompts that `datagen` renders for a kind of rows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Prompts {
    /// Those of the bare loops.
    Texts,
    /// A question and its answer, as in collections of problems.
    Problems,
    /// One number.
    Short,
}

impl Prompts {
    fn user(self) -> &'static str {
        match self {
            Prompts::Texts => USER,
            Prompts::Problems => {
                "Question: {{question}}\nAnswer: {{answer}}\nAsk it in another way."
            }
            Prompts::Short => "{{topic}} {{n}}",
        }
    }
}

/// Writes configuration and prompts into a folder; `model` is the line of the model.
pub(crate) fn write(dir: &Path, prompts: Prompts, model: &str) -> std::io::Result<()> {
    std::fs::write(dir.join("system.txt"), SYSTEM)?;
    std::fs::write(dir.join("user.txt"), prompts.user())?;
    std::fs::write(
        dir.join("config.yaml"),
        format!(
            "model: {model}\n\
             prompts: {{system_prompt_path: system.txt, user_prompt_path: user.txt}}\n\
             output_data: {{output_dir: output, experiment_name: bench, need_time_stamp: false}}\n"
        ),
    )
}

/// The line of a model at this address.
pub(crate) fn endpoint(url: &str) -> String {
    format!(
        "{{provider: openai, base_url: \"{url}/v1\", api_key_env: null, model: bench-1, max_tokens: null, temperature: null}}"
    )
}

/// The line of the model that needs no endpoint.
pub(crate) const OFFLINE: &str = "{provider: offline}";
