//! Holds values against their own quotes: words and numbers that a quote does not hold were not read there.

use serde_json::{Number, Value};

use super::asking::Answer;
use super::items::free_texts;
use crate::steps::StepOutput;
use crate::steps::schema::may_be_missing;
use crate::steps::text::{carried_by, clip, content, squeeze};

/// Of a value, as much as a note shows.
const SHOWN_MAX: usize = 60; // characters

/// Takes out texts of which their quote holds less than `least`, and numbers whose digits are not among the quote's,
/// where the schema lets them be null; what was said stays beside the quote as `withheld`. Where it does not, it is
/// noted. What a schema lays down, such as one of several words or a date, may be put otherwise than it was said.
pub fn hold(schema: &Value, least: f64, answers: &mut [Option<Answer>], out: &mut StepOutput) {
    let texts: Vec<String> = free_texts(schema).into_iter().map(|(name, _)| name).collect();
    for record in answers.iter_mut().flatten().flat_map(|a| &mut a.records) {
        for (name, entry) in &mut record.evidence {
            let (Value::Object(entry), Some(value)) = (entry, record.fields.get_mut(name)) else { continue };
            let Some(quote) = entry.get("quote").and_then(Value::as_str) else { continue };
            let is_held = match &*value {
                Value::String(text) if texts.contains(name) => says_text(text, quote, least),
                Value::Number(number) if least > 0.0 => says_number(number, quote),
                _ => true,
            };
            if is_held {
                continue;
            }
            if may_be_missing(schema, name) == Some(true) {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                out.notes.push(format!("left out `{name}`: its quote does not hold {}", clip(&shown, SHOWN_MAX)));
                entry.insert("withheld".into(), std::mem::take(value));
            } else {
                out.notes.push(format!("`{name}` may not be null, and its quote does not hold it"));
            }
        }
    }
}

fn says_text(text: &str, quote: &str, least: f64) -> bool {
    match content(text).is_empty() {
        true => least <= 0.0 || squeeze(quote).contains(&squeeze(text)),
        false => carried_by(text, &content(quote)) >= least,
    }
}

/// "120.50" says 120.5, and "three" may say 3.
fn says_number(number: &Number, quote: &str) -> bool {
    let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
    let (said, value) = (digits(quote), digits(&number.to_string()));
    said.is_empty() || said.contains(value.trim_matches('0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_held_by_their_digits_and_texts_by_their_words() {
        let number = |n: Value, quote: &str| says_number(n.as_number().unwrap(), quote);
        assert!(number(json!(120.5), "Total: 120.50") && number(json!(1200), "1,200 EUR") && number(json!(3), "three"));
        assert!(number(json!(0), "0.00") && !number(json!(28544), "Table 20"));
        assert!(
            says_text("Kiln Works", "sold by KILN WORKS Ltd", 0.5) && !says_text("Elm Street 4", "2017 03:26", 0.5)
        );
        assert!(says_text("IT", "from IT", 0.5) && !says_text("IT", "from us", 0.5) && says_text("x", "y", 0.0));
    }
}
