use serde_json::value::RawValue;

use crate::body::{Completion, Reading, number, object};
use crate::reply::{estimate_tokens, with_margin};

/// No answer costs so many tokens, whatever it thought and read on the way: the longest contexts there are have a
/// tenth of it.
const MOST: u64 = 100_000_000;

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of the request.
    pub prompt_tokens: u64,
    /// Of the answer, reasoning included.
    pub completion_tokens: u64,
    /// Of both.
    pub total_tokens: u64,
    /// Whether one of them is a guess of ours, because the provider did not say.
    pub estimated: bool,
    /// The guess is only how much of it is the prompt.
    pub(crate) total_is_told: bool,
}

/// What the provider says of the tokens of the prompt, of the answer, of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told([Option<u64>; 3]);

impl Told {
    /// `None`: it says nothing of which anything can be made.
    pub(crate) fn of(raw: &RawValue) -> Option<Told> {
        let usage = raw
            .get()
            .starts_with('{')
            .then(|| object(raw.get()).ok())??;
        let find = |names: &[&str]| names.iter().find_map(|name| usage.find(name, number));
        let told = [
            find(&["prompt_tokens", "input_tokens"]),
            find(&["completion_tokens", "output_tokens"]),
            find(&["total_tokens"]),
        ];
        told.iter().any(Option::is_some).then_some(Told(told))
    }

    pub(crate) fn numbers(self) -> [Option<u64>; 3] {
        self.0
    }

    /// Something that no answer costs.
    fn impossible(self) -> Option<u64> {
        self.0.into_iter().flatten().find(|tokens| *tokens > MOST)
    }
}

impl Usage {
    /// What counts against a limit of tokens: all that the provider says, the parts as well as their sum, and somewhat
    /// more than a guess of ours.
    ///
    /// ```
    /// use data_generation_llm_client::Usage;
    ///
    /// let counted = |body: &str| Usage::of_body(body.as_bytes(), 10).counted();
    /// assert_eq!(counted(r#"{"usage": {"prompt_tokens": 30, "completion_tokens": 10, "total_tokens": 5}}"#), 40);
    /// assert_eq!(counted(r#"{"usage": {"total_tokens": 30}}"#), 30);
    /// assert_eq!(counted("{}"), 22);
    /// ```
    pub fn counted(&self) -> u64 {
        match self.estimated && !self.total_is_told {
            true => with_margin(self.all()),
            false => self.all(),
        }
    }

    /// What an answer cost besides its prompt, thoughts included that a provider counts in the sum alone.
    pub(crate) fn of_answer(&self) -> u64 {
        self.all().saturating_sub(self.prompt_tokens)
    }

    fn all(&self) -> u64 {
        let parts = self.prompt_tokens.saturating_add(self.completion_tokens);
        self.total_tokens.max(parts)
    }

    /// What an answer cost, good or not: what its body says, else a guess by its letters and the tokens of the
    /// prompt that are given here. What a body says and cannot be is not believed.
    pub fn of_body(body: &[u8], prompt_tokens: u64) -> Usage {
        Usage::of_reading(&crate::body::read(body), prompt_tokens)
    }

    pub(crate) fn of_reading(reading: &Reading, prompt_tokens: u64) -> Usage {
        match reading {
            Ok(completion) => {
                let told = completion.usage.filter(|told| told.impossible().is_none());
                Usage::from_told(told, completion, prompt_tokens)
            }
            Err(_) => Usage::from_told(None, &Completion::default(), prompt_tokens),
        }
    }

    /// What a body says of it that cannot be, in tokens.
    pub(crate) fn impossible(reading: &Reading) -> Option<u64> {
        reading.as_ref().ok()?.usage?.impossible()
    }

    /// What the provider says, for the record, and a guess of what it does not say.
    pub(crate) fn of(completion: &Completion, prompt_tokens: u64) -> Usage {
        Usage::from_told(completion.usage, completion, prompt_tokens)
    }

