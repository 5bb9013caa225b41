//! The short form written out, the supported subset checked, and limits put where there are none.

use serde_json::{Map, Value, json};

/// Keywords that the grammar engine implements (llguidance 1.9, `json/schema.rs`).
const IMPLEMENTED: &[&str] = &[
    "anyOf",
    "oneOf",
    "allOf",
    "$ref",
    "const",
    "enum",
    "type",
    "items",
    "additionalItems",
    "prefixItems",
    "minItems",
    "maxItems",
    "properties",
    "additionalProperties",
    "patternProperties",
    "required",
    "minProperties",
    "maxProperties",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
];
/// Keywords that say something about a schema and constrain nothing.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$defs",
    "definitions",
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "default",
    "readOnly",
    "writeOnly",
    "examples",
    "contentMediaType",
    "contentEncoding",
];
/// Keywords that cannot be enforced token by token: a finished value is held against them. Each with whether it holds
/// one schema, a list of them or a mapping of them, or a value.
const AFTERWARDS: &[(&str, Holds)] = &[
    ("not", Holds::Schema),
    ("if", Holds::Schema),
    ("then", Holds::Schema),
    ("else", Holds::Schema),
    ("contains", Holds::Schema),
    ("propertyNames", Holds::Schema),
    ("unevaluatedItems", Holds::Schema),
    ("unevaluatedProperties", Holds::Schema),
    ("dependentSchemas", Holds::Schemas),
    ("uniqueItems", Holds::Value),
    ("minContains", Holds::Value),
    ("maxContains", Holds::Value),
    ("dependentRequired", Holds::Value),
];
/// Formats that the grammar engine knows.
const FORMATS: &[&str] = &["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];

#[derive(Clone, Copy, PartialEq)]
enum Holds {
    Schema,
    Schemas,
    Value,
}

const BUILTINS: &[&str] = &["turns", "quote", "speaker", "when"];

/// A string without a limit of its own may not run on until the tokens are gone.
const MAX_LENGTH: u64 = 200; // characters
const MAX_ITEMS: u64 = 20;
/// Formats that allow digits without end: the starter wrote the fraction of a second to the end of its tokens in 5 of
/// 13 answers. Other formats stay as they are: whether a length leaves any text of theirs is dear to find out.
const ENDLESS_FORMATS: &[&str] = &["time", "date-time", "duration"];
const FORMAT_LENGTH: u64 = 40; // characters
const MAX_DEPTH: usize = 32;
/// Of a schema altogether: more would not compile in a second.
const MAX_NODES: usize = 5_000;

/// What is wrong with a schema, and where below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFault {
    pub path: Vec<String>,
    pub message: String,
}

/// Returns the JSON Schema that was written: the short form `{ vendor: string, total: number?, due: when? }` written
/// out, strings and lists without a limit given one, objects closed. A JSON Schema comes back the same but for that,
/// so that expanding twice changes nothing.
pub fn expand(written: &Value) -> Result<Value, Vec<SchemaFault>> {
    expanded(written, false)
}

/// As [`expand`], for a caller that holds the finished value against the schema: keywords that cannot be enforced
/// while decoding stay in it. [`decodable`] takes them out again and names them.
pub fn expand_for_validation(written: &Value) -> Result<Value, Vec<SchemaFault>> {
    expanded(written, true)
}

/// Returns what of a schema can be enforced while decoding, and the keywords that cannot, each once, in order.
pub fn decodable(schema: &Value) -> (Value, Vec<String>) {
    let mut left_out = std::collections::BTreeSet::new();
    let schema = without_afterwards(schema, &mut left_out);
    (schema, left_out.into_iter().collect())
}

fn without_afterwards(schema: &Value, left_out: &mut std::collections::BTreeSet<String>) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        let value = match (key.as_str(), value) {
            (key, _) if AFTERWARDS.iter().any(|(k, _)| *k == key) => {
                left_out.insert(key.to_owned());
                continue;
            }
            ("format", Value::String(name)) if !FORMATS.contains(&name.as_str()) => {
                left_out.insert(format!("format: {name}"));
                continue;
            }
            ("properties" | "$defs" | "definitions" | "patternProperties", Value::Object(named)) => {
                named.iter().map(|(k, v)| (k.clone(), without_afterwards(v, left_out))).collect()
            }
            ("oneOf", Value::Array(list)) if map.get("anyOf").is_none() => {
                // Of several that fit, one alone: that is known when the value is there.
                if !are_disjoint(list) {
                    left_out.insert("oneOf".into());
                }
                let list = list.iter().map(|v| without_afterwards(v, left_out)).collect();
                out.insert("anyOf".into(), list);
                continue;
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(list)) => {
                list.iter().map(|v| without_afterwards(v, left_out)).collect()
            }
            ("items" | "additionalItems" | "additionalProperties", _) => without_afterwards(value, left_out),
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

/// Whether no value can fit two of these: each is of a type of its own.
fn are_disjoint(schemas: &[Value]) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    schemas.iter().all(|s| match s.get("type").and_then(Value::as_str) {
        Some("integer") => seen.insert("number"),
        Some(kind) => seen.insert(kind),
        None => s.get("$ref").is_some_and(|r| seen.insert(if r == "builtin:turns" { "array" } else { "string" })),
    })
}

