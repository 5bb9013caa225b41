//! The types that depend on the document: turns, quotes, speakers and dates that exist in the text at hand.
//! They become enumerations, so that the decoder cannot write any other.

use serde_json::{Map, Value, json};

use crate::corpus::document::Document;
use crate::steps::prompt::date_phrases;
use crate::steps::text::{clip, sentences, squeeze};

/// The longest quote offered; a longer sentence is offered in pieces.
const MAX_QUOTE: usize = 200; // characters
/// A quote of fewer words is no evidence.
const MIN_QUOTE_WORDS: usize = 3;

/// A dynamic type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// A list of ids of turns.
    Turns,
    /// A sentence, or a piece of one, word for word.
    Quote,
    /// A speaker's name.
    Speaker,
    /// A day or a time as it was said.
    When,
}

/// What the dynamic types may be in the text at hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    pub turns: Vec<String>,
    pub quotes: Vec<String>,
    pub speakers: Vec<String>,
    pub when: Vec<String>,
}

impl Scope {
    pub fn of_document(document: &Document) -> Self {
        if document.turns.is_empty() {
            return Self { quotes: quotes(&document.text), when: when(&document.text), ..Self::default() };
        }
        Self::of_turns(document, &(0..document.turns.len()).collect::<Vec<_>>())
    }

    /// What some turns hold. Speakers are those of the whole document: who is given a task may not be speaking.
    pub fn of_turns(document: &Document, turns: &[usize]) -> Self {
        let text = |i: &usize| document.turn_text(&document.turns[*i]);
        let mut scope = Self {
            turns: turns.iter().map(|&i| document.turns[i].id.to_string()).collect(),
            quotes: turns.iter().flat_map(|i| quotes(text(i))).collect(),
            speakers: document.speakers().into_iter().map(str::to_owned).collect(),
            when: turns.iter().flat_map(|i| when(text(i))).collect(),
        };
        dedup(&mut scope.quotes);
        dedup(&mut scope.when);
        scope
    }
}

/// Keeps the first of each.
fn dedup(list: &mut Vec<String>) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
}

/// The sentences of a text as they may be quoted.
pub fn quotes(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for range in sentences(text) {
        let sentence = squeeze(&text[range]);
        let mut piece = String::new();
        for word in sentence.split(' ') {
            if !piece.is_empty() && piece.chars().count() + 1 + word.chars().count() > MAX_QUOTE {
                found.push(std::mem::take(&mut piece));
            }
            if !piece.is_empty() {
                piece.push(' ');
            }
            piece.push_str(&clip(word, MAX_QUOTE));
        }
        found.push(piece);
    }
    let long_enough: Vec<String> = found.iter().filter(|q| q.split(' ').count() >= MIN_QUOTE_WORDS).cloned().collect();
    if long_enough.is_empty() { found } else { long_enough }
}

/// The days and times a text names, as said.
pub fn when(text: &str) -> Vec<String> {
    date_phrases(text).into_iter().map(|r| squeeze(&text[r])).collect()
}

/// Returns a schema with its dynamic types made enumerations of what `scope` holds. Where the text has nothing of a
/// type, only `null` is left of a choice; without such a choice the schema cannot be met, and the error says so.
pub fn resolve(schema: &Value, scope: &Scope) -> Result<Value, String> {
    let resolved = walk(schema, scope)?;
    if resolved == Value::Bool(false) {
        return Err("the text holds nothing that the schema asks for".into());
    }
    Ok(resolved)
}

/// Returns a schema in which the dynamic types take whatever a document like this could hold: ids of its turns, its
/// speakers, and any text for quotes and dates, which stand in parts of it.
pub fn resolve_openly(schema: &Value, scope: &Scope) -> Value {
    match schema {
        Value::Object(map) => match builtin_of(map) {
            Some(Builtin::Turns) => json!({ "type": "array", "items": { "enum": scope.turns } }),
            Some(Builtin::Speaker) => json!({ "enum": scope.speakers }),
            Some(Builtin::Quote | Builtin::When) => json!({ "type": "string" }),
            None => map.iter().map(|(k, v)| (k.clone(), resolve_openly(v, scope))).collect(),
        },
        Value::Array(list) => list.iter().map(|v| resolve_openly(v, scope)).collect(),
        other => other.clone(),
    }
}

fn walk(schema: &Value, scope: &Scope) -> Result<Value, String> {
    let Value::Object(map) = schema else { return Ok(schema.clone()) };
    if let Some(builtin) = builtin_of(map) {
        return Ok(enumerate(builtin, map, scope));
    }
    let mut out = Map::new();
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            ("anyOf" | "oneOf", Value::Array(options)) => {
                let options: Vec<Value> = options.iter().map(|o| walk(o, scope)).collect::<Result<_, _>>()?;
                let left: Vec<Value> = options.into_iter().filter(|o| o != &Value::Bool(false)).collect();
                if left.is_empty() {
                    return Ok(Value::Bool(false));
                }
                Value::Array(left)
            }
            ("properties" | "$defs" | "definitions", Value::Object(fields)) => {
                let mut resolved = Map::new();
                for (name, field) in fields {
                    let field = walk(field, scope)?;
                    if field == Value::Bool(false) && key == "properties" && requires(map, name) {
                        return Err(format!("the text holds nothing that `{name}` could be"));
                    }
                    resolved.insert(name.clone(), field);
                }
                Value::Object(resolved)
            }
            ("items" | "additionalItems", _) => walk(value, scope)?,
            ("allOf" | "prefixItems", Value::Array(list)) => {
                Value::Array(list.iter().map(|o| walk(o, scope)).collect::<Result<_, _>>()?)
            }
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Ok(Value::Object(out))
}

