//! The shape of an answer that quotes first: beside every value the words of the text it is read from, written before
//! it. As a grammar, so that the decoder can write no quote that the text does not hold; and read back.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::source::{BREAK, Source};
use super::written::written;

/// The longest quote.
const QUOTE_MAX: usize = 200; // characters
const ITEMS_MAX: u64 = 20;

/// What an answer looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// An object whose values are shapes.
    Object(Vec<Field>),
    List {
        item: Box<Shape>,
        least: u64,
        most: u64,
    },
    /// `{"quote": …, "value": …}`; the value's schema.
    Quoted(Value),
    /// A value that is evidence itself, such as a quote or ids of turns.
    Plain(Value),
    /// The text holds nothing that it could be.
    Null,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub shape: Shape,
    /// Whether `null` may be written in its place: the schema has it, or the field may be left out.
    pub may_be_null: bool,
    /// Whether the field is left out of the record where it is null, because its schema has no null.
    pub omits_null: bool,
}

impl Shape {
    /// Returns the shape of an object's schema, its dynamic types already resolved. `plain` names the fields that are
    /// evidence themselves.
    pub fn of(schema: &Value, plain: &BTreeSet<&str>) -> Self {
        let defs: Map<String, Value> =
            ["$defs", "definitions"].iter().filter_map(|k| Some((k.to_string(), schema.get(*k)?.clone()))).collect();
        object(schema, &defs, plain)
    }

    pub fn list_of(self, most: u64) -> Self {
        Self::List { item: Box::new(self), least: 0, most }
    }

    /// Returns the grammar of such answers about a text, in Lark.
    pub fn grammar(&self, source: &Source) -> String {
        let mut rules = Rules { lines: Vec::new(), source };
        let start = rules.rule(self);
        let mut lines = vec![format!("start: {start}")];
        lines.append(&mut rules.lines);
        if !source.is_empty() {
            let chunks: Vec<String> = source.chunks().into_iter().map(within_json).collect();
            // The text is data: no bracket of it counts as one of the grammar's.
            let chunks = json!({ "substring_chunks": chunks }).to_string();
            let body: String = chunks[1..chunks.len() - 1]
                .chars()
                .map(|c| match c {
                    '(' | ')' | '{' | '}' => format!("\\u{:04x}", c as u32),
                    c => c.to_string(),
                })
                .collect();
            let break_ = format!("\\x{:02x}", BREAK as u32);
            let inner = format!("[^{break_}]{{0,{}}}[^ {break_}]", QUOTE_MAX - 2);
            lines.push(format!("SPAN: %regex {{{body}}}"));
            lines.push(format!("BOUNDED: SPAN & /[^ {break_}]({inner})?/"));
            lines.push("QUOTE: \"\\\"\" BOUNDED \"\\\"\"".into());
        }
        lines.join("\n")
    }

    /// Returns a record and its evidence, of the same build: quotes where the values stand. Of an answer that was cut
    /// off, what is complete.
    pub fn split(&self, answer: &Value) -> (Value, Value) {
        match (self, answer) {
            (Self::Object(fields), Value::Object(map)) => {
                let (mut record, mut evidence) = (Map::new(), Map::new());
                for field in fields {
                    let Some(value) = map.get(&field.name) else { continue };
                    let is_cut = matches!(field.shape, Shape::Quoted(_)) && value.is_object();
                    if is_cut && value.get("value").is_none() {
                        continue;
                    }
                    let (value, quote) = field.shape.split(value);
                    if !(value.is_null() && field.omits_null) {
                        record.insert(field.name.clone(), value);
                    }
                    if !quote.is_null() {
                        evidence.insert(field.name.clone(), quote);
                    }
                }
                (Value::Object(record), Value::Object(evidence))
            }
            (Self::List { item, .. }, Value::Array(list)) => {
                let complete = list.iter().filter(|i| !matches!(**item, Self::Quoted(_)) || i.get("value").is_some());
                let (values, quotes): (Vec<_>, Vec<_>) = complete.map(|i| item.split(i)).unzip();
                (Value::Array(values), Value::Array(quotes))
            }
            (Self::Quoted(_), Value::Object(map)) => {
                let quote = map.get("quote").map_or(Value::Null, |q| json!({ "quote": q }));
                (map.get("value").cloned().unwrap_or_default(), quote)
            }
            (Self::Plain(_), value) => (value.clone(), Value::Null),
            _ => (Value::Null, Value::Null),
        }
    }

    /// Returns the places of an answer at which it was settled whether there is a value: the path of the field, and
    /// the answer up to there.
    pub fn decisions(&self, answer: &Value) -> Vec<Decision> {
        let mut found = Vec::new();
        self.walk(answer, &mut Vec::new(), "", &mut found);
        found
    }