fn expanded(written: &Value, keeps_afterwards: bool) -> Result<Value, Vec<SchemaFault>> {
    let mut walk = Walk { faults: Vec::new(), path: Vec::new(), nodes: 0, keeps_afterwards };
    let schema = if is_json_schema(written) { walk.schema(written) } else { walk.short(written) };
    if walk.faults.is_empty() { Ok(schema) } else { Err(walk.faults) }
}

/// A mapping whose keys are all keywords is a JSON Schema; anything else is the short form.
pub fn is_json_schema(written: &Value) -> bool {
    let Value::Object(map) = written else { return false };
    let is_keyword = |k: &String| {
        let known = IMPLEMENTED.contains(&k.as_str()) || ANNOTATIONS.contains(&k.as_str()) || k.starts_with('$');
        known || AFTERWARDS.iter().any(|(name, _)| name == k)
    };
    let tells = ["type", "$ref", "properties", "anyOf", "oneOf", "allOf", "enum", "const", "$schema"];
    // `{ type: string, total: number }` describes two fields; `{ type: object, required: [..], minProprties: 1 }` is a
    // schema with a typo: the type decides.
    let typed = map.get("type").is_some_and(|t| t.is_array() || JSON_TYPES.iter().any(|j| t == j) && map.len() > 1);
    let has_structure = map
        .keys()
        .any(|k| matches!(k.as_str(), "properties" | "items" | "$ref" | "anyOf" | "oneOf" | "allOf" | "enum"));
    map.keys().any(|k| tells.contains(&k.as_str())) && (map.keys().all(is_keyword) || typed && has_structure)
}

const JSON_TYPES: &[&str] = &["object", "array", "string", "number", "integer", "boolean", "null"];

struct Walk {
    faults: Vec<SchemaFault>,
    path: Vec<String>,
    nodes: usize,
    keeps_afterwards: bool,
}

impl Walk {
    fn fault(&mut self, message: impl Into<String>) -> Value {
        self.faults.push(SchemaFault { path: self.path.clone(), message: message.into() });
        Value::Null
    }

    /// Goes below a key, within the limits of depth and size.
    fn below(&mut self, key: &str, work: impl FnOnce(&mut Self) -> Value) -> Value {
        self.nodes += 1;
        if self.path.len() >= MAX_DEPTH {
            return self.fault(format!("the schema is nested deeper than {MAX_DEPTH}"));
        }
        if self.nodes > MAX_NODES {
            return if self.nodes == MAX_NODES + 1 {
                self.fault(format!("the schema has more than {MAX_NODES} parts"))
            } else {
                Value::Null
            };
        }
        self.path.push(key.to_owned());
        let value = work(self);
        self.path.pop();
        value
    }

    fn short(&mut self, written: &Value) -> Value {
        match written {
            Value::String(word) => self.short_word(word.trim()),
            Value::Array(items) if items.len() == 1 => {
                let items = self.below("0", |w| w.short_or_schema(&items[0]));
                json!({ "type": "array", "items": items, "maxItems": MAX_ITEMS })
            }
            Value::Array(_) => self.fault("a list in the short form holds one type: `[string]`"),
            Value::Object(fields) if fields.is_empty() => self.fault("the schema has no fields"),
            Value::Object(fields) => {
                let mut properties = Map::new();
                for (name, field) in fields {
                    let field = self.below(name, |w| w.short_or_schema(field));
                    properties.insert(name.clone(), field);
                }
                let required: Vec<&String> = fields.keys().collect();
                json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
            }
            other => self.fault(format!("`{other}` is no type")),
        }
    }

    fn short_or_schema(&mut self, written: &Value) -> Value {
        if is_json_schema(written) { self.schema(written) } else { self.short(written) }
    }

