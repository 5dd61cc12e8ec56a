//! The merged values, each with the layer it came from.

use std::cell::Cell;

use figment::value::{Num, Value as Figure};
use figment::{Figment, Provider};
use serde_json::{Map, Number, Value};

use crate::key::{self, KeyPath};
use crate::layer::{Layer, Provided};

/// A merged value.
#[derive(Clone)]
pub(crate) struct Tree {
    /// The number of the layer that it came from.
    pub(crate) layer: usize,
    /// What it is where a string is wanted, if it was given as text.
    pub(crate) text: Option<String>,
    /// Whether a string was wanted.
    pub(crate) as_text: Cell<bool>,
    pub(crate) node: Node,
}

/// What a merged value is.
#[derive(Clone)]
pub(crate) enum Node {
    /// Null, a boolean, a number or a string.
    Leaf(Value),
    /// Items with their number in the list as it was given.
    List(Vec<(usize, Tree)>),
    /// Members in order.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// All layers, each over the ones before it.
    pub(crate) fn merge(layers: &[Layer]) -> Result<Self, Box<figment::Error>> {
        let figment = layers
            .iter()
            .enumerate()
            .fold(Figment::new(), |figment, (number, layer)| {
                figment.merge(Provided(number, layer))
            });
        let dict = figment
            .data()?
            .remove(&figment::Profile::Default)
            .unwrap_or_default();
        let merging = Merging {
            layers,
            figment: &figment,
        };
        Ok(merging.tree(&dict.into(), &mut KeyPath::new()))
    }

    pub(crate) fn get(&self, path: &[String]) -> Option<&Tree> {
        path.iter().try_fold(self, |tree, name| match &tree.node {
            Node::Map(members) => members.iter().find(|(key, _)| key == name).map(|(_, t)| t),
            Node::List(items) => {
                let number: usize = name.parse().ok()?;
                items.iter().find(|(i, _)| *i == number).map(|(_, t)| t)
            }
            Node::Leaf(_) => None,
        })
    }

    fn get_mut(&mut self, path: &[String]) -> Option<&mut Tree> {
        path.iter()
            .try_fold(self, |tree, name| match &mut tree.node {
                Node::Map(members) => members
                    .iter_mut()
                    .find(|(key, _)| key == name)
                    .map(|(_, t)| t),
                Node::List(items) => {
                    let number: usize = name.parse().ok()?;
                    items.iter_mut().find(|(i, _)| *i == number).map(|(_, t)| t)
                }
                Node::Leaf(_) => None,
            })
    }

    /// Puts another tree in the place of this path, if there is one.
    pub(crate) fn replace(&mut self, path: &[String], tree: Tree) -> bool {
        self.get_mut(path).map(|place| *place = tree).is_some()
    }

    /// Takes a member or item out; items behind it keep their numbers.
    pub(crate) fn remove(&mut self, path: &[String]) -> bool {
        let Some((name, parent)) = path.split_last() else {
            return false;
        };
        match self.get_mut(parent).map(|parent| &mut parent.node) {
            Some(Node::Map(members)) => {
                let before = members.len();
                members.retain(|(key, _)| key != name);
                members.len() < before
            }
            Some(Node::List(items)) => {
                let before = items.len();
                items.retain(|(i, _)| i.to_string() != *name);
                items.len() < before
            }
            _ => false,
        }
    }

    /// The value as the type took it: text that it wanted as a string is one.
    pub(crate) fn to_json(&self) -> Value {
        if let (Some(text), true) = (&self.text, self.as_text.get()) {
            return text.as_str().into();
        }
        match &self.node {
            Node::Leaf(value) => value.clone(),
            Node::List(items) => items.iter().map(|(_, item)| item.to_json()).collect(),
            Node::Map(members) => members
                .iter()
                .map(|(key, member)| (key.clone(), member.to_json()))
                .collect::<Map<_, _>>()
                .into(),
        }
    }
}

/// From figment's values, which are sorted by key, back to the order of the layers.
struct Merging<'l> {
    layers: &'l [Layer],
    figment: &'l Figment,
}

impl Merging<'_> {
    fn tree(&self, figure: &Figure, path: &mut KeyPath) -> Tree {
        let layer = self.layer(figure);
        let node = match figure {
            Figure::Dict(_, dict) => {
                let mut members = Vec::with_capacity(dict.len());
                for name in self.names(path) {
                    if let Some(member) = dict.get(&name) {
                        path.push(name);
                        let member = self.tree(member, path);
                        members.push((path.pop().unwrap_or_default(), member));
                    }
                }
                Node::Map(members)
            }
            Figure::Array(_, items) => {
                let items = items.iter().enumerate().map(|(i, item)| {
                    path.push(i.to_string());
                    let item = self.tree(item, path);
                    path.pop();
                    (i, item)
                });
                Node::List(items.collect())
            }
            scalar => Node::Leaf(json(scalar).unwrap_or_default()),
        };
        let text = self.layers.get(layer).and_then(|from| from.text_of(path));
        Tree {
            layer,
            text: text.map(str::to_owned),
            as_text: Cell::new(false),
            node,
        }
    }

    fn layer(&self, figure: &Figure) -> usize {
        self.figment
            .get_metadata(figure.tag())
            .and_then(|metadata| metadata.name.parse().ok())
            .unwrap_or(0)
    }

    /// The keys of a map in the order in which the layers name them, each once.
    fn names(&self, path: &[String]) -> Vec<String> {
        let mut names = Map::new();
        for layer in self.layers {
            if let Some(Value::Object(map)) = layer.get(path) {
                for name in map.keys() {
                    names.entry(name.clone()).or_insert(Value::Null);
                }
            }
        }
        names.into_iter().map(|(name, _)| name).collect()
    }
}

impl Layer {
    /// The value at a path, through lists too.
    fn get(&self, path: &[String]) -> Option<&Value> {
        path.iter()
            .try_fold(&self.value, |value, name| match value {
                Value::Array(items) => items.get(name.parse::<usize>().ok()?),
                value => key::get(value, std::slice::from_ref(name)),
            })
    }
}

/// A figment value as JSON, if JSON has it: numbers must be finite and fit 64 bits.
pub(crate) fn json(figure: &Figure) -> Option<Value> {
    Some(match figure {
        Figure::String(_, string) => string.as_str().into(),
        Figure::Char(_, c) => c.to_string().into(),
        Figure::Bool(_, value) => (*value).into(),
        Figure::Num(_, number) => self::number(*number)?.into(),
        Figure::Empty(..) => Value::Null,
        Figure::Dict(_, dict) => {
            let members = dict
                .iter()
                .map(|(key, value)| Some((key.clone(), json(value)?)));
            members.collect::<Option<Map<_, _>>>()?.into()
        }
        Figure::Array(_, items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
    })
}

fn number(number: Num) -> Option<Number> {
    if let Some(float) = number.to_f64() {
        return Number::from_f64(float);
    }
    match (number.to_u128(), number.to_i128()) {
        (Some(unsigned), _) => u64::try_from(unsigned).ok().map(Number::from),
        (_, Some(signed)) => i64::try_from(signed).ok().map(Number::from),
        _ => None,
    }
}
