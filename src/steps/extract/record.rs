//! One record of several parts: each field by its own rule, what parts say differently marked.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::asking::Answer;
use super::proof::each_quote;
use super::written::written;
use crate::steps::options::Reader;
use crate::steps::text::clip;

/// The rules as an author writes them.
pub const RULES: &[&str] = &["append", "union", "first-stated", "last", "agree-or-null"];
/// Of an answer that failed its checks, as much as the next prompt can show.
const SHOWN_MAX: usize = 1200; // characters

/// An object with what speaks for its values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    pub fields: Map<String, Value>,
    /// Of the same build as `fields`: an entry where a value stands.
    pub evidence: Map<String, Value>,
    pub conflicts: Vec<Value>,
}

/// What becomes of a field that several parts state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Lists one after the other, as they come.
    Append,
    /// Lists joined, what is equal once.
    Union,
    FirstStated,
    Last,
    /// The value where all that state one agree, else null; what they state is marked.
    AgreeOrNull,
    /// Without a rule: the first is kept and the others are marked; lists are joined.
    Unsaid,
}

/// A rule for each field, and one for the rest.
#[derive(Debug)]
pub struct Rules {
    fields: BTreeMap<String, Rule>,
    others: Rule,
}

impl Rules {
    /// No rules: what several parts state differently is marked.
    pub fn none() -> Self {
        Self { fields: BTreeMap::new(), others: Rule::Unsaid }
    }

    /// Reads `long.merge` of a step with one record.
    pub fn read(read: &mut Reader<'_>, fields: &[String]) -> Self {
        let mut rules = Self::none();
        let written = read.at(&["long", "merge"]).and_then(Value::as_object).into_iter().flatten();
        for (field, rule) in written {
            let path = ["long", "merge", field.as_str()];
            let Some(rule) = rule.as_str().and_then(parse) else {
                let hint =
                    format!("with `schema` it is a rule for each field: {}; `*` is all others", RULES.join(", "));
                read.fault_with_hint(&path, format!("`{field}` has no rule for one record"), Some(hint));
                continue;
            };
            if field == "*" {
                rules.others = rule;
            } else if fields.is_empty() || fields.contains(field) {
                rules.fields.insert(field.clone(), rule);
            } else {
                let near = crate::diagnostic::suggest(field, fields.iter().map(String::as_str));
                let hint = near.map(|n| format!("did you mean `{n}`?"));
                read.fault_with_hint(&path, format!("the schema has no field `{field}`"), hint);
            }
        }
        rules
    }

    /// Joins what the parts say, in the order of the document. `None` where there was no part.
    pub fn join(&self, records: Vec<Record>, schema: &Value, notes: &mut Vec<String>) -> Option<Record> {
        let mut records = records.into_iter();
        let mut joined = records.next()?;
        let mut conflicts: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut disagreed: Vec<String> = Vec::new();
        let is_known = |name: &String| schema.pointer("/properties").is_some_and(|p| p.get(name).is_some());
        for record in records {
            for (name, value) in record.fields {
                let evidence = record.evidence.get(&name).cloned();
                let Some(own) = joined.fields.get_mut(&name) else {
                    joined.fields.insert(name.clone(), value);
                    joined.evidence.extend(evidence.map(|e| (name, e)));
                    continue;
                };
                let rule = self.rule(&name);
                if let (Value::Array(own), Value::Array(more)) = (&mut *own, &value)
                    && matches!(rule, Rule::Append | Rule::Union | Rule::Unsaid)
                {
                    let own_evidence = joined.evidence.entry(name).or_insert_with(|| json!([])).as_array_mut();
                    extend(own, own_evidence, more, evidence, rule == Rule::Append);
                    continue;
                }
                let takes = !is_stated(own) || rule == Rule::Last && is_stated(&value);
                if takes && is_stated(&value) && !disagreed.contains(&name) {
                    *own = value;
                    joined.evidence.remove(&name);
                    joined.evidence.extend(evidence.map(|e| (name, e)));
                } else if is_stated(&value) && *own != value && is_known(&name) {
                    match rule {
                        Rule::FirstStated | Rule::Last => {}
                        Rule::AgreeOrNull => {
                            let first = std::mem::take(own);
                            joined.evidence.remove(&name);
                            let list = conflicts.entry(name.clone()).or_default();
                            list.extend(Some(first).filter(is_stated));
                            list.push(value);
                            disagreed.push(name);
                        }
                        Rule::Append | Rule::Union | Rule::Unsaid => conflicts.entry(name).or_default().push(value),
                    }
                }
            }
        }
        self.tell(&conflicts, notes);
        for (name, mut values) in conflicts {
            values.dedup();
            joined.conflicts.extend(values.into_iter().map(|v| json!({ &name: v })));
        }
        // Evidence of lists that have none stays out.
        joined.evidence.retain(|_, e| e.as_array().is_none_or(|l| !l.is_empty()));
        Some(joined)
    }