    fn short_word(&mut self, word: &str) -> Value {
        if let Some(word) = word.strip_suffix('?') {
            let schema = self.short_word(word.trim());
            return json!({ "anyOf": [schema, { "type": "null" }] });
        }
        match word {
            "string" | "text" => json!({ "type": "string", "maxLength": MAX_LENGTH }),
            "number" | "integer" | "boolean" => json!({ "type": word }),
            "date" => json!({ "type": "string", "format": "date" }),
            _ if BUILTINS.contains(&word) => json!({ "$ref": format!("builtin:{word}") }),
            _ if word.contains('|') => {
                let words: Vec<&str> = word.split('|').map(str::trim).filter(|w| !w.is_empty()).collect();
                json!({ "enum": words })
            }
            _ => {
                let known = ["string", "number", "integer", "boolean", "date"].iter().chain(BUILTINS).copied();
                let near = crate::diagnostic::suggest(word, known.clone()).map(|n| format!(": did you mean `{n}`?"));
                let all = known.collect::<Vec<_>>().join(", ");
                self.fault(format!(
                    "`{word}` is no type{}",
                    near.unwrap_or_else(|| format!("; there are {all}, `a | b`, and a `?` for what may be missing"))
                ))
            }
        }
    }

    fn schema(&mut self, schema: &Value) -> Value {
        let map = match schema {
            Value::Bool(_) => return schema.clone(),
            Value::Object(map) => map,
            other => return self.fault(format!("`{other}` is no schema")),
        };
        let mut out = Map::new();
        for (key, value) in map {
            let value = match key.as_str() {
                "properties" | "$defs" | "definitions" | "patternProperties" => self.each_of_map(key, value),
                "anyOf" | "oneOf" | "allOf" | "prefixItems" => self.each_of_list(key, value),
                "items" | "additionalItems" | "additionalProperties" => self.below(key, |w| w.schema(value)),
                "$ref" => self.reference(value),
                "format" if !self.keeps_afterwards && value.as_str().is_some_and(|f| !FORMATS.contains(&f)) => {
                    let known = FORMATS.join(", ");
                    self.below(key, |w| w.fault(format!("the format {value} cannot be decoded; known are {known}")))
                }
                name if self.keeps_afterwards && AFTERWARDS.iter().any(|(k, _)| *k == name) => {
                    match AFTERWARDS.iter().find(|(k, _)| *k == name).map(|(_, holds)| *holds) {
                        Some(Holds::Schema) => self.below(key, |w| w.schema(value)),
                        Some(Holds::Schemas) => self.each_of_map(key, value),
                        _ => value.clone(),
                    }
                }
                _ if IMPLEMENTED.contains(&key.as_str()) || ANNOTATIONS.contains(&key.as_str()) => value.clone(),
                _ => {
                    let near = crate::diagnostic::suggest(key, IMPLEMENTED.iter().copied());
                    let hint = near.map(|n| format!(": did you mean `{n}`?")).unwrap_or_default();
                    self.below(key, |w| w.fault(format!("the schema keyword `{key}` is not supported{hint}")))
                }
            };
            out.insert(key.clone(), value);
        }
        bound(&mut out);
        Value::Object(out)
    }

    fn each_of_map(&mut self, key: &str, value: &Value) -> Value {
        let Value::Object(map) = value else { return self.below(key, |w| w.fault(format!("`{key}` is a mapping"))) };
        self.below(key, |w| Value::Object(map.iter().map(|(k, v)| (k.clone(), w.below(k, |w| w.schema(v)))).collect()))
    }

    fn each_of_list(&mut self, key: &str, value: &Value) -> Value {
        let Value::Array(list) = value else { return self.below(key, |w| w.fault(format!("`{key}` is a list"))) };
        self.below(key, |w| {
            Value::Array(list.iter().enumerate().map(|(i, v)| w.below(&i.to_string(), |w| w.schema(v))).collect())
        })
    }

    fn reference(&mut self, value: &Value) -> Value {
        let target = value.as_str().unwrap_or_default();
        let builtin = target.strip_prefix("builtin:");
        if builtin.is_some_and(|b| !BUILTINS.contains(&b)) {
            let all = BUILTINS.iter().map(|b| format!("builtin:{b}")).collect::<Vec<_>>().join(", ");
            return self.below("$ref", |w| w.fault(format!("there is no `{target}`; there are {all}")));
        }
        if builtin.is_none() && !target.starts_with('#') {
            return self.below("$ref", |w| w.fault(format!("`{target}` is outside the schema: nothing is fetched")));
        }
        value.clone()
    }
}

