//! What a user may write: named keys, their types, limits, defaults and help, defined once.
//! `check`, `explain`, the editor's schema and the docs are all read from these tables.
//! Knows no YAML and no file.

/// One key of an object in the pipeline file.
#[derive(Debug)]
pub struct KeySpec {
    pub name: &'static str,
    pub value: ValueSpec,
    pub required: bool,
    /// The default as it would be written in the file; `None` where leaving the key out means "off".
    pub default: Option<&'static str>,
    pub help: &'static str,
}

impl KeySpec {
    pub const fn required(name: &'static str, value: ValueSpec, help: &'static str) -> Self {
        Self { name, value, required: true, default: None, help }
    }

    pub const fn optional(name: &'static str, value: ValueSpec, help: &'static str) -> Self {
        Self { name, value, required: false, default: None, help }
    }

    pub const fn default(name: &'static str, value: ValueSpec, default: &'static str, help: &'static str) -> Self {
        Self { name, value, required: false, default: Some(default), help }
    }
}

/// The type of a value as its author knows it.
#[derive(Debug)]
pub enum ValueSpec {
    /// Plain text, never rendered.
    Text,
    /// A minijinja template, rendered where the key says.
    Template,
    /// A minijinja expression, such as `steps.actions` or `item.owner is none`.
    Expression,
    /// A path, relative to the pipeline file; must exist.
    File,
    Boolean,
    Integer {
        min: i64,
        max: i64,
    },
    Number {
        min: f64,
        max: f64,
    },
    /// `20s`, `3m`, `1h30m`.
    Duration,
    /// An amount with a unit from the list: `200 words`, `2500 tokens`, `2 turns`.
    Amount {
        units: &'static [&'static str],
    },
    /// A share or a count: `10%` or `3`.
    ShareOrCount,
    /// One of these words.
    Choice(&'static [&'static str]),
    List(&'static ValueSpec),
    /// Free keys, all values alike.
    Map(&'static ValueSpec),
    Object(&'static [KeySpec]),
    /// The first alternative that fits; an author sees them all in the error.
    OneOf(&'static [ValueSpec]),
    /// A JSON Schema, the short form `{ vendor: string, total: number? }`, or the name of one under `schemas`.
    Schema,
    /// Anything; the step checks it itself when it is built.
    Any,
}

impl ValueSpec {
    /// Returns the type in an author's words, for errors and help: "an integer from 0 to 10".
    pub fn describe(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Template => "a template".into(),
            Self::Expression => "an expression".into(),
            Self::File => "a path to a file".into(),
            Self::Boolean => "true or false".into(),
            Self::Integer { min, max: i64::MAX } => format!("an integer of at least {min}"),
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Number { min, max } if max.is_infinite() => format!("a number of at least {min}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Duration => "a duration such as 20s, 3m or 1h30m".into(),
            Self::Amount { units } => format!("an amount such as 200 {}", units.join(" or 200 ")),
            Self::ShareOrCount => "a share such as 10% or a count".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(of) => format!("a list, each {}", of.describe()),
            Self::Map(of) => format!("a mapping, each value {}", of.describe()),
            Self::Object(keys) => {
                format!("a mapping with {}", keys.iter().map(|k| k.name).collect::<Vec<_>>().join(", "))
            }
            Self::OneOf(specs) => specs.iter().map(Self::describe).collect::<Vec<_>>().join(", or "),
            Self::Schema => "a JSON Schema, its short form, or the name of one under `schemas`".into(),
            Self::Any => "a value".into(),
        }
    }
}
