//! The prompts of a chat request, and their check over all rows.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::prompt::Placeholder;
use crate::row::{self, Filter, Row, Shape};
use crate::variables::Names;
use crate::{Context, Error, Findings, Problem, Prompt, UnusedKwarg, WrongSyntax, check};

/// More names than that are counted as one: a row of random keys must not fill the memory.
const UNUSED_LIMIT: usize = 1000;
/// So many shapes of good rows are known again: each more is one more to compare every row with.
const SHAPES_KEPT: usize = 8;

/// The two prompts of a chat request; cheap to clone.
///
/// A row with `user_prompt_kwargs` or `system_prompt_kwargs` is in kwargs form: each prompt sees
/// its own kwargs, an absent one is empty, and other fields are not visible. Any other object is
/// itself what both prompts see.
///
/// ```
/// use data_generation_templating::{Prompt, Prompts, Syntax};
///
/// let system = Prompt::from_text("system prompt", "Be {{tone}}.", Syntax::Handlebars)?;
/// let user = Prompt::from_text("user prompt", "Write about {{topic}}.", Syntax::Handlebars)?;
/// let prompts = Prompts::new(Some(system), user);
/// let messages = prompts.render_row(
///     r#"{"user_prompt_kwargs": {"topic": "rivers"}, "system_prompt_kwargs": {"tone": "brief"}}"#,
/// )?;
/// assert_eq!(messages.system.as_deref(), Some("Be brief."));
/// assert_eq!(messages.user, "Write about rivers.");
/// # Ok::<(), data_generation_templating::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Prompts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: Option<Prompt>,
    user: Prompt,
    /// What the prompts want of a row that is not in kwargs form.
    both: Names,
}

/// The texts of a chat request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Messages {
    /// The system message, if there is a system prompt.
    pub system: Option<String>,
    /// The user message.
    pub user: String,
}

impl Prompts {
    /// Joins the prompts of a request; without a system prompt no system message is made.
    #[must_use]
    pub fn new(system: Option<Prompt>, user: Prompt) -> Self {
        let both = match &system {
            Some(system) => user.names().union(system.names()),
            None => user.names().clone(),
        };
        Self(Arc::new(Inner { system, user, both }))
    }

    /// The system prompt, if there is one.
    #[must_use]
    pub fn system(&self) -> Option<&Prompt> {
        self.0.system.as_ref()
    }

    /// The user prompt.
    #[must_use]
    pub fn user(&self) -> &Prompt {
        &self.0.user
    }

    /// Renders the messages for a row, given as the JSON text of one object.
    ///
    /// Only the names that the prompts use are parsed. Numbers print as they are written in the row;
    /// of two equal keys the last one counts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Variable`](crate::ErrorKind::Variable) when a variable has no value that could
    /// be printed, [`ErrorKind::Row`](crate::ErrorKind::Row) when the row is not a JSON object or a
    /// value that is needed cannot be held.
    pub fn render_row(&self, row_json: &str) -> Result<Messages, Error> {
        let row = row::split(row_json, &mut Wanted(self)).map_err(row_error)?;
        let context = |fields| row::exact(fields).map(Context::held).map_err(row_error);
        match &row {
            Row::Plain(fields) => {
                let context = context(fields)?;
                let system = self.system().map(|system| system.render(&context));
                Ok(Messages {
                    system: system.transpose()?,
                    user: self.user().render(&context)?,
                })
            }
            Row::Kwargs { user, system } => {
                let render = |prompt: &Prompt, fields, group: &str| {
                    prompt.render_as(&context(fields)?, &format!("`{group}`"))
                };
                let prompt = self.system();
                let system = prompt.map(|prompt| render(prompt, system, row::SYSTEM));
                Ok(Messages {
                    system: system.transpose()?,
                    user: render(self.user(), user, row::USER)?,
                })
            }
        }
    }

    /// Begins a check over all rows.
    #[must_use]
    pub fn checker(&self) -> RowChecker {
        let user = self.user().placeholders().iter();
        let system = self.system().map(Prompt::placeholders).unwrap_or_default();
        let suspect = |in_system| {
            move |placeholder: &Placeholder| Suspect {
                in_system,
                placeholder: placeholder.clone(),
                found: false,
            }
        };
        RowChecker {
            prompts: self.clone(),
            suspects: user
                .map(suspect(false))
                .chain(system.iter().map(suspect(true)))
                .collect(),
            unused: [HashMap::new(), HashMap::new()],
            shape: Shape::default(),
            fine: Vec::new(),
            replaced: 0,
        }
    }
}