/// Gives what is open a limit.
fn bound(schema: &mut Map<String, Value>) {
    let is = |schema: &Map<String, Value>, name: &str| {
        schema.get("type").is_some_and(|t| t == name || t.as_array().is_some_and(|l| l.iter().any(|t| t == name)))
    };
    let has = |schema: &Map<String, Value>, keys: &[&str]| keys.iter().any(|k| schema.contains_key(*k));
    let least = |schema: &Map<String, Value>, key: &str| schema.get(key).and_then(Value::as_u64).unwrap_or(0);
    if is(schema, "string") && !has(schema, &["maxLength", "enum", "const", "pattern"]) {
        let length = match schema.get("format").and_then(Value::as_str) {
            None => Some(MAX_LENGTH),
            Some(format) if ENDLESS_FORMATS.contains(&format) => Some(FORMAT_LENGTH),
            Some(_) => None,
        };
        if let Some(length) = length {
            schema.insert("maxLength".into(), json!(length.max(least(schema, "minLength"))));
        }
    }
    if is(schema, "array") && !has(schema, &["maxItems", "prefixItems", "enum", "const"]) {
        schema.insert("maxItems".into(), json!(MAX_ITEMS.max(least(schema, "minItems"))));
    }
    if is(schema, "object")
        && has(schema, &["properties"])
        && !has(schema, &["additionalProperties", "patternProperties"])
    {
        schema.insert("additionalProperties".into(), json!(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_is_written_out_and_stays_as_it_is_when_expanded_again() {
        let schema = expand(&json!({ "vendor": "string", "total": "number?", "kind": "a | b", "lines": [{ "n": "integer" }], "said": "quote" })).unwrap();
        assert_eq!(schema["required"], json!(["vendor", "total", "kind", "lines", "said"]));
        assert_eq!(schema["properties"]["total"], json!({ "anyOf": [{ "type": "number" }, { "type": "null" }] }));
        assert_eq!(schema["properties"]["kind"], json!({ "enum": ["a", "b"] }));
        assert_eq!(schema["properties"]["said"], json!({ "$ref": "builtin:quote" }));
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(expand(&schema).unwrap(), schema);
    }

    #[test]
    fn open_strings_lists_and_objects_are_bounded() {
        let schema = expand(&json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "array", "items": { "type": "string", "maxLength": 9 } } } })).unwrap();
        assert_eq!(schema["properties"]["a"]["maxLength"], MAX_LENGTH);
        assert_eq!(schema["properties"]["b"]["maxItems"], MAX_ITEMS);
        assert_eq!(schema["properties"]["b"]["items"]["maxLength"], 9);
        assert_eq!(schema["additionalProperties"], false);
    }

    #[test]
    fn a_limit_never_contradicts_what_the_author_asks_for_at_least() {
        let schema = expand(&json!({ "type": "object", "properties": {
            "a": { "type": "string", "minLength": 500 }, "b": { "type": "array", "minItems": 30, "items": { "type": "integer" } },
            "c": { "type": "string", "format": "date-time" }, "d": { "type": "string", "format": "email" },
        } }))
        .unwrap();
        let of = |field: &str, key: &str| schema["properties"][field][key].clone();
        assert_eq!((of("a", "maxLength"), of("b", "maxItems")), (json!(500), json!(30)));
        assert_eq!((of("c", "maxLength"), of("d", "maxLength")), (json!(FORMAT_LENGTH), Value::Null));
    }

    fn check_fault(schema: Value, path: &[&str], message: &str) {
        let faults = expand(&schema).unwrap_err();
        assert_eq!(faults[0].path, path, "{faults:?}");
        assert!(faults[0].message.contains(message), "{faults:?}");
    }

    #[test]
    fn what_cannot_be_decoded_is_named_with_its_place() {
        check_fault(json!({ "total": "nmber" }), &["total"], "did you mean `number`");
        check_fault(
            json!({ "type": "object", "properties": { "a": { "type": "string", "uniqueItems": true } } }),
            &["properties", "a", "uniqueItems"],
            "not supported",
        );
        check_fault(json!({ "$ref": "https://example.com/s.json" }), &["$ref"], "nothing is fetched");
        check_fault(json!({ "$ref": "builtin:speakers" }), &["$ref"], "builtin:speaker");
        check_fault(json!({}), &[], "no fields");
    }

    #[test]
    fn a_field_may_be_called_type() {
        assert_eq!(
            expand(&json!({ "type": "string", "total": "number" })).unwrap()["required"],
            json!(["type", "total"])
        );
    }

    #[test]
    fn a_schema_without_end_is_refused() {
        let mut deep = json!({ "type": "string" });
        for _ in 0..100 {
            deep = json!({ "type": "array", "items": deep });
        }
        assert!(expand(&deep).unwrap_err()[0].message.contains("deeper"));
    }
}
