//! Expressions and path templates over the names of a run. The language itself is the steps' own.

use serde_json::Value;

use crate::steps::prompt::{Bound, TemplateFault, Templates};

/// Evaluates expressions and templates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluator {
    templates: Templates,
}

impl Evaluator {
    /// Returns the names ready for many expressions: they are converted once. `names` is an object.
    pub fn bind(&self, names: &Value) -> Scope {
        Scope { templates: self.templates, names: self.templates.bind(names) }
    }
}

/// Names bound for expressions.
#[derive(Clone)]
pub struct Scope {
    templates: Templates,
    names: Bound,
}

impl Scope {
    pub fn set(&mut self, name: &str, value: &Value) {
        self.names.set(name, value);
    }

    /// Returns what an expression gives. The error is one line.
    pub fn evaluate(&self, expression: &str) -> Result<Value, String> {
        let told = |fault| told(expression, &fault);
        let compiled = self.templates.compile_expression(expression).map_err(told)?;
        self.names.eval(&compiled).map_err(told)
    }

    /// Returns whether an expression gives something true, as a template would see it.
    pub fn holds(&self, expression: &str) -> Result<bool, String> {
        let told = |fault| told(expression, &fault);
        let compiled = self.templates.compile_expression(expression).map_err(told)?;
        self.names.test(&compiled).map_err(told)
    }

    /// Returns a template with its placeholders filled in. The error is one line.
    pub fn render(&self, template: &str) -> Result<String, String> {
        let told = |fault| told(template, &fault);
        let compiled = self.templates.compile_template(template).map_err(told)?;
        self.names.render(&compiled).map_err(told)
    }
}

fn told(source: &str, fault: &TemplateFault) -> String {
    let message = fault.message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("`{source}`: {message}")
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
