//! What a user may write: named keys, their types, limits, defaults and help, defined once.
//! `check`, `explain`, the editor's schema and the docs are all read from these tables.
//! Knows no YAML and no file.

/// One key of an object in the pipeline file.
#[derive(Debug)]
pub struct KeySpec {
    pub name: &'static str,
    pub value: ValueSpec,
    pub required: bool,
    /// The default as it would be written in the file; `None` where leaving the key out means "off": the key is then
    /// absent from the checked options. `{}` gives an object whose keys all have their own defaults.
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

/// The type of a value as its author knows it, and the one normal form it has in JSON once it is checked.
///
/// Every scalar type but `Text`, `Template` and `Expression` may be written as a template over `params` alone, such
/// as `"{{ params.words }} words"`: it is rendered when the file is checked, and what comes out must fit the type.
#[derive(Debug)]
pub enum ValueSpec {
    /// Plain text, never rendered: `{{` in it is an error. A string.
    Text,
    /// One line that says where or what, rendered over `params` when the file is checked. A string without `{{`.
    Setting,
    /// A minijinja template, rendered where the key says. A string, as written.
    Template,
    /// A minijinja expression, such as `steps.actions` or `item.owner is none`. A string, as written.
    Expression,
    /// A path, relative to the pipeline file; must exist. A string: the path, still relative.
    File,
    /// A `File` that holds a template: it is compiled and its names are checked with the pipeline. A string, likewise.
    TemplateFile,
    Boolean,
    /// `16k` is 16,000 and `2M` is 2,000,000. A JSON integer.
    Integer {
        min: i64,
        max: i64,
    },
    /// A JSON number.
    Number {
        min: f64,
        max: f64,
    },
    /// `20s`, `3m`, `1h30m`, `250ms`. Milliseconds, a JSON integer.
    Duration,
    /// `50MB`, `64KiB`, `300 bytes`. Bytes, a JSON integer.
    Size,
    /// An amount with a unit from the list: `200 words`, `2500 tokens`, `6k tokens`, `1 turn`.
    /// `{"n": 200, "unit": "words"}`; the unit is spelled as in the list, `n` is an integer of at least 0.
    Amount {
        units: &'static [&'static str],
    },
    /// A share or a count: `10%` or `3`. `{"share": 0.1}` or `{"count": 3}`.
    ShareOrCount,
    /// One of these words. A string.
    Choice(&'static [&'static str]),
    /// A JSON array.
    List(&'static ValueSpec),
    /// Free keys, all values alike. A JSON object in the order of the file.
    Map(&'static ValueSpec),
    /// A JSON object in the order of the table, defaults filled in; a key that is off is absent.
    Object(&'static [KeySpec]),
    /// The first alternative that fits, in its normal form; an author sees them all in the error.
    OneOf(&'static [ValueSpec]),
    /// A JSON Schema, the short form `{ vendor: string, total: number? }`, or the name of one under `schemas`.
    /// As written; a name is a string, and is known to stand under `schemas`.
    Schema,
    /// Anything; the step checks it itself when it is built. As written.
    Any,
    /// A key the format knows and this version does not do yet: to write it is an error that says so.
    Later,
}

impl ValueSpec {
    /// Returns the type in an author's words, for errors and help: "an integer from 0 to 10".
    pub fn describe(&self) -> String {
        match self {
            Self::Text | Self::Setting => "text".into(),
            Self::Template => "a template".into(),
            Self::Expression => "an expression".into(),
            Self::File => "a path to a file".into(),
            Self::TemplateFile => "a path to a file with a template".into(),
            Self::Boolean => "true or false".into(),
            Self::Integer { min: i64::MIN, max: i64::MAX } => "an integer".into(),
            Self::Integer { min, max: i64::MAX } => format!("an integer of at least {min}"),
            Self::Integer { min: i64::MIN, max } => format!("an integer of at most {max}"),
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Number { min, max } if min.is_infinite() && max.is_infinite() => "a number".into(),
            Self::Number { min, max } if min.is_infinite() => format!("a number of at most {max}"),
            Self::Number { min, max } if max.is_infinite() => format!("a number of at least {min}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Duration => "a duration such as 20s, 3m or 1h30m".into(),
            Self::Size => "a size such as 50MB or 64KiB".into(),
            Self::Amount { units } => format!("an amount such as 200 {}", units.join(" or 200 ")),
            Self::ShareOrCount => "a share such as 10% or a count".into(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(of) => format!("a list, each {}", of.describe()),
            Self::Map(of) => format!("a mapping, each value {}", of.describe()),
            Self::Object(keys) => {
                format!("a mapping with {}", known_names(keys).join(", "))
            }
            Self::OneOf(specs) => specs.iter().map(Self::describe).collect::<Vec<_>>().join(", or "),
            Self::Schema => "a JSON Schema, its short form, or the name of one under `schemas`".into(),
            Self::Any => "a value".into(),
            Self::Later => "nothing: it is not in this version of quarry".into(),
        }
    }
}

/// Returns the names that an author can write in this version.
pub fn known_names(keys: &[KeySpec]) -> Vec<&'static str> {
    keys.iter().filter(|k| !matches!(k.value, ValueSpec::Later)).map(|k| k.name).collect()
}
