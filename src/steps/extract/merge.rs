//! Items of several parts made one list: what is the same is joined, what was taken back is settled.

use serde_json::{Map, Value, json};

use super::items::Item;
use crate::steps::options::Reader;
use crate::steps::text::{carried_by, clip, content, similarity};

/// The least share of a decision's words that the turn taking it back must hold.
const TAKEN_BACK: f64 = 0.25;
const OWN_WORDS: f64 = 2.0;

/// How items are joined.
#[derive(Debug, Default)]
pub struct Merge {
    same_when: Vec<Same>,
    union: Vec<String>,
    conflict: Conflict,
}

#[derive(Debug)]
enum Same {
    Equal(String),
    Similar(String, f64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Conflict {
    #[default]
    Mark,
    First,
    Last,
}

impl Merge {
    pub fn read(read: &mut Reader<'_>, fields: &[String]) -> Self {
        let mut same_when = Vec::new();
        for (i, rule) in read.texts(&["long", "merge", "same_when"]).into_iter().enumerate() {
            let index = i.to_string();
            let path = ["long", "merge", "same_when", index.as_str()];
            let parsed = parse(rule);
            let field = match &parsed {
                Some(Same::Equal(field) | Same::Similar(field, _)) => field.clone(),
                None => {
                    let hint = "a field's name, or `similar(field, 0.8)`".to_owned();
                    read.fault_with_hint(
                        &path,
                        format!("`{rule}` is no rule for when two items are the same"),
                        Some(hint),
                    );
                    continue;
                }
            };
            if !fields.is_empty() && !fields.contains(&field) {
                let near = crate::diagnostic::suggest(&field, fields.iter().map(String::as_str));
                read.fault_with_hint(
                    &path,
                    format!("the schema has no field `{field}`"),
                    near.map(|n| format!("did you mean `{n}`?")),
                );
            }
            same_when.extend(parsed);
        }
        let union: Vec<String> = read.texts(&["long", "merge", "union"]).into_iter().map(str::to_owned).collect();
        for (i, field) in union.iter().enumerate().filter(|(_, f)| !fields.is_empty() && !fields.contains(f)) {
            read.fault(&["long", "merge", "union", &i.to_string()], format!("the schema has no field `{field}`"));
        }
        let conflict = match read.text(&["long", "merge", "conflict"]) {
            Some("first") => Conflict::First,
            Some("last") => Conflict::Last,
            _ => Conflict::Mark,
        };
        Self { same_when, union, conflict }
    }

    /// Joins items, in the order of the document. Word for word the same item is one even without a rule: parts overlap.
    pub fn merge(&self, items: Vec<Item>, notes: &mut Vec<String>) -> Vec<Item> {
        let mut merged: Vec<Item> = Vec::new();
        let before = items.len();
        for item in items {
            match merged.iter_mut().find(|m| self.are_same(&m.fields, &item.fields)) {
                Some(earlier) => self.join(earlier, item),
                None => merged.push(item),
            }
        }
        if merged.len() < before {
            let n = before - merged.len();
            notes.push(format!("joined {n} item{} with another that is the same", if n == 1 { "" } else { "s" }));
        }
        self.settle_reversals(&mut merged, notes);
        merged
    }

    fn are_same(&self, a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
        if a == b {
            return true;
        }
        let text = |map: &Map<String, Value>, field: &str| map.get(field).map(plain).unwrap_or_default();
        !self.same_when.is_empty()
            && self.same_when.iter().all(|rule| match rule {
                Same::Equal(field) => a.get(field) == b.get(field),
                Same::Similar(field, least) => similarity(&text(a, field), &text(b, field)) >= *least,
            })
    }

    fn join(&self, into: &mut Item, other: Item) {
        let mut conflicts = Map::new();
        for (field, value) in other.fields {
            let Some(own) = into.fields.get_mut(&field) else {
                into.fields.insert(field, value);
                continue;
            };
            if let (Value::Array(own), Value::Array(more), true) = (&mut *own, &value, self.union.contains(&field)) {
                for item in more {
                    if !own.contains(item) {
                        own.push(item.clone());
                    }
                }
                continue;
            }
            let is_added =
                matches!(field.as_str(), "at" | "quoted" | "conflicts") || value.is_object() && field == "evidence";
            if own.is_null() {
                *own = value;
            } else if *own != value && !value.is_null() && !is_added {
                match self.conflict {
                    Conflict::First => {}
                    Conflict::Last => *own = value,
                    Conflict::Mark => {
                        conflicts.insert(field, value);
                    }
                }
            }
        }
        if !conflicts.is_empty() {
            let list = into.fields.entry("conflicts").or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(Value::Object(conflicts));
            }
        }
        into.takes_back = into.takes_back.take().or(other.takes_back);
        into.turns.extend(other.turns);
        into.turns.sort_unstable();
        into.turns.dedup();
    }

    /// A decision that takes back an earlier one names it in part: the one it holds most words of is marked,
    /// or dropped where the last counts. All that was said with it counts, and its own words twice as much: "We don't
    /// go with Gatewell. Everything else stays, the glass as well" is not about the glass.
    fn settle_reversals(&self, items: &mut Vec<Item>, notes: &mut Vec<String>) {
        let mut taken_back: Vec<usize> = Vec::new();
        for later in 0..items.len() {
            let Some(text) = items[later].takes_back.clone() else { continue };
            let own = words_of(&items[later].fields);
            let alike = |i: usize| {
                let words = words_of(&items[i].fields);
                let held = carried_by(&words, &content(&text));
                (held >= TAKEN_BACK).then(|| (i, held + OWN_WORDS * carried_by(&own, &content(&words))))
            };
            let earlier = (0..later).filter(|i| !taken_back.contains(i)).filter_map(alike);
            let best = earlier.fold(None, |best: Option<(usize, f64)>, (i, s)| match best {
                Some((_, most)) if most > s => best,
                _ => Some((i, s)),
            });
            let Some((i, _)) = best else { continue };
            let by = items[later].fields.get("evidence").cloned().unwrap_or(Value::Null);
            items[i].fields.insert("taken_back_by".into(), by);
            taken_back.push(i);
        }
        if self.conflict == Conflict::Last && !taken_back.is_empty() {
            for &i in &taken_back {
                notes.push(format!("left out as taken back later: {}", clip(&words_of(&items[i].fields), 80)));
            }
            let mut i = 0;
            items.retain(|_| {
                i += 1;
                !taken_back.contains(&(i - 1))
            });
        }
    }
}

fn parse(rule: &str) -> Option<Same> {
    let is_name = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || c == '_');
    let rule = rule.trim();
    if is_name(rule) {
        return Some(Same::Equal(rule.to_owned()));
    }
    let (field, least) = rule.strip_prefix("similar(")?.strip_suffix(')')?.split_once(',')?;
    let least: f64 = least.trim().parse().ok()?;
    (is_name(field.trim()) && (0.0..=1.0).contains(&least)).then(|| Same::Similar(field.trim().to_owned(), least))
}

/// All that an item says, as one text.
fn words_of(fields: &Map<String, Value>) -> String {
    let said =
        fields.iter().filter(|(k, _)| !matches!(k.as_str(), "evidence" | "at" | "quoted")).map(|(_, v)| plain(v));
    said.filter(|t| !t.is_empty()).collect::<Vec<_>>().join(" · ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
