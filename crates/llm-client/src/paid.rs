//! The body of an answer that was paid for, and the secrets in it.

use std::ops::Range;

use serde_json::json;
use serde_json::value::RawValue;

use crate::body::{self, Completion, KEY_REDACTED, Members, list, object};
use crate::secrets::Scrubber;

impl Scrubber {
    /// Blots secrets out of a body that was paid for. What it answers stays as it came, but for a whole secret, also
    /// one whose pieces are joined by who reads them; what reports an error, in the place of an answer or beside it,
    /// holds no piece of one either.
    pub(crate) fn paid_body(&self, body: Vec<u8>) -> Vec<u8> {
        let body = match self.body(&body) {
            Some(clean) => marked(&body, clean),
            None => body,
        };
        let body = self.joined(&body).unwrap_or(body);
        let (body, errors) = errors(body);
        if errors.is_empty() {
            return body;
        }
        let (mut clean, mut kept) = (Vec::with_capacity(body.len()), 0);
        for error in errors {
            clean.extend_from_slice(&body[kept..error.start]);
            clean.extend(self.error_body(body[error.clone()].to_vec()));
            kept = error.end;
        }
        clean.extend_from_slice(&body[kept..]);
        clean
    }

    /// A body in whose pieces the model wrote a secret, without it and in one piece.
    fn joined(&self, body: &[u8]) -> Option<Vec<u8>> {
        if !may_be_in_pieces(body) {
            return None;
        }
        let mut completion = body::read(body).ok()?;
        // It is an error from end to end, and treated as one.
        if completion.failure.is_some() && completion.text.trim().is_empty() {
            return None;
        }
        let mut found = false;
        for text in [
            &mut completion.text,
            &mut completion.reasoning,
            &mut completion.refusal,
        ] {
            let clean = self.answer(text);
            found |= clean != *text;
            *text = clean;
        }
        found.then(|| written_anew(&completion))
    }
}

/// Says in a body from which a secret was taken that this was so, where the model wrote it.
fn marked(was: &[u8], clean: Vec<u8>) -> Vec<u8> {
    let (Ok(before), Ok(after)) = (body::read(was), body::read(&clean)) else {
        return clean;
    };
    if before.text == after.text && before.reasoning == after.reasoning {
        return clean;
    }
    let start = clean.iter().position(|byte| !byte.is_ascii_whitespace());
    match start.filter(|start| clean[*start] == b'{') {
        Some(start) => {
            let mark = format!("{{\"{KEY_REDACTED}\":true,");
            [&clean[..start], mark.as_bytes(), &clean[start + 1..]].concat()
        }
        None => written_anew(&after),
    }
}

/// A body that says what was read, and that a secret was taken out of it.
fn written_anew(completion: &Completion) -> Vec<u8> {
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let usage = completion.usage.map(|usage| {
        let [prompt, completion, total] = usage.numbers();
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total})
    });
    let error = completion.failure.as_ref();
    let error = error.map(|failure| json!({"message": failure.message}));
    let body = json!({
        KEY_REDACTED: true,
        "object": "chat.completion",
        "model": completion.model,
        "choices": [{
            "index": 0,
            "message": {
                "role": "assistant",
                "content": completion.text,
                "reasoning_content": some(&completion.reasoning),
                "refusal": some(&completion.refusal),
            },
            "finish_reason": completion.finish_reason,
        }],
        "usage": usage,
        "error": error,
    });
    body.to_string().into_bytes()
}

/// Whether what the model wrote may come in several pieces: in the events of a stream, or in the parts of a list.
fn may_be_in_pieces(body: &[u8]) -> bool {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    if !matches!(body.trim_ascii_start().first(), Some(b'{' | b'[')) {
        return true;
    }
    let name = b"\"content\"";
    let is_list = |at: usize| {
        let value = body[at + name.len()..].trim_ascii_start();
        let value = value.strip_prefix(b":").unwrap_or_default();
        value.trim_ascii_start().starts_with(b"[")
    };
    memchr::memmem::find_iter(body, name).any(is_list)
}

