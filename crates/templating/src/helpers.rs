//! The helpers that prompts may call, and the registry that holds them.
//!
//! What a helper computes is a plain function here, which the check calls too: the two cannot
//! disagree. `each` and `raw` are Handlebars' own.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::LazyLock;

use handlebars::{
    BlockContext, BlockParams, Context, Handlebars, Helper, HelperDef, HelperResult, Output,
    RenderContext, RenderError, RenderErrorReason, Renderable, ScopedJson,
};
use serde_json::{Number, Value};

use crate::exact;

/// Names that no template can spell, for the calls that loading puts into the tree.
pub(crate) const PRINT: &str = " print";
pub(crate) const PRINT_JSON: &str = " json";
const LENIENT: &str = " lenient ";

/// Helpers that compute a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Json,
    Len,
    Lookup,
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    And,
    Or,
    Not,
}

impl Function {
    pub(crate) const ALL: [(&'static str, Self); 12] = [
        ("json", Self::Json),
        ("len", Self::Len),
        ("lookup", Self::Lookup),
        ("eq", Self::Eq),
        ("ne", Self::Ne),
        ("gt", Self::Gt),
        ("gte", Self::Gte),
        ("lt", Self::Lt),
        ("lte", Self::Lte),
        ("and", Self::And),
        ("or", Self::Or),
        ("not", Self::Not),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, function)| *function)
    }

    /// How many arguments it takes, at least and at most.
    pub(crate) fn arity(self) -> (usize, usize) {
        match self {
            Self::Json | Self::Len | Self::Not => (1, 1),
            Self::And | Self::Or => (2, usize::MAX),
            _ => (2, 2),
        }
    }

    /// Whether it can open a block: `{{#eq a b}}...{{else}}...{{/eq}}`.
    pub(crate) fn is_condition(self) -> bool {
        !matches!(self, Self::Json | Self::Len | Self::Lookup)
    }

    /// Computes the value; `None` when `lookup` finds nothing.
    pub(crate) fn apply<'a>(self, args: &[&'a Value]) -> Option<Cow<'a, Value>> {
        let first = args.first().copied()?;
        let order = |wanted: fn(Ordering) -> bool| {
            let second = args.get(1).copied().unwrap_or(&Value::Null);
            Value::Bool(compare(first, second).is_some_and(wanted))
        };
        let value = match self {
            Self::Lookup => return lookup(first, args.get(1)?).map(Cow::Borrowed),
            Self::Json => {
                let mut text = String::new();
                exact::write_json(first, &mut text);
                Value::String(text)
            }
            Self::Len => Value::from(len(first)),
            Self::Eq => Value::Bool(equal(first, args.get(1)?)),
            Self::Ne => Value::Bool(!equal(first, args.get(1)?)),
            Self::Gt => order(Ordering::is_gt),
            Self::Gte => order(Ordering::is_ge),
            Self::Lt => order(Ordering::is_lt),
            Self::Lte => order(Ordering::is_le),
            Self::And => Value::Bool(args.iter().all(|arg| truthy(arg, false))),
            Self::Or => Value::Bool(args.iter().any(|arg| truthy(arg, false))),
            Self::Not => Value::Bool(!truthy(first, false)),
        };
        Some(Cow::Owned(value))
    }
}

/// The name under which the registry has the variant for conditions, where missing is null.
pub(crate) fn lenient_name(name: &str) -> String {
    format!("{LENIENT}{name}")
}

/// Whether a condition holds: everything but false, 0, "", null, [] and {}.
pub(crate) fn truthy(value: &Value, include_zero: bool) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Number(_) | Value::String(_) => match exact::number(value) {
            Some(number) => include_zero || number.as_f64() != Some(0.0),
            None => exact::string(value).is_some_and(|text| !text.is_empty()),
        },
    }
}

