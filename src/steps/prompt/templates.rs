//! The one minijinja environment of the house: strict, bounded in work, depth and output, without includes.

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;

use minijinja::value::Value as Inner;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, escape_formatter};
use serde_json::Value;

use super::{filters, names};

/// Units of work for one rendering. minijinja charges memory too, about 64 bytes a unit: this is 128 MB at most.
const FUEL: u64 = 2_000_000;
/// Nesting of blocks, macros and expressions. The engine's own ceiling is 500.
const MAX_DEPTH: usize = 100;
/// A page of this size is no page; a runaway loop reaches it in well under a second.
const MAX_OUTPUT_BYTES: usize = 16 << 20;

/// What the name of a template begins with whose values are escaped for HTML. No file is called so.
const ESCAPED: &str = "html\0";

/// Names that the engine itself defines, which are no references to the pipeline's values.
const GLOBALS: &[&str] = &["range", "dict", "namespace", "loop", "caller", "self", "super"];

/// Compiles and evaluates templates and expressions. Holds no state of its own; making one costs nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Templates;

/// A template whose syntax has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    name: String,
    source: String,
    references: Vec<String>,
}

/// An expression whose syntax has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    source: String,
    references: Vec<String>,
}

/// Why a template or an expression cannot be compiled or evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateFault {
    pub message: String,
    /// 1-based line within the template; `None` where the engine does not know it.
    pub line: Option<usize>,
}

impl Templates {
    pub fn new() -> Self {
        Self
    }

    pub fn compile_template(&self, source: &str) -> Result<Template, TemplateFault> {
        self.compile_named("template", source)
    }

    /// Compiles a template that came from a file; errors name it.
    pub fn compile_named(&self, name: &str, source: &str) -> Result<Template, TemplateFault> {
        // A name ending in `.html` or `.json` would switch escaping on by itself: escaping belongs to the sink.
        let compiled = ENVIRONMENT.template_from_named_str(name, source).map_err(fault)?;
        let references = references(compiled.undeclared_variables(true));
        Ok(Template { name: name.into(), source: source.into(), references })
    }

    pub fn compile_expression(&self, source: &str) -> Result<Expression, TemplateFault> {
        let compiled = ENVIRONMENT.compile_expression(source).map_err(fault)?;
        let references = references(compiled.undeclared_variables(true));
        Ok(Expression { source: source.into(), references })
    }

    /// Renders a template over `names`, an object. A name that is missing is an error, except below a step that
    /// is null: such a step did not run, and it and all its fields are `none`.
    pub fn render(&self, template: &Template, names: &Value) -> Result<String, TemplateFault> {
        render_over(template, names::context(names))
    }

    /// Evaluates an expression over `names`, an object. The same rule for missing names as in [`Self::render`].
    pub fn eval(&self, expression: &Expression, names: &Value) -> Result<Value, TemplateFault> {
        let value = eval_over(expression, names::context(names))?;
        names::to_json(&value).map_err(|message| TemplateFault { message, line: None })
    }

    /// Evaluates an expression as a condition: empty text, an empty list, 0 and `none` are false.
    pub fn test(&self, expression: &Expression, names: &Value) -> Result<bool, TemplateFault> {
        Ok(eval_over(expression, names::context(names))?.is_true())
    }

    /// Returns names converted once, for many expressions over them. `names` is an object.
    pub fn bind(&self, names: &Value) -> Bound {
        let entries = names.as_object().into_iter().flatten();
        Bound { names: entries.map(|(key, value)| (key.clone(), names::named(key, value))).collect() }
    }

    /// Returns the dotted names a template reads, sorted: `steps.summary.text`, `params.words`.
    pub fn references(&self, source: &str) -> Result<Vec<String>, TemplateFault> {
        Ok(self.compile_template(source)?.references)
    }
}

/// Names that have been converted, for many expressions. Cloning one is cheap.
#[derive(Clone, Default)]
pub struct Bound {
    names: BTreeMap<String, Inner>,
}

impl Bound {
    pub fn set(&mut self, name: &str, value: &Value) {
        self.names.insert(name.to_owned(), names::named(name, value));
    }