/// Where a 2xx body reports errors: all of it where it holds no answer, else the values that do, in their order. A
/// body that has to be mended before anything is found in it comes back mended.
///
/// A good answer is read once, by who judges it: here it is only looked at whether it may hold an error.
fn errors(body: Vec<u8>) -> (Vec<u8>, Vec<Range<usize>>) {
    let has = |name: &[u8]| memchr::memmem::find(&body, name).is_some();
    if !has(b"\"error\"") && has(b"\"content\"") {
        return (body, Vec::new());
    }
    let all = std::iter::once(0..body.len()).collect();
    let (Ok(text), Ok(completion)) = (std::str::from_utf8(&body), body::read(&body)) else {
        return (body, all);
    };
    let failed = completion.failure.is_some();
    if completion.text.trim().is_empty() && (failed || !completion.has_choice) {
        return (body, all);
    }
    if let Some(errors) = errors_in(text) {
        return (body, errors);
    }
    let plain = body::plain(text.trim_start_matches('\u{feff}').trim());
    match errors_in(&plain) {
        Some(errors) if errors.is_empty() => (body, errors),
        Some(errors) => (plain.into_bytes(), errors),
        // It was read, so this cannot be; and if it is, rather too much than too little.
        None => (body, all),
    }
}

/// `None`: not all of it can be read as it is.
fn errors_in(text: &str) -> Option<Vec<Range<usize>>> {
    let json = text.trim_start_matches('\u{feff}').trim_start();
    let values: Vec<&str> = match body::is_stream(json) {
        false => error_values(&object(json).ok()?),
        // Each event in its line.
        true => {
            let data = json.lines().filter_map(|line| line.strip_prefix("data:"));
            let events = data.filter(|data| data.trim() != "[DONE]");
            let read: Option<Vec<Members<'_>>> = events.map(|event| object(event).ok()).collect();
            read?.iter().flat_map(error_values).collect()
        }
    };
    let place = |value: &str| {
        let start = value.as_ptr().addr() - text.as_ptr().addr();
        start..start + value.len()
    };
    let mut errors: Vec<Range<usize>> = values.into_iter().map(place).collect();
    errors.sort_by_key(|error| error.start);
    Some(errors)
}

