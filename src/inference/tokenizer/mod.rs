//! Text to token ids and back, and conversations to prompts. Knows one vocabulary and one template;
//! no weights, no logits, no document of ours. Read [`Tokenizer`] first, then [`ChatTemplate`].
//!
//! The rule that everything here keeps: **text is data**. [`Tokenizer::encode_text`] never gives a special
//! token, whatever the text says, and [`ChatTemplate`] lets only the template's own words become one.
//!
//! The tokenizers crate and minijinja's chat use are named only in this room.

mod assemble;
mod byte_alphabet;
mod chat;
mod chat_template;
mod content_marks;
mod deep_stack;
mod export;
mod fault;
mod gguf;
mod json_file;
mod pieces;
mod rendered;
mod template_json;
mod text_decoder;
mod vocabulary;

#[cfg(test)]
mod reference_tests;

pub use chat::{Chat, ChatDocument, Message, Role};
pub use chat_template::{ChatTemplate, TemplateError};
pub(in crate::inference) use deep_stack::on_deep_stack;
pub use export::Exported;
pub use fault::{TokenizerError, TokenizerFault};
pub use gguf::GgufTokenizerFields;
pub use rendered::Rendered;
pub use text_decoder::TextDecoder;
pub use vocabulary::{SpecialToken, Tokenizer};

/// A small real vocabulary for the tests of this floor.
#[cfg(test)]
pub(in crate::inference) mod tests_support {
    pub(in crate::inference) use super::gguf::tests::small_tokenizer;
    pub(in crate::inference) use super::json_file::tests::small_json;

    /// The real one in the folder that `QUARRY_TEST_TOKENIZER_DIR` names (see `reference_tests`), or says it is not there.
    pub(in crate::inference) fn real_tokenizer() -> Option<super::Tokenizer> {
        let Some(folder) = std::env::var_os("QUARRY_TEST_TOKENIZER_DIR").map(std::path::PathBuf::from) else {
            crate::testing::skipped("QUARRY_TEST_TOKENIZER_DIR names no folder with a real tokenizer");
            return None;
        };
        let fields = std::fs::read(folder.join("fields.json")).unwrap();
        Some(super::Tokenizer::from_gguf(&serde_json::from_slice(&fields).unwrap()).unwrap())
    }
}
