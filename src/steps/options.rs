//! A step's checked options, read: the key tables guarantee types, so a missing key only ever means "off".

use serde_json::Value;

use super::prompt::{Expression, Template, Templates};
use super::{BuildContext, OptionFault};
use crate::spec::{KeySpec, ValueSpec};

/// Where the text of the document may stand in a prompt.
pub const LAYOUTS: ValueSpec = ValueSpec::Choice(&["text-first", "instruction-first"]);

pub const LAYOUT: KeySpec = KeySpec::optional(
    "layout",
    LAYOUTS,
    "Whether the document's text stands before what is asked of it, so that steps over one text share the work of \
     reading it, or after it. By default before",
);

/// Reads options and collects every fault, so that an author sees them all at once.
pub struct Reader<'a> {
    cx: &'a BuildContext<'a>,
    faults: Vec<OptionFault>,
}

impl<'a> Reader<'a> {
    pub fn new(cx: &'a BuildContext<'a>) -> Self {
        Self { cx, faults: Vec::new() }
    }

    /// Returns the value below the step at `path`, if the key is on.
    pub fn at(&self, path: &[&str]) -> Option<&'a Value> {
        path.iter().try_fold(self.cx.options, |v, key| v.get(key)).filter(|v| !v.is_null())
    }

    pub fn text(&self, path: &[&str]) -> Option<&'a str> {
        self.at(path)?.as_str()
    }

    pub fn number(&self, path: &[&str]) -> Option<f64> {
        self.at(path)?.as_f64()
    }

    pub fn count(&self, path: &[&str]) -> Option<usize> {
        self.at(path)?.as_u64().map(|n| n as usize)
    }

    /// Whether [`LAYOUT`] puts the text behind what is asked of it.
    pub fn text_last(&self) -> bool {
        self.text(&["layout"]) == Some("instruction-first")
    }

    pub fn flag(&self, path: &[&str]) -> bool {
        self.at(path).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Returns an amount in its normal form, `{"n": 200, "unit": "words"}`.
    pub fn amount(&self, path: &[&str]) -> Option<(usize, &'a str)> {
        let amount = self.at(path)?;
        Some((amount.get("n")?.as_u64()? as usize, amount.get("unit")?.as_str()?))
    }

    pub fn texts(&self, path: &[&str]) -> Vec<&'a str> {
        self.at(path).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Compiles a template written in the file, or the one in the file that `{file: …}` names.
    pub fn template(&mut self, path: &[&str]) -> Option<Template> {
        let value = self.at(path)?;
        let (name, source) = match value.get("file").and_then(Value::as_str) {
            Some(file) => match (self.cx.read_file)(file) {
                Ok(source) => (file, source),
                Err(error) => {
                    self.fault(path, error);
                    return None;
                }
            },
            None => ("template", value.as_str()?.to_owned()),
        };
        let compiled = Templates::new().compile_named(name, &source);
        compiled.map_err(|f| self.fault(path, template_message(name, &f))).ok()
    }

    /// Compiles one template of a list.
    pub fn template_at(&mut self, path: &[&str], index: usize) -> Option<Template> {
        let source = self.at(path)?.get(index)?.as_str()?;
        let compiled = Templates::new().compile_named("template", source);
        let index = index.to_string();
        let below: Vec<&str> = path.iter().copied().chain([index.as_str()]).collect();
        compiled.map_err(|f| self.fault(&below, template_message("template", &f))).ok()
    }

    /// Compiles an expression.
    pub fn expression(&mut self, path: &[&str]) -> Option<Expression> {
        let source = self.text(path)?;
        Templates::new().compile_expression(source).map_err(|f| self.fault(path, f.message)).ok()
    }

    /// Compiles the expressions of a list.
    pub fn expressions(&mut self, path: &[&str]) -> Vec<Expression> {
        let sources = self.texts(path);
        let mut compiled = Vec::new();
        for (i, source) in sources.into_iter().enumerate() {
            match Templates::new().compile_expression(source) {
                Ok(expression) => compiled.push(expression),
                Err(f) => {
                    let index = i.to_string();
                    let below: Vec<&str> = path.iter().copied().chain([index.as_str()]).collect();
                    self.fault(&below, f.message);
                }
            }
        }
        compiled
    }

    pub fn fault(&mut self, path: &[&str], message: impl Into<String>) {
        self.fault_with_hint(path, message, None);
    }

    pub fn fault_with_hint(&mut self, path: &[&str], message: impl Into<String>, hint: Option<String>) {
        self.faults.push(OptionFault {
            path: path.iter().map(|k| k.to_string()).collect(),
            message: message.into(),
            hints: hint.into_iter().collect(),
        });
    }

    /// Returns what was read, unless there was a fault. `None` without a fault is a gap in the key table: our own bug.
    pub fn finish<T>(self, read: Option<T>) -> Result<T, Vec<OptionFault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        match read {
            Some(read) => Ok(read),
            None => panic!("step {}: options passed the key table and cannot be read: {}", self.cx.id, self.cx.options),
        }
    }
}

fn template_message(name: &str, fault: &super::prompt::TemplateFault) -> String {
    match fault.line {
        Some(line) if name != "template" => format!("{name}:{line}: {}", fault.message),
        Some(line) => format!("line {line} of the template: {}", fault.message),
        None => fault.message.clone(),
    }
}