fn lookup<'a>(collection: &'a Value, key: &Value) -> Option<&'a Value> {
    match collection {
        Value::Array(list) => {
            let index = usize::try_from(exact::number(key)?.as_u64()?).ok()?;
            list.get(index)
        }
        Value::Object(map) => map.get(exact::string(key)?),
        _ => None,
    }
}

/// Characters of a string, elements of a list or an object; 0 for anything else.
fn len(value: &Value) -> usize {
    match value {
        Value::Array(list) => list.len(),
        Value::Object(map) => map.len(),
        _ => exact::string(value).map_or(0, |text| text.chars().count()),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| equal(x, y))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, x)| b.get(key).is_some_and(|y| equal(x, y)))
        }
        _ => match (exact::number(left), exact::number(right)) {
            (Some(a), Some(b)) => compare_numbers(&a, &b) == Some(Ordering::Equal),
            (None, None) => left == right,
            _ => false,
        },
    }
}

/// Numbers by value, a string that holds a number as that number, strings by code point.
fn compare(left: &Value, right: &Value) -> Option<Ordering> {
    let parsed =
        |value: &Value| -> Option<Number> { serde_json::from_str(exact::string(value)?).ok() };
    match (exact::number(left), exact::number(right)) {
        (Some(a), Some(b)) => compare_numbers(&a, &b),
        (Some(a), None) => compare_numbers(&a, &parsed(right)?),
        (None, Some(b)) => compare_numbers(&parsed(left)?, &b),
        (None, None) => match (left, right) {
            (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            _ => Some(exact::string(left)?.cmp(exact::string(right)?)),
        },
    }
}

fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// One registry for all prompts: it holds helpers and no templates.
pub(crate) fn registry() -> &'static Handlebars<'static> {
    static REGISTRY: LazyLock<Handlebars<'static>> = LazyLock::new(|| {
        let mut registry = Handlebars::new();
        registry.set_strict_mode(true);
        registry.register_escape_fn(handlebars::no_escape);
        // It would write data of the rows into the program's log.
        registry.unregister_helper("log");
        registry.register_helper(PRINT, Box::new(Print { json: false }));
        registry.register_helper(PRINT_JSON, Box::new(Print { json: true }));
        registry.register_helper("if", Box::new(Branch { wanted: true }));
        registry.register_helper("unless", Box::new(Branch { wanted: false }));
        registry.register_helper("with", Box::new(With));
        for (name, function) in Function::ALL {
            for lenient in [false, true] {
                let name = if lenient {
                    lenient_name(name)
                } else {
                    name.to_owned()
                };
                registry.register_helper(&name, Box::new(Compute { function, lenient }));
            }
        }
        registry
    });
    &REGISTRY
}

fn refused(helper: &Helper<'_>) -> RenderError {
    let path = helper.param(0).and_then(|param| param.relative_path());
    RenderErrorReason::MissingVariable(path.cloned()).into()
}

/// `{{x}}` and `{{json x}}`: no hole, and lists as JSON.
struct Print {
    json: bool,
}

impl HelperDef for Print {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let param = helper.param(0).filter(|param| !param.is_value_missing());
        let value = param.ok_or_else(|| refused(helper))?.value();
        if self.json {
            let mut text = String::new();
            exact::write_json(value, &mut text);
            out.write(&text)?;
        } else {
            out.write(&exact::print(value).ok_or_else(|| refused(helper))?)?;
        }
        Ok(())
    }
}

/// A [`Function`] in brackets, or as a block.
struct Compute {
    function: Function,
    lenient: bool,
}

impl HelperDef for Compute {
    fn call_inner<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
    ) -> Result<ScopedJson<'rc>, RenderError> {
        let params = helper.params();
        let missing = params.iter().any(|param| param.is_value_missing());
        if missing && !self.lenient {
            return Err(refused(helper));
        }
        let args: Vec<&Value> = params.iter().map(|param| param.value()).collect();
        let value = self.function.apply(&args).map(Cow::into_owned);
        Ok(value.map_or(ScopedJson::Missing, ScopedJson::Derived))
    }

    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        scope: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let value = self.call_inner(helper, registry, context, scope)?;
        branch(
            truthy(value.as_json(), false),
            helper,
            registry,
            context,
            scope,
            out,
        )
    }
}