/// The values that report an error, beside the choices and in them.
fn error_values<'a>(members: &Members<'a>) -> Vec<&'a str> {
    let choices = members.all("choices").flat_map(|choices| {
        let one = choices.get().starts_with('{').then(|| vec![choices]);
        one.or_else(|| list(choices)).unwrap_or_default()
    });
    let choices = choices.filter(|choice| choice.get().starts_with('{'));
    let inside = choices
        .filter_map(|choice| object(choice.get()).ok())
        .flat_map(|choice| choice.all("error").collect::<Vec<_>>());
    let values = members.all("error").chain(inside).map(RawValue::get);
    values.filter(|value| *value != "null").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::{BLOT, in_strings};

    const KEY: &str = "sk-proj-AbCdEf/0123456789xyz";

    fn scrubber() -> Scrubber {
        Scrubber::new([KEY, "EMPTY"])
    }

    /// What an endpoint may say of the key in an error: whole, masked, in parts, with escapes.
    fn gossip() -> Vec<String> {
        let escaped: String = KEY.bytes().map(|b| format!("\\u{b:04X}")).collect();
        vec![
            KEY.to_owned(),
            KEY.replace('-', "\\u002d").replace('/', "\\u002F"),
            escaped,
            format!("{}****{}", &KEY[..12], &KEY[KEY.len() - 12..]),
            "sk-p...9xyz.".to_owned(),
            "sk-•••••9xyz".to_owned(),
            "sk-xxxxxxxxxxxx9xyz".to_owned(),
            format!("{} and {}", &KEY[..14], &KEY[14..]),
            format!("{}\\u002f{}", &KEY[8..14], &KEY[15..]),
        ]
    }

    fn is_clean(text: &str) -> bool {
        let ends = ["sk-p", "9xyz", "AbCdEf", "56789"];
        let decoded = in_strings(text.to_owned(), |said| {
            assert!(!ends.iter().any(|end| said.contains(end)), "{said}");
            said.to_owned()
        });
        !ends.iter().any(|end| decoded.contains(end))
    }

    #[test]
    fn an_error_that_was_paid_for_keeps_no_piece_of_a_secret() {
        for said in gossip() {
            for body in [
                format!(r#"{{"error":{{"message":"Incorrect API key {said}","code":401}}}}"#),
                format!(r#"{{"error":"no: {said}","choices":[]}}"#),
                format!(r#"{{"choices":[{{"error":{{"message":"{said}"}}}}]}}"#),
                format!(r#"[{{"error":{{"message":"{said}"}}}}]"#),
                format!(r#"{{"choices":null,"detail":"{said}"}}"#),
                format!(r#"{{"error":{{"message":"{said}"#),
                format!("<html>{}</html>", said.replace("\\u", "")),
                format!("data: {{\"error\":{{\"message\":\"{said}\"}}}}\n\ndata: [DONE]\n\n"),
            ] {
                let was = body::read(body.as_bytes()).map(|_| ());
                let clean = scrubber().paid_body(body.clone().into_bytes());
                let clean = String::from_utf8(clean).unwrap();
                // What is written with escapes is nothing outside of JSON.
                let is_page = body.starts_with('<') && said.contains("\\u");
                assert!(
                    is_page || clean.contains(BLOT) && is_clean(&clean),
                    "{body}\n{clean}"
                );
                assert_eq!(body::read(clean.as_bytes()).map(|_| ()), was, "{clean}");
            }
        }
    }

    #[test]
    fn an_answer_stays_as_it_came_beside_an_error_that_says_the_key() {
        let text = format!("yours begins with {} \\u4eba \\/", &KEY[..14]);
        let choice =
            format!(r#"[{{"message": {{"content": "{text}"}}, "finish_reason": "stop", "error":"#);
        for said in gossip().into_iter().skip(1) {
            let error = format!(r#"{{"message": "it is {said}", "n": 1.50}}"#);
            for body in [
                format!(r#"{{"error": {error}, "choices": {choice} null}}]}}"#),
                format!(r#"{{"choices": {choice} {error}}}], "error": {error}}}"#),
                format!(
                    "data: {{\"choices\": {choice} null}}]}}\n\ndata: {{\"error\": {error}}}\n\n"
                ),
            ] {
                let clean = scrubber().paid_body(body.clone().into_bytes());
                let clean = String::from_utf8(clean).unwrap();
                assert_eq!(clean.matches(&text).count(), 1, "{clean}");
                assert!(clean.contains("\"n\": 1.50"), "{clean}");
                let rest = clean.replace(&text, "");
                assert!(rest.contains(BLOT) && is_clean(&rest), "{body}\n{clean}");
                let whole = body.replace("it is", "was it").replace(&said, "another");
                assert_eq!(
                    scrubber().paid_body(whole.clone().into_bytes()),
                    whole.into_bytes()
                );
            }
        }
    }

    #[test]
    fn an_answer_without_an_error_keeps_everything_but_a_whole_secret() {
        let masked = "sk-proj-****9xyz";
        for (said, kept) in [
            (KEY.replace('-', "\\u002D"), "[redacted]".to_owned()),
            (KEY[..14].to_owned(), KEY[..14].to_owned()),
            (masked.to_owned(), masked.to_owned()),
            (
                "an \\\"error\\\" \\u002d".to_owned(),
                "an \\\"error\\\" \\u002d".to_owned(),
            ),
        ] {
            let body = |said: &str| {
                format!(r#"{{"choices":[{{"message":{{"content":"{said}"}}}}],"error":null}}"#)
            };
            let mark = match kept == "[redacted]" {
                true => "{\"key_redacted\":true,",
                false => "{",
            };
            let clean = scrubber().paid_body(body(&said).into_bytes());
            let wanted = body(&kept).replacen('{', mark, 1);
            assert_eq!(String::from_utf8(clean).unwrap(), wanted);
        }
    }

    #[test]
    fn an_error_beside_an_answer_that_has_to_be_mended_keeps_no_piece_either() {
        for said in gossip() {
            // A raw line break, which no JSON string may hold, and a number that is none.
            let choice =
                "{\"message\": {\"content\": \"a\nb\"}, \"finish_reason\": \"stop\", \"odd\": NaN}";
            let error = format!("{{\"message\": \"bad key\n{said}\"}}");
            for body in [
                format!("{{\"choices\": [{choice}], \"error\": {error}}}"),
                format!("{{\"error\": {error}, \"choices\": [{choice}]}}"),
                format!("{{\"choices\": [{choice}, {{\"error\": {error}}}], \"error\": \"so\"}}"),
                format!(
                    "data: {{\"choices\": [{}], \"error\":\ndata: {}}}\n\ndata: [DONE]\n\n",
                    choice.replace('\n', "\t"),
                    error.replace('\n', "\t"),
                ),
            ] {
                let was = body::read(body.as_bytes()).unwrap();
                assert!(was.text.starts_with('a') && was.failure.is_some(), "{body}");
                let clean = scrubber().paid_body(body.clone().into_bytes());
                let text = String::from_utf8(clean.clone()).unwrap();
                assert!(text.contains(BLOT) && is_clean(&text), "{body}\n{text}");
                let is = body::read(&clean).unwrap();
                assert_eq!((is.text, is.finish_reason), (was.text, was.finish_reason));
            }
        }
    }

    #[test]
    fn a_body_that_has_to_be_mended_and_reports_no_error_stays_as_it_came() {
        let body = b"{\"choices\":[{\"message\":{\"content\":\"a\nb\"}}],\"error\":null}".to_vec();
        assert_eq!(scrubber().paid_body(body.clone()), body);
    }

    /// An answer that says the secret, cut after every so many bytes.
    fn cut(said: &str, every: usize) -> Vec<String> {
        let letters: Vec<char> = said.chars().collect();
        letters
            .chunks(every)
            .map(|piece| piece.iter().collect())
            .collect()
    }

    #[test]
    fn a_secret_that_was_cut_to_pieces_is_not_joined_again() {
        let hex: String = KEY.bytes().map(|byte| format!("{byte:02x}")).collect();
        for said in [KEY, hex.as_str()] {
            for every in [1, 3, 7, 14, 20] {
                let pieces = cut(&format!("it is {said}, so"), every);
                let of = |member: &str| -> String {
                    let event = |piece: &String| {
                        let delta = json!({"choices": [{"index": 0, "delta": {member: piece}}]});
                        format!("data: {delta}\n\n")
                    };
                    pieces.iter().map(event).collect()
                };
                let end = "data: {\"choices\": [{\"delta\": {\"content\": \" end\"}, \"finish_reason\": \"stop\"}], \"model\": \"m\", \"usage\": {\"prompt_tokens\": 3, \"completion_tokens\": 4}}\n\ndata: [DONE]\n\n";
                let parts: Vec<_> = pieces
                    .iter()
                    .map(|piece| json!({"type": "text", "text": piece}))
                    .collect();
                let thoughts: Vec<_> = pieces
                    .iter()
                    .map(|piece| json!({"type": "thinking", "thinking": [{"text": piece}]}))
                    .chain([json!("a text")])
                    .collect();
                let whole = |content| {
                    let body = json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]});
                    body.to_string().replace("\"content\":", "\"content\" : ")
                };
                for body in [
                    of("content") + end,
                    of("reasoning_content") + end,
                    whole(parts),
                    whole(thoughts),
                ] {
                    let was = body::read(body.as_bytes()).unwrap();
                    let clean = scrubber().paid_body(body.clone().into_bytes());
                    let is = body::read(&clean).unwrap();
                    let without = |text: &str| text.replace(said, BLOT);
                    let wanted = Completion {
                        text: without(&was.text),
                        reasoning: without(&was.reasoning),
                        key_redacted: true,
                        ..was
                    };
                    assert_eq!(is, wanted, "{body}");
                    // Nothing is left to be joined by whoever reads the journal.
                    let clean = String::from_utf8(clean).unwrap();
                    assert!(is_clean(&clean) && clean.contains(BLOT), "{clean}");
                }
            }
        }
    }

    #[test]
    fn an_answer_in_pieces_that_hold_no_secret_stays_as_it_came() {
        for body in [
            format!(
                "data: {{\"choices\": [{{\"delta\": {{\"content\": \"{}\"}}}}]}}\n\ndata: [DONE]\n\n",
                &KEY[..20]
            ),
            format!(
                "{{\"choices\": [{{\"message\": {{\"content\": [\"{}\", \" {}\"]}}}}]}}",
                &KEY[..9],
                &KEY[9..]
            ),
        ] {
            assert_eq!(
                scrubber().paid_body(body.clone().into_bytes()),
                body.into_bytes()
            );
        }
    }

    #[test]
    fn an_answer_that_was_changed_says_so_and_one_that_was_not_does_not() {
        let answer = |content: &str, print: &str| {
            json!({"choices": [{"message": {"content": content}}], "system_fingerprint": print})
                .to_string()
        };
        for (body, is_marked) in [
            (answer(&format!("it is {KEY}"), "x"), true),
            (format!(" [{}]", answer(&format!("it is {KEY}"), "x")), true),
            (answer("a text", KEY), false),
            (answer("a [redacted] text", "x"), false),
        ] {
            let clean = scrubber().paid_body(body.clone().into_bytes());
            let is = body::read(&clean).unwrap();
            assert_eq!(is.key_redacted, is_marked, "{body}");
            assert!(!String::from_utf8(clean.clone()).unwrap().contains(KEY));
            // Once is enough.
            assert_eq!(scrubber().paid_body(clean.clone()), clean);
        }
    }
}
