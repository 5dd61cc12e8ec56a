//! What the server answers: always the same, of a realistic size.

const SENTENCES: [&str; 4] = [
    "The tide comes in twice a day because the moon pulls at the water on the near side more than at the earth itself. ",
    "Whoever walks the flats at low water sees \\\"ripples\\\", worm casts and the tracks of birds, and should know the way back.\\n\\n",
    "At the new and at the full moon sun and moon pull together, and the difference between high and low is greatest. ",
    "In a narrow bay the water has nowhere to go but up; there the sea rises by fifteen metres, and mills once ran on it. ",
];

/// The body of an answer, 1.3 kB.
pub(crate) fn body() -> String {
    let text: String = SENTENCES.iter().chain(&SENTENCES).copied().collect();
    format!(
        "{{\"id\":\"chatcmpl-Bk7Qw2zYt9uV4xR8nL1mC6pA\",\"object\":\"chat.completion\",\"created\":1795305600,\
         \"model\":\"bench-1-2026-11-20\",\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\
         \"content\":\"<draft>{text}</draft>\",\"refusal\":null}},\"logprobs\":null,\"finish_reason\":\"stop\"}}],\
         \"usage\":{{\"prompt_tokens\":87,\"completion_tokens\":214,\"total_tokens\":301}},\
         \"system_fingerprint\":\"fp_44709d6fcb\"}}"
    )
}

/// The whole answer as it goes over the wire.
pub(crate) fn on_the_wire(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_json_of_a_realistic_size() {
        let body = body();
        assert!((1_250..1_350).contains(&body.len()), "{}", body.len());
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(value["choices"][0]["message"]["content"].is_string());
    }
}
