//! The offline model as the settings want it.

use std::sync::Arc;
use std::time::Duration;

use data_generation_extractors::Extract;
use data_generation_llm_client::{Offline, Request};
use data_generation_templating::{Context, Prompt, Syntax};
use serde_json::json;

use crate::Error;
use crate::settings::Settings;

/// So much of the user prompt's first paragraph comes back in an invented answer.
const ECHO_CHARACTERS: usize = 80;

/// Answers by the template that the user gave, else with something that the extractor accepts.
pub(crate) fn model(
    settings: &Settings,
    extractor: Option<Arc<dyn Extract>>,
) -> Result<Offline, Error> {
    let name = settings.model.model.clone();
    let offline = &settings.offline;
    let model = match &offline.reply {
        Some(reply) => {
            let reply = Prompt::from_text("offline.reply", reply, Syntax::Handlebars)?;
            Offline::new(move |request| {
                let system = request.system.as_deref().unwrap_or_default();
                let seen = json!({"system": system, "user": request.user, "model": name});
                reply
                    .render(&Context::from_value(seen))
                    .map_err(|error| error.to_string())
            })
        }
        None => Offline::new(move |request| {
            let invented = invented(request);
            let fitting = extractor
                .as_ref()
                .and_then(|extractor| extractor.sample(&invented));
            Ok(fitting.unwrap_or(invented))
        }),
    };
    Ok(model
        .latency(Duration::from_millis(offline.latency_ms))
        .error_rate(offline.error_rate))
}

/// Says what it is, and for what it stands.
fn invented(request: &Request) -> String {
    let paragraph = request.user.trim().split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut echo: String = line.chars().take(ECHO_CHARACTERS).collect();
    if echo.len() < line.len() {
        echo.push('…');
    }
    format!("[offline] no model was asked: {echo}")
}