fn requires(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|r| r.iter().any(|n| n == name))
}

fn builtin_of(schema: &Map<String, Value>) -> Option<Builtin> {
    match schema.get("$ref")?.as_str()?.strip_prefix("builtin:")? {
        "turns" => Some(Builtin::Turns),
        "quote" => Some(Builtin::Quote),
        "speaker" => Some(Builtin::Speaker),
        "when" => Some(Builtin::When),
        _ => None,
    }
}

fn enumerate(builtin: Builtin, schema: &Map<String, Value>, scope: &Scope) -> Value {
    let max_length = schema.get("maxLength").and_then(Value::as_u64).map_or(MAX_QUOTE, |n| n as usize);
    let choices: Vec<String> = match builtin {
        Builtin::Turns => scope.turns.clone(),
        Builtin::Speaker => scope.speakers.clone(),
        Builtin::When => scope.when.clone(),
        Builtin::Quote => {
            let fits: Vec<String> = scope.quotes.iter().filter(|q| q.chars().count() <= max_length).cloned().collect();
            // Better the beginning of a sentence than no evidence at all.
            if fits.is_empty() { scope.quotes.iter().map(|q| beginning(q, max_length)).collect() } else { fits }
        }
    };
    if choices.is_empty() {
        return Value::Bool(false);
    }
    if builtin != Builtin::Turns {
        return json!({ "enum": choices });
    }
    let limit = |key: &str, default: u64| schema.get(key).and_then(Value::as_u64).unwrap_or(default);
    let most = limit("maxItems", 3).min(choices.len() as u64).max(1);
    json!({ "type": "array", "items": { "enum": choices }, "minItems": limit("minItems", 1).min(most), "maxItems": most })
}

/// The first words of a quote that fit, without a mark: a quote stays word for word.
fn beginning(quote: &str, max_length: usize) -> String {
    let mut kept = String::new();
    for word in quote.split(' ') {
        if kept.chars().count() + 1 + word.chars().count() > max_length {
            break;
        }
        if !kept.is_empty() {
            kept.push(' ');
        }
        kept.push_str(word);
    }
    if kept.is_empty() { quote.chars().take(max_length).collect() } else { kept }
}

/// Returns the fields of an object's schema that are of a dynamic type, alone or as one of several choices.
pub fn builtin_fields(schema: &Value) -> Vec<(String, Builtin)> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let kind = |field: &Value| {
        let direct = field.as_object().and_then(builtin_of);
        let options = ["anyOf", "oneOf"].iter().filter_map(|k| field.get(*k)?.as_array()).flatten();
        direct.or_else(|| options.filter_map(Value::as_object).find_map(builtin_of))
    };
    properties.into_iter().flatten().filter_map(|(name, field)| Some((name.clone(), kind(field)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::fakes::meeting;
    use crate::steps::schema::expand;

    fn document() -> Document {
        meeting(&[("Anna", "Hello all. I'll send the report by next Friday."), ("Bo", "Thank you very much.")])
    }

    #[test]
    fn dynamic_types_become_what_the_text_holds() {
        let schema =
            expand(&json!({ "evidence": "turns", "said": "quote", "owner": "speaker?", "due": "when?" })).unwrap();
        let resolved = resolve(&schema, &Scope::of_turns(&document(), &[0])).unwrap();
        let fields = &resolved["properties"];
        assert_eq!(fields["evidence"]["items"], json!({ "enum": ["T1"] }));
        assert_eq!(fields["said"], json!({ "enum": ["I'll send the report by next Friday."] }));
        assert_eq!(fields["owner"]["anyOf"][0], json!({ "enum": ["Anna", "Bo"] }));
        assert_eq!(fields["due"]["anyOf"][0], json!({ "enum": ["next Friday"] }));
    }

    #[test]
    fn where_the_text_has_nothing_null_is_left_or_the_error_names_the_field() {
        let schema = expand(&json!({ "due": "when?" })).unwrap();
        let resolved = resolve(&schema, &Scope::of_turns(&document(), &[1])).unwrap();
        assert_eq!(resolved["properties"]["due"]["anyOf"], json!([{ "type": "null" }]));
        let schema = expand(&json!({ "due": "when" })).unwrap();
        assert!(resolve(&schema, &Scope::of_turns(&document(), &[1])).unwrap_err().contains("`due`"));
    }

    #[test]
    fn quotes_are_word_for_word_and_within_their_length() {
        let long = format!("{}end.", "word ".repeat(100));
        let scope = Scope::of_document(&meeting(&[("A", &long)]));
        assert!(scope.quotes.len() > 1);
        for quote in &scope.quotes {
            assert!(quote.chars().count() <= MAX_QUOTE && long.contains(quote.as_str()));
        }
        let schema =
            expand(&json!({ "type": "object", "properties": { "q": { "$ref": "builtin:quote", "maxLength": 30 } } }))
                .unwrap();
        let resolved = resolve(&schema, &scope).unwrap();
        for quote in resolved["properties"]["q"]["enum"].as_array().unwrap() {
            assert!(quote.as_str().unwrap().len() <= 30 && long.contains(quote.as_str().unwrap()));
        }
    }
}
