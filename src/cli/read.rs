//! `quarry read`: what the reader saw of a file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::exit::Exit;
use super::options::{Settings, Verbosity};
use super::{Failure, print};
use crate::corpus::document::Document;
use crate::corpus::reader::{self, HtmlContent, Isolation, READ_KEYS, ReadAs, ReadError, ReadOptions, WITH_PASSWORD};
use crate::diagnostic::Diagnostic;

/// Show what is read from a file: its text, its structure, and what was dropped or doubted
#[derive(Args, Debug)]
pub struct ReadArgs {
    /// The files; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Give all that is known as JSON, one document on a line
    #[arg(long, group = "shape")]
    pub json: bool,
    /// Give the text alone, as steps see it
    #[arg(long, group = "shape")]
    pub text: bool,
    /// Give the text with its facts in front, as Markdown [default]
    #[arg(long, group = "shape")]
    pub markdown: bool,
    #[command(flatten)]
    pub options: ReaderArgs,
}

/// How files are read: the keys of `read:` in a pipeline.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Reading")]
pub struct ReaderArgs {
    /// Set a key of `read:`, such as as=text, html=main or max_pages=10; may be given many times
    #[arg(long = "read", value_name = "KEY=VALUE")]
    pub read: Vec<String>,
    /// A password to try on an encrypted file; may be given many times
    #[arg(long, value_name = "PASSWORD")]
    pub password: Vec<String>,
}

impl ReaderArgs {
    /// Returns the options, with the child process that parses what is not plain text.
    pub fn options(&self) -> Result<ReadOptions, Failure> {
        let mut keys = serde_json::Map::new();
        for pair in &self.read {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(Failure::wrong(format!("`--read {pair}` is not KEY=VALUE")));
            };
            if !READ_KEYS.iter().any(|k| k.name == key) {
                let known = READ_KEYS.iter().map(|k| k.name).collect::<Vec<_>>().join(", ");
                let fault = Diagnostic::error(format!("`read` has no key `{key}`"));
                return Err(fault.hint(format!("its keys are {known}")).into());
            }
            if key == "speakers" {
                let fault = Diagnostic::error("`--read speakers=…` cannot be given here: it is a mapping");
                return Err(fault.hint("write it into a pipeline, under `sources.<name>.read`").into());
            }
            let value = value.parse::<u64>().map_or_else(|_| Value::from(value), Value::from);
            keys.insert(key.to_owned(), value);
        }
        let mut options: ReadOptions = serde_json::from_value(keys.into())
            .map_err(|error| Failure::wrong(format!("`--read` cannot be understood: {error}")))?;
        options.passwords.extend(self.password.iter().cloned());
        options.isolation = Some(isolation()?);
        Ok(options)
    }

    /// Reads one file, or standard input where the path is `-`.
    pub fn read(&self, path: &Path, options: &ReadOptions) -> Result<Document, ReadError> {
        if path != Path::new("-") {
            return reader::read(path, options);
        }
        let mut bytes = Vec::new();
        let read = std::io::stdin().lock().take(options.max_bytes.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(|error| ReadError {
            reason: reader::ReadReason::Unreadable,
            path: path.to_owned(),
            detail: format!("cannot be read: {error}"),
        })?;
        reader::read_bytes(&bytes, path, options)
    }
}

/// Returns the child process that parses what is not plain text. Without it nothing is parsed: its limits are the ones
/// that hold for hostile files.
pub fn isolation() -> Result<Isolation, Failure> {
    let cannot = |error: std::io::Error| {
        let fault =
            Diagnostic::error(format!("quarry's own program file, which parses documents, is not found: {error}"));
        Failure::new(Exit::OutOfResources, fault.hint("call quarry by its full path; /proc must be there on Linux"))
    };
    std::env::current_exe().map(Isolation::new).map_err(cannot)
}

/// Returns what a file that gave no document ends a command with: for one file, nothing was done.
pub fn refused(error: &ReadError) -> Diagnostic {
    let message = format!("{error} ({})", error.reason);
    let hint = match error.reason {
        reader::ReadReason::Encrypted if error.detail.contains(WITH_PASSWORD) => {
            "give its password with --password, or `passwords` in `read:`"
        }
        reader::ReadReason::TooLarge | reader::ReadReason::TimedOut => {
            "the limit that is named can be set with --read KEY=VALUE, or in `read:`"
        }
        _ => return Diagnostic::error(message),
    };
    Diagnostic::error(message).hint(hint)
}

