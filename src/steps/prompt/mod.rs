//! Templates, expressions and filters: how names become text and how a prompt is worded.
//! Read [`Templates`] first. Knows no model and no file: a document's text only ever comes in as a value,
//! so `{{ 7*7 }}` in a transcript stays as it was said.

mod counting;
mod dates;
mod filters;
mod names;
mod templates;
pub(crate) mod texts;

pub use counting::counted;
pub use dates::{date_phrases, resolve_date};
pub use templates::{Bound, Expression, Template, TemplateFault, Templates};
