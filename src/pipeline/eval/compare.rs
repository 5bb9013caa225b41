//! When two values say the same: case, white space, numbers and dates aside. What has two readings, such as 3/4/2026 or
//! 1.234, is the same where any of them is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use super::align::best_matching;
use super::rouge::tokens;

/// How a field is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// As a number or a date where both are one, else as text.
    #[default]
    Auto,
    Exact,
    Text,
    Number,
    Date,
    /// By shared words: the same from two thirds of them on.
    Words,
}

/// The words for it in a file.
pub const HOW: &[&str] = &["auto", "exact", "text", "number", "date", "words"];

/// The share of shared words from which texts compared by words are the same.
const WORDS_LEAST: f64 = 2.0 / 3.0;
/// Two items are of one pair where they are at least so alike.
const ITEM_LEAST: f64 = 0.5;

impl How {
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Auto, Self::Exact, Self::Text, Self::Number, Self::Date, Self::Words];
        HOW.iter().position(|word| *word == name).map(|at| all[at])
    }
}

/// How the fields of one step are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub how: BTreeMap<String, How>,
    /// The fields that decide which items are of one pair; empty: all.
    pub match_by: Vec<String>,
    /// Fields that are evidence, and no values.
    pub beside: BTreeSet<String>,
}

/// Right, made up, and missed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub right: f64,
    pub extra: f64,
    pub missed: f64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.extra += other.extra;
        self.missed += other.missed;
    }
}

impl Counts {
    /// `None` where nothing was said.
    pub fn precision(&self) -> Option<f64> {
        (self.right + self.extra > 0.0).then(|| self.right / (self.right + self.extra))
    }

    /// `None` where there was nothing to find.
    pub fn recall(&self) -> Option<f64> {
        (self.right + self.missed > 0.0).then(|| self.right / (self.right + self.missed))
    }

    /// `None` where there was nothing to find and nothing was said.
    pub fn f1(&self) -> Option<f64> {
        let all = 2.0 * self.right + self.extra + self.missed;
        (all > 0.0).then(|| 2.0 * self.right / all)
    }
}

/// Whether `found` says what `wanted` does.
pub fn same(wanted: &Value, found: &Value, how: How) -> bool {
    match (wanted, found) {
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => {
            let counts = count(wanted, found, "", &Rules::default());
            counts.extra == 0.0 && counts.missed == 0.0
        }
        _ => match (scalar(wanted), scalar(found)) {
            (Some(a), Some(b)) => same_text(&a, &b, how),
            (None, None) => true, // neither is stated
            _ => false,
        },
    }
}

/// Returns a value as text; `None` where it is not stated.
fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) if items.is_empty() => None,
        other => Some(other.to_string()),
    }
}

fn same_text(a: &str, b: &str, how: How) -> bool {
    let meet = |a: Vec<String>, b: Vec<String>| a.iter().any(|x| b.contains(x));
    match how {
        How::Exact => a == b,
        How::Text => plain(a) == plain(b),
        How::Number => meet(numbers(a), numbers(b)),
        How::Date => meet(dates(a), dates(b)),
        How::Words => likeness(a, b) >= WORDS_LEAST,
        How::Auto => plain(a) == plain(b) || meet(numbers(a), numbers(b)) || meet(dates(a), dates(b)),
    }
}

/// Returns a text in lower case, NFKC, with single blanks and without marks around it.
pub fn plain(text: &str) -> String {
    let text: String = text.nfkc().collect::<String>().to_lowercase();
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.trim_matches(|c: char| c.is_ascii_punctuation() || "“”‘’«»„…".contains(c) || c == ' ').to_owned()
}

const CURRENCIES: &[&str] = &[
    "eur", "usd", "gbp", "chf", "jpy", "cny", "krw", "aud", "cad", "myr", "rm", "inr", "czk", "brl", "sek", "nok",
    "dkk", "pln", "sgd", "nzd",
];