    fn tell(&self, conflicts: &BTreeMap<String, Vec<Value>>, notes: &mut Vec<String>) {
        let of = |agree: bool| -> Vec<&str> {
            let names = conflicts.keys().filter(|n| (self.rule(n) == Rule::AgreeOrNull) == agree);
            names.map(String::as_str).collect()
        };
        let (kept, emptied) = (of(false), of(true));
        if !kept.is_empty() {
            let names = kept.join(", ");
            notes.push(format!("parts disagree on {names}: the first is kept, the others are in `conflicts`"));
        }
        if !emptied.is_empty() {
            let names = emptied.join(", ");
            notes.push(format!("parts disagree on {names}: null, what they say is in `conflicts`"));
        }
    }

    fn rule(&self, field: &str) -> Rule {
        self.fields.get(field).copied().unwrap_or(self.others)
    }
}

impl Record {
    pub fn of(fields: Map<String, Value>) -> Self {
        Self { fields, ..Self::default() }
    }

    /// Returns the values that have a quote, in order: field, value in words, quote.
    pub fn quoted_values(&self) -> Vec<(String, String, String)> {
        fn walk(name: &str, value: &Value, evidence: &Value, found: &mut Vec<(String, String, String)>) {
            match evidence {
                Value::Object(map) => match map.get("quote").and_then(Value::as_str) {
                    Some(quote) => {
                        let value = value.as_str().map_or_else(|| written(value), str::to_owned);
                        found.push((name.to_owned(), value, quote.to_owned()));
                    }
                    None => map.iter().for_each(|(below, e)| {
                        let value = value.get(below).unwrap_or(&Value::Null);
                        walk(&format!("{name} {below}"), value, e, found);
                    }),
                },
                Value::Array(list) => list.iter().enumerate().for_each(|(i, e)| {
                    walk(name, value.get(i).unwrap_or(&Value::Null), e, found);
                }),
                _ => {}
            }
        }
        let mut found = Vec::new();
        for (name, evidence) in &self.evidence {
            walk(&name.replace('_', " "), self.fields.get(name).unwrap_or(&Value::Null), evidence, &mut found);
        }
        found
    }

    /// Returns the record as it stands under `steps.<id>`: beside its fields what speaks for them and what failed.
    pub fn into_value(self, with_evidence: bool, failed: Vec<String>) -> Value {
        let mut least: Option<f64> = None;
        each_quote(&Value::Object(self.evidence.clone()), &mut |entry| {
            let support = entry.get("support").and_then(Value::as_f64);
            least = least.into_iter().chain(support).reduce(f64::min);
        });
        let mut fields = self.fields;
        if with_evidence {
            fields.insert("evidence".into(), Value::Object(self.evidence));
            fields.insert("min_support".into(), json!(least));
        }
        if !self.conflicts.is_empty() {
            fields.insert("conflicts".into(), Value::Array(self.conflicts));
        }
        if !failed.is_empty() {
            fields.insert("failed".into(), json!(failed));
        }
        Value::Object(fields)
    }
}

/// What the model is told of an answer that failed.
pub fn complaint(answer: &Answer, failed: &[String]) -> String {
    let said: Vec<String> = answer.said.iter().map(|s| clip(&written(&s.value), SHOWN_MAX)).collect();
    let failed: Vec<String> = failed.iter().map(|f| format!("- {f}")).collect();
    format!("An earlier answer was: {}\nIt fails these checks:\n{}", said.join(" "), failed.join("\n"))
}

