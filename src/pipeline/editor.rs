//! The pipeline file as a JSON Schema, for editors: from the same tables that `check` reads. It sees what a schema can
//! see (keys, types, words of a list); references, templates and files are `check`'s.

use serde_json::{Map, Value, json};

use super::params;
use super::tables::{EVAL, OUTPUT, PARAM, PATTERNS, ROOT, SOURCE, STEP, TEST, read_keys};
use crate::spec::{KeySpec, ValueSpec};
use crate::steps::StepKind;

static PATTERNS_SPEC: ValueSpec = PATTERNS;

/// Returns the schema of a pipeline file whose verbs are these.
pub fn schema(kinds: &[&'static StepKind]) -> Value {
    let mut root = object(ROOT);
    let properties = &mut root["properties"];
    properties["version"] = json!({ "const": 1, "description": "The version of the file format" });
    properties["params"] = map_of(params_schema());
    properties["sources"] = json!({
        "type": "object", "minProperties": 1,
        "additionalProperties": { "anyOf": [value(&PATTERNS_SPEC), source()] },
    });
    properties["schemas"] = map_of(json!({ "type": "object" }));
    properties["steps"] = json!({ "type": "array", "minItems": 1, "items": step(kinds) });
    properties["outputs"] = json!({ "type": "array", "items": object(OUTPUT) });
    properties["eval"] = object(EVAL);
    properties["tests"] = json!({ "type": "array", "items": object(TEST) });
    properties["profiles"] = map_of(json!({ "type": "object" }));
    for spec in ROOT {
        if let Some(property) = root["properties"].get_mut(spec.name).and_then(Value::as_object_mut) {
            property.entry("description").or_insert(json!(spec.help));
        }
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("A quarry pipeline");
    root
}

fn map_of(schema: Value) -> Value {
    json!({ "type": "object", "additionalProperties": schema })
}

fn params_schema() -> Value {
    let mut schema = object(PARAM);
    schema["properties"]["type"] = json!({ "enum": params::TYPES });
    schema
}

fn source() -> Value {
    let mut schema = object(SOURCE);
    schema["properties"]["read"] = object(read_keys());
    schema
}

/// A step has the keys of all steps and those of its verb, and no others.
fn step(kinds: &[&'static StepKind]) -> Value {
    let of_kind = |kind: &&'static StepKind| {
        let mut schema = object(STEP);
        let own = object(kind.keys);
        for (name, property) in own["properties"].as_object().into_iter().flatten() {
            schema["properties"][name] = property.clone();
        }
        let required = own["required"].as_array().into_iter().flatten().cloned();
        if let Some(list) = schema["required"].as_array_mut() {
            list.extend(required);
        }
        schema["properties"]["use"] = json!({ "const": kind.name });
        json!({ "if": { "properties": { "use": { "const": kind.name } } }, "then": schema })
    };
    let verbs: Vec<Value> =
        kinds.iter().map(|kind| json!({ "const": kind.name, "description": kind.summary })).collect();
    json!({
        "type": "object",
        "required": ["id", "use"],
        "properties": { "use": { "oneOf": verbs } },
        "allOf": kinds.iter().map(of_kind).collect::<Vec<_>>(),
    })
}

fn object(keys: &[KeySpec]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for spec in keys.iter().filter(|k| !matches!(k.value, ValueSpec::Later)) {
        let mut property = value(&spec.value);
        if let Some(map) = property.as_object_mut() {
            let default = spec.default.filter(|d| *d != "{}").map(|d| format!(" By default {d}.")).unwrap_or_default();
            map.insert("description".into(), json!(format!("{}{default}", spec.help)));
        }
        properties.insert(spec.name.into(), property);
        required.extend(spec.required.then_some(spec.name));
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

fn value(spec: &ValueSpec) -> Value {
    let with_params = |schema: Value| json!({ "anyOf": [schema, { "type": "string", "pattern": "\\{\\{" }] });
    let written = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    match spec {
        ValueSpec::Text | ValueSpec::Setting | ValueSpec::Template | ValueSpec::File | ValueSpec::TemplateFile => {
            json!({ "type": "string" })
        }
        ValueSpec::Expression => json!({ "type": ["string", "boolean", "number"] }),
        ValueSpec::Boolean => with_params(json!({ "type": "boolean" })),
        ValueSpec::Integer { min, max } => {
            let mut number = json!({ "type": "integer" });
            limit(&mut number, (*min != i64::MIN).then(|| json!(min)), (*max != i64::MAX).then(|| json!(max)));
            with_params(json!({ "anyOf": [number, written("^-?[0-9]+(\\.[0-9]+)?[kM]$")] }))
        }
        ValueSpec::Number { min, max } => {
            let mut number = json!({ "type": "number" });
            limit(&mut number, min.is_finite().then(|| json!(min)), max.is_finite().then(|| json!(max)));
            with_params(number)
        }
        ValueSpec::Duration => with_params(written("^\\s*([0-9]+(\\.[0-9]+)?(ms|s|m|h|d)\\s*)+$")),
        ValueSpec::Size => with_params(written("(?i)^\\s*[0-9]+(\\.[0-9]+)?\\s*(b|bytes?|[kmg]i?b)\\s*$")),
        ValueSpec::Amount { units } => {
            let units: Vec<String> = units.iter().map(|unit| format!("{}s?", unit.trim_end_matches('s'))).collect();
            with_params(written(&format!("^\\s*[0-9]+(\\.[0-9]+)?[kM]?\\s*({})\\s*$", units.join("|"))))
        }
        ValueSpec::ShareOrCount => {
            let share = written("^\\s*[0-9]+(\\.[0-9]+)?\\s*%\\s*$");
            with_params(json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, share] }))
        }
        ValueSpec::Choice(words) => with_params(json!({ "enum": words })),
        ValueSpec::List(of) => json!({ "type": "array", "items": value(of) }),
        ValueSpec::Map(of) => map_of(value(of)),
        ValueSpec::Object(keys) => object(keys),
        ValueSpec::OneOf(specs) => json!({ "anyOf": specs.iter().map(value).collect::<Vec<_>>() }),
        ValueSpec::Schema => json!({ "type": ["object", "string"] }),
        ValueSpec::Any | ValueSpec::Later => json!({}),
    }
}

fn limit(number: &mut Value, min: Option<Value>, max: Option<Value>) {
    if let Some(min) = min {
        number["minimum"] = min;
    }
    if let Some(max) = max {
        number["maximum"] = max;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::pipeline::file;
    use crate::pipeline::shape::to_json;
    use crate::steps::STEP_KINDS;

    fn accepts(text: &str) -> bool {
        let (_, node, _) = file::parse(Path::new("p.yaml"), text.as_bytes()).unwrap();
        jsonschema::validator_for(&schema(STEP_KINDS)).unwrap().is_valid(&to_json(&node))
    }

    #[test]
    fn every_pipeline_of_the_project_is_accepted() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        for folder in [folder.join("pipelines"), folder.join("templates/starters")] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_none_or(|e| e != "yaml") {
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(accepts(&text), "{}", path.display());
            }
        }
    }

    #[test]
    fn mistakes_that_a_schema_can_see_are_refused() {
        let good = "version: 1\nsources: { a: \"x/*.txt\" }\nsteps: [ { id: s, use: split, size: 40 words } ]\n";
        assert!(accepts(good));
        for (right, wrong) in [
            ("version: 1", "version: 2"),
            ("use: split", "use: spilt"),
            ("size: 40 words", "size: 40"),
            ("size: 40 words", "sizes: 40 words"),
            ("size: 40 words", "size: 40 parsecs"),
            ("id: s, ", ""),
            ("steps: [", "run: { max_failed: many }\nsteps: ["),
            ("steps: [", "model: { temperature: 9 }\nsteps: ["),
            ("steps: [", "runs: {}\nsteps: ["),
        ] {
            assert!(!accepts(&good.replace(right, wrong)), "{wrong}");
        }
    }
}
