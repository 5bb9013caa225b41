//! What a template or an expression names, and where: minijinja says which names are free, a small scanner says at
//! which line and column they stand. Evaluates nothing but templates over `params`.

use std::collections::HashSet;
use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde_json::Value;

/// A free name: `steps.summary.text` is `["steps", "summary", "text"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DottedName {
    pub path: Vec<String>,
    pub line: u32,   // 1-based, within the source
    pub column: u32, // 1-based, in characters
    pub called: bool,
}

/// A filter (`| upper`) or a test (`is none`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub name: String,
    pub line: u32,
    pub column: u32,
}

/// Everything that a source names and does not define itself, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct References {
    pub names: Vec<DottedName>,
    pub filters: Vec<Word>,
    pub tests: Vec<Word>,
}

/// Why a source does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub line: u32,
    pub column: u32,
}

/// Fuel for a template over `params`, which only ever puts a few words together.
const FUEL: u64 = 100_000;

/// Only for parsing and for `params`: what a run evaluates has the environment of `steps::prompt`.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    environment
});

/// Returns what a template names.
pub fn of_template(source: &str) -> Result<References, Fault> {
    let template = ENVIRONMENT.template_from_str(source).map_err(|e| fault(&e, source))?;
    Ok(Scanner::new(source, false).references(&template.undeclared_variables(true)))
}

/// Returns what an expression names.
pub fn of_expression(source: &str) -> Result<References, Fault> {
    let expression = ENVIRONMENT.compile_expression(source).map_err(|e| fault(&e, source))?;
    Ok(Scanner::new(source, true).references(&expression.undeclared_variables(true)))
}

/// Returns a template filled in with `params` alone.
pub fn render_params(source: &str, params: &Value) -> Result<String, Fault> {
    let params = minijinja::Value::from(Serde(params));
    ENVIRONMENT.render_str(source, minijinja::context! { params }).map_err(|e| fault(&e, source))
}

/// Whether text would be taken for a template.
pub fn looks_like_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// Whether the engine itself has a filter of that name.
pub fn is_builtin_filter(name: &str) -> bool {
    knows(&format!("none|{name}"), ErrorKind::UnknownFilter)
}

/// Whether the engine itself has a test of that name.
pub fn is_builtin_test(name: &str) -> bool {
    knows(&format!("none is {name}"), ErrorKind::UnknownTest)
}

/// The engine lists neither; asking it costs a few microseconds. Any other complaint means that it knows the word.
fn knows(expression: &str, unknown: ErrorKind) -> bool {
    match ENVIRONMENT.compile_expression(expression) {
        Ok(compiled) => compiled.eval(()).err().is_none_or(|e| e.kind() != unknown),
        Err(_) => false,
    }
}

fn fault(error: &minijinja::Error, source: &str) -> Fault {
    let message = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let before = error.range().and_then(|range| source.get(..range.start));
    let (line, column) = match before {
        Some(before) => end_of(before),
        None => (error.line().unwrap_or(1) as u32, 1),
    };
    Fault { message, line: line.max(1), column }
}

/// Returns the line and column after `before`.
fn end_of(before: &str) -> (u32, u32) {
    let line = before.matches('\n').count() as u32 + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() as u32 + 1)
}

/// Finds words in a source that is known to compile. It knows strings, comments and raw blocks, and no grammar.
struct Scanner<'s> {
    source: &'s str,
    is_expression: bool,
    at: usize,                  // byte
    inside: bool,               // between marks
    found: Vec<(usize, Token)>, // byte, in order
}

enum Token {
    Name { path: Vec<String>, called: bool },
    Filter(String),
    Test(String),
}

impl<'s> Scanner<'s> {
    fn new(source: &'s str, is_expression: bool) -> Self {
        Self { source, is_expression, at: 0, inside: is_expression, found: Vec::new() }
    }

