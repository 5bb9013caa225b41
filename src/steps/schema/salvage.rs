//! Reads JSON that may have been cut off: what was complete is kept.

use serde_json::Value;

/// What could be read of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Salvaged {
    pub value: Value,
    /// Whether something at the end was lost.
    pub cut: bool,
}

/// Returns the JSON value that a text begins with, after white space. Of a value that is cut off, complete items of
/// lists and complete fields of objects remain. `None` where there is no value at all.
pub fn salvage(text: &str) -> Option<Salvaged> {
    let text = text.trim_start();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    if let Some(Ok(value)) = stream.next() {
        return Some(Salvaged { value, cut: false });
    }
    // Every place after a complete value inside is tried from the end: close what is open there, and parse.
    let mut open: Vec<char> = Vec::new();
    let mut places: Vec<(usize, String)> = Vec::new();
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if in_string {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            continue;
        }
        let closers = |open: &[char]| open.iter().rev().collect::<String>();
        match c {
            '"' => in_string = true,
            '{' | '[' => {
                open.push(if c == '{' { '}' } else { ']' });
                places.push((at + 1, closers(&open)));
            }
            '}' | ']' => {
                open.pop();
                places.push((at + 1, closers(&open)));
            }
            ',' => places.push((at, closers(&open))),
            _ => {}
        }
    }
    places.iter().rev().find_map(|(at, closers)| {
        let value = serde_json::from_str(&format!("{}{closers}", &text[..*at])).ok()?;
        Some(Salvaged { value, cut: true })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, expected: Option<(Value, bool)>) {
        assert_eq!(salvage(text), expected.map(|(value, cut)| Salvaged { value, cut }), "{text}");
    }

    #[test]
    fn complete_json_is_read_as_it_is() {
        check(r#" {"a": [1, 2]} "#, Some((json!({ "a": [1, 2] }), false)));
        check("[]", Some((json!([]), false)));
    }

    #[test]
    fn what_was_complete_before_the_cut_is_kept() {
        check(r#"[{"a": 1, "b": "x"}, {"a": 2, "b": "y, z"#, Some((json!([{ "a": 1, "b": "x" }, { "a": 2 }]), true)));
        check(r#"{"a": "one", "b": ["x", "y"], "c": tr"#, Some((json!({ "a": "one", "b": ["x", "y"] }), true)));
        check(r#"["a\"]", "b"#, Some((json!(["a\"]"]), true)));
        check("[", Some((json!([]), true)));
    }

    #[test]
    fn what_is_no_json_is_nothing() {
        check("Sure, here it is", None);
        check("", None);
    }
}