    fn from_told(told: Option<Told>, completion: &Completion, guess: u64) -> Usage {
        let letters = [&completion.text, &completion.reasoning, &completion.refusal];
        let letters: u64 = letters.map(|text| estimate_tokens(text)).iter().sum();
        let [prompt, answer, total] = told.map_or([None; 3], Told::numbers);
        // A zero stands where nobody has counted: no request is without tokens, and no text.
        let prompt = prompt.filter(|tokens| *tokens > 0);
        let answer = answer.filter(|tokens| *tokens > 0 || letters == 0);
        let sum = total.filter(|tokens| *tokens > 0);
        let usage = |prompt_tokens, completion_tokens, total_tokens| Usage {
            prompt_tokens,
            completion_tokens,
            total_tokens,
            ..Usage::default()
        };
        match (prompt, answer, sum) {
            (Some(prompt), Some(answer), sum) => {
                let sum = sum.unwrap_or(prompt.saturating_add(answer));
                usage(prompt, answer, sum)
            }
            (Some(prompt), None, Some(sum)) if sum > prompt => usage(prompt, sum - prompt, sum),
            (None, Some(answer), Some(sum)) if sum > answer => usage(sum - answer, answer, sum),
            (None, None, Some(sum)) => Usage {
                estimated: true,
                total_is_told: true,
                ..usage(guess.min(sum), sum - guess.min(sum), sum)
            },
            _ => {
                let (prompt, answer) = (prompt.unwrap_or(guess), answer.unwrap_or(letters));
                Usage {
                    estimated: true,
                    ..usage(prompt, answer, prompt.saturating_add(answer))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts, and what the record says: of the prompt, of the answer, of both, whether it is a guess.
    fn found(usage: &str) -> (u64, [(u64, u64, u64, bool); 2]) {
        let body = format!(
            r#"{{"choices":[{{"message":{{"content":"four letters"}}}}],"usage":{usage}}}"#
        );
        let reading = crate::body::read(body.as_bytes());
        let counts = Usage::of_reading(&reading, 7);
        let says = Usage::of(&reading.unwrap(), 7);
        let all = |usage: Usage| {
            let (sum, is_guess) = (usage.total_tokens, usage.estimated);
            (usage.prompt_tokens, usage.completion_tokens, sum, is_guess)
        };
        (counts.counted(), [counts, says].map(all))
    }

    const GUESS: (u64, u64, u64, bool) = (7, 3, 10, true);

    #[test]
    fn zeros_beside_a_text_are_no_count() {
        for usage in [
            r#"{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}"#,
            r#"{"prompt_tokens":0,"completion_tokens":0}"#,
            r#"{"total_tokens":0}"#,
        ] {
            assert_eq!(found(usage), (22, [GUESS; 2]), "{usage}");
        }
        let usage = r#"{"prompt_tokens":40,"completion_tokens":0,"total_tokens":40}"#;
        assert_eq!(found(usage).1, [(40, 3, 43, true); 2]);
        let nothing =
            br#"{"choices":[],"usage":{"prompt_tokens":40,"completion_tokens":0,"total_tokens":40}}"#;
        let usage = Usage::of_body(nothing, 7);
        assert_eq!((usage.counted(), usage.estimated), (40, false));
    }

    #[test]
    fn a_sum_below_its_parts_and_one_above_them_count_as_the_more_of_both() {
        let usage = r#"{"prompt_tokens":300,"completion_tokens":100,"total_tokens":100}"#;
        assert_eq!(found(usage), (400, [(300, 100, 100, false); 2]));
        let usage = r#"{"prompt_tokens":10,"completion_tokens":20,"total_tokens":500}"#;
        assert_eq!(found(usage), (500, [(10, 20, 500, false); 2]));
        let thinks = Usage::of_body(format!(r#"{{"usage":{usage}}}"#).as_bytes(), 7);
        assert_eq!(thinks.of_answer(), 490);
    }

    #[test]
    fn a_sum_alone_counts_as_it_is_and_only_its_parts_are_a_guess() {
        assert_eq!(
            found(r#"{"total_tokens":30}"#),
            (30, [(7, 23, 30, true); 2])
        );
        assert_eq!(found(r#"{"total_tokens":5}"#), (5, [(5, 0, 5, true); 2]));
        for part in [r#""prompt_tokens":12"#, r#""completion_tokens":18"#] {
            let usage = format!(r#"{{{part},"total_tokens":30}}"#);
            assert_eq!(found(&usage), (30, [(12, 18, 30, false); 2]));
        }
    }

    #[test]
    fn what_cannot_be_is_in_the_record_and_counts_for_nothing() {
        let usage = r#"{"prompt_tokens":1000000000000000,"completion_tokens":5}"#;
        let says = (1_000_000_000_000_000, 5, 1_000_000_000_000_005, false);
        assert_eq!(found(usage), (22, [GUESS, says]));
        // Thinking for long, or reading a library, is no mistake.
        let usage = r#"{"prompt_tokens":9000000,"completion_tokens":2000000}"#;
        assert_eq!(found(usage).0, 11_000_000);
    }
}
