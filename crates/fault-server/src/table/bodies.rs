//! Bodies that several entries need.

/// An answer around one choice: `said!("message": ..)` without its braces.
macro_rules! said {
    ($choice:literal) => {
        concat!(
            r#"{"id":"chatcmpl-{row}","object":"chat.completion","created":1790000000,"#,
            r#""model":"fault-server-1","choices":[{"index":0,"#,
            $choice,
            r#"}],"usage":{"prompt_tokens":{prompt},"completion_tokens":{completion},"#,
            r#""total_tokens":{total}}}"#
        )
    };
}

/// A good answer with something in front of its choices.
macro_rules! beside {
    ($members:literal) => {
        concat!(
            r#"{"id":"chatcmpl-{row}",""#,
            $members,
            r#","choices":[{"index":0,"message":{"role":"assistant","content":"{text}"},"#,
            r#""finish_reason":"stop"}]}"#
        )
    };
}

/// OpenAI's form of an error: message, type, code.
macro_rules! error {
    ($message:literal, $type:literal, $code:literal) => {
        concat!(
            r#"{"error":{"message":""#,
            $message,
            r#"","type":""#,
            $type,
            r#"","param":null,"code":""#,
            $code,
            r#""}}"#
        )
    };
}

pub(super) use {beside, error, said};

/// A good answer.
pub(crate) const GOOD: &str =
    said!(r#""message":{"role":"assistant","content":"{text}"},"finish_reason":"stop""#);

pub(super) const SLOW_DOWN: &str = error!(
    "Rate limit reached for requests",
    "requests", "rate_limit_exceeded"
);

pub(super) const PAGE: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center><h1>502 Bad Gateway</h1></center><hr><center>nginx</center></body>\r\n</html>\r\n";
