use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::usage::Told;
use crate::usual;

/// What a 2xx body says, as far as anybody needs it.
///
/// Everything is read one level at a time and only where it is needed, so that an odd neighbour (deep,
/// doubled, of another type, a number beyond all bounds) never costs an answer that was paid for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Completion {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) refusal: String,
    pub(crate) finish_reason: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Told>,
    pub(crate) has_choice: bool,
    pub(crate) tool_calls: bool,
    /// The content is neither text nor a list of parts.
    pub(crate) odd_content: bool,
    pub(crate) failure: Option<Failure>,
    pub(crate) lone_surrogate: bool,
    /// A secret was taken out of what the model wrote.
    pub(crate) key_redacted: bool,
}

impl Completion {
    /// Whether a model wrote it, whatever it is worth.
    pub(crate) fn is_answer(&self) -> bool {
        self.failure.is_none() && !self.text.trim().is_empty()
    }
}

/// What a body says, in a member of its own, from which a secret was taken where the model wrote it.
pub(crate) const KEY_REDACTED: &str = "key_redacted";

/// Why a body is no completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    Empty,
    Html,
    NotUtf8,
    CutShort,
    NotJson,
}

/// What a body came to.
pub(crate) type Reading = Result<Completion, Unreadable>;

/// After so many lines that together are no JSON yet, an event of a stream is read once more where it ends:
/// whoever reads it again at each of a million lines never comes to the end.
const TRIES: u32 = 32;

/// Reads a body leniently.
pub(crate) fn read(body: &[u8]) -> Reading {
    let body = std::str::from_utf8(body).map_err(|_| Unreadable::NotUtf8)?;
    let body = body.trim_start_matches('\u{feff}').trim();
    match usual::read(body) {
        Some(completion) => Ok(completion),
        None => read_anything(body),
    }
}

/// The same, for bodies that are nothing but strange.
pub(crate) fn read_anything(body: &str) -> Reading {
    let mut completion = Completion::default();
    if body.is_empty() {
        return Err(Unreadable::Empty);
    } else if body.starts_with('<') {
        return Err(Unreadable::Html);
    } else if is_stream(body) {
        completion.take_events(body)?;
    } else {
        match object(body) {
            Ok(members) => completion.take(&members),
            Err(Unreadable::NotJson) => {
                let mended = mend(body);
                completion.take(&object(&mended)?);
            }
            Err(other) => return Err(other),
        }
    }
    Ok(completion)
}

/// Whether it is a stream of server-sent events.
pub(crate) fn is_stream(body: &str) -> bool {
    ["data:", "event:", "id:", "retry:", ":"]
        .iter()
        .any(|field| body.starts_with(field))
}

/// A body that has to be mended to be read, so that it need not be: each event of a stream in a line of its own.
pub(crate) fn plain(body: &str) -> String {
    if !is_stream(body) {
        return mend(body);
    }
    let mut lines = String::with_capacity(body.len());
    let one_line = |event: &str| mend(event).replace(['\r', '\n'], " ");
    // Where it cannot be read any further, nobody does.
    let done = each_event(body, |_, event| {
        lines.push_str(&format!("data: {}\n\n", one_line(event).trim()));
    });
    if done == Ok(true) {
        lines.push_str("data: [DONE]\n\n");
    }
    lines
}