/// Returns every reading of a text as a number, in one way of writing; empty where it is none.
fn numbers(text: &str) -> Vec<String> {
    let text = text.trim().to_lowercase();
    let text = text.trim_matches(|c: char| "€$£¥%".contains(c) || c.is_whitespace());
    let mut text = text.to_owned();
    for currency in CURRENCIES {
        let without = text.strip_prefix(currency).or_else(|| text.strip_suffix(currency));
        if let Some(without) = without.filter(|w| w.contains(|c: char| c.is_ascii_digit())) {
            text = without.trim_matches(|c: char| ".:€$£¥".contains(c) || c.is_whitespace()).to_owned();
        }
    }
    let text: String = text.chars().filter(|c| !matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\'' | '’')).collect();
    let is_number = text.chars().all(|c| c.is_ascii_digit() || ".,-+".contains(c));
    if !is_number || !text.contains(|c: char| c.is_ascii_digit()) {
        // 1e3, as JSON may have it.
        return text
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite() && !text.contains("inf"))
            .map(written)
            .into_iter()
            .collect();
    }
    let readings = match (text.rfind('.'), text.rfind(',')) {
        (Some(dot), Some(comma)) if dot > comma => vec![text.replace(',', "")],
        (Some(_), Some(_)) => vec![text.replace('.', "").replace(',', ".")],
        (Some(at), None) | (None, Some(at)) => {
            let mark = &text[at..=at];
            let mut readings = Vec::new();
            if text.matches(mark).count() == 1 {
                readings.push(text.replace(mark, "."));
            }
            // 1.234 may be a thousand and more.
            if text.split(mark).skip(1).all(|group| group.len() == 3) {
                readings.push(text.replace(mark, ""));
            }
            readings
        }
        (None, None) => vec![text.clone()],
    };
    readings.iter().filter_map(|r| r.parse::<f64>().ok()).map(written).collect()
}

fn written(number: f64) -> String {
    // Hundredths and below stay; what floating point adds does not.
    let rounded = (number * 1e6).round() / 1e6;
    format!("{}", if rounded == 0.0 { 0.0 } else { rounded })
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const MONTHS_DE: &[(&str, u32)] = &[("mär", 3), ("mai", 5), ("okt", 10), ("dez", 12)];

/// Returns every reading of a text as a date, as `2026-05-03`; empty where it is none.
fn dates(text: &str) -> Vec<String> {
    let lower = text.trim().to_lowercase();
    // What follows a date and is a time of day is no part of it.
    let day = lower.split(['t', ' ']).next().filter(|d| d.len() == 10 && d.as_bytes()[4] == b'-').unwrap_or(&lower);
    let parts: Vec<&str> = day.split(|c: char| !c.is_alphanumeric()).filter(|p| !p.is_empty()).collect();
    let [a, b, c] = parts[..] else { return Vec::new() };
    let month = |word: &str| {
        let named = MONTHS.iter().position(|m| word.starts_with(m)).map(|i| i as u32 + 1);
        let named = named.or_else(|| MONTHS_DE.iter().find(|(m, _)| word.starts_with(m)).map(|(_, n)| *n));
        named.filter(|_| word.chars().all(char::is_alphabetic))
    };
    let number = |word: &str| {
        let digits = word.trim_end_matches(|c: char| c.is_alphabetic());
        let ordinal = ["", "st", "nd", "rd", "th"].contains(&&word[digits.len()..]);
        digits.parse::<u32>().ok().filter(|_| ordinal)
    };
    let year = |word: &str| {
        let n = word.parse::<u32>().ok()?;
        match word.len() {
            4 => Some(n),
            2 => Some(if n < 70 { 2000 + n } else { 1900 + n }),
            _ => None,
        }
    };
    let date = |y: Option<u32>, m: Option<u32>, d: Option<u32>| {
        let date = jiff::civil::Date::new(y? as i16, i8::try_from(m?).ok()?, i8::try_from(d?).ok()?).ok()?;
        Some(date.to_string())
    };
    let mut readings = match (month(a), month(b)) {
        (Some(m), _) => vec![date(year(c), Some(m), number(b))],
        (_, Some(m)) => vec![date(year(c), Some(m), number(a)), date(year(a), Some(m), number(c))],
        _ if a.len() == 4 => vec![date(year(a), number(b), number(c))],
        _ => vec![date(year(c), number(b), number(a)), date(year(c), number(a), number(b))],
    };
    readings.dedup();
    readings.into_iter().flatten().collect()
}

/// Returns how alike two texts are by their words, 0 to 1: twice the shared over all.
pub fn likeness(a: &str, b: &str) -> f64 {
    let (a, b) = (words(a), words(b));
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    b.iter().for_each(|w| *counts.entry(w).or_default() += 1);
    let mut both = 0;
    for word in &a {
        if let Some(n) = counts.get_mut(word.as_str()).filter(|n| **n > 0) {
            *n -= 1;
            both += 1;
        }
    }
    if a.len() + b.len() == 0 { 1.0 } else { 2.0 * both as f64 / (a.len() + b.len()) as f64 }
}

/// Words as ROUGE has them, and those of other alphabets as they are; of a script without blanks each letter is one.
fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let mut all = Vec::new();
    for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()) {
        let has_blanks = |c: char| (c as u32) < 0x2E80;
        match word.is_ascii() {
            true => all.extend(tokens(word)),
            false if word.chars().all(has_blanks) => all.push(word.to_owned()),
            false => all.extend(word.chars().map(String::from)),
        }
    }
    all
}