fn row_error(problem: Problem) -> Error {
    Error::row(problem.detail)
}

/// The names that rendering needs.
struct Wanted<'a>(&'a Prompts);

impl Filter for Wanted<'_> {
    fn plain(&mut self, name: &str) -> bool {
        self.0.0.both.wants(name)
    }

    fn user(&mut self, name: &str) -> bool {
        self.0.user().names().wants(name)
    }

    fn system(&mut self, name: &str) -> bool {
        self.0
            .system()
            .is_some_and(|system| system.names().wants(name))
    }
}

/// All names: for messages that tell what a row has.
struct Everything;

impl Filter for Everything {
    fn plain(&mut self, _: &str) -> bool {
        true
    }

    fn user(&mut self, _: &str) -> bool {
        true
    }

    fn system(&mut self, _: &str) -> bool {
        true
    }
}

/// A name in single braces in a Handlebars prompt.
#[derive(Debug)]
struct Suspect {
    in_system: bool,
    placeholder: Placeholder,
    found: bool,
}

/// Checks every row against the prompts before the first request; one pass over all rows.
///
/// It is a walk over the names that the prompts use, evaluated against the row, and renders nothing.
/// Its memory is a few bytes for each name, whatever the number of rows.
///
/// ```
/// use data_generation_templating::{Prompt, Prompts, Syntax};
///
/// let user = Prompt::from_text("prompts/user.txt", "Write about {{topic}}.", Syntax::Handlebars)?;
/// let mut checker = Prompts::new(None, user).checker();
/// assert!(checker.check(r#"{"topic": "rivers"}"#).is_empty());
/// let problems = checker.check(r#"{"tone": "brief", "topc": "rivers"}"#);
/// assert_eq!(
///     problems[0].to_string(),
///     "`{{topic}}` (prompts/user.txt:1) is missing in the row; it has `topc`, `tone`",
/// );
/// assert!(checker.finish().unused.is_empty());
/// # Ok::<(), data_generation_templating::Error>(())
/// ```
#[derive(Debug)]
pub struct RowChecker {
    prompts: Prompts,
    suspects: Vec<Suspect>,
    /// How many rows have a kwarg that is not used: in the user's group, in the system's.
    unused: [HashMap<String, u64>; 2],
    /// Of the row that is looked at.
    shape: Shape,
    /// Shapes of rows with which nothing was wrong: of most inputs nearly all rows have one of a few.
    fine: Vec<Shape>,
    /// Which of them makes room for the next one.
    replaced: usize,
}

impl RowChecker {
    /// Everything that is wrong with a row; empty when [`Prompts::render_row`] will succeed.
    pub fn check(&mut self, row_json: &str) -> Vec<Problem> {
        let mut counting = Counting {
            prompts: &self.prompts,
            suspects: &mut self.suspects,
            unused: &mut self.unused,
            unwanted: Vec::new(),
        };
        let row = match row::split(row_json, &mut counting) {
            Ok(row) => row,
            Err(problem) => return vec![problem],
        };
        let unwanted = counting.unwanted;
        if matches!(row, Row::Plain(_)) {
            for index in unwanted {
                self.suspects[index].found = true;
            }
        }
        let prompts = &self.prompts;
        let has_shape = match &row {
            Row::Plain(fields) => self.shape.of_row(fields, &prompts.0.both),
            Row::Kwargs { user, system } => {
                let names = prompts.system().unwrap_or(prompts.user()).names();
                self.shape
                    .of_kwargs((user, prompts.user().names()), (system, names))
            }
        };
        if has_shape && self.fine.contains(&self.shape) {
            return Vec::new();
        }
        let lean = Self::walk(prompts, &row, row::lean);
        if lean.is_empty() {
            if has_shape {
                self.remember_shape();
            }
            return lean;
        }
        // Something is wrong: once more, with everything that the message can tell.
        match row::split(row_json, &mut Everything) {
            Err(problem) => vec![problem],
            Ok(row) => {
                let full = Self::walk(prompts, &row, |fields, _| row::exact(fields));
                if full.is_empty() { lean } else { full }
            }
        }
    }