/// Reads the events of a stream; says whether it says that it is done.
fn each_event(body: &str, mut take: impl FnMut(&Members<'_>, &str)) -> Result<bool, Unreadable> {
    let mut done = false;
    let mut pending = String::new();
    let mut tries = 0;
    for line in body.lines().chain([""]) {
        if let Some(data) = line.strip_prefix("data:") {
            if data.trim() == "[DONE]" {
                done = true;
                continue;
            }
            pending.push_str(data);
            pending.push('\n');
            tries += 1;
            if tries <= TRIES
                && let Ok(chunk) = object(&pending)
            {
                take(&chunk, &pending);
                pending.clear();
                tries = 0;
            }
        } else if line.trim().is_empty() && !pending.is_empty() {
            let mended = mend(&pending);
            take(&object(&mended)?, &mended);
            pending.clear();
            tries = 0;
        }
    }
    Ok(done)
}

impl Completion {
    fn take(&mut self, members: &Members<'_>) {
        if let Some(model) = members.find("model", |raw| {
            self.text_of(raw).filter(|name| !name.is_empty())
        }) {
            self.model.get_or_insert(model);
        }
        if let Some(usage) = members.find("usage", Told::of) {
            self.usage = Some(usage);
        }
        let choice = members.find("choices", choice);
        if let Some(choice) = &choice {
            self.take_choice(choice);
        }
        let is_true = |raw: &RawValue| (raw.get() == "true").then_some(());
        self.key_redacted |= members.find(KEY_REDACTED, is_true).is_some();
        let failure = Failure::from_members(members, choice.is_none());
        self.failure = failure.or(self.failure.take());
    }

    fn take_choice(&mut self, choice: &Members<'_>) {
        // A stream may carry several choices at once; the first one is the answer.
        if choice.find("index", number).is_some_and(|index| index != 0) {
            return;
        }
        self.has_choice = true;
        if let Some(reason) = choice.find("finish_reason", |raw| self.text_of(raw)) {
            self.finish_reason = Some(reason);
        }
        if let Some(failure) = choice.find("error", Failure::from_raw) {
            self.failure = Some(failure);
        }
        for name in ["message", "delta"] {
            if let Some(message) = choice.find(name, |raw| object(raw.get()).ok()) {
                self.take_message(&message);
                return;
            }
            if let Some(text) = choice.find(name, |raw| self.text_of(raw)) {
                self.text.push_str(&text);
                return;
            }
        }
        if let Some(text) = choice.find("text", |raw| self.text_of(raw)) {
            self.text.push_str(&text);
        }
    }

    fn take_message(&mut self, message: &Members<'_>) {
        if message
            .find("content", |raw| self.take_content(raw))
            .is_none()
        {
            self.odd_content |= message
                .find("content", |raw| (raw.get() != "null").then_some(()))
                .is_some();
        }
        for name in ["reasoning_content", "reasoning"] {
            if let Some(text) = message.find(name, |raw| {
                self.text_of(raw).filter(|text| !text.is_empty())
            }) {
                self.reasoning.push_str(&text);
                break;
            }
        }
        if let Some(text) = message.find("refusal", |raw| self.text_of(raw)) {
            self.refusal.push_str(&text);
        }
        for name in ["tool_calls", "function_call"] {
            let used = |raw: &RawValue| (!matches!(raw.get(), "null" | "[]" | "{}")).then_some(());
            self.tool_calls |= message.find(name, used).is_some();
        }
    }

    /// Text, or a list of parts of which the text is joined. Nothing is taken from an odd value.
    fn take_content(&mut self, raw: &RawValue) -> Option<()> {
        if let Some(text) = self.text_of(raw) {
            self.text.push_str(&text);
            return Some(());
        }
        for part in list(raw)? {
            if let Some(text) = self.text_of(part) {
                self.text.push_str(&text);
            } else if let Ok(part) = object(part.get()) {
                self.take_part(&part);
            }
        }
        Some(())
    }

    fn take_part(&mut self, part: &Members<'_>) {
        let text = part.find("text", |raw| self.text_of(raw)).or_else(|| {
            let inner = part.find("text", |raw| object(raw.get()).ok())?;
            inner.find("value", |raw| self.text_of(raw))
        });
        if let Some(text) = text {
            self.text.push_str(&text);
        } else if let Some(text) = part.find("refusal", |raw| self.text_of(raw)) {
            self.refusal.push_str(&text);
        } else if let Some(thoughts) = part.find("thinking", list) {
            for thought in thoughts {
                let text = object(thought.get()).ok();
                let text = text.and_then(|thought| thought.find("text", |raw| self.text_of(raw)));
                self.reasoning.push_str(&text.unwrap_or_default());
            }
        }
    }

    /// A stream of server-sent events that nobody asked for: its chunks are folded into one answer.
    fn take_events(&mut self, body: &str) -> Result<(), Unreadable> {
        let done = each_event(body, |chunk, _| self.take(chunk))?;
        match done || self.finish_reason.is_some() || self.failure.is_some() {
            true => Ok(()),
            false => Err(Unreadable::CutShort),
        }
    }

    fn text_of(&mut self, raw: &RawValue) -> Option<String> {
        let (text, lone_surrogate) = text(raw)?;
        self.lone_surrogate |= lone_surrogate;
        Some(text)
    }
}

/// The members of an object in their order, doubled ones included, their values unread.
pub(crate) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Members<'a> {
    /// The values of all members of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'a RawValue> {
        let named = self.0.iter().filter(move |(key, _)| key == name);
        named.map(|(_, value)| *value)
    }

    /// The last member of this name of which something can be made.
    pub(crate) fn find<T>(
        &self,
        name: &str,
        mut make: impl FnMut(&'a RawValue) -> Option<T>,
    ) -> Option<T> {
        self.0
            .iter()
            .rev()
            .filter(|(key, _)| key == name)
            .find_map(|(_, value)| make(value))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(key) = map.next_key::<Lossy<'de>>()? {
                    members.push((key.text, map.next_value()?));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Walk).map(Members)
    }
}