/// Returns how alike two items are: the mean over the fields that are wanted.
fn item_likeness(wanted: &Value, found: &Value, rules: &Rules) -> f64 {
    let (Some(fields), Some(has)) = (wanted.as_object(), found.as_object()) else {
        return f64::from(u8::from(same(wanted, found, How::Auto)));
    };
    let decides = |name: &String| {
        let named = rules.match_by.is_empty() || rules.match_by.contains(name);
        named && !rules.beside.contains(name) && has.contains_key(name)
    };
    let alike = |(name, value): (&String, &Value)| {
        let found = has.get(name).unwrap_or(&Value::Null);
        let how = rules.how.get(name).copied().unwrap_or_default();
        match (value, found) {
            _ if same(value, found, how) => 1.0,
            (Value::String(a), Value::String(b)) if matches!(how, How::Auto | How::Words | How::Text) => likeness(a, b),
            _ => 0.0,
        }
    };
    let all: Vec<f64> = fields.iter().filter(|(name, v)| decides(name) && !v.is_null()).map(alike).collect();
    if all.is_empty() { 0.0 } else { all.iter().sum::<f64>() / all.len() as f64 }
}

/// Returns which wanted item is which found one.
pub fn pair(wanted: &[Value], found: &[Value], rules: &Rules) -> Vec<(usize, usize)> {
    best_matching(wanted.len(), found.len(), ITEM_LEAST, |i, j| item_likeness(&wanted[i], &found[j], rules))
}

/// Counts fields. `wanted` says what is compared: a field it does not name is not; `null` says that it is not stated. A
/// wrong value is one made up and one missed. `field` is the name of what is counted, where it has one.
pub fn count(wanted: &Value, found: &Value, field: &str, rules: &Rules) -> Counts {
    let mut counts = Counts::default();
    match (wanted, found) {
        (Value::Object(fields), _) => {
            for (name, value) in fields.iter().filter(|(name, _)| !rules.beside.contains(*name)) {
                counts += count(value, found.get(name).unwrap_or(&Value::Null), name, rules);
            }
        }
        (Value::Array(items), Value::Array(others)) => {
            let pairs = if items.iter().any(Value::is_object) {
                pair(items, others, rules)
            } else {
                let how = rules.how.get(field).copied().unwrap_or_default();
                best_matching(items.len(), others.len(), 0.5, |i, j| {
                    f64::from(u8::from(same(&items[i], &others[j], how)))
                })
            };
            pairs.iter().for_each(|(i, j)| counts += count(&items[*i], &others[*j], field, rules));
            let nothing = Value::Null;
            for (_, item) in items.iter().enumerate().filter(|(i, _)| !pairs.iter().any(|(a, _)| a == i)) {
                counts += count(item, &nothing, field, rules);
            }
            let known: BTreeSet<&String> = items.iter().filter_map(Value::as_object).flat_map(|o| o.keys()).collect();
            for (_, other) in others.iter().enumerate().filter(|(j, _)| !pairs.iter().any(|(_, b)| b == j)) {
                counts.extra += leaves(other, &known, rules);
            }
        }
        (Value::Array(items), _) if scalar(found).is_none() => {
            items.iter().for_each(|item| counts += count(item, &Value::Null, field, rules));
        }
        _ => {
            let how = rules.how.get(field).copied().unwrap_or_default();
            match (scalar(wanted).is_some(), scalar(found).is_some()) {
                (false, false) => {}
                (false, true) => counts.extra += leaves(found, &BTreeSet::new(), rules),
                (true, false) => counts.missed += 1.0,
                (true, true) if same(wanted, found, how) => counts.right += 1.0,
                (true, true) => (counts.extra, counts.missed) = (1.0, 1.0),
            }
        }
    }
    counts
}

