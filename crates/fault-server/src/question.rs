use serde_json::Value;

/// What somebody asks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Question {
    /// The last whole number in the user message; where it holds none, a number made of its text.
    pub row: u64,
    /// The number of this request among those of its row, from 1.
    pub nth: u32,
    /// The user message.
    pub user: String,
    /// The whole body; `null` when it was no JSON.
    pub body: Value,
}

impl Question {
    /// Reads the body of a request. `nth` is 1 until somebody counts.
    pub(crate) fn of(body: &[u8]) -> Question {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let user = user_message(&body);
        Question {
            row: row_of(&user),
            nth: 1,
            user,
            body,
        }
    }

    /// About how many tokens the messages have: four bytes are one.
    pub(crate) fn tokens(&self) -> u64 {
        let messages = self.body["messages"].as_array();
        let bytes = messages.into_iter().flatten().map(|message| {
            let content = &message["content"];
            content.as_str().map_or(0, str::len) as u64
        });
        bytes.sum::<u64>().div_ceil(4).max(1)
    }
}

/// The text of the last message of the user; of a list of parts the text is joined.
fn user_message(body: &Value) -> String {
    let messages = body["messages"].as_array();
    let message = messages
        .into_iter()
        .flatten()
        .rfind(|message| message["role"] == "user");
    match message.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        _ => String::new(),
    }
}

/// A row is known by the last whole number in its message.
pub(crate) fn row_of(user: &str) -> u64 {
    let mut digits = user.rsplit(|c: char| !c.is_ascii_digit());
    let number = digits
        .find(|digits| !digits.is_empty())
        .and_then(|digits| digits.parse().ok());
    number.unwrap_or_else(|| hash(user.as_bytes()))
}

/// FNV-1a: the same number everywhere and always, for texts and for making luck of a seed.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_the_last_whole_number_of_the_user_message() {
        assert_eq!(row_of("question 3 of row 17."), 17);
        assert_eq!(row_of("007"), 7);
        assert_eq!(row_of("none"), row_of("none"));
        assert_ne!(row_of("人工智能"), row_of("医疗"));
        assert_eq!(
            row_of("99999999999999999999999"),
            hash(b"99999999999999999999999")
        );
    }

    #[test]
    fn the_user_message_is_found_in_every_form() {
        let body = br#"{"messages":[{"role":"system","content":"row 1"},{"role":"user","content":[{"type":"text","text":"row "},{"type":"text","text":"22"}]}]}"#;
        let question = Question::of(body);
        assert_eq!((question.row, question.user.as_str()), (22, "row 22"));
        assert_eq!(Question::of(b"no json").user, "");
    }
}