/// An object, or the first object of a list. What follows the value is nobody's concern.
pub(crate) fn object(json: &str) -> Result<Members<'_>, Unreadable> {
    if json.trim_start().starts_with('[') {
        let raw: &RawValue = first_value(json)?;
        let first =
            list(raw).and_then(|items| items.into_iter().find(|item| item.get().starts_with('{')));
        return object(first.ok_or(Unreadable::NotJson)?.get());
    }
    first_value(json)
}

fn first_value<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, Unreadable> {
    T::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|error| {
        if error.is_eof() {
            Unreadable::CutShort
        } else {
            Unreadable::NotJson
        }
    })
}

pub(crate) fn list(raw: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(raw.get()).ok()
}

/// A JSON string, and whether it held half of a surrogate pair, which becomes U+FFFD.
pub(crate) fn text(raw: &RawValue) -> Option<(String, bool)> {
    if !raw.get().starts_with('"') {
        return None;
    }
    let lossy: Lossy<'_> = serde_json::from_str(raw.get()).ok()?;
    Some((lossy.text.into_owned(), lossy.lone_surrogate))
}

/// A whole number that is not negative, also one written as `41.0` or `"41"`.
pub(crate) fn number(raw: &RawValue) -> Option<u64> {
    let written = raw.get().trim_matches('"').trim();
    let whole =
        written
            .split_once('.')
            .map_or(written, |(whole, rest)| match rest.trim_matches('0') {
                "" => whole,
                _ => "",
            });
    // Nobody counts beyond 2^53 tokens; such a number is a mistake.
    whole.parse().ok().filter(|number| *number <= 1 << 53)
}

fn choice(raw: &RawValue) -> Option<Members<'_>> {
    let usable = |raw: &RawValue| -> bool { raw.get().starts_with('{') };
    if usable(raw) {
        return object(raw.get()).ok();
    }
    list(raw)?
        .into_iter()
        .filter(|raw| usable(raw))
        .find_map(|raw| object(raw.get()).ok())
}

/// A string of which half a surrogate pair is no reason to lose the rest; borrowed where it holds no escape.
struct Lossy<'a> {
    text: Cow<'a, str>,
    lone_surrogate: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Lossy<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Lossy<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Lossy {
                    text: Cow::Owned(text.to_owned()),
                    lone_surrogate: false,
                })
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => Lossy {
                        text: Cow::Borrowed(text),
                        lone_surrogate: false,
                    },
                    Err(_) => mended(bytes),
                })
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(match std::str::from_utf8(bytes) {
                    Ok(text) => Lossy {
                        text: Cow::Owned(text.to_owned()),
                        lone_surrogate: false,
                    },
                    Err(_) => mended(bytes),
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Self::Value, A::Error> {
                Err(serde::de::Error::custom("a list is no string"))
            }
        }
        // Read as bytes, because serde_json refuses half a surrogate pair in a string but not there.
        deserializer.deserialize_bytes(Bytes)
    }
}

/// serde_json writes half a pair as three bytes, which are no UTF-8: one U+FFFD in the place of each.
fn mended(bytes: &[u8]) -> Lossy<'static> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        match rest {
            [0xED, 0xA0..=0xBF, _, after @ ..] => {
                text.extend_from_slice("\u{fffd}".as_bytes());
                rest = after;
            }
            _ => {
                text.push(*first);
                rest = tail;
            }
        }
    }
    Lossy {
        text: Cow::Owned(String::from_utf8_lossy(&text).into_owned()),
        lone_surrogate: true,
    }
}

/// Two things that JSON forbids and servers send: `NaN` and its kin become `null`, and raw control
/// characters in strings become spaces or escapes.
fn mend(json: &str) -> String {
    let mut mended = String::with_capacity(json.len() + 16);
    let mut rest = json;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(next) = rest.chars().next() {
        if in_string {
            match next {
                '\n' => mended.push_str("\\n"),
                '\r' => mended.push_str("\\r"),
                '\t' => mended.push_str("\\t"),
                '\0'..='\u{1f}' => mended.push(' '),
                _ => mended.push(next),
            }
            in_string = next != '"' || escaped;
            escaped = next == '\\' && !escaped;
        } else if let Some(word) = ["NaN", "Infinity", "-Infinity"]
            .iter()
            .find(|word| rest.starts_with(**word))
        {
            mended.push_str("null");
            rest = &rest[word.len()..];
            continue;
        } else {
            in_string = next == '"';
            escaped = false;
            mended.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    mended
}