/// The number of values that something holds, of the fields known where any are.
fn leaves(value: &Value, known: &BTreeSet<&String>, rules: &Rules) -> f64 {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| (known.is_empty() || known.contains(name)) && !rules.beside.contains(*name))
            .map(|(_, v)| leaves(v, &BTreeSet::new(), rules))
            .sum(),
        Value::Array(items) => items.iter().map(|i| leaves(i, known, rules)).sum(),
        other => f64::from(u8::from(scalar(other).is_some())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(a: Value, b: Value, expected: bool) {
        assert_eq!(same(&a, &b, How::Auto), expected, "{a} {b}");
    }

    #[test]
    fn case_white_space_numbers_and_dates_are_no_difference() {
        check(json!("Kiln  Works Ltd."), json!("KILN WORKS LTD"), true);
        check(json!(1234.5), json!("€ 1.234,50"), true);
        check(json!(1234.5), json!("1,234.50 EUR"), true);
        check(json!("1234"), json!("1.234"), true);
        check(json!(1.234), json!("1.234"), true);
        check(json!(12), json!("Suite 12"), false);
        check(json!(12), json!(12.0), true);
        check(json!("2026-05-03"), json!("3 May 2026"), true);
        check(json!("2026-05-03"), json!("May 3rd, 2026"), true);
        check(json!("03/05/2026"), json!("2026-05-03"), true);
        check(json!("03/05/2026"), json!("2026-03-05"), true);
        check(json!("31/05/2026"), json!("2026-05-31"), true);
        check(json!("3. März 2026"), json!("2026-03-03"), true);
        check(json!("2026-05-03T10:00:00"), json!("2026-05-03"), true);
        check(json!("2026-02-30"), json!("30.2.2026"), false);
        check(json!(null), json!(""), true);
        check(json!(null), json!("x"), false);
        check(json!(true), json!("true"), true);
        check(json!("100"), json!("1000"), false);
        assert!(
            !same(&json!("a"), &json!("A"), How::Exact) && same(&json!("Über uns"), &json!("über  uns"), How::Text)
        );
    }

    #[test]
    fn a_wrong_value_is_one_made_up_and_one_missed() {
        let rules = Rules::default();
        let counts = count(
            &json!({ "a": "x", "b": 2, "c": null, "d": null, "e": "gone" }),
            &json!({ "a": "X", "b": 3, "c": "made up", "z": "not asked" }),
            "",
            &rules,
        );
        assert_eq!(counts, Counts { right: 1.0, extra: 2.0, missed: 2.0 });
        assert!((counts.f1().unwrap() - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!(count(&json!(null), &json!(null), "", &rules).f1(), None);
    }

    #[test]
    fn lists_are_matched_whatever_their_order() {
        let rules = Rules { beside: ["said".to_owned()].into(), ..Rules::default() };
        let wanted = json!([{ "task": "repair the kiln", "owner": "Bo", "said": "x" }, { "task": "buy flour", "owner": "Anna" }]);
        let found = json!([{ "task": "buy more flour", "owner": "Anna" }, { "task": "Repair the kilns", "owner": "Cem" }, { "task": "dance", "owner": null }]);
        assert_eq!(pair(wanted.as_array().unwrap(), found.as_array().unwrap(), &rules), [(0, 1), (1, 0)]);
        // Right: one owner. Wrong: both tasks to the letter and one owner. Made up: the third task.
        assert_eq!(count(&wanted, &found, "", &rules), Counts { right: 1.0, extra: 4.0, missed: 3.0 });
        let by_words = Rules { how: [("task".to_owned(), How::Words)].into(), ..rules };
        assert_eq!(count(&wanted, &found, "", &by_words).right, 3.0);
        assert_eq!(
            count(&json!(["a", "b"]), &json!(["B", "c"]), "", &Rules::default()),
            Counts { right: 1.0, extra: 1.0, missed: 1.0 }
        );
    }

    #[test]
    fn words_of_every_script_count() {
        assert_eq!(likeness("我们好", "我们"), 0.8);
        assert_eq!(likeness("Größe ist", "größe war"), 0.5);
    }
}
