//! JSON Schemas on their way to the grammar: written short, bounded, made of this document, and read back.
//!
//! [`expand`] turns what an author wrote into a JSON Schema once; [`resolve`] puts the turns, quotes, speakers and
//! dates of the text at hand into it before each call. Knows no grammar engine; the keywords it lets through are
//! those that the engine implements.

mod builtins;
mod expand;
mod salvage;
mod validate;

use serde_json::Value;

pub use builtins::{Builtin, Scope, builtin_fields, quotes, resolve, when};
pub use expand::{SchemaFault, decodable, expand, expand_for_validation};
pub use salvage::{Salvaged, salvage};
pub use validate::{Validator, may_be_missing};

use super::{BuildContext, OptionFault};

/// Reads a schema option: the name of one under `schemas`, or one written out. `None` where the key is off.
pub fn from_options(cx: &BuildContext<'_>, key: &str) -> Result<Option<Value>, Vec<OptionFault>> {
    read_options(cx, key, expand)
}

/// As [`from_options`], for a step that holds what it makes against the schema afterwards.
pub fn from_options_for_validation(cx: &BuildContext<'_>, key: &str) -> Result<Option<Value>, Vec<OptionFault>> {
    read_options(cx, key, expand_for_validation)
}

fn read_options(
    cx: &BuildContext<'_>,
    key: &str,
    expand: fn(&Value) -> Result<Value, Vec<SchemaFault>>,
) -> Result<Option<Value>, Vec<OptionFault>> {
    let Some(written) = cx.options.get(key).filter(|v| !v.is_null()) else { return Ok(None) };
    let (written, prefix) = match written.as_str() {
        Some(name) => match cx.schemas.get(name) {
            Some(schema) => (schema, format!("schema `{name}`: ")),
            None => {
                let known = cx.schemas.keys().map(String::as_str);
                let hint = crate::diagnostic::suggest(name, known).map(|near| format!("did you mean `{near}`?"));
                let message = format!("there is no schema `{name}` under `schemas`");
                return Err(vec![OptionFault { path: vec![key.into()], message, hints: hint.into_iter().collect() }]);
            }
        },
        None => (written, String::new()),
    };
    let in_place = prefix.is_empty();
    expand(written).map(Some).map_err(|faults| {
        let fault = |f: SchemaFault| {
            let below = if in_place { f.path.clone() } else { Vec::new() };
            let place = if in_place || f.path.is_empty() { String::new() } else { format!("{}: ", f.path.join(".")) };
            OptionFault {
                path: std::iter::once(key.to_owned()).chain(below).collect(),
                message: format!("{prefix}{place}{}", f.message),
                hints: Vec::new(),
            }
        };
        faults.into_iter().map(fault).collect()
    })
}
