//! The `params` section: what a pipeline lets its caller choose, and what was chosen.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::quantity;
use super::shape::whole;
use super::tree::{Node, NodeValue, Position, SourceText, quoted};
use crate::diagnostic::{Diagnostic, suggest};

/// The types a parameter can have.
pub const TYPES: &[&str] = &["text", "integer", "number", "boolean", "path", "glob", "duration"];

/// A parameter as a run has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedParam {
    pub name: String,
    pub value: Value,
    pub origin: ParamOrigin,
    pub is_secret: bool,
}

/// Where the value of a parameter comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamOrigin {
    CommandLine,
    Environment(String),
    Default(Position),
    /// It may be left out, and is.
    Nothing,
}

/// What is given to a pipeline from outside.
pub struct Given<'a> {
    pub overrides: &'a [(String, String)], // -p name=value, as typed
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Every parameter with its final value.
#[derive(Debug, Default)]
pub struct Params {
    declared: Vec<String>,
    origins: Vec<(ParamOrigin, bool)>, // of the declared, and whether it is a secret
    values: Value, // an object; a parameter that is faulty is absent, an optional one left out is null
    used: RefCell<BTreeSet<String>>,
}

/// One parameter as its author declared it; only what the table of keys let through.
struct Declaration<'n> {
    name: &'n str,
    at: Position,
    kind: &'n str,
    default: Option<&'n Node>,
    min: Option<f64>,
    max: Option<f64>,
    optional: bool,
    is_secret: bool,
}

impl Params {
    /// Returns the values of a checked `params` section: `shaped` is its normal form. Overrides win over the environment,
    /// and that over defaults; a relative path from outside is one of `current_folder`.
    pub fn resolve(
        source: &SourceText,
        section: Option<&Node>,
        shaped: &Map<String, Value>,
        from_outside: &Given<'_>,
        current_folder: &Path,
        faults: &mut Vec<Diagnostic>,
    ) -> Self {
        let entries = section.map(Node::entries).unwrap_or_default();
        let declared: Vec<String> = entries.iter().map(|e| e.key.clone()).collect();
        let given = overrides_by_name(from_outside.overrides, &declared, faults);
        let mut values = Map::new();
        let mut origins = Vec::new();
        for entry in entries {
            let is_secret = entry.value.get("secret").is_some_and(|s| s.value == NodeValue::Bool(true));
            let variable = shaped.get(&entry.key).and_then(|k| k.get("env")).and_then(Value::as_str);
            let from_environment = variable.and_then(|v| Some((v, (from_outside.environment)(v)?)));
            let (text, origin) = match (given.get(entry.key.as_str()), &from_environment, entry.value.get("default")) {
                (Some(text), _, _) => (Some(*text), ParamOrigin::CommandLine),
                (None, Some((v, text)), _) => (Some(text.as_str()), ParamOrigin::Environment((*v).to_owned())),
                (None, None, Some(default)) => (None, ParamOrigin::Default(default.at)),
                (None, None, None) => (None, ParamOrigin::Nothing),
            };
            origins.push((origin.clone(), is_secret));
            let Some(keys) = shaped.get(&entry.key) else { continue };
            let Some(kind) = keys.get("type").and_then(Value::as_str) else { continue };
            let declaration = Declaration {
                name: &entry.key,
                at: entry.key_at,
                kind,
                default: entry.value.get("default"),
                min: keys.get("min").and_then(Value::as_f64),
                max: keys.get("max").and_then(Value::as_f64),
                optional: keys.get("optional").and_then(Value::as_bool).unwrap_or(false),
                is_secret,
            };
            let required = keys.get("required").and_then(Value::as_bool).unwrap_or(false);
            match declaration.value(required, text.map(|text| (text, &origin)), current_folder) {
                Ok(value) => {
                    values.insert(entry.key.clone(), value);
                }
                Err((diagnostic, at)) => faults.push(diagnostic.at(at.in_file(&source.path))),
            }
        }
        Self { declared, origins, values: Value::Object(values), used: RefCell::default() }
    }

    /// Returns every parameter that has a value, in the order of the file.
    pub fn resolved(&self) -> Vec<ResolvedParam> {
        let one = |(name, (origin, is_secret)): (&String, &(ParamOrigin, bool))| {
            let (name, value) = (name.clone(), self.values.get(name)?.clone());
            Some(ResolvedParam { name, value, origin: origin.clone(), is_secret: *is_secret })
        };
        self.declared.iter().zip(&self.origins).filter_map(one).collect()
    }

    pub fn values(&self) -> &Value {
        &self.values
    }

    /// Whether a parameter is declared and without fault; a faulty one has been told of.
    pub fn has_value(&self, name: &str) -> bool {
        self.values.get(name).is_some()
    }

    /// Returns what to say of a name that is not declared.
    pub fn unknown(&self, name: &str) -> Option<Diagnostic> {
        if self.declared.iter().any(|d| d == name) {
            return None;
        }
        let diagnostic = Diagnostic::error(format!("there is no parameter {}", quoted(name)));
        Some(diagnostic.hint(near_or_all(name, &self.declared)))
    }