    fn walk(&self, answer: &Value, path: &mut Vec<String>, before: &str, found: &mut Vec<Decision>) {
        if let (Self::List { item, .. }, Value::Array(list)) = (self, answer) {
            let mut so_far = format!("{before}[");
            for (i, value) in list.iter().enumerate() {
                so_far.push_str(if i > 0 { ", " } else { "" });
                path.push(i.to_string());
                item.walk(value, path, &so_far, found);
                path.pop();
                so_far.push_str(&written(value));
            }
            return;
        }
        let (Self::Object(fields), Value::Object(map)) = (self, answer) else { return };
        let mut so_far = format!("{before}{{");
        for (i, field) in fields.iter().enumerate() {
            let Some(value) = map.get(&field.name) else { return };
            so_far.push_str(if i > 0 { ", " } else { "" });
            so_far.push_str(&format!("{}:", Value::from(field.name.as_str())));
            path.push(field.name.clone());
            match field.shape {
                Self::Quoted(_) => found.push(Decision { path: path.clone(), before: so_far.clone() }),
                Self::Object(_) => field.shape.walk(value, path, &format!("{so_far} "), found),
                _ => {}
            }
            path.pop();
            so_far.push_str(&format!(" {}", written(value)));
        }
    }
}

/// Where a model chose between a value and null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub path: Vec<String>,
    pub before: String, // the answer up to the field's colon
}

fn object(schema: &Value, defs: &Map<String, Value>, plain: &BTreeSet<&str>) -> Shape {
    let required: BTreeSet<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let field = |(name, field): (&String, &Value)| {
        let (inner, has_null) = without_null(field);
        let is_required = required.contains(name.as_str());
        let shape = match inner {
            None => Shape::Null,
            Some(inner) if plain.contains(name.as_str()) => Shape::Plain(with_defs(inner, defs)),
            Some(inner) => shape_of(inner, defs),
        };
        // An empty list says that there is none; null beside it would be a second way to say so.
        let says_none = matches!(shape, Shape::List { least: 0, .. });
        let may_be_null = has_null || !is_required && !says_none;
        Field { name: name.clone(), shape, may_be_null, omits_null: !has_null }
    };
    Shape::Object(properties.map(field).collect())
}

fn shape_of(schema: Value, defs: &Map<String, Value>) -> Shape {
    const COMBINED: &[&str] = &["anyOf", "oneOf", "allOf", "$ref", "enum", "const", "patternProperties"];
    let is = |kind: &str| schema.get("type").is_some_and(|t| t == kind);
    let is_simple = COMBINED.iter().all(|k| schema.get(*k).is_none());
    let has = |key: &str| schema.get(key).is_some_and(|v| v.as_object().is_some_and(|m| !m.is_empty()));
    if is_simple && is("object") && has("properties") {
        return object(&schema, defs, &BTreeSet::new());
    }
    if is_simple && is("array") && has("items") && schema.get("prefixItems").is_none() {
        let limit = |key: &str, default: u64| schema.get(key).and_then(Value::as_u64).unwrap_or(default);
        let most = limit("maxItems", ITEMS_MAX);
        let item = Shape::Quoted(with_defs(schema["items"].clone(), defs));
        return Shape::List { item: Box::new(item), least: limit("minItems", 0).min(most), most };
    }
    Shape::Quoted(with_defs(schema, defs))
}

/// Takes null out of what a field may be, and says whether it was there. `None` where nothing else is left.
fn without_null(field: &Value) -> (Option<Value>, bool) {
    let is_null = |v: &Value| v.get("type").is_some_and(|t| t == "null") || v.get("const").is_some_and(Value::is_null);
    let Value::Object(map) = field else { return (field.as_bool().filter(|b| *b).map(Value::from), false) };
    for key in ["anyOf", "oneOf"] {
        let Some(options) = map.get(key).and_then(Value::as_array) else { continue };
        let left: Vec<&Value> = options.iter().filter(|o| !is_null(o)).collect();
        let (rest, is_alone) = (options.len() - left.len(), map.len() == 1);
        return match left.as_slice() {
            _ if rest == 0 => (Some(field.clone()), false),
            [] => (None, true),
            [one] if is_alone => (Some((*one).clone()), true),
            _ => {
                let mut map = map.clone();
                map.insert(key.into(), left.into_iter().cloned().collect());
                (Some(Value::Object(map)), true)
            }
        };
    }
    if is_null(field) {
        return (None, true);
    }
    let mut map = map.clone();
    let mut has_null = false;
    for key in ["type", "enum"] {
        if let Some(Value::Array(list)) = map.get_mut(key) {
            let before = list.len();
            list.retain(|v| !(v.is_null() || key == "type" && v == "null"));
            has_null |= list.len() < before;
            if let ("type", [one]) = (key, list.as_slice()) {
                let one = one.clone();
                map.insert("type".into(), one);
            }
        }
    }
    (Some(Value::Object(map)), has_null)
}

