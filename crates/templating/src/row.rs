//! A row's text, taken apart as far as the prompts need it and no further.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::context::json_fault;
use crate::exact;
use crate::problem::{Problem, ProblemKind};
use crate::variables::Names;

pub(crate) const USER: &str = "user_prompt_kwargs";
pub(crate) const SYSTEM: &str = "system_prompt_kwargs";
/// As messages name them.
pub(crate) const USER_SHOWN: &str = "`user_prompt_kwargs`";
pub(crate) const SYSTEM_SHOWN: &str = "`system_prompt_kwargs`";
pub(crate) const ROW: &str = "the row";

/// The fields that somebody wanted, unparsed.
pub(crate) type Fields<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// A row in one of its two forms.
pub(crate) enum Row<'a> {
    /// The row itself is what both prompts see.
    Plain(Fields<'a>),
    /// Each prompt sees its own kwargs; an absent one is empty.
    Kwargs {
        user: Fields<'a>,
        system: Fields<'a>,
    },
}

/// Which names of each part are wanted; asked once for every name, in order.
pub(crate) trait Filter {
    fn plain(&mut self, name: &str) -> bool;
    fn user(&mut self, name: &str) -> bool;
    fn system(&mut self, name: &str) -> bool;
}

/// Takes a row apart.
pub(crate) fn split<'a>(text: &'a str, filter: &mut impl Filter) -> Result<Row<'a>, Problem> {
    let mut user = None;
    let mut system = None;
    let mut seen = fields(text, "", ROW, |name| match name {
        USER | SYSTEM => true,
        name => filter.plain(name),
    })?;
    seen.retain(|(name, value)| match name.as_ref() {
        USER => {
            user = Some(*value);
            false
        }
        SYSTEM => {
            system = Some(*value);
            false
        }
        _ => true,
    });
    if user.is_none() && system.is_none() {
        return Ok(Row::Plain(seen));
    }
    let group = |group: Option<&'a RawValue>| group.map(RawValue::get);
    let user = group(user).map(|text| {
        let wants = |name: &str| filter.user(name);
        fields(text, USER, USER_SHOWN, wants)
    });
    let user = user.transpose()?.unwrap_or_default();
    let system = group(system).map(|text| {
        let wants = |name: &str| filter.system(name);
        fields(text, SYSTEM, SYSTEM_SHOWN, wants)
    });
    let system = system.transpose()?.unwrap_or_default();
    Ok(Row::Kwargs { user, system })
}

/// The wanted fields of an object.
fn fields<'a>(
    text: &'a str,
    variable: &str,
    what: &str,
    wants: impl FnMut(&str) -> bool,
) -> Result<Fields<'a>, Problem> {
    let kind = match text
        .trim_start_matches([' ', '\t', '\n', '\r'])
        .bytes()
        .next()
    {
        Some(b'{') | None => None,
        Some(b'[') => Some("a list"),
        Some(b'"') => Some("a string"),
        Some(b'n') => Some("null"),
        Some(b't' | b'f') => Some("a boolean"),
        Some(b'-' | b'0'..=b'9') => Some("a number"),
        Some(_) => None,
    };
    if let Some(kind) = kind {
        let detail = format!("{what} is {kind}, not a JSON object");
        return Err(Problem::row(ProblemKind::WrongShape, variable, detail));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    deserializer
        .deserialize_map(Pick(wants))
        .and_then(|fields| deserializer.end().map(|()| fields))
        .map_err(|fault| Problem::row(ProblemKind::Malformed, variable, json_fault(what, &fault)))
}

struct Pick<W>(W);

impl<'de, W: FnMut(&str) -> bool> Visitor<'de> for Pick<W> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Fields<'de> = Vec::new();
        while let Some(Key(key)) = map.next_key()? {
            if (self.0)(&key) {
                let value = map.next_value()?;
                // The last of two equal keys wins, as everywhere in serde_json.
                match fields.iter_mut().find(|(known, _)| *known == key) {
                    Some(known) => known.1 = value,
                    None => fields.push((key, value)),
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(fields)
    }
}

/// A key that is borrowed wherever it has no escapes; serde's own `Cow` never borrows.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// The fields as a prompt prints them.
pub(crate) fn exact(fields: &Fields<'_>) -> Result<Value, Problem> {
    let mut map = Map::with_capacity(fields.len());
    for (name, raw) in fields {
        let value = exact::parse(raw.get()).map_err(|fault| malformed(name, &fault))?;
        map.insert(name.to_string(), value);
    }
    Ok(Value::Object(map))
}

/// The fields as the check needs them: of most values only whether they hold.
pub(crate) fn lean(fields: &Fields<'_>, names: &Names) -> Result<Value, Problem> {
    let mut map = Map::with_capacity(fields.len());
    for (name, raw) in fields {
        let text = raw.get();
        let value = match glance(text) {
            // Prints and holds as the value itself does, without a copy of it.
            Some(seen) if names.is_shallow(name) => seen.into(),
            _ => serde_json::from_str(text).map_err(|fault| malformed(name, &fault))?,
        };
        map.insert(name.to_string(), value);
    }
    Ok(Value::Object(map))
}

/// What a prompt that only prints a value, or asks whether it holds, can tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Null,
    Holds(bool),
}

impl From<Seen> for Value {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::Null => Self::Null,
            Seen::Holds(holds) => Self::Bool(holds),
        }
    }
}

/// Looks at a JSON value without parsing it; `None` where that is not enough.
fn glance(text: &str) -> Option<Seen> {
    match text.as_bytes() {
        // An escape may be one that stands for no character: that is found by parsing.
        [b'"', inner @ .., b'"'] => {
            (!text.contains('\\')).then_some(Seen::Holds(!inner.is_empty()))
        }
        [b'1'..=b'9', rest @ ..] => {
            let is_whole = rest.len() < 16 && rest.iter().all(u8::is_ascii_digit);
            is_whole.then_some(Seen::Holds(true))
        }
        b"true" => Some(Seen::Holds(true)),
        b"false" => Some(Seen::Holds(false)),
        b"null" => Some(Seen::Null),
        _ => None,
    }
}

/// All that [`lean`] makes of the wanted fields of a row: two rows of one shape are alike to the check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many of the fields are kwargs of the user; `None` where the row is not in kwargs form.
    of_user: Option<usize>,
    /// Which of the names, in the order of the row, and what is seen of its value.
    fields: Vec<(usize, Seen)>,
}

impl Shape {
    /// Becomes the shape of fields that both prompts see; false where there is more to their values than a shape
    /// holds.
    pub(crate) fn of_row(&mut self, fields: &Fields<'_>, names: &Names) -> bool {
        self.fields.clear();
        self.of_user = None;
        self.add(fields, names)
    }

    /// The same of kwargs, each with the names of its own prompt.
    pub(crate) fn of_kwargs(
        &mut self,
        user: (&Fields<'_>, &Names),
        system: (&Fields<'_>, &Names),
    ) -> bool {
        self.fields.clear();
        self.of_user = Some(user.0.len());
        self.add(user.0, user.1) && self.add(system.0, system.1)
    }

    fn add(&mut self, fields: &Fields<'_>, names: &Names) -> bool {
        fields.iter().all(|(name, raw)| {
            let seen = names.shallow(name).zip(glance(raw.get()));
            self.fields.extend(seen);
            seen.is_some()
        })
    }
}

fn malformed(name: &str, fault: &serde_json::Error) -> Problem {
    let detail = json_fault(&format!("`{name}` of the row"), fault);
    Problem::row(ProblemKind::Malformed, name, detail)
}
