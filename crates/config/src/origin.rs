//! Where values came from.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use serde_json::Value;

use crate::key::{self, KeyPath};
use crate::layer::Layer;
use crate::secret::{Held, Secrets};
use crate::tree::{Node, Tree};

/// Where a value came from.
///
/// It prints as `config.yaml:12`, `environment variable DATAGEN_MODEL__NAME`, `--set model.name`,
/// `in code`, `default`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A built-in default.
    Default,
    /// A file.
    File {
        /// The path as it was given.
        path: PathBuf,
        /// The line, from 1; for a merged value the line of what was merged.
        line: Option<usize>,
    },
    /// YAML text that is not a file.
    Text {
        /// The name that was given with the text.
        name: String,
        /// The line, from 1.
        line: Option<usize>,
    },
    /// An environment variable.
    Env {
        /// Its name as it stands in the environment.
        variable: String,
    },
    /// The command line.
    Flag {
        /// The flag: `--set model.name` or `--concurrency`.
        flag: String,
    },
    /// A builder call in code.
    Code,
}

impl Origin {
    /// The line, where the value came from a file or text and the line is known.
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } | Self::Text { line, .. } => *line,
            _ => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default")?,
            Self::File { path, .. } => write!(f, "{}", path.display())?,
            Self::Text { name, .. } => f.write_str(name)?,
            Self::Env { variable } => write!(f, "environment variable {variable}")?,
            Self::Flag { flag } => f.write_str(flag)?,
            Self::Code => f.write_str("in code")?,
        }
        match self.line() {
            Some(line) => write!(f, ":{line}"),
            None => Ok(()),
        }
    }
}

/// Where every value of a configuration came from.
#[derive(Debug, Clone)]
pub struct Origins {
    leaves: Vec<Leaf>,
    nodes: HashMap<String, Origin>,
}

#[derive(Debug, Clone)]
struct Leaf {
    key: String,
    value: Value,
    origin: Origin,
}

impl Origins {
    pub(crate) fn new(tree: &Tree, layers: &[Layer], secrets: &Secrets) -> Self {
        let mut origins = Self {
            leaves: Vec::new(),
            nodes: HashMap::new(),
        };
        origins.walk(tree, layers, &mut KeyPath::new());
        for held in secrets.held() {
            origins.place(held);
        }
        origins
    }

    /// Where the value of a dotted key came from, or else its nearest parent.
    ///
    /// A section (a map) came from the highest layer that has anything in it.
    pub fn of(&self, key: &str) -> Origin {
        let mut key = key;
        loop {
            if let Some(origin) = self.nodes.get(key) {
                return origin.clone();
            }
            match key.rfind('.') {
                Some(dot) => key = &key[..dot],
                None => return Origin::Default,
            }
        }
    }

    /// Every value that is no section, in the order of the defaults; a list is one value.
    ///
    /// A secret that is set shows as the string `[secret]`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value, &Origin)> {
        self.leaves
            .iter()
            .map(|leaf| (leaf.key.as_str(), &leaf.value, &leaf.origin))
    }

    /// Whether no layer set this key (or anything in it, when it is a section).
    pub fn is_default(&self, key: &str) -> bool {
        self.of(key) == Origin::Default
    }

    fn walk(&mut self, tree: &Tree, layers: &[Layer], path: &mut KeyPath) {
        let origin = layers[tree.layer].origin(path);
        let key = key::dotted(path);
        match &tree.node {
            Node::Map(members) if !members.is_empty() || path.is_empty() => {
                for (name, member) in members {
                    path.push(name.clone());
                    self.walk(member, layers, path);
                    path.pop();
                }
            }
            _ => self.leaves.push(Leaf {
                key: key.clone(),
                value: tree.to_json(),
                origin: origin.clone(),
            }),
        }
        self.nodes.insert(key, origin);
    }

    /// Puts a secret where its key stands in the defaults, or behind its nearest relative.
    fn place(&mut self, held: &Held) {
        let parent = held.key.rfind('.').map_or("", |dot| &held.key[..dot]);
        let same = self.leaves.iter().position(|leaf| leaf.key == held.key);
        if held.value.is_none() && same.is_none() {
            return;
        }
        let leaf = Leaf {
            key: held.key.clone(),
            value: match held.value {
                Some(_) => Value::from("[secret]"),
                None => Value::Null,
            },
            origin: held.origin.clone(),
        };
        self.nodes.insert(held.key.clone(), held.origin.clone());
        if !held.default {
            // The section was changed, although what changed it was taken out.
            let mut section = parent;
            while !section.is_empty() && self.of(section) == Origin::Default {
                self.nodes.insert(section.to_owned(), held.origin.clone());
                section = section.rfind('.').map_or("", |dot| &section[..dot]);
            }
        }
        if let Some(same) = same {
            self.leaves[same] = leaf;
            return;
        }
        let relative = self.leaves.iter().rposition(|leaf| {
            leaf.key == parent
                || leaf
                    .key
                    .strip_prefix(parent)
                    .is_some_and(|rest| rest.starts_with('.'))
        });
        match relative {
            // An empty map that is not empty after all.
            Some(at) if self.leaves[at].key == parent => self.leaves[at] = leaf,
            Some(at) => self.leaves.insert(at + 1, leaf),
            None => self.leaves.push(leaf),
        }
    }
}