fn with_defs(mut schema: Value, defs: &Map<String, Value>) -> Value {
    let refers = schema_refers(&schema);
    if let Value::Object(map) = &mut schema
        && refers
    {
        map.extend(defs.clone());
    }
    schema
}

fn schema_refers(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.iter().any(|(k, v)| k == "$ref" || schema_refers(v)),
        Value::Array(list) => list.iter().any(schema_refers),
        _ => false,
    }
}

/// A text as it stands within a JSON string.
fn within_json(text: &str) -> String {
    if text.chars().eq([BREAK]) {
        return text.to_owned();
    }
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

struct Rules<'a> {
    lines: Vec<String>,
    source: &'a Source,
}

impl Rules<'_> {
    /// Adds the rules of a shape and returns the name of the first.
    fn rule(&mut self, shape: &Shape) -> String {
        let body = match shape {
            Shape::Object(fields) => {
                let mut body = vec![literal("{")];
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    body.push(literal(&format!("{comma}{}: ", Value::from(field.name.as_str()))));
                    body.push(self.field(field));
                }
                body.push(literal("}"));
                body.join(" ")
            }
            Shape::List { item, least, most } => {
                let more = |least: u64, most: u64| format!("(\", \" ITEM){{{least},{most}}}");
                let body = match (least, most) {
                    (_, 0) => literal("[]"),
                    (0, most) => format!("\"[\" (ITEM {})? \"]\"", more(0, most - 1)),
                    (least, most) => format!("\"[\" ITEM {} \"]\"", more(least - 1, most - 1)),
                };
                if *most == 0 { body } else { body.replace("ITEM", &self.rule(item)) }
            }
            // Without a word to quote there is no value.
            Shape::Quoted(_) if self.source.is_empty() => literal("null"),
            Shape::Quoted(schema) => {
                let value = self.rule(&Shape::Plain(schema.clone()));
                format!("{} QUOTE {} {value} {}", literal("{\"quote\": "), literal(", \"value\": "), literal("}"))
            }
            Shape::Plain(schema) => {
                let mut schema = if schema.is_object() { schema.clone() } else { json!({ "allOf": [schema] }) };
                schema["x-guidance"] =
                    json!({ "item_separator": ", ", "key_separator": ": ", "whitespace_flexible": false });
                format!("%json {schema}")
            }
            Shape::Null => literal("null"),
        };
        let name = format!("n{}", self.lines.len());
        self.lines.push(format!("{name}: {body}"));
        name
    }

    fn field(&mut self, field: &Field) -> String {
        let rule = self.rule(&field.shape);
        if field.may_be_null { format!("({rule} | \"null\")") } else { rule }
    }
}

fn literal(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_stands_where_the_answer_chose() {
        let schema = json!({ "type": "object", "required": ["a"], "properties": {
            "a": { "type": "string" }, "b": { "anyOf": [{ "type": "number" }, { "type": "null" }] } } });
        let shape = Shape::of(&schema, &BTreeSet::new());
        let answer = json!({ "a": { "quote": "x", "value": "x" }, "b": null });
        let before: Vec<String> = shape.decisions(&answer).into_iter().map(|d| d.before).collect();
        assert_eq!(before, ["{\"a\":", "{\"a\": {\"quote\": \"x\", \"value\": \"x\"}, \"b\":"]);
        let list = shape.list_of(3).decisions(&json!([answer]));
        assert_eq!((list[1].path.join("."), list[0].before.as_str()), ("0.b".into(), "[{\"a\":"));
    }

    #[test]
    fn null_is_taken_out_of_whatever_may_be_null() {
        let check =
            |field: Value, expected: Option<Value>, has_null| assert_eq!(without_null(&field), (expected, has_null));
        check(
            json!({ "type": ["string", "null"], "maxLength": 5 }),
            Some(json!({ "type": "string", "maxLength": 5 })),
            true,
        );
        check(json!({ "enum": ["a", null] }), Some(json!({ "enum": ["a"] })), true);
        check(json!({ "anyOf": [{ "type": "null" }] }), None, true);
        check(json!({ "type": "null" }), None, true);
        check(json!({ "type": "number" }), Some(json!({ "type": "number" })), false);
    }

    #[test]
    fn a_text_without_words_can_only_be_null() {
        let schema = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let grammar = Shape::of(&schema, &BTreeSet::new()).grammar(&Source::default());
        assert!(!grammar.contains("QUOTE") && grammar.contains("null"), "{grammar}");
    }
}
