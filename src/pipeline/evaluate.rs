//! Expressions and path templates, over the names a run gives them. The language itself (filters, what is undefined,
//! how much an expression may cost) is the environment's, which whoever starts the run hands in.

use std::collections::BTreeMap;

use minijinja::value::{Serde, Value as Name};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::Value;

/// Steps of the template machine that one expression may take. A table over 100,000 rows takes about a tenth of it.
const FUEL: u64 = 10_000_000;

/// Evaluates expressions and templates.
pub struct Evaluator {
    environment: Environment<'static>,
}

impl Default for Evaluator {
    /// Strict about undefined names, bounded in what an expression may cost; minijinja's own filters only.
    fn default() -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        Self { environment }
    }
}

impl Evaluator {
    pub fn new(environment: Environment<'static>) -> Self {
        Self { environment }
    }

    /// Returns the names ready for many expressions: they are converted once. `names` is an object.
    pub fn bind(&self, names: &Value) -> Scope<'_> {
        let entries = names.as_object().into_iter().flatten();
        let names = entries.map(|(name, value)| (name.clone(), Name::from(Serde(value)))).collect();
        Scope { environment: &self.environment, names }
    }
}

/// Names bound for expressions.
#[derive(Clone)]
pub struct Scope<'e> {
    environment: &'e Environment<'static>,
    names: BTreeMap<String, Name>,
}

impl Scope<'_> {
    pub fn set(&mut self, name: &str, value: &Value) {
        self.names.insert(name.to_owned(), Name::from(Serde(value)));
    }

    /// Returns what an expression gives. The error is one line.
    pub fn evaluate(&self, expression: &str) -> Result<Value, String> {
        let value = self.run(expression)?;
        serde_json::to_value(&value).map_err(|e| format!("`{expression}` gives what is no data: {e}"))
    }

    /// Returns whether an expression gives something true, as a template would see it.
    pub fn holds(&self, expression: &str) -> Result<bool, String> {
        self.run(expression).map(|value| value.is_true())
    }

    /// Returns a template with its placeholders filled in. The error is one line.
    pub fn render(&self, template: &str) -> Result<String, String> {
        let names = Name::from(self.names.clone());
        self.environment.render_str(template, names).map_err(|e| format!("`{template}`: {}", one_line(&e)))
    }

    fn run(&self, expression: &str) -> Result<Name, String> {
        let named = |e: &minijinja::Error| format!("`{expression}`: {}", one_line(e));
        let compiled = self.environment.compile_expression_owned(expression).map_err(|e| named(&e))?;
        let value = compiled.eval(Name::from(self.names.clone())).map_err(|e| named(&e))?;
        if value.is_undefined() {
            return Err(format!("`{expression}`: there is nothing of that name"));
        }
        Ok(value)
    }
}

fn one_line(error: &minijinja::Error) -> String {
    let text = error.detail().map_or_else(|| error.kind().to_string(), |d| format!("{}: {d}", error.kind()));
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_give_data_and_templates_give_text() {
        let evaluator = Evaluator::default();
        let scope = evaluator.bind(&json!({ "doc": { "stem": "a", "n": 2 }, "steps": { "x": ["p", "q"] } }));
        assert_eq!(scope.evaluate("steps.x"), Ok(json!(["p", "q"])));
        assert_eq!(scope.evaluate("doc.n + 1"), Ok(json!(3)));
        assert_eq!(scope.holds("doc.n > 2"), Ok(false));
        assert_eq!(scope.render("out/{{ doc.stem }}.md"), Ok("out/a.md".into()));
    }

    #[test]
    fn a_name_that_does_not_exist_is_an_error_and_never_empty_text() {
        let evaluator = Evaluator::default();
        let scope = evaluator.bind(&json!({ "doc": {} }));
        assert!(scope.evaluate("doc.stm").unwrap_err().contains("doc.stm"));
        assert!(scope.render("{{ doc.stm }}").is_err());
        assert!(
            scope.render("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}").is_err()
        );
    }

    #[test]
    fn document_text_is_never_rendered() {
        let evaluator = Evaluator::default();
        let scope = evaluator.bind(&json!({ "doc": { "text": "{{ 7*7 }}" } }));
        assert_eq!(scope.render("{{ doc.text }}"), Ok("{{ 7*7 }}".into()));
    }
}