    /// As [`Templates::eval`].
    pub fn eval(&self, expression: &Expression) -> Result<Value, TemplateFault> {
        let value = eval_over(expression, Inner::from_object(self.names.clone()))?;
        names::to_json(&value).map_err(|message| TemplateFault { message, line: None })
    }

    /// As [`Templates::test`].
    pub fn test(&self, expression: &Expression) -> Result<bool, TemplateFault> {
        Ok(eval_over(expression, Inner::from_object(self.names.clone()))?.is_true())
    }

    /// As [`Templates::render`].
    pub fn render(&self, template: &Template) -> Result<String, TemplateFault> {
        render_over(template, Inner::from_object(self.names.clone()))
    }
}

fn render_over(template: &Template, names: Inner) -> Result<String, TemplateFault> {
    let compiled = ENVIRONMENT.template_from_named_str(&template.name, &template.source).map_err(fault)?;
    let mut out = Bounded { bytes: Vec::new() };
    let rendered = compiled.render_captured_to(names, &mut out);
    if out.bytes.len() >= MAX_OUTPUT_BYTES {
        let message = format!("the text is larger than the limit of {} MiB for one template", MAX_OUTPUT_BYTES >> 20);
        return Err(TemplateFault { message, line: None });
    }
    rendered.map_err(fault)?;
    String::from_utf8(out.bytes).map_err(|e| TemplateFault { message: e.to_string(), line: None })
}

fn eval_over(expression: &Expression, names: Inner) -> Result<Inner, TemplateFault> {
    let compiled = ENVIRONMENT.compile_expression(&expression.source).map_err(fault)?;
    let value = compiled.eval(names).map_err(fault)?;
    if value.is_undefined() {
        let message = format!("`{}` is not defined", expression.source.trim());
        return Err(TemplateFault { message, line: None });
    }
    Ok(value)
}

impl Template {
    /// Returns the same template, escaping for HTML what is put into it.
    pub fn escaped(self) -> Self {
        Self { name: format!("{ESCAPED}{}", self.name), ..self }
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The dotted names it reads, sorted.
    pub fn references(&self) -> &[String] {
        &self.references
    }
}

impl Expression {
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The dotted names it reads, sorted.
    pub fn references(&self) -> &[String] {
        &self.references
    }
}

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|name| match name.starts_with(ESCAPED) {
        true => minijinja::AutoEscape::Html,
        false => minijinja::AutoEscape::None,
    });
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(MAX_DEPTH);
    env.set_debug(true); // errors then name the part of the source they are about
    env.set_syntax(
        minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().unwrap_or_default(),
    );
    env.set_formatter(|out, state, value| {
        let nothing = Inner::from("");
        escape_formatter(out, state, if names::is_none(value) { &nothing } else { value })
    });
    env.remove_global("debug"); // it would print every value, whole transcripts included
    filters::install(&mut env);
    env
});

fn references(found: std::collections::HashSet<String>) -> Vec<String> {
    let mut names: Vec<String> =
        found.into_iter().filter(|n| !GLOBALS.contains(&n.split('.').next().unwrap_or_default())).collect();
    names.sort();
    names
}

