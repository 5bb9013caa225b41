//! The tokenizer that a GGUF file describes in its metadata. Knows the fields, not the file.

use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, PreTokenizerWrapper};

use super::Tokenizer;
use super::assemble::{AddedPart, MERGES_MAX, Parts, Roles, TOKENS_MAX, assemble};
use super::fault::{TokenizerFault, brief, within};
use crate::ids::TokenId;

/// `tokenizer.ggml.*` and `tokenizer.chat_template`, as read and not yet checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct GgufTokenizerFields {
    pub model: String, // "gpt2"
    pub pre: String,   // "refact", "smollm", "gpt-2", "default"
    pub tokens: Vec<String>,
    pub token_types: Vec<i32>, // may be empty: all normal
    pub merges: Vec<String>,   // "left right", in order of rank
    pub bos: Option<TokenId>,
    pub eos: Option<TokenId>,
    pub unk: Option<TokenId>,
    pub pad: Option<TokenId>,
    pub add_bos: bool,
    pub chat_template: Option<String>,
}

// `llama_token_type` in llama.cpp.
pub(super) const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;

impl Tokenizer {
    /// Builds the tokenizer, or says what is wrong with the fields.
    ///
    /// `pre` decides how text is split: `refact` (Granite) and `smollm` (the starter) take every digit alone and then
    /// GPT-2's split, `gpt-2` and `default` GPT-2's split only. Any other is refused by name.
    pub fn from_gguf(fields: &GgufTokenizerFields) -> Result<Self, TokenizerFault> {
        if fields.model != "gpt2" {
            return Err(TokenizerFault::UnknownModel(brief(&fields.model)));
        }
        within("tokens", fields.tokens.len(), TOKENS_MAX)?;
        within("merges", fields.merges.len(), MERGES_MAX)?;
        if !fields.token_types.is_empty() && fields.token_types.len() != fields.tokens.len() {
            let (tokens, types) = (fields.tokens.len(), fields.token_types.len());
            return Err(TokenizerFault::TypesMismatch { tokens, types });
        }
        assemble(Parts {
            vocab: fields.tokens.iter().cloned().zip(0..).collect(),
            merges: fields.merges.iter().enumerate().map(split_merge).collect::<Result<_, _>>()?,
            added: with_types(fields, &[UNKNOWN, CONTROL, USER_DEFINED])
                .map(|(id, kind)| added(fields, id, kind))
                .collect(),
            unused: with_types(fields, &[UNUSED]).map(|(id, _)| id).collect(),
            normalizer: None,
            pre_tokenizer: pre_tokenizer(&fields.pre)?,
            cuts_at_blanks: true,
            ignore_merges: false,
            bpe_unk: None,
            roles: Roles {
                bos: fields.bos,
                eos: fields.eos,
                unk: fields.unk,
                pad: fields.pad,
                add_bos: fields.add_bos,
            },
            chat_template: fields.chat_template.clone(),
        })
    }
}

fn pre_tokenizer(pre: &str) -> Result<PreTokenizerWrapper, TokenizerFault> {
    // No space is put before the text; offsets are not trimmed.
    let gpt2 = || ByteLevel::new(false, false, true).into();
    match pre {
        "refact" | "smollm" => Ok(Sequence::new(vec![Digits::new(true).into(), gpt2()]).into()),
        "gpt-2" | "default" => Ok(gpt2()),
        other => Err(TokenizerFault::UnknownPreTokenizer(brief(other))),
    }
}

fn with_types<'a>(fields: &'a GgufTokenizerFields, kinds: &'a [i32]) -> impl Iterator<Item = (TokenId, i32)> + 'a {
    let types = (0..).zip(fields.token_types.iter().copied());
    types.filter(|(id, kind)| kinds.contains(kind) && !fields.tokens[*id as usize].is_empty())
}

fn added(fields: &GgufTokenizerFields, id: TokenId, kind: i32) -> AddedPart {
    let token = AddedToken::from(fields.tokens[id as usize].clone(), kind != USER_DEFINED).normalized(false);
    AddedPart { id, token }
}

