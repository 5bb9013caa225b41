//! The prompts that come with the program. They live in `templates/prompts/`: tuning one is editing a file.

use std::sync::LazyLock;

use serde_json::Value;

use super::templates::{Template, TemplateFault, Templates};

/// A prompt that was compiled in. Its syntax is ours to get right, so a fault in it is a bug.
pub type Text = LazyLock<Template>;

macro_rules! prompt {
    ($(#[$doc:meta])* $name:ident, $file:literal) => {
        $(#[$doc])*
        pub static $name: Text = LazyLock::new(|| {
            match Templates::new().compile_named($file, include_str!(concat!("../../../templates/prompts/", $file))) {
                Ok(template) => template,
                Err(fault) => panic!("{}: {fault} (line {:?})", $file, fault.line),
            }
        });
    };
}

prompt!(
    /// The system message of every step: `language`, `transcript`.
    SYSTEM, "system.md.j2");
prompt!(
    /// What one part says: `text`, `sentences`, `focus`, `speakers`, `language_name`, `again`.
    NOTE, "note.md.j2");
prompt!(
    /// The opening words of a note: `sentences`, `people`, `index`, `language_name`.
    NOTE_OPENING, "note-opening.md.j2");
prompt!(
    /// One text written from notes: `notes`, `words`, `focus`, `given`, `transcript`, `language_name`.
    WRITE, "write.md.j2");
prompt!(
    /// A text so far and what a further part adds: `text`, `notes`, `words`, `query`, `focus`, `speakers`,
    /// `language_name`.
    REFINE, "refine.md.j2");
prompt!(
    /// One sentence on what it all was about: `notes`, `title`, `transcript`, `language_name`.
    ABOUT, "about.md.j2");
prompt!(
    /// The opening words of that sentence: `transcript`, `language_name`.
    ABOUT_OPENING, "about-opening.md.j2");
prompt!(
    /// Items of one part as JSON: `text`, `instruct`, `examples` (`text`, `out`), `fields`, `many`, `quoting`,
    /// `complaint`.
    EXTRACT, "extract.md.j2");
prompt!(
    /// One item about one candidate: `text`, `instruct`, `examples`, `fields`, `speaker`, `said`.
    EXTRACT_ONE, "extract-one.md.j2");
prompt!(
    /// A question to be answered yes or no: `text`, `instruct`, `said`, `speaker`, `item`.
    SUPPORT, "support.md.j2");
prompt!(
    /// Whether a quote says what a field holds, yes or no: `quote`, `field`, `value`.
    SAYS, "says.md.j2");
prompt!(
    /// Which label fits: `text`, `text_first`, `labels`, `instruct`, `examples` (`text`, `label`).
    CLASSIFY, "classify.md.j2");

prompt!(
    /// Whether a passage answers a question, yes or no: `question`, `passage`.
    RELEVANT, "relevant.md.j2");
prompt!(
    /// Whether the documents shown hold an answer, yes or no: `question`.
    ANSWERABLE, "answerable.md.j2");
prompt!(
    /// An answer from the documents shown: `question`, `language_name`, `cite`, `own_knowledge`.
    ANSWER, "answer.md.j2");

/// Renders a compiled-in prompt, without the blank lines around it.
pub fn render(text: &Text, names: &Value) -> Result<String, TemplateFault> {
    Ok(Templates::new().render(text, names)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_compiled_in_prompt_is_a_valid_template() {
        let first = [&SYSTEM, &NOTE, &NOTE_OPENING, &WRITE, &REFINE, &ABOUT, &EXTRACT, &EXTRACT_ONE, &SUPPORT];
        for text in first.into_iter().chain([&ABOUT_OPENING, &SAYS, &CLASSIFY, &RELEVANT, &ANSWERABLE, &ANSWER]) {
            assert!(!text.source().trim().is_empty());
        }
    }
}