pub fn run(args: &ReadArgs, settings: &Settings) -> Result<Exit, Failure> {
    let options = args.options.options()?;
    let mut num_failed = 0;
    for (index, path) in args.files.iter().enumerate() {
        let document = match args.options.read(path, &options) {
            Ok(document) => document,
            Err(error) => {
                num_failed += 1;
                print::diagnostics(&[refused(&error)]);
                if args.json {
                    print::json(&json!({
                        "path": error.path.to_string_lossy(), "error": error.reason, "detail": error.detail,
                    }))?;
                }
                continue;
            }
        };
        if settings.verbosity > Verbosity::Quiet {
            warnings(&document);
        }
        if args.json {
            print::json(&document_json(&document))?;
            continue;
        }
        if index > 0 {
            print::result("")?;
        }
        if !args.text {
            print::result(&print::shown(&facts(&document, &options)))?;
        }
        print::result(&print::shown(&document.text))?;
    }
    Ok(match num_failed {
        0 => Exit::Done,
        n if n == args.files.len() => Exit::Wrong,
        _ => Exit::SomeFailed,
    })
}

/// Writes what was dropped, repaired or doubted to standard error.
pub fn warnings(document: &Document) {
    for warning in &document.warnings {
        print::note(&print::shown(&format!("warning: {}: {warning}", document.path.display())));
    }
}

/// What is known of a document besides its text, in the form of a front matter.
fn facts(document: &Document, options: &ReadOptions) -> String {
    let mut lines = vec![format!("file: {}", document.path.display()), format!("format: {}", document.format.name())];
    lines.extend(document.meta.iter().map(|(key, value)| format!("{key}: {}", value.replace('\n', " "))));
    let counts = [
        ("pages", document.pages.len()),
        ("headings", document.headings.len()),
        ("turns", document.turns.len()),
        ("tables", document.tables.len()),
        ("parts", document.parts.len()),
        ("warnings", document.warnings.len()),
    ];
    lines.extend(counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}: {n}")));
    if !document.turns.is_empty() {
        lines.push(format!("speakers: {}", document.speakers().join(", ")));
    }
    if options.html == HtmlContent::Main && options.as_ == ReadAs::Auto {
        lines.push("html: main".into());
    }
    format!("---\n{}\n---\n", lines.join("\n"))
}

/// All that is known: what templates see as `doc`, and where in the file each stretch of the text stands.
fn document_json(document: &Document) -> Value {
    let mut value = document.doc_value();
    value["schema_version"] = 1.into();
    value["parts"] = json!(document.parts);
    value["tables"] = json!(document.tables);
    value["places"] = document
        .places
        .iter()
        .map(|p| json!({ "range": [p.range.start, p.range.end], "part": p.part, "bytes": [p.source.start, p.source.end] }))
        .collect();
    let ranges = document.headings.iter().map(|h| json!([h.range.start, h.range.end]));
    value["heading_ranges"] = ranges.collect();
    value["page_ranges"] = document.pages.iter().map(|p| json!([p.range.start, p.range.end])).collect();
    value["turn_bytes"] = document.turns.iter().map(|t| json!([t.source.start, t.source.end])).collect();
    value["turn_ranges"] = document.turns.iter().map(|t| json!([t.range.start, t.range.end])).collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_read_are_taken_and_others_are_refused() {
        let args =
            |read: &[&str]| ReaderArgs { read: read.iter().map(|r| (*r).into()).collect(), ..Default::default() };
        let options = args(&["as=text", "max_pages=3", "max_size=2 MiB"]).options().unwrap();
        assert_eq!((options.as_, options.max_pages, options.max_bytes), (ReadAs::Text, 3, 2 << 20));
        assert!(args(&["nonsense=1"]).options().is_err() && args(&["as"]).options().is_err());
        assert!(args(&["as=poem"]).options().is_err());
    }
}