/// `if` and `unless`; Handlebars' own do not know numbers that are held as text.
struct Branch {
    wanted: bool,
}

impl HelperDef for Branch {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        scope: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let include_zero = helper
            .hash_get("includeZero")
            .is_some_and(|flag| flag.value() == &Value::Bool(true));
        let holds = helper
            .param(0)
            .is_some_and(|param| truthy(param.value(), include_zero));
        branch(holds == self.wanted, helper, registry, context, scope, out)
    }
}

/// `with`, for the same reason.
struct With;

impl HelperDef for With {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        registry: &'reg Handlebars<'reg>,
        context: &'rc Context,
        scope: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let param = helper.param(0).ok_or_else(|| refused(helper))?;
        if !truthy(param.value(), false) {
            if helper.inverse().is_none() {
                return Err(refused(helper));
            }
            return branch(false, helper, registry, context, scope, out);
        }
        let mut block = BlockContext::new();
        let mut names = BlockParams::new();
        match param.context_path() {
            Some(path) => block.base_path_mut().clone_from(path),
            None => block.set_base_value(param.value().clone()),
        }
        if let Some(name) = helper.block_param() {
            match param.context_path() {
                Some(_) => names.add_path(name, Vec::new())?,
                None => names.add_value(name, param.value().clone())?,
            }
        }
        block.set_block_params(names);
        // `@index` and its kin stay visible inside.
        if let Some(parent) = scope.block() {
            block
                .local_variables_mut()
                .clone_from(parent.local_variables());
        }
        scope.push_block(block);
        branch(true, helper, registry, context, scope, out)?;
        scope.pop_block();
        Ok(())
    }
}

fn branch<'reg: 'rc, 'rc>(
    then: bool,
    helper: &Helper<'rc>,
    registry: &'reg Handlebars<'reg>,
    context: &'rc Context,
    scope: &mut RenderContext<'reg, 'rc>,
    out: &mut dyn Output,
) -> HelperResult {
    let chosen = if then {
        helper.template()
    } else {
        helper.inverse()
    };
    chosen.map_or(Ok(()), |template| {
        template.render(registry, context, scope, out)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn apply(function: Function, args: &[Value]) -> Value {
        let args: Vec<&Value> = args.iter().collect();
        function.apply(&args).unwrap().into_owned()
    }

    #[test]
    fn numbers_are_compared_by_value_however_they_are_written() {
        let held = exact::parse("1.10").unwrap();
        assert_eq!(
            apply(Function::Eq, &[held.clone(), json!(1.1)]),
            json!(true)
        );
        assert_eq!(apply(Function::Gt, &[held.clone(), json!(1)]), json!(true));
        assert_eq!(apply(Function::Lte, &[held, json!("1.1")]), json!(true));
        assert_eq!(apply(Function::Eq, &[json!(5), json!(5.0)]), json!(true));
        assert_eq!(apply(Function::Eq, &[json!(5), json!("5")]), json!(false));
        assert_eq!(
            apply(Function::Lt, &[json!(-1), json!(u64::MAX)]),
            json!(true)
        );
    }

    #[test]
    fn zero_is_false_however_it_is_written() {
        for text in ["0", "-0", "0.0", "0.00", "0e7"] {
            let zero = exact::parse(text).unwrap();
            assert!(!truthy(&zero, false), "{text}");
            assert!(truthy(&zero, true), "{text}");
        }
        assert!(truthy(&exact::parse("1.10").unwrap(), false));
    }

    #[test]
    fn the_length_of_a_string_is_in_characters() {
        assert_eq!(apply(Function::Len, &[json!("人工智能")]), json!(4));
        assert_eq!(
            apply(Function::Len, &[exact::parse("1.10").unwrap()]),
            json!(0)
        );
    }
}
