//! Holds a tree against a table of keys: every mistake at once, defaults filled in, values in their normal form.
//! Knows the types of [`ValueSpec`] and no section by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::file;
use super::files::{Files, read_text};
use super::params::Params;
use super::quantity;
use super::references::{self, looks_like_template};
use super::tree::{Node, NodeValue, Position, SourceText, quoted};
use crate::diagnostic::{Diagnostic, suggest};
use crate::spec::{KeySpec, ValueSpec};

/// What all sections of one file share.
pub struct Surroundings<'a> {
    pub source: &'a SourceText,
    pub folder: &'a Path, // absolute
    pub params: &'a Params,
    pub schemas: &'a [String], // names under `schemas`
    pub indexes: &'a [String], // names under `indexes`
    pub files: &'a dyn Files,
}

/// A template or an expression found on the way, to be compiled and checked for what it names.
#[derive(Clone, Debug)]
pub struct Slot {
    pub path: Vec<String>,
    pub language: Language,
    pub text: String,
    pub node: Node, // as written; where a default was filled in, the place of the mapping it stands in
    pub file: Option<PathBuf>, // set where the text stands in a file of its own
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Template,
    Expression,
}

/// One section on its way into JSON.
pub struct Shaper<'a> {
    pub around: &'a Surroundings<'a>,
    pub base: String, // how the section is called in messages: `steps.minutes`
    pub faults: Vec<Diagnostic>,
    pub slots: Vec<Slot>,
    places: BTreeMap<Vec<String>, Position>,
}

impl<'a> Shaper<'a> {
    pub fn new(around: &'a Surroundings<'a>, base: impl Into<String>) -> Self {
        Self { around, base: base.into(), faults: Vec::new(), slots: Vec::new(), places: BTreeMap::new() }
    }

    /// Returns where the value at `path` stands, or the nearest one around it that was written.
    pub fn place_of(&self, path: &[String]) -> Option<Position> {
        (0..=path.len()).rev().find_map(|n| self.places.get(&path[..n]).copied())
    }

    pub fn fault(&mut self, at: Position, message: impl Into<String>) -> &mut Diagnostic {
        self.faults.push(Diagnostic::error(message).at(at.in_file(&self.around.source.path)));
        let last = self.faults.len() - 1;
        &mut self.faults[last]
    }

    /// Returns what each key of the table has in a mapping, in the order of the table. Tells unknown keys, missing ones
    /// and those of a later version; `None` where the node is no mapping.
    pub fn keys<'n>(
        &mut self,
        node: &'n Node,
        table: &[&'static KeySpec],
        path: &[String],
    ) -> Option<Vec<(&'static KeySpec, Option<&'n Node>)>> {
        let name = self.called(path);
        if !matches!(node.value, NodeValue::Map(_)) {
            let keys = table.iter().filter(|k| !matches!(k.value, ValueSpec::Later)).map(|k| k.name);
            let keys = keys.collect::<Vec<_>>().join(", ");
            self.fault(node.at, format!("{name} must be a mapping with {keys}, not {}", node.describe()));
            return None;
        }
        for entry in node.entries() {
            match table.iter().find(|k| k.name == entry.key) {
                Some(spec) if matches!(spec.value, ValueSpec::Later) => {
                    let hint = spec.help;
                    let message = format!("{} is not in this version of quarry", quoted(&entry.key));
                    let fault = self.fault(entry.key_at, message);
                    if !hint.is_empty() {
                        fault.hints.push(hint.into());
                    }
                }
                Some(_) => {}
                None => self.unknown_key(&entry.key, entry.key_at, table, &name),
            }
        }
        let mut found = Vec::new();
        for spec in table.iter().filter(|k| !matches!(k.value, ValueSpec::Later)) {
            let value = node.get(spec.name);
            if spec.required && value.is_none() {
                let message = format!("`{}` is missing in {name}", spec.name);
                let hint = format!("`{}` is {}: {}", spec.name, spec.value.describe(), spec.help);
                self.fault(node.at, message).hints.push(hint);
            }
            found.push((*spec, value));
        }
        Some(found)
    }

