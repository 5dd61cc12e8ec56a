//! YAML as it was written: every key with its line, nothing merged, nothing lost.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Number, Value};

use crate::line_ends::StandIns;
use crate::locate::{HERE, line_of};

/// How many values a document may hold after its aliases are written out.
const MAX_NODES: usize = 50_000;

/// A value.
pub(crate) enum Node {
    /// A scalar.
    Leaf(Value),
    /// A number that is not finite or does not fit 64 bits, as text.
    Odd(String),
    /// A list; each item with its line, where it has one.
    List(Vec<(Option<usize>, Node)>),
    /// A map in the order of the text, doubled keys and merge keys included.
    Map(Vec<Entry>),
}

/// A key, its line and its value.
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: Option<usize>,
    pub(crate) value: Node,
}

/// What reading one document shares.
#[derive(Default)]
pub(crate) struct Walk {
    nodes: Cell<usize>,
    stand_ins: StandIns,
    refusal: RefCell<Option<String>>,
}

impl Walk {
    /// For a document in which these characters stand in for others.
    pub(crate) fn new(stand_ins: StandIns) -> Self {
        Self {
            stand_ins,
            ..Self::default()
        }
    }

    /// Reads a document.
    pub(crate) fn read<'de, D: Deserializer<'de>>(&self, document: D) -> Result<Node, D::Error> {
        self.seed().deserialize(document)
    }

    /// Why a document was refused, if it was refused here and not by the YAML reader.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.refusal.borrow_mut().take()
    }

    fn seed(&self) -> NodeSeed<'_, '_> {
        NodeSeed {
            walk: self,
            caught: None,
        }
    }

    fn refuse<E: Error>(&self, why: &str) -> E {
        *self.refusal.borrow_mut() = Some(why.to_owned());
        E::custom(why)
    }

    fn count<E: Error>(&self) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        if self.nodes.get() > MAX_NODES {
            return Err(self.refuse(&format!(
                "more than {MAX_NODES} values after its aliases are written out"
            )));
        }
        Ok(())
    }
}

/// Reads a value; with `caught` a scalar is put there and reading it fails, to learn its place.
struct NodeSeed<'w, 'c> {
    walk: &'w Walk,
    caught: Option<&'c mut Option<Node>>,
}

impl NodeSeed<'_, '_> {
    fn leaf<E: Error>(self, node: Node) -> Result<Node, E> {
        self.walk.count()?;
        match self.caught {
            Some(caught) => {
                *caught = Some(node);
                Err(E::custom(HERE))
            }
            None => Ok(node),
        }
    }
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_, '_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        self.leaf(Node::Leaf(Value::Null))
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        self.leaf(Node::Leaf(Value::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Node, E> {
        self.leaf(Node::Leaf(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Node, E> {
        self.leaf(Node::Leaf(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Node, E> {
        self.leaf(Node::Leaf(value.into()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Node, E> {
        self.leaf(Node::Odd(value.to_string()))
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Node, E> {
        self.leaf(Node::Odd(value.to_string()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        self.leaf(match Number::from_f64(value) {
            Some(number) => Node::Leaf(number.into()),
            None => Node::Odd(value.to_string()),
        })
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Node, E> {
        let value = self.walk.stand_ins.back(value);
        self.leaf(Node::Leaf(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        self.walk.count()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ItemSeed(self.walk))? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.walk.count()?;
        let mut entries = Vec::new();
        while let Some((key, line)) = map.next_key_seed(NameSeed(self.walk))? {
            let value = map.next_value_seed(self.walk.seed())?;
            entries.push(Entry { key, line, value });
        }
        Ok(Node::Map(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let _: (IgnoredAny, _) = tagged.variant()?;
        Err(self.walk.refuse("tags (`!name`) have no meaning here"))
    }
}

/// Reads an item of a list and its line.
struct ItemSeed<'w>(&'w Walk);

impl<'de> DeserializeSeed<'de> for ItemSeed<'_> {
    type Value = (Option<usize>, Node);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let mut caught = None;
        let seed = NodeSeed {
            walk: self.0,
            caught: Some(&mut caught),
        };
        match (seed.deserialize(deserializer), caught) {
            (Err(failure), Some(node)) => Ok((line_of(&failure), node)),
            (Ok(node), _) => Ok((None, node)),
            (Err(failure), None) => Err(failure),
        }
    }
}

/// Reads a key and its line.
struct NameSeed<'w>(&'w Walk);

impl<'de> DeserializeSeed<'de> for NameSeed<'_> {
    type Value = (String, Option<usize>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let mut caught = None;
        // As a string, so that the key `0x10` or `true` keeps its letters.
        let read = deserializer.deserialize_str(NameVisitor(&mut caught));
        match (read, caught) {
            (Err(failure), Some(name)) => Ok((self.0.stand_ins.back(&name), line_of(&failure))),
            _ => Err(self.0.refuse("a key must be a string, not a list or a map")),
        }
    }
}

struct NameVisitor<'c>(&'c mut Option<String>);

impl<'de> Visitor<'de> for NameVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<(), E> {
        *self.0 = Some(name.to_owned());
        Err(E::custom(HERE))
    }
}