fn split_merge((index, merge): (usize, &String)) -> Result<(String, String), TokenizerFault> {
    let fault = |fact| TokenizerFault::BadMerge { index, merge: brief(merge), fact };
    match merge.split_once(' ') {
        Some((left, right)) if !right.contains(' ') => Ok((left.to_owned(), right.to_owned())),
        Some(_) => Err(fault("has more than one space")),
        None => Err(fault("has no space")),
    }
}

#[cfg(test)]
pub(in crate::inference) mod tests {
    use super::*;
    use crate::inference::tokenizer::byte_alphabet::tests::char_of;

    /// A byte-level vocabulary with a few merges and the starter's markup: enough to encode any text.
    pub(in crate::inference) fn small_fields() -> GgufTokenizerFields {
        let special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|start_of_role|>", "<|end_of_role|>"];
        let mut tokens: Vec<String> = special.map(String::from).to_vec();
        tokens.extend((0..=255u8).map(|byte| char_of(byte).to_string()));
        let merges = ["Ġ t", "h e", "Ġt he", "t he", "l l", "he ll", "hell o", "Ġ hello", "i m"];
        let merges: Vec<String> = merges.map(String::from).to_vec();
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        GgufTokenizerFields {
            model: "gpt2".into(),
            pre: "smollm".into(),
            token_types: (0..tokens.len()).map(|id| if id < special.len() { CONTROL } else { 1 }).collect(),
            tokens,
            merges,
            bos: Some(1),
            eos: Some(2),
            unk: Some(0),
            pad: Some(2),
            add_bos: false,
            chat_template: None,
        }
    }

    pub(in crate::inference) fn small_tokenizer() -> Tokenizer {
        Tokenizer::from_gguf(&small_fields()).unwrap()
    }

    fn texts(tokenizer: &Tokenizer, ids: &[TokenId]) -> Vec<String> {
        ids.iter().map(|id| String::from_utf8_lossy(tokenizer.token_bytes(*id)).into_owned()).collect()
    }

    fn check_fault(change: impl FnOnce(&mut GgufTokenizerFields), expected: &str) {
        let mut fields = small_fields();
        change(&mut fields);
        assert_eq!(Tokenizer::from_gguf(&fields).unwrap_err().to_string(), expected);
    }

    #[test]
    fn text_is_split_merged_and_comes_back() {
        let tokenizer = small_tokenizer();
        let ids = tokenizer.encode_text("hello the 42");
        assert_eq!(texts(&tokenizer, &ids), ["hello", " the", " ", "4", "2"]);
        assert_eq!(tokenizer.decode(&ids, true), "hello the 42");
    }

    #[test]
    fn digits_stand_alone_only_where_pre_says_so() {
        let mut fields = small_fields();
        fields.merges.push("4 2".into());
        fields.tokens.push("42".into());
        fields.token_types.push(1);
        let alone = Tokenizer::from_gguf(&fields).unwrap();
        fields.pre = "gpt-2".into();
        let together = Tokenizer::from_gguf(&fields).unwrap();
        assert_eq!(texts(&alone, &alone.encode_text("42")), ["4", "2"]);
        assert_eq!(texts(&together, &together.encode_text("42")), ["42"]);
    }

    #[test]
    fn special_tokens_in_text_stay_text() {
        let tokenizer = small_tokenizer();
        let text = "a<|im_end|>\n<|im_start|>system";
        let ids = tokenizer.encode_text(text);
        assert!(ids.iter().all(|id| tokenizer.is_text(*id)));
        assert_eq!(tokenizer.decode(&ids, true), text);
        let raw = tokenizer.encode_with_specials("a<|im_end|>b");
        assert_eq!(raw, [tokenizer.byte_token(b'a').unwrap(), 2, tokenizer.byte_token(b'b').unwrap()]);
    }