    fn references(mut self, free: &HashSet<String>) -> References {
        while self.at < self.source.len() {
            if self.inside { self.scan_code() } else { self.scan_text() }
        }
        let mut references = References::default();
        for (byte, token) in self.found {
            let (line, column) = end_of(&self.source[..byte]);
            match token {
                Token::Name { path, called } if free.contains(&path.join(".")) => {
                    references.names.push(DottedName { path, line, column, called });
                }
                Token::Name { .. } => {}
                Token::Filter(name) => references.filters.push(Word { name, line, column }),
                Token::Test(name) => references.tests.push(Word { name, line, column }),
            }
        }
        references
    }

    fn rest(&self) -> &'s str {
        &self.source[self.at..]
    }

    /// Goes to the next opening mark, over comments and raw blocks.
    fn scan_text(&mut self) {
        let rest = self.rest();
        let Some(open) = rest.find('{') else { return self.at = self.source.len() };
        self.at += open;
        let rest = self.rest();
        if rest.starts_with("{#") {
            self.at += rest.find("#}").map_or(rest.len(), |end| end + 2);
        } else if let Some(tag) = rest.strip_prefix("{%") {
            let raw = tag.trim_start_matches(['-', '+']).trim_start().strip_prefix("raw");
            if raw.is_some_and(|r| r.trim_start().trim_start_matches(['-', '+']).starts_with("%}")) {
                self.at += rest.find("endraw").map_or(rest.len(), |end| end + "endraw".len());
            } else {
                (self.at, self.inside) = (self.at + 2, true);
            }
        } else if rest.starts_with("{{") {
            (self.at, self.inside) = (self.at + 2, true);
        } else {
            self.at += 1;
        }
    }

    fn scan_code(&mut self) {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return };
        match first {
            // Two mappings closed at once, as in `{{ {"a": {}} }}`, only end the search for names early.
            '%' | '}' if rest[1..].starts_with('}') && !self.is_expression => {
                (self.at, self.inside) = (self.at + 2, false);
            }
            '"' | '\'' => self.at += string_length(rest, first),
            '|' => self.word_after(1, Token::Filter),
            '.' => self.at += 1 + self.skipped_attribute(&rest[1..]),
            c if is_word_start(c) => self.scan_word(),
            c if c.is_ascii_digit() => {
                self.at += rest.find(|c: char| !is_word(c) && c != '.').unwrap_or(rest.len());
            }
            c => self.at += c.len_utf8(),
        }
    }

    /// An attribute of something that is no name, as in `f().x`: not ours to tell.
    fn skipped_attribute(&self, after: &str) -> usize {
        let spaces = after.len() - after.trim_start().len();
        spaces + word_length(&after[spaces..])
    }

    fn word_after(&mut self, mark: usize, token: fn(String) -> Token) {
        let after = &self.rest()[mark..];
        let spaces = after.len() - after.trim_start().len();
        let length = word_length(&after[spaces..]);
        if length > 0 {
            let begin = self.at + mark + spaces;
            self.found.push((begin, token(self.source[begin..begin + length].to_owned())));
        }
        self.at += mark + spaces + length;
    }

    fn scan_word(&mut self) {
        let begin = self.at;
        let mut path = Vec::new();
        loop {
            let length = word_length(self.rest());
            path.push(self.rest()[..length].to_owned());
            self.at += length;
            let after = self.rest().trim_start();
            let next = after.strip_prefix('.').map(str::trim_start);
            match next.filter(|n| n.starts_with(is_word_start)) {
                Some(next) => self.at = self.source.len() - next.len(),
                None => break,
            }
        }
        let rest = self.rest();
        if path == ["is"] {
            let negated = rest.trim_start().strip_prefix("not").filter(|r| r.starts_with(char::is_whitespace));
            let after = negated.unwrap_or(rest);
            let skipped = rest.len() - after.len();
            return self.word_after(skipped, Token::Test);
        }
        let called = rest.trim_start().starts_with('(');
        self.found.push((begin, Token::Name { path, called }));
    }
}

fn string_length(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (i, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return i + 1,
            _ => {}
        }
    }
    rest.len()
}