    fn remember_shape(&mut self) {
        if self.fine.len() < SHAPES_KEPT {
            self.fine.push(self.shape.clone());
        } else {
            self.fine[self.replaced].clone_from(&self.shape);
            self.replaced = (self.replaced + 1) % SHAPES_KEPT;
        }
    }

    fn walk(
        prompts: &Prompts,
        row: &Row<'_>,
        data: impl Fn(&row::Fields<'_>, &Names) -> Result<Value, Problem>,
    ) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut walk = |prompt: &Prompt, data: &Result<Value, Problem>, label: &str| match data {
            Ok(data) => problems.extend(check::walk(prompt, data, label)),
            Err(problem) if !problems.contains(problem) => problems.push(problem.clone()),
            Err(_) => {}
        };
        match row {
            Row::Plain(fields) => {
                let data = data(fields, &prompts.0.both);
                if let Some(system) = prompts.system() {
                    walk(system, &data, row::ROW);
                }
                walk(prompts.user(), &data, row::ROW);
            }
            Row::Kwargs { user, system } => {
                if let Some(prompt) = prompts.system() {
                    let data = data(system, prompt.names());
                    walk(prompt, &data, row::SYSTEM_SHOWN);
                }
                let data = data(user, prompts.user().names());
                walk(prompts.user(), &data, row::USER_SHOWN);
            }
        }
        problems
    }

    /// What only all rows together show.
    #[must_use]
    pub fn finish(self) -> Findings {
        let groups = [row::USER, row::SYSTEM];
        let mut unused: Vec<UnusedKwarg> = groups
            .into_iter()
            .zip(self.unused)
            .flat_map(|(group, names)| {
                let entry = move |(name, rows)| UnusedKwarg { group, name, rows };
                names.into_iter().map(entry)
            })
            .collect();
        // The user's before the system's, each by name.
        unused.sort_by(|a, b| b.group.cmp(a.group).then_with(|| a.name.cmp(&b.name)));
        let found = self.suspects.into_iter().filter(|suspect| suspect.found);
        let prompts = &self.prompts;
        let wrong_syntax = found.map(|suspect| {
            let prompt = prompts.system().filter(|_| suspect.in_system);
            let (line, column) = suspect.placeholder.place;
            WrongSyntax {
                name: suspect.placeholder.name,
                prompt: prompt.unwrap_or(prompts.user()).name().to_owned(),
                line,
                column,
            }
        });
        Findings {
            wrong_syntax: wrong_syntax.collect(),
            unused,
        }
    }
}

/// The names that the check needs; the others are counted.
struct Counting<'a> {
    prompts: &'a Prompts,
    suspects: &'a mut [Suspect],
    unused: &'a mut [HashMap<String, u64>; 2],
    /// Suspects that are fields of the row, which count only if it is not in kwargs form.
    unwanted: Vec<usize>,
}

impl Counting<'_> {
    /// Remembers a kwarg that its prompt does not want.
    fn unwanted(&mut self, name: &str, in_system: bool) {
        for suspect in self.suspects.iter_mut() {
            let visible = suspect.in_system == in_system;
            suspect.found |= visible && suspect.placeholder.field == name;
        }
        let names = &mut self.unused[usize::from(in_system)];
        if let Some(rows) = names.get_mut(name) {
            *rows += 1;
        } else {
            let name = if names.len() < UNUSED_LIMIT {
                name
            } else {
                "..."
            };
            *names.entry(name.to_owned()).or_default() += 1;
        }
    }
}

impl Filter for Counting<'_> {
    fn plain(&mut self, name: &str) -> bool {
        let wanted = Wanted(self.prompts).plain(name);
        if !wanted {
            let suspects = self.suspects.iter().enumerate();
            let named = suspects.filter(|(_, suspect)| suspect.placeholder.field == name);
            self.unwanted.extend(named.map(|(index, _)| index));
        }
        wanted
    }

    fn user(&mut self, name: &str) -> bool {
        let wanted = Wanted(self.prompts).user(name);
        if !wanted {
            self.unwanted(name, false);
        }
        wanted
    }

    fn system(&mut self, name: &str) -> bool {
        let wanted = Wanted(self.prompts).system(name);
        if !wanted {
            self.unwanted(name, true);
        }
        wanted
    }
}