    fn unknown_key(&mut self, key: &str, at: Position, table: &[&'static KeySpec], name: &str) {
        let known: Vec<_> = table.iter().filter(|k| !matches!(k.value, ValueSpec::Later)).map(|k| k.name).collect();
        let hint = match suggest(key, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys: {}", known.join(", ")),
        };
        self.fault(at, format!("unknown key {} in {name}", quoted(key))).hints.push(hint);
    }

    /// Returns a mapping in its normal form, without the keys that are faulty: those have been told.
    pub fn object(
        &mut self,
        node: &Node,
        table: &[&'static KeySpec],
        path: &mut Vec<String>,
    ) -> Option<Map<String, Value>> {
        self.places.insert(path.clone(), node.at);
        let mut object = Map::new();
        for (spec, written) in self.keys(node, table, path)? {
            path.push(spec.name.into());
            let before = self.faults.len();
            let value = match written {
                Some(written) => self.value(written, &spec.value, path),
                None => spec.default.and_then(|default| {
                    let node = default_node(&spec.value, default, node.at);
                    self.default_value(&node, &spec.value, path)
                }),
            };
            path.pop();
            // Of a value that does not fit, what it is for says what would.
            let bare =
                self.faults[before..].iter_mut().filter(|f| f.hints.is_empty() && f.message.contains(" must be "));
            bare.for_each(|fault| fault.hints.push(format!("`{}`: {}", spec.name, spec.help)));
            if let Some(value) = value {
                object.insert(spec.name.into(), value);
            }
        }
        Some(object)
    }

    /// A default has no place of its own: what is told of it is told of the mapping it was left out of.
    fn default_value(&mut self, node: &Node, spec: &'static ValueSpec, path: &mut Vec<String>) -> Option<Value> {
        let places = self.places.clone();
        let value = self.value(node, spec, path);
        self.places = places;
        value
    }

    /// Returns a value in its normal form, or tells what is wrong with it and returns nothing.
    pub fn value(&mut self, node: &Node, spec: &'static ValueSpec, path: &mut Vec<String>) -> Option<Value> {
        self.places.insert(path.clone(), node.at);
        let rendered;
        let node = match &node.value {
            NodeValue::Str(text) if looks_like_template(text) && takes_params(spec) => {
                rendered = self.with_params(node, text, path)?;
                &rendered
            }
            _ => node,
        };
        if matches!(node.value, NodeValue::Null) && !matches!(spec, ValueSpec::Any | ValueSpec::Schema) {
            let message = format!("`{}` has no value; it must be {}", self.name(path), spec.describe());
            self.fault(node.at, message).hints.push("leave the key out where it is not needed".into());
            return None;
        }
        match spec {
            ValueSpec::Object(keys) => self.object(node, &keys.iter().collect::<Vec<_>>(), path).map(Value::Object),
            ValueSpec::Map(of) => self.map(node, spec, of, path),
            ValueSpec::List(of) => self.list(node, spec, of, path),
            ValueSpec::OneOf(specs) => self.one_of(node, spec, specs, path),
            ValueSpec::Any => Some(to_json(node)),
            ValueSpec::Schema => self.schema(node, spec, path),
            _ => self.scalar(node, spec, path),
        }
    }

    /// Returns a mapping from free keys in the order of the file.
    fn map(&mut self, node: &Node, spec: &ValueSpec, of: &'static ValueSpec, path: &mut Vec<String>) -> Option<Value> {
        if !matches!(node.value, NodeValue::Map(_)) {
            return self.mismatch(node, spec, path);
        }
        let mut object = Map::new();
        for entry in node.entries() {
            path.push(entry.key.clone());
            if let Some(value) = self.value(&entry.value, of, path) {
                object.insert(entry.key.clone(), value);
            }
            path.pop();
        }
        Some(Value::Object(object))
    }

    fn list(&mut self, node: &Node, spec: &ValueSpec, of: &'static ValueSpec, path: &mut Vec<String>) -> Option<Value> {
        let NodeValue::Seq(items) = &node.value else { return self.mismatch(node, spec, path) };
        let mut list = Vec::new();
        for (i, item) in items.iter().enumerate() {
            path.push(i.to_string());
            list.extend(self.value(item, of, path));
            path.pop();
        }
        Some(Value::Array(list))
    }

    fn one_of(
        &mut self,
        node: &Node,
        spec: &ValueSpec,
        specs: &'static [ValueSpec],
        path: &mut Vec<String>,
    ) -> Option<Value> {
        let (faults, slots) = (self.faults.len(), self.slots.len());
        let fitting: Vec<_> = specs.iter().filter(|s| fits_kind(s, node)).collect();
        for (i, alternative) in fitting.iter().enumerate() {
            let value = self.value(node, alternative, path);
            // With one alternative of the right kind its own complaint says more than a list of all of them.
            let only = fitting.len() == 1 || (i + 1 == fitting.len() && !is_scalar(node));
            if self.faults.len() == faults || only {
                return value;
            }
            self.faults.truncate(faults);
            self.slots.truncate(slots);
        }
        self.mismatch(node, spec, path)
    }

    fn schema(&mut self, node: &Node, spec: &ValueSpec, path: &[String]) -> Option<Value> {
        match &node.value {
            NodeValue::Map(_) => Some(to_json(node)),
            NodeValue::Str(name) if self.around.schemas.contains(name) => Some(json!(name)),
            NodeValue::Str(name) => {
                let message =
                    format!("`{}` names the schema {}, which is not under `schemas`", self.name(path), quoted(name));
                let known = self.around.schemas;
                let hint = match suggest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "there are none: write it here, or put a `schemas` section".into(),
                    None => format!("known schemas: {}", known.join(", ")),
                };
                self.fault(node.at, message).hints.push(hint);
                None
            }
            _ => self.mismatch(node, spec, path),
        }
    }

    fn scalar(&mut self, node: &Node, spec: &'static ValueSpec, path: &[String]) -> Option<Value> {
        match (spec, &node.value) {
            (ValueSpec::Text, NodeValue::Str(text)) if looks_like_template(text) => {
                let message =
                    format!("`{}` is plain text and is never rendered: it cannot hold a template", self.name(path));
                self.fault(node.at, message);
                None
            }
            (ValueSpec::Template, NodeValue::Str(text)) => {
                Some(self.slot(node, Language::Template, text.clone(), path))
            }
            (ValueSpec::Expression, NodeValue::Str(text)) => {
                Some(self.slot(node, Language::Expression, text.clone(), path))
            }
            (ValueSpec::Expression, NodeValue::Bool(_) | NodeValue::Int(_) | NodeValue::Float(_)) => {
                Some(json!(to_json(node).to_string()))
            }
            (ValueSpec::File | ValueSpec::TemplateFile, NodeValue::Str(text)) => self.file(node, spec, text, path),
            (spec, value) => match scalar(spec, value) {
                Some(value) => Some(value),
                None => self.mismatch(node, spec, path),
            },
        }
    }

    fn slot(&mut self, node: &Node, language: Language, text: String, path: &[String]) -> Value {
        let value = json!(text);
        self.slots.push(Slot { path: path.to_vec(), language, text, node: node.clone(), file: None });
        value
    }

    fn file(&mut self, node: &Node, spec: &ValueSpec, text: &str, path: &[String]) -> Option<Value> {
        let target = self.around.folder.join(text);
        let name = self.name(path);
        if !self.around.files.is_file(&target) {
            let message = format!("`{name}` names the file {}, which does not exist", quoted(text));
            self.fault(node.at, message).hints.push(format!("looked for {}", target.display()));
            return None;
        }
        if matches!(spec, ValueSpec::TemplateFile) {
            match read_text(self.around.files, &target) {
                Ok(template) => self.slots.push(Slot {
                    path: path.to_vec(),
                    language: Language::Template,
                    text: template,
                    node: node.clone(),
                    file: Some(target),
                }),
                Err(reason) => {
                    self.fault(node.at, format!("`{name}` names the file {}, but {reason}", quoted(text)));
                    return None;
                }
            }
        }
        Some(json!(text))
    }

    /// Returns a scalar with its `params` filled in and read again, as if its outcome had been written.
    fn with_params(&mut self, node: &Node, text: &str, path: &[String]) -> Option<Node> {
        let name = self.name(path);
        let found = match references::of_template(text) {
            Ok(found) => found,
            Err(fault) => {
                let at = node.position_within(&self.around.source.text, fault.line, fault.column);
                self.fault(at, format!("`{name}` is no valid template: {}", fault.message));
                return None;
            }
        };
        let mut sound = true;
        for reference in &found.names {
            let at = node.position_within(&self.around.source.text, reference.line, reference.column);
            let dotted = reference.path.join(".");
            if reference.path[0] != "params" {
                let message = format!("`{name}` is settled before the run and sees only `params`, not `{dotted}`");
                self.fault(at, message);
                sound = false;
            } else if let Some(param) = reference.path.get(1) {
                sound &= self.around.params.has_value(param);
                if let Some(fault) = self.around.params.unknown(param) {
                    self.faults.push(fault.at(at.in_file(&self.around.source.path)));
                }
                self.around.params.mark_used(param);
            }
        }
        if !sound {
            return None;
        }
        match references::render_params(text, self.around.params.values()) {
            Ok(outcome) => {
                let value = file::parse_fragment(&outcome).map(|n| n.value).unwrap_or(NodeValue::Null);
                let value = if matches!(value, NodeValue::Int(_) | NodeValue::Float(_) | NodeValue::Bool(_)) {
                    value
                } else {
                    NodeValue::Str(outcome)
                };
                Some(Node { value, ..node.clone() })
            }
            Err(fault) => {
                self.fault(node.at, format!("`{name}` cannot be rendered: {}", fault.message));
                None
            }
        }
    }

    fn mismatch(&mut self, node: &Node, spec: &ValueSpec, path: &[String]) -> Option<Value> {
        let message = format!("`{}` must be {}, not {}", self.name(path), spec.describe(), node.describe());
        let written = self.around.source.text.get(node.span.clone()).unwrap_or_default().trim();
        let hint = match (spec, &node.value) {
            (ValueSpec::Choice(words), NodeValue::Str(word)) => {
                suggest(word, words.iter().copied()).map(|near| format!("did you mean `{near}`?"))
            }
            (ValueSpec::Text | ValueSpec::Template | ValueSpec::Setting, value) if is_plain(value) => {
                Some(format!("put it in quotes: \"{written}\""))
            }
            (ValueSpec::Duration | ValueSpec::Size | ValueSpec::Amount { .. }, NodeValue::Int(_)) => {
                Some("say the unit".into())
            }
            (_, NodeValue::Str(_)) if looks_like_template(written) => Some(format!("it is written as {written}")),
            _ => None,
        };
        self.fault(node.at, message).hints.extend(hint);
        None
    }

    /// Returns how a value is called in a message: `steps.minutes.long.split`, `outputs[0].path`.
    pub fn name(&self, path: &[String]) -> String {
        let mut name = self.base.clone();
        for part in path {
            match part.parse::<usize>() {
                Ok(index) => name.push_str(&format!("[{index}]")),
                Err(_) if name.is_empty() => name.push_str(part),
                Err(_) => name.push_str(&format!(".{part}")),
            }
        }
        name
    }

    fn called(&self, path: &[String]) -> String {
        let name = self.name(path);
        if name.is_empty() { "the file".into() } else { format!("`{name}`") }
    }
}

/// Returns the normal form of a scalar, if it fits its type.
fn scalar(spec: &ValueSpec, value: &NodeValue) -> Option<Value> {
    Some(match (spec, value) {
        (ValueSpec::Text | ValueSpec::Setting, NodeValue::Str(text)) => json!(text),
        (ValueSpec::Boolean, NodeValue::Bool(b)) => json!(b),
        (ValueSpec::Integer { min, max }, NodeValue::Int(_) | NodeValue::Str(_)) => {
            json!(whole(value).filter(|n| min <= n && n <= max)?)
        }
        (ValueSpec::Number { min, max }, NodeValue::Int(i)) => {
            json!(Some(i).filter(|i| (*min..=*max).contains(&(**i as f64)))?)
        }
        (ValueSpec::Number { min, max }, NodeValue::Float(f)) => json!(Some(f).filter(|f| min <= *f && *f <= max)?),
        (ValueSpec::Duration, NodeValue::Str(text)) => json!(quantity::duration(text)?),
        (ValueSpec::Size, NodeValue::Str(text)) => json!(quantity::size(text)?),
        (ValueSpec::Amount { units }, NodeValue::Str(text)) => {
            let (n, unit) = quantity::amount(text, units)?;
            json!({ "n": n, "unit": unit })
        }
        (ValueSpec::ShareOrCount, NodeValue::Str(text)) => json!({ "share": quantity::share(text)? }),
        (ValueSpec::ShareOrCount, NodeValue::Int(n)) => json!({ "count": u64::try_from(*n).ok()? }),
        (ValueSpec::Choice(words), NodeValue::Str(word)) => json!(words.iter().find(|w| *w == word)?),
        _ => return None,
    })
}

pub fn whole(value: &NodeValue) -> Option<i64> {
    match value {
        NodeValue::Int(i) => Some(*i),
        NodeValue::Str(text) => quantity::count(text),
        _ => None,
    }
}

fn is_plain(value: &NodeValue) -> bool {
    matches!(value, NodeValue::Bool(_) | NodeValue::Int(_) | NodeValue::Float(_))
}

fn is_scalar(node: &Node) -> bool {
    !matches!(node.value, NodeValue::Seq(_) | NodeValue::Map(_))
}

fn takes_params(spec: &ValueSpec) -> bool {
    use ValueSpec::{Any, Expression, Later, List, Map, Object, OneOf, Schema, Template, Text};
    match spec {
        OneOf(specs) => {
            specs.iter().any(takes_params) && !specs.iter().any(|s| matches!(s, Template | Expression | Text))
        }
        Text | Template | Expression | List(_) | Map(_) | Object(_) | Schema | Any | Later => false,
        _ => true,
    }
}

/// Whether an alternative is of the kind that was written: a mapping, a list or a scalar.
fn fits_kind(spec: &ValueSpec, node: &Node) -> bool {
    match (spec, &node.value) {
        (ValueSpec::Any, _) => true,
        (ValueSpec::OneOf(specs), _) => specs.iter().any(|s| fits_kind(s, node)),
        (ValueSpec::Object(_) | ValueSpec::Map(_), value) => matches!(value, NodeValue::Map(_)),
        (ValueSpec::List(_), value) => matches!(value, NodeValue::Seq(_)),
        (ValueSpec::Schema, value) => matches!(value, NodeValue::Map(_) | NodeValue::Str(_)),
        _ => is_scalar(node),
    }
}

/// Returns a default as a node that stands where its mapping stands.
fn default_node(spec: &ValueSpec, default: &str, at: Position) -> Node {
    let written = file::parse_fragment(default).map(|n| n.value);
    let is_text = matches!(spec, ValueSpec::Text | ValueSpec::Setting | ValueSpec::Template | ValueSpec::Expression);
    let value = match written {
        Ok(NodeValue::Str(text)) => NodeValue::Str(text),
        Ok(value) if !is_text => value,
        _ => NodeValue::Str(default.into()),
    };
    let mut node = Node { at, span: 0..0, value };
    relocate(&mut node, at);
    node
}

fn relocate(node: &mut Node, at: Position) {
    (node.at, node.span) = (at, 0..0);
    match &mut node.value {
        NodeValue::Seq(items) => items.iter_mut().for_each(|n| relocate(n, at)),
        NodeValue::Map(entries) => entries.iter_mut().for_each(|e| {
            e.key_at = at;
            relocate(&mut e.value, at);
        }),
        _ => {}
    }
}

/// Returns a tree as the JSON it stands for.
pub fn to_json(node: &Node) -> Value {
    match &node.value {
        NodeValue::Null => Value::Null,
        NodeValue::Bool(b) => json!(b),
        NodeValue::Int(i) => json!(i),
        NodeValue::Float(f) => json!(f),
        NodeValue::Str(s) => json!(s),
        NodeValue::Seq(items) => items.iter().map(to_json).collect(),
        NodeValue::Map(entries) => entries.iter().map(|e| (e.key.clone(), to_json(&e.value))).collect(),
    }
}