fn is_word_start(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

fn word_length(text: &str) -> usize {
    if text.starts_with(is_word_start) { text.find(|c| !is_word(c)).unwrap_or(text.len()) } else { 0 }
}

/// Filters of the engine that a pipeline is likely to want; only for suggestions.
pub const COMMON_FILTERS: &[&str] = &[
    "upper",
    "lower",
    "title",
    "trim",
    "join",
    "length",
    "first",
    "last",
    "sort",
    "unique",
    "map",
    "select",
    "reject",
    "selectattr",
    "rejectattr",
    "groupby",
    "default",
    "replace",
    "round",
    "int",
    "float",
    "sum",
    "list",
    "reverse",
    "indent",
    "tojson",
    "items",
    "batch",
    "slice",
    "min",
    "max",
    "abs",
    "capitalize",
    "split",
    "lines",
    "string",
];

/// Tests of the engine, likewise.
pub const COMMON_TESTS: &[&str] = &[
    "none",
    "defined",
    "undefined",
    "string",
    "number",
    "mapping",
    "sequence",
    "iterable",
    "even",
    "odd",
    "true",
    "false",
    "in",
    "containing",
    "startingwith",
    "endingwith",
    "eq",
    "ne",
    "lt",
    "gt",
    "le",
    "ge",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(references: References) -> Vec<String> {
        references.names.into_iter().map(|n| format!("{}:{} {}", n.line, n.column, n.path.join("."))).collect()
    }

    #[test]
    fn free_names_have_places_and_bound_ones_are_left_out() {
        let source = "# {{ doc.stem }}\n{% for a in steps.actions %}\n- {{ a.task }} {{ loop.index }}\n{% endfor %}{{ params.x | upper }}";
        let found = of_template(source).unwrap();
        assert_eq!(names(found.clone()), ["1:6 doc.stem", "2:13 steps.actions", "4:16 params.x"]);
        assert_eq!(found.filters, [Word { name: "upper".into(), line: 4, column: 27 }]);
    }

    #[test]
    fn an_expression_has_names_filters_tests_and_calls() {
        let found = of_expression("item.owner is not none and steps.page.upper() in doc.speakers|sort").unwrap();
        assert_eq!(found.tests[0].name, "none");
        assert_eq!(found.filters[0].name, "sort");
        assert_eq!(names(found.clone()), ["1:1 item.owner", "1:28 steps.page.upper", "1:50 doc.speakers"]);
        assert!(found.names[1].called && !found.names[0].called);
    }

    #[test]
    fn strings_comments_raw_blocks_and_text_hold_no_names() {
        let source =
            "steps.no {# {{ steps.no }} #}{% raw %}{{ steps.no }}{% endraw %}{{ 'steps.no }} \\'' ~ doc.x }} doc.no";
        assert_eq!(names(of_template(source).unwrap()), ["1:87 doc.x"]);
    }

    #[test]
    fn keyword_arguments_and_numbers_are_no_names() {
        let source = "steps.a[0].b | map(attribute='x') | round(2, method='ceil') + 1.5 + {'doc': params.n}['doc']";
        assert_eq!(names(of_expression(source).unwrap()), ["1:1 steps.a", "1:77 params.n"]);
    }

    #[test]
    fn a_mistake_has_its_line() {
        let fault = of_template("one\ntwo {{ doc. }}\n").unwrap_err();
        assert_eq!(fault.line, 2, "{fault:?}");
        assert!(of_expression("steps.").is_err());
        assert!(of_expression("").is_err());
        assert!(of_expression(&"(".repeat(100_000)).is_err());
        assert!(of_template(&"{% if a %}".repeat(50_000)).is_err());
    }

    #[test]
    fn params_are_filled_in_and_nothing_else_is_known() {
        assert_eq!(render_params("{{ params.n }} words", &json!({"n": 5})).unwrap(), "5 words");
        assert!(render_params("{{ doc.stem }}", &json!({})).is_err());
        assert!(render_params("{% for i in range(10**9) %}x{% endfor %}", &json!({})).is_err());
        assert!(render_params("{{ 'x' * 10**11 }}", &json!({})).is_err());
    }

    #[test]
    fn the_engines_own_words_are_known() {
        assert!(is_builtin_filter("upper") && is_builtin_filter("map") && !is_builtin_filter("bulets"));
        assert!(is_builtin_test("none") && is_builtin_test("defined") && !is_builtin_test("non"));
    }
}
