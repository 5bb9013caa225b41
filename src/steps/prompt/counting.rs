//! The filters that count by the model's tokens: `tokens` and `fit`. Templates know no model, and a filter cannot be
//! handed one that lives only as long as a step: so a rendering says which texts it wants counted, they are counted, and
//! it is done again with what is known.

use std::cell::RefCell;
use std::collections::HashMap;

use minijinja::value::{Kwargs, Value as Inner};
use minijinja::{Environment, Error, ErrorKind};

use super::names;
use super::templates::TemplateFault;

/// Counts that depend on counts, one inside the other: more is no prompt.
const ROUNDS_MAX: usize = 8;

thread_local! {
    /// Set while a rendering that may count goes on.
    static COUNTS: RefCell<Option<Counts>> = const { RefCell::new(None) };
}

#[derive(Default)]
struct Counts {
    known: HashMap<String, Vec<usize>>, // text -> where each of its tokens ends, in bytes
    wanted: Vec<String>,
}

/// Ends the counting also where a rendering panics: the thread goes on with other work.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        COUNTS.with_borrow_mut(|counts| *counts = None);
    }
}

pub fn install(env: &mut Environment<'static>) {
    env.add_filter("tokens", |text: &Inner| ends(&words(text)).map(|ends| ends.map_or(0, |e| e.len())));
    env.add_filter("fit", fit);
}

/// Renders with `token_ends` to count by: it returns where each token of a text ends, in bytes.
pub fn counted<T>(
    token_ends: &dyn Fn(&str) -> Vec<usize>,
    render: &dyn Fn() -> Result<T, TemplateFault>,
) -> Result<T, TemplateFault> {
    let mut known = HashMap::new();
    for _ in 0..ROUNDS_MAX {
        COUNTS.with_borrow_mut(|counts| *counts = Some(Counts { known, wanted: Vec::new() }));
        let ended = Ended;
        let rendered = render();
        let counts = COUNTS.with_borrow_mut(Option::take).unwrap_or_default();
        drop(ended);
        if counts.wanted.is_empty() {
            return rendered;
        }
        known = counts.known;
        for text in counts.wanted {
            let ends = token_ends(&text);
            known.insert(text, ends);
        }
    }
    let message = format!("it counts tokens of what comes of counting tokens more than {ROUNDS_MAX} deep");
    Err(TemplateFault { message, line: None })
}

/// Returns where the tokens of a text end; `None` where that is only known the next time.
fn ends(text: &str) -> Result<Option<Vec<usize>>, Error> {
    COUNTS.with_borrow_mut(|counts| match counts {
        None => {
            let detail = "tokens are counted by the model, and this step does not ask it";
            Err(Error::new(ErrorKind::InvalidOperation, detail))
        }
        Some(counts) => {
            let found = counts.known.get(text).cloned();
            if found.is_none() {
                counts.wanted.push(text.to_owned());
            }
            Ok(found)
        }
    })
}

fn words(text: &Inner) -> String {
    if names::is_none(text) { String::new() } else { text.to_string() }
}

/// The text itself where it has at most `limit` tokens. A longer one is an error, unless `overflow` says what is left out:
/// its `end` or its `start`.
fn fit(text: &Inner, limit: usize, options: Kwargs) -> Result<String, Error> {
    let overflow: Option<&str> = options.get("overflow")?;
    options.assert_all_used()?;
    let text = words(text);
    let Some(ends) = ends(&text)? else { return Ok(text) };
    if ends.len() <= limit {
        return Ok(text);
    }
    let at = |index: usize| if index == 0 { 0 } else { boundary(&text, ends[index - 1]) };
    match overflow {
        Some("end") => Ok(text[..at(limit)].to_owned()),
        Some("start") => Ok(text[at(ends.len() - limit)..].to_owned()),
        Some(other) => {
            let detail = format!("fit: overflow is `end` or `start`, the part that is left out, not `{other}`");
            Err(Error::new(ErrorKind::InvalidOperation, detail))
        }
        None => {
            let detail = format!("the text has {} tokens, more than the {limit} of fit", ends.len());
            Err(Error::new(ErrorKind::InvalidOperation, detail))
        }
    }
}

/// A token may end inside a character.
fn boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::steps::prompt::Templates;

    /// Every word is a token.
    fn by_words(text: &str) -> Vec<usize> {
        text.char_indices().filter(|(_, c)| *c == ' ').map(|(at, _)| at).chain([text.len()]).collect()
    }

    fn render(source: &str) -> Result<String, String> {
        let templates = Templates::new();
        let template = templates.compile_template(source).unwrap();
        let names = json!({ "text": "one two three four" });
        counted(&by_words, &|| templates.render(&template, &names)).map_err(|f| f.message)
    }

    #[test]
    fn tokens_are_counted_and_a_text_that_does_not_fit_is_an_error_unless_it_is_said_what_goes() {
        assert_eq!(render("{{ text | tokens }} {{ (text ~ ' five') | tokens }}").unwrap(), "4 5");
        assert_eq!(render("{{ text | fit(4) }}").unwrap(), "one two three four");
        assert_eq!(render("{{ text | fit(2, overflow='end') }}").unwrap(), "one two");
        assert_eq!(render("{{ text | fit(2, overflow='start') }}").unwrap(), " three four");
        assert!(render("{{ text | fit(3) }}").unwrap_err().contains("4 tokens, more than the 3 of fit"));
        assert!(render("{{ text | fit(3, overflow='middle') }}").unwrap_err().contains("`middle`"));
        assert_eq!(render("{{ (text | fit(3, overflow='end')) | tokens }}").unwrap(), "3", "counts of counts");
    }

    #[test]
    fn where_no_model_is_asked_nothing_is_counted() {
        let templates = Templates::new();
        let template = templates.compile_template("{{ 'x' | tokens }}").unwrap();
        let fault = templates.render(&template, &json!({})).unwrap_err();
        assert!(fault.message.contains("does not ask it"), "{fault}");
    }
}
