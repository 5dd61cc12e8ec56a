use std::time::{Duration, SystemTime};

use crate::ReasoningPolicy;
use crate::body::{Completion, Reading};

/// What a model said, taken out of an [`Answer`](crate::Answer) that is good.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reply {
    /// The text, never empty.
    pub text: String,
    /// What the model thought: the provider's field, or the think block at the start of the text.
    pub reasoning: Option<String>,
    /// Why it stopped, as the provider names it.
    pub finish_reason: Option<String>,
    /// The model that the provider names.
    pub model: Option<String>,
    /// What it cost.
    pub usage: Usage,
    /// Short stable codes of what was odd about the answer.
    pub warnings: Vec<&'static str>,
    /// From sending the last request to its last byte, without waiting.
    pub latency: Duration,
    /// When the answer arrived.
    pub at: SystemTime,
    /// The number of the request that was answered, from 1.
    pub attempt: u32,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the request.
    pub prompt_tokens: u64,
    /// Of the answer, reasoning included.
    pub completion_tokens: u64,
    /// Of both.
    pub total_tokens: u64,
    /// Whether they are a guess of ours, because the provider did not say.
    pub estimated: bool,
}

/// About how many tokens a text has: four letters of English, or one Chinese character, are one.
///
/// ```
/// use data_generation_llm_client::estimate_tokens;
/// assert_eq!(estimate_tokens("four letters"), 3);
/// assert_eq!(estimate_tokens("人工智能"), 4);
/// ```
pub fn estimate_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.len() as u64 - ascii;
    ascii.div_ceil(4) + other.div_ceil(3)
}

/// What a guess of so many tokens counts as, where nobody says how good it is: a fifth more, and what a request costs
/// besides its text.
pub(crate) fn with_margin(tokens: u64) -> u64 {
    tokens.saturating_add(tokens / 5).saturating_add(10)
}

/// No tokenizer makes fewer tokens of a text than this: eight letters of English, four characters of another script,
/// and no white space at all.
///
/// ```
/// use data_generation_llm_client::{estimate_tokens, least_tokens};
/// assert_eq!((estimate_tokens("four   \n\n letters!"), least_tokens("four   \n\n letters!")), (5, 1));
/// ```
pub fn least_tokens(text: &str) -> u64 {
    let letters = text.bytes().filter(u8::is_ascii_graphic).count() as u64;
    let other = text.bytes().filter(|byte| !byte.is_ascii()).count() as u64;
    letters / 8 + other / 12
}

impl Usage {
    /// What counts against a limit of tokens: all that the provider says, and somewhat more than a guess of ours.
    pub fn counted(&self) -> u64 {
        match self.estimated {
            true => with_margin(self.total_tokens),
            false => self.total_tokens,
        }
    }

    /// What the body of an answer says of its cost, good or not; `None` where it does not say, or is none that
    /// can be read.
    ///
    /// ```
    /// use data_generation_llm_client::Usage;
    ///
    /// let usage = Usage::told(br#"{"usage": {"prompt_tokens": 4, "completion_tokens": 1}}"#).unwrap();
    /// assert_eq!((usage.prompt_tokens, usage.completion_tokens), (4, 1));
    /// assert_eq!(Usage::told(b"<html>"), None);
    /// ```
    pub fn told(body: &[u8]) -> Option<Usage> {
        let completion = crate::body::read(body).ok()?;
        completion.usage?;
        Some(Usage::of(&completion, 0))
    }

    /// What an answer cost, good or not: what its body says, else a guess by its letters and the tokens of the
    /// prompt that are given here.
    pub fn of_body(body: &[u8], prompt_tokens: u64) -> Usage {
        Usage::of_reading(&crate::body::read(body), prompt_tokens)
    }

    pub(crate) fn of_reading(reading: &Reading, prompt_tokens: u64) -> Usage {
        match reading {
            Ok(completion) => Usage::of(completion, prompt_tokens),
            Err(_) => Usage::of(&Completion::default(), prompt_tokens),
        }
    }

    pub(crate) fn of(completion: &Completion, prompt_tokens: u64) -> Usage {
        match completion.usage {
            Some((prompt_tokens, completion_tokens, total_tokens)) => Usage {
                prompt_tokens,
                completion_tokens,
                total_tokens,
                estimated: false,
            },
            None => {
                let completion_tokens =
                    estimate_tokens(&completion.text) + estimate_tokens(&completion.reasoning);
                let total_tokens = prompt_tokens + completion_tokens;
                Usage {
                    prompt_tokens,
                    completion_tokens,
                    total_tokens,
                    estimated: true,
                }
            }
        }
    }
}

/// Takes a think block off the very start of a text. `Some(true)`: there was one; `Some(false)`: it has no end.
pub(crate) fn split_thoughts(completion: &mut Completion, policy: ReasoningPolicy) -> Option<bool> {
    if policy == ReasoningPolicy::Keep {
        return None;
    }
    let text = completion.text.trim_start();
    let (open, close) = [("<think>", "</think>"), ("<thinking>", "</thinking>")]
        .into_iter()
        .find(|(open, _)| text.starts_with(open))?;
    let Some(end) = text.find(close) else {
        return Some(false);
    };
    let thoughts = text[open.len()..end].trim();
    if !completion.reasoning.is_empty() && !thoughts.is_empty() {
        completion.reasoning.push('\n');
    }
    completion.reasoning.push_str(thoughts);
    completion.text = text[end + close.len()..].trim_start().to_owned();
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_far_below_the_guess_in_every_script_and_white_space_is_nothing() {
        let counts = ["a", "人", " \n"].map(|letter| {
            let text = letter.repeat(240);
            (estimate_tokens(&text), least_tokens(&text))
        });
        assert_eq!(counts, [(60, 30), (240, 60), (120, 0)]);
    }
}