fn fault(error: minijinja::Error) -> TemplateFault {
    let line = error.line();
    let about = error.template_source().zip(error.range()).and_then(|(s, r)| s.get(r)).map(str::trim);
    let message = match (error.kind(), about) {
        (ErrorKind::UndefinedError, Some(about)) if !about.is_empty() => format!("`{about}` is not defined"),
        (ErrorKind::OutOfFuel, _) => format!("it needs more than the limit of {FUEL} units of work for one template"),
        (ErrorKind::TemplateNotFound | ErrorKind::BadInclude, _) => "templates cannot include other templates".into(),
        (kind, _) => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    // An error inside a filter names its cause: "the date `2025-13-01` is no date".
    let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
    TemplateFault { message: message + &cause, line }
}

/// Collects output up to the limit, then refuses more.
struct Bounded {
    bytes: Vec<u8>,
}

impl io::Write for &mut Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let room = MAX_OUTPUT_BYTES - self.bytes.len();
        self.bytes.extend_from_slice(&more[..more.len().min(room)]);
        if more.len() < room { Ok(more.len()) } else { Err(io::Error::other("output limit")) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn render(source: &str, names: Value) -> Result<String, String> {
        let templates = Templates::new();
        let template = templates.compile_template(source).map_err(|f| f.message)?;
        templates.render(&template, &names).map_err(|f| f.message)
    }

    fn eval(source: &str, names: Value) -> Result<Value, String> {
        let templates = Templates::new();
        let expression = templates.compile_expression(source).map_err(|f| f.message)?;
        templates.eval(&expression, &names).map_err(|f| f.message)
    }

    #[test]
    fn text_of_a_document_is_never_rendered() {
        let names = json!({ "doc": { "text": "{{ 7*7 }} {% for %}" } });
        assert_eq!(render("<{{ doc.text }}>", names).unwrap(), "<{{ 7*7 }} {% for %}>");
    }

    #[test]
    fn a_missing_name_is_an_error_that_names_it() {
        let error = render("{{ doc.titel }}", json!({ "doc": { "title": "x" } })).unwrap_err();
        assert!(error.contains("doc.titel"), "{error}");
        assert!(eval("doc.titel", json!({ "doc": {} })).unwrap_err().contains("doc.titel"));
    }

    #[test]
    fn a_step_that_did_not_run_is_none_with_all_its_fields() {
        let names = json!({ "steps": { "a": null, "b": { "total": 3 } } });
        assert_eq!(eval("steps.a is none", names.clone()).unwrap(), json!(true));
        assert_eq!(eval("steps.a.total is none", names.clone()).unwrap(), json!(true));
        assert_eq!(eval("steps.a.x.y", names.clone()).unwrap(), json!(null));
        assert_eq!(eval("(steps.a or steps.b).total", names.clone()).unwrap(), json!(3));
        assert_eq!(render("[{{ steps.a.x }}{% for i in steps.a %}{{ i }}{% endfor %}]", names.clone()).unwrap(), "[]");
        assert!(eval("steps.c", names).is_err());
    }

    #[test]
    fn an_escaped_template_escapes_what_is_put_into_it_and_nothing_else() {
        let templates = Templates::new();
        let template = templates.compile_template("<p>{{ doc.text }}</p>{{ '<i>' | safe }}{{ none }}").unwrap();
        let names = json!({ "doc": { "text": "<script>&\"'" } });
        assert_eq!(templates.render(&template, &names).unwrap(), "<p><script>&\"'</p><i>");
        let escaped = templates.render(&template.escaped(), &names).unwrap();
        assert_eq!(escaped, "<p>&lt;script&gt;&amp;&quot;&#x27;</p><i>");
    }

    #[test]
    fn runaway_templates_end_at_a_named_limit() {
        let bombs = [
            "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ 'x' * 10**11 }}",
            "{{ [0] * 2**30 }}",
            "{% include '/etc/passwd' %}",
        ];
        for bomb in bombs {
            assert!(render(bomb, json!({})).is_err(), "{bomb}");
        }
        let wide = "{% for a in range(4000) %}{{ doc.text }}{% endfor %}";
        let error = render(wide, json!({ "doc": { "text": "x".repeat(10_000) } })).unwrap_err();
        assert!(error.contains("limit"), "{error}");
    }

    #[test]
    fn references_are_dotted_and_without_the_engines_own_names() {
        let source =
            "{% for a in steps.actions %}{{ a.task }}{{ loop.index }}{% endfor %}{{ params.words }}{{ range(2) }}";
        assert_eq!(Templates::new().references(source).unwrap(), ["params.words", "steps.actions"]);
    }

    #[test]
    fn values_come_back_as_they_went_in() {
        let value = json!({ "b": [1, 2.5, "x", null, true], "a": { "z": 1, "y": 2 } });
        assert_eq!(eval("v", json!({ "v": value.clone() })).unwrap().to_string(), value.to_string());
    }

    #[test]
    fn a_syntax_error_gives_its_line() {
        let fault = Templates::new().compile_template("a\n{{ if }").unwrap_err();
        assert_eq!(fault.line, Some(2));
    }
}