    pub fn mark_used(&self, name: &str) {
        self.used.borrow_mut().insert(name.to_owned());
    }

    /// Returns the parameters that nothing has named, once everything has been looked through.
    pub fn unused(&self) -> Vec<&str> {
        let used = self.used.borrow();
        self.declared.iter().filter(|d| !used.contains(*d)).map(String::as_str).collect()
    }
}

fn near_or_all(name: &str, declared: &[String]) -> String {
    match suggest(name, declared.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if declared.is_empty() => "the file has no `params`".into(),
        None => format!("known parameters: {}", declared.join(", ")),
    }
}

fn overrides_by_name<'o>(
    overrides: &'o [(String, String)],
    declared: &[String],
    faults: &mut Vec<Diagnostic>,
) -> BTreeMap<&'o str, &'o str> {
    let mut given = BTreeMap::new();
    for (name, value) in overrides {
        if !declared.contains(name) {
            let message = format!("`-p {name}=…` names no parameter of the file");
            faults.push(Diagnostic::error(message).hint(near_or_all(name, declared)));
        } else if given.insert(name.as_str(), value.as_str()).is_some() {
            faults.push(Diagnostic::error(format!("`-p {name}=…` is given twice")));
        }
    }
    given
}

impl Declaration<'_> {
    fn value(
        &self,
        required: bool,
        given: Option<(&str, &ParamOrigin)>,
        current_folder: &Path,
    ) -> Result<Value, (Diagnostic, Position)> {
        if let Some(default) = self.default.filter(|_| required) {
            let message =
                format!("the parameter `{}` is required and has a default: one of the two is meant", self.name);
            return Err((Diagnostic::error(message), default.at));
        }
        let default = match self.default {
            Some(node) => Some(self.typed(&node.value).ok_or_else(|| {
                let message =
                    format!("the default of `{}` must be {}, not {}", self.name, self.describe(), node.describe());
                (Diagnostic::error(message).hint("change one of the two, `type` or `default`"), node.at)
            })?),
            None => None,
        };
        if let Some((text, origin)) = given {
            return self.typed(&self.node_of(text, current_folder)).ok_or_else(|| {
                let shown = if self.is_secret { "…" } else { text };
                let said = match origin {
                    ParamOrigin::Environment(variable) => format!("{variable}={shown}` of the environment"),
                    _ => format!("-p {}={shown}`", self.name),
                };
                let message = format!("`{said} must be {}", self.describe());
                (Diagnostic::error(message), self.at)
            });
        }
        match default {
            Some(value) => Ok(value),
            None if self.optional => Ok(Value::Null),
            None => {
                let message = format!("the parameter `{}` has no value", self.name);
                Err((Diagnostic::error(message).hint(format!("give it with -p {}=…", self.name)), self.at))
            }
        }
    }

    /// Returns what was given on the command line as if it had been written in the file.
    fn node_of(&self, text: &str, current_folder: &Path) -> NodeValue {
        match self.kind {
            "boolean" if text == "true" || text == "false" => NodeValue::Bool(text == "true"),
            "number" => text.parse().map_or(NodeValue::Str(text.into()), NodeValue::Float),
            "path" if Path::new(text).is_relative() => {
                NodeValue::Str(current_folder.join(text).to_string_lossy().into_owned())
            }
            "glob" if Path::new(text).is_relative() => {
                // Brackets in the name of the folder are no pattern.
                let folder = globset::escape(&current_folder.to_string_lossy());
                NodeValue::Str(format!("{}/{text}", folder.trim_end_matches('/')))
            }
            _ => NodeValue::Str(text.into()),
        }
    }

    fn typed(&self, value: &NodeValue) -> Option<Value> {
        let in_range = |n: f64| self.min.is_none_or(|min| n >= min) && self.max.is_none_or(|max| n <= max);
        Some(match (self.kind, value) {
            ("text" | "path" | "glob", NodeValue::Str(text)) => json!(text),
            ("duration", NodeValue::Str(text)) => {
                quantity::duration(text)?;
                json!(text)
            }
            ("boolean", NodeValue::Bool(b)) => json!(b),
            ("integer", value) => json!(whole(value).filter(|n| in_range(*n as f64))?),
            ("number", NodeValue::Int(i)) => json!(Some(i).filter(|i| in_range(**i as f64))?),
            ("number", NodeValue::Float(f)) => json!(Some(f).filter(|f| f.is_finite() && in_range(**f))?),
            _ => return None,
        })
    }

    fn describe(&self) -> String {
        let kind = match self.kind {
            "integer" => "an integer",
            "number" => "a number",
            "boolean" => "true or false",
            "path" => "a path",
            "glob" => "a glob",
            "duration" => "a duration such as 20s, 3m or 1h30m",
            _ => "text",
        };
        match (self.min, self.max) {
            (Some(min), Some(max)) => format!("{kind} from {min} to {max}"),
            (Some(min), None) => format!("{kind} of at least {min}"),
            (None, Some(max)) => format!("{kind} of at most {max}"),
            (None, None) => kind.into(),
        }
    }
}