fn extend(
    own: &mut Vec<Value>,
    mut own_evidence: Option<&mut Vec<Value>>,
    more: &[Value],
    evidence: Option<Value>,
    as_they_come: bool,
) {
    let quotes = if let Some(Value::Array(quotes)) = evidence { quotes } else { Vec::new() };
    for (i, item) in more.iter().enumerate() {
        if as_they_come || !own.contains(item) {
            own.push(item.clone());
            if let (Some(list), Some(quote)) = (own_evidence.as_deref_mut(), quotes.get(i)) {
                list.push(quote.clone());
            }
        }
    }
}

fn is_stated(value: &Value) -> bool {
    !(value.is_null()
        || value.as_str().is_some_and(|s| s.trim().is_empty())
        || value.as_array().is_some_and(Vec::is_empty))
}

fn parse(rule: &str) -> Option<Rule> {
    Some(match rule {
        "append" => Rule::Append,
        "union" => Rule::Union,
        "first-stated" => Rule::FirstStated,
        "last" => Rule::Last,
        "agree-or-null" => Rule::AgreeOrNull,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &[(&str, Rule)], others: Rule, parts: &[Value], expected: Value, conflicts: Value) -> Vec<String> {
        let rules = Rules { fields: rules.iter().map(|(n, r)| (n.to_string(), *r)).collect(), others };
        let schema = json!({ "properties": { "lines": {}, "total": {}, "due": {} } });
        let records = parts.iter().map(|p| Record::of(p.as_object().unwrap().clone())).collect();
        let mut notes = Vec::new();
        let joined = rules.join(records, &schema, &mut notes).unwrap();
        assert_eq!((Value::Object(joined.fields), Value::Array(joined.conflicts)), (expected, conflicts));
        notes
    }

    #[test]
    fn each_field_is_joined_by_its_own_rule() {
        let parts = [
            json!({ "lines": [1, 2], "total": null, "due": "May" }),
            json!({ "lines": [2], "total": 5, "due": null }),
            json!({ "lines": [3], "total": 9, "due": "June" }),
        ];
        let rules = [("lines", Rule::Append), ("total", Rule::Last)];
        let notes = check(
            &rules,
            Rule::AgreeOrNull,
            &parts,
            json!({ "lines": [1, 2, 2, 3], "total": 9, "due": null }),
            json!([{ "due": "May" }, { "due": "June" }]),
        );
        assert!(notes[0].contains("due: null"), "{notes:?}");
        let rules = [("lines", Rule::Union), ("total", Rule::FirstStated)];
        let expected = json!({ "lines": [1, 2, 3], "total": 5, "due": "May" });
        check(&rules, Rule::Unsaid, &parts, expected, json!([{ "due": "June" }]));
    }

    #[test]
    fn a_part_that_states_nothing_disagrees_with_nobody() {
        let parts = [json!({ "due": null }), json!({ "due": "May" }), json!({ "due": "" }), json!({ "due": "May" })];
        check(&[], Rule::AgreeOrNull, &parts, json!({ "due": "May" }), json!([]));
        // Once parts have disagreed, a later one does not settle it.
        let parts = [json!({ "due": "May" }), json!({ "due": "June" }), json!({ "due": "June" })];
        let conflicts = json!([{ "due": "May" }, { "due": "June" }]);
        check(&[], Rule::AgreeOrNull, &parts, json!({ "due": null }), conflicts);
    }

    #[test]
    fn evidence_goes_with_its_values() {
        let part = |total: i64, line: &str| Record {
            fields: json!({ "total": total, "lines": [line] }).as_object().unwrap().clone(),
            evidence: json!({ "total": { "quote": total.to_string() }, "lines": [{ "quote": line }] })
                .as_object()
                .unwrap()
                .clone(),
            ..Record::default()
        };
        let rules = Rules { fields: BTreeMap::from([("total".into(), Rule::Last)]), others: Rule::Union };
        let joined = rules.join(vec![part(1, "a"), part(2, "a"), part(3, "b")], &json!({}), &mut Vec::new()).unwrap();
        assert_eq!(joined.evidence["total"], json!({ "quote": "3" }));
        assert_eq!(joined.evidence["lines"], json!([{ "quote": "a" }, { "quote": "b" }]));
        assert_eq!(joined.fields["lines"], json!(["a", "b"]));
    }
}
