//! The models that `model.use` names: paths become those of the file's folder, and a checksum has to be one.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::pipeline::plan::Written;
use crate::pipeline::shape::Surroundings;
use crate::pipeline::tree::{Node, NodeValue, Position, quoted};

/// A model that answers from a file.
const SCRIPTED: &str = "scripted:";

/// Returns the models as they are to be had, and of those that are written otherwise how.
pub fn named(
    around: &Surroundings<'_>,
    models: &[Value],
    node: Option<&Node>,
    faults: &mut Vec<Diagnostic>,
) -> (Vec<String>, BTreeMap<String, Written>) {
    let (mut preference, mut written) = (Vec::new(), BTreeMap::new());
    for (i, model) in models.iter().enumerate() {
        let Some(name) = model.as_str().or_else(|| model.get("path")?.as_str()) else { continue };
        let sha256 = model.get("sha256").and_then(Value::as_str).map(str::to_lowercase);
        if let Some(sum) = sha256.as_ref().filter(|s| s.len() != 64 || !s.bytes().all(|b| b.is_ascii_hexdigit())) {
            let message =
                format!("the sha256 of the model {} is {}, and not 64 hexadecimal digits", quoted(name), quoted(sum));
            let hint = format!("`quarry model lock {name}` prints it");
            let at = place(node, i).in_file(&around.source.path);
            faults.push(Diagnostic::error(message).at(at).hint(hint));
        }
        let place = place_of(around, name);
        if place != name || sha256.is_some() {
            written.insert(place.clone(), Written { name: name.to_owned(), sha256 });
        }
        preference.push(place);
    }
    (preference, written)
}

/// A path stands relative to the file; every other name is what it is.
fn place_of(around: &Surroundings<'_>, name: &str) -> String {
    if let Some(script) = name.strip_prefix(SCRIPTED) {
        return format!("{SCRIPTED}{}", around.folder.join(script).display());
    }
    let is_written_so = name.contains(['/', '\\']) || name.starts_with('.') || name.ends_with(".gguf");
    if !is_written_so || name.starts_with("hf:") || name.starts_with('~') {
        return name.to_owned();
    }
    around.folder.join(name).display().to_string()
}

fn place(node: Option<&Node>, index: usize) -> Position {
    let Some(written) = node.and_then(|n| n.get("use")) else { return Position::START };
    let one = match &written.value {
        NodeValue::Seq(items) => items.get(index).unwrap_or(written),
        _ => written,
    };
    one.get("sha256").unwrap_or(one).at
}
