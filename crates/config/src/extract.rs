//! The merged values into a type, with every fault on the way.

use std::collections::BTreeSet;

use figment::error::{Actual, Error, Kind};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IntoDeserializer, MapAccess,
    SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use crate::key::{self, KeyPath};
use crate::tree::{Node, Tree};

/// A bound on the faults of one configuration; nobody reads further.
const MAX_FAULTS: usize = 200;

/// What the type said against a value.
pub(crate) struct Complaint {
    pub(crate) path: KeyPath,
    /// The number of the layer that the value came from.
    pub(crate) layer: usize,
    pub(crate) kind: Kind,
}

/// Makes the value, and gives the tree back with it. Where the type complains, the complaint is
/// kept, the default put in its place, and the rest tried, until the type has seen everything.
pub(crate) fn extract<T: DeserializeOwned>(
    mut tree: Tree,
    defaults: &Tree,
) -> Result<(T, Tree), Vec<Complaint>> {
    let mut complaints: Vec<Complaint> = Vec::new();
    let mut defaulted = BTreeSet::new();
    // Each round repairs a path once by its default and once by taking it out.
    for _ in 0..2 * MAX_FAULTS {
        let (path, kind) = match T::deserialize(Reader(&tree)) {
            Ok(value) if complaints.is_empty() => return Ok((value, tree)),
            Ok(_) => break,
            Err(error) => (error.path, error.kind),
        };
        let place = match kind {
            // The missing key is no place, the map that lacks it is.
            Kind::UnknownField(..) if tree.get(&path).is_none() => {
                path.split_last().map_or(&path[..], |(_, parent)| parent)
            }
            _ => &path[..],
        };
        // A fault around a place that was repaired may be of our own making.
        let ours = complaints.iter().any(|done| done.path.starts_with(&path));
        if !ours {
            let layer = (0..=path.len())
                .rev()
                .find_map(|n| tree.get(&path[..n]))
                .map_or(0, |tree| tree.layer);
            let path = match &kind {
                Kind::MissingField(name) => key::child(&path, name),
                _ => path.clone(),
            };
            complaints.push(Complaint { path, layer, kind });
        }
        let default = defaults.get(place).cloned();
        let repaired = match default {
            Some(default) if defaulted.insert(place.to_vec()) => tree.replace(place, default),
            _ => tree.remove(place),
        };
        if !repaired {
            break;
        }
    }
    Err(complaints)
}

/// A value as serde reads it: errors know their path, text is a string where a string is wanted,
/// and a number never picks the variant of an enum.
struct Reader<'t>(&'t Tree);

impl<'t> Reader<'t> {
    /// The value as the string that the type wants.
    fn string(&self) -> Option<&'t str> {
        match (&self.0.text, &self.0.node) {
            (Some(text), _) => {
                self.0.as_text.set(true);
                Some(text)
            }
            (None, Node::Leaf(Value::String(string))) => Some(string),
            _ => None,
        }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.node {
            Node::Leaf(Value::Null) => visitor.visit_unit(),
            Node::Leaf(Value::Bool(value)) => visitor.visit_bool(*value),
            Node::Leaf(Value::Number(number)) => {
                if let Some(number) = number.as_u64() {
                    visitor.visit_u64(number)
                } else if let Some(number) = number.as_i64() {
                    visitor.visit_i64(number)
                } else {
                    visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            Node::Leaf(value) => visitor.visit_str(value.as_str().unwrap_or_default()),
            Node::List(items) => {
                let mut access = Items(items.iter());
                let value = visitor.visit_seq(&mut access)?;
                match access.0.len() {
                    0 => Ok(value),
                    _ => Err(Error::invalid_length(items.len(), &"fewer items")),
                }
            }
            Node::Map(members) => visitor.visit_map(Members::new(members)),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.0.node {
            Node::Leaf(Value::Null) => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.string() {
            Some(string) => visitor.visit_str(string),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if let Node::Map(members) = &self.0.node {
            return visitor.visit_enum(MapAccessDeserializer::new(Members::new(members)));
        }
        match self.string() {
            Some(name) => visitor.visit_enum(name.into_deserializer()),
            None => Err(Kind::InvalidType(actual(self.0), "a string".to_owned()).into()),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64 bytes byte_buf seq map struct unit
        ignored_any unit_struct tuple_struct tuple identifier
    }
}

fn actual(tree: &Tree) -> Actual {
    match &tree.node {
        Node::Leaf(Value::Bool(value)) => Actual::Bool(*value),
        Node::Leaf(Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Actual::Unsigned(number.into()),
            (None, Some(number)) => Actual::Signed(number.into()),
            _ => Actual::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Node::Leaf(Value::String(string)) => Actual::Str(string.clone()),
        Node::Leaf(_) => Actual::Unit,
        Node::List(_) => Actual::Seq,
        Node::Map(_) => Actual::Map,
    }
}

fn below(name: &str, mut error: Error) -> Error {
    error.path.insert(0, name.to_owned());
    error
}

struct Items<'t>(std::slice::Iter<'t, (usize, Tree)>);

impl<'de> SeqAccess<'de> for &mut Items<'_> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((number, item)) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(Reader(item))
            .map(Some)
            .map_err(|error| below(&number.to_string(), error))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Members<'t> {
    rest: std::slice::Iter<'t, (String, Tree)>,
    current: Option<(&'t str, &'t Tree)>,
}

impl<'t> Members<'t> {
    fn new(members: &'t [(String, Tree)]) -> Self {
        Self {
            rest: members.iter(),
            current: None,
        }
    }
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((name, member)) = self.rest.next() else {
            return Ok(None);
        };
        self.current = Some((name, member));
        seed.deserialize(StrDeserializer::<Error>::new(name))
            .map(Some)
            .map_err(|error| below(name, error))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((name, member)) = self.current.take() else {
            return Err(Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Reader(member))
            .map_err(|error| below(name, error))
    }
}
