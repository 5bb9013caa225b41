//! Standard input as a file: read once, before the run, so that every reader of it sees the same bytes.

use std::io::Read;

use super::Failure;
use super::exit::Exit;
use crate::diagnostic::Diagnostic;
use crate::pipeline::plan::{Plan, SourceKind};

/// Where `read.max_size` says nothing of it.
const MAX_BYTES: u64 = 50 << 20;

/// Puts what comes in on standard input into a file, where a source of the plan is that. The folder is gone with what is
/// returned.
pub fn hold(plan: &mut Plan) -> Result<Option<tempfile::TempDir>, Failure> {
    let Some(source) = plan.sources.iter_mut().chain(&mut plan.tables).find(|s| s.is_stdin()) else { return Ok(None) };
    let max_bytes = source.read.get("max_size").and_then(|v| v.as_u64()).unwrap_or(MAX_BYTES);
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| Failure::wrong(format!("standard input cannot be read: {e}")))?;
    if bytes.len() as u64 > max_bytes {
        let fault = Diagnostic::error(format!("standard input has more than the {max_bytes} bytes of `max_size`"));
        return Err(fault.hint("read.max_size of the source allows more").into());
    }
    if bytes.is_empty() {
        let fault =
            Diagnostic::error(format!("nothing comes in on standard input, which the source {} reads", source.name));
        return Err(fault.hint("write: cat FILE | quarry run …").into());
    }
    let cannot = |e: std::io::Error| {
        Failure::new(Exit::OutOfResources, Diagnostic::error(format!("standard input cannot be kept: {e}")))
    };
    let folder = tempfile::tempdir().map_err(cannot)?;
    let name = match &source.kind {
        SourceKind::Stdin { name, .. } => std::path::Path::new(name).file_name().unwrap_or("stdin".as_ref()).to_owned(),
        _ => "stdin".into(),
    };
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).map_err(cannot)?;
    source.hold(path);
    Ok(Some(folder))
}