    #[test]
    fn a_special_token_that_bpe_can_reach_still_stays_text() {
        let mut fields = small_fields();
        let id = fields.tokens.iter().position(|token| token == "Ġthe").unwrap();
        fields.token_types[id] = CONTROL;
        let tokenizer = Tokenizer::from_gguf(&fields).unwrap();
        let ids = tokenizer.encode_text("see the end");
        assert!(!ids.contains(&(id as TokenId)));
        assert_eq!(tokenizer.decode(&ids, true), "see the end");
        assert_eq!(tokenizer.token_ends("see the end").len(), ids.len());
    }

    #[test]
    fn a_user_defined_token_that_looks_like_markup_is_special() {
        let mut fields = small_fields();
        for text in ["<|tool|>", "§§"] {
            fields.tokens.push(text.into());
            fields.token_types.push(USER_DEFINED);
        }
        let tokenizer = Tokenizer::from_gguf(&fields).unwrap();
        let (tool, section) = (fields.tokens.len() as TokenId - 2, fields.tokens.len() as TokenId - 1);
        assert!(tokenizer.is_special(tool) && !tokenizer.is_special(section));
        let ids = tokenizer.encode_text("<|tool|>§§");
        assert!(!ids.contains(&tool));
        assert_eq!(ids.last(), Some(&section));
    }

    #[test]
    fn token_ends_lie_on_characters_and_count_the_tokens() {
        let tokenizer = small_tokenizer();
        let text = "hello é the 👋🏽 end";
        let ends = tokenizer.token_ends(text);
        assert_eq!(ends.len(), tokenizer.encode_text(text).len());
        assert!(ends.is_sorted() && ends.iter().all(|end| text.is_char_boundary(*end)));
        assert_eq!(ends.last(), Some(&text.len()));
        assert_eq!(&ends[..4], [5, 6, 8, 8], "both bytes of é end where é ends");
    }

    #[test]
    fn long_text_has_the_tokens_it_would_have_whole() {
        let tokenizer = small_tokenizer();
        let text = "hello  the\n\n 42 ".repeat(9000);
        let whole = tokenizer.encode_text(&text[..16]);
        assert!(text.len() > 128 << 10);
        let ids = tokenizer.encode_text(&text);
        assert_eq!(ids.len(), tokenizer.token_ends(&text).len());
        assert_eq!(tokenizer.decode(&ids, true), text);
        assert_eq!(ids[..whole.len() - 1], whole[..whole.len() - 1]);
    }

    #[test]
    fn answers_end_at_the_eos_and_at_known_markers() {
        let tokenizer = small_tokenizer();
        assert_eq!(tokenizer.end_ids(), [0, 2]);
        assert!(tokenizer.is_end(2) && !tokenizer.is_end(1));
    }

    #[test]
    fn bytes_without_a_token_are_left_out_and_counted() {
        let mut fields = small_fields();
        let id = 5 + 0x04;
        fields.tokens[id] = "gone".into();
        let tokenizer = Tokenizer::from_gguf(&fields).unwrap();
        assert_eq!(tokenizer.num_lost_bytes("a\u{4}b"), 1);
        assert_eq!(tokenizer.decode(&tokenizer.encode_text("a\u{4}b"), true), "ab");
        assert_eq!(tokenizer.token_ends("!\u{4}é\u{4}?").len(), 4);
    }

    #[test]
    fn faults_name_the_thing_and_the_fact() {
        check_fault(
            |f| f.model = "llama".into(),
            "the tokenizer model \"llama\" is not supported; \"gpt2\" (byte-level BPE) is",
        );
        check_fault(
            |f| f.pre = "qwen2".into(),
            "the pre-tokenizer \"qwen2\" is not known, and guessing it would give wrong tokens",
        );
        check_fault(|f| f.merges[1] = "nospace".into(), "merge 1 (\"nospace\") has no space");
        check_fault(|f| f.merges[0] = "t zz".into(), "merge 0 (\"t zz\") ends with a text that is no token");
        check_fault(|f| f.merges[0] = "h t".into(), "merge 0 (\"h t\") makes a text that is no token");
        check_fault(|f| f.eos = Some(9999), "the end-of-text token is 9999, but the vocabulary ends at 269");
    }
}
