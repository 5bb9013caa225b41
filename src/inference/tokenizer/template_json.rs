//! `tojson` as chat templates know it: Python's `json.dumps`, not HTML-safe JSON. Stand-ins pass through it.

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::content_marks::{deepen, is_mark};

const DEPTH_MAX: usize = 100;
const BYTES_MAX: usize = 4 << 20;
const INDENT_MAX: usize = 64;

/// The filter. `indent`, `separators` and `sort_keys` are Python's; `ensure_ascii` may only be false, its default
/// in chat templates.
pub(super) fn tojson(state: &State, value: &Value, kwargs: Kwargs) -> Result<Value, Error> {
    let mut writer =
        Writer { state, out: String::new(), indent: None, item: ", ".into(), key: ": ".into(), sort: false };
    if kwargs.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(fault("tojson(ensure_ascii=true) is not supported"));
    }
    if let Some(indent) = kwargs.get::<Option<usize>>("indent")? {
        writer.indent = Some(indent.min(INDENT_MAX));
        writer.item = ",".into();
    }
    if let Some((item, key)) = separators(&kwargs)? {
        (writer.item, writer.key) = (item, key);
    }
    writer.sort = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

fn separators(kwargs: &Kwargs) -> Result<Option<(String, String)>, Error> {
    let Some(given) = kwargs.get::<Option<Value>>("separators")?.filter(|given| !given.is_none()) else {
        return Ok(None);
    };
    let texts: Vec<String> = given.try_iter()?.map(|part| part.to_string()).collect();
    match <[String; 2]>::try_from(texts) {
        Ok([item, key]) => Ok(Some((item, key))),
        Err(_) => Err(fault("tojson's separators are two texts")),
    }
}

fn fault(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail)
}

struct Writer<'a, 'b, 'c> {
    state: &'a State<'b, 'c>,
    out: String,
    indent: Option<usize>,
    item: String,
    key: String,
    sort: bool,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        if depth > DEPTH_MAX {
            return Err(fault(format!("tojson is given a value nested more than {DEPTH_MAX} deep")));
        }
        if self.out.len() > BYTES_MAX {
            return Err(fault(format!("tojson makes more than {BYTES_MAX} bytes")));
        }
        match value.kind() {
            ValueKind::None | ValueKind::Undefined => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&value.to_string()),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?;
                self.list('[', ']', depth, items, |writer, item| writer.value(&item, depth + 1))?;
            }
            other => return Err(fault(format!("tojson cannot write a value of type {other}"))),
        }
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = Vec::new();
        for key in value.try_iter()? {
            self.state.consume_fuel(1)?;
            keys.push(key);
        }
        if self.sort {
            keys.sort_by_key(|key| key.to_string());
        }
        self.list('{', '}', depth, keys.into_iter(), |writer, key| {
            writer.string(&key.to_string())?;
            writer.out.push_str(&writer.key.clone());
            writer.value(&value.get_item(&key)?, depth + 1)
        })
    }

    fn list(
        &mut self,
        open: char,
        close: char,
        depth: usize,
        items: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        let mut empty = true;
        for item in items {
            if !empty {
                self.out.push_str(&self.item.clone());
            }
            empty = false;
            self.new_line(depth + 1);
            write(self, item)?;
        }
        if !empty {
            self.new_line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self, depth: usize) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n(' ', indent * depth));
        }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        if !text.contains(is_mark) {
            self.out.push_str(&serde_json::Value::from(text).to_string());
            return Ok(());
        }
        let quoted = serde_json::Value::from(text).to_string();
        for character in quoted.chars() {
            self.out.push(deepen(character).map_err(|e| fault(e.to_string()))?);
        }
        Ok(())
    }
}
