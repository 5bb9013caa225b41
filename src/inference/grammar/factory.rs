//! Compiles constraints against one model's vocabulary.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use llguidance::{ParserFactory, TokenParser};
use serde_json::{Value, json};

use super::fault::fact;
use super::limits::{check_lark, check_regex, check_schema};
use super::{Constraint, GrammarError, Matcher};
use crate::ids::TokenId;
use crate::inference::tokenizer::{Tokenizer, on_deep_stack};

const COMPILE_TIME_MAX: Duration = Duration::from_secs(10);
/// The trie keeps 22 bits for the number of its nodes, and 10 for their depth.
const TRIE_BYTES_MAX: usize = 4_000_000;
const TOKEN_BYTES_MAX: usize = 1_000;
/// llguidance's marker of tokens that are no text: no UTF-8 holds this byte.
const SPECIAL_MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
/// What llguidance takes for "there is none".
const NO_TOKEN: TokenId = TokenId::MAX;

/// Makes matchers for one model. Costs about a tenth of a second; make one per model.
pub struct GrammarFactory {
    parsers: Arc<ParserFactory>,
    width: usize, // of the logits
}

impl GrammarFactory {
    /// Returns a factory whose masks have `logits_width` bits: at least the vocabulary, and more where the model's
    /// output is padded. Padding, special and unused tokens are never allowed by a grammar, but for the tokens that
    /// end an answer, which are allowed where it may end.
    pub fn new(tokenizer: &Arc<Tokenizer>, logits_width: usize) -> Result<Self, GrammarError> {
        if logits_width < tokenizer.vocab_size() {
            let fact = format!("{} tokens do not fit {logits_width} logits", tokenizer.vocab_size());
            return Err(GrammarError::Vocabulary(fact));
        }
        let trie = trie(tokenizer, logits_width)?;
        let env: TokEnv = Arc::new(Env { trie, tokenizer: tokenizer.clone() });
        Self::with_env(&env, logits_width)
    }

    pub(super) fn with_env(env: &TokEnv, width: usize) -> Result<Self, GrammarError> {
        let mut parsers = ParserFactory::new_simple(env).map_err(|e| GrammarError::Vocabulary(fact(e)))?;
        parsers.quiet();
        *parsers.limits_mut() = ParserLimits { verbose_errors: false, ..ParserLimits::default() };
        Ok(Self { parsers: Arc::new(parsers), width })
    }

    /// Compiles `constraint`, all of it: what cannot be enforced token by token is an error that names it.
    ///
    /// JSON is written on one line with a blank after `,` and `:`, its members in the order of the schema's
    /// `properties`.
    pub fn compile(&self, constraint: &Constraint) -> Result<Matcher, GrammarError> {
        match self.parser(constraint, false) {
            Ok(parser) => Ok(Matcher::new(parser, self.width)),
            Err(GrammarError::Invalid(message)) if is_unsupported(&message) => {
                // The strict compiler stops at the first; the lenient one lists them all.
                let all = self.compile_lenient(constraint).map(|(_, keywords)| keywords).unwrap_or_default();
                Err(GrammarError::Unsupported(if all.is_empty() { keywords_in(&message) } else { all }))
            }
            Err(error) => Err(error),
        }
    }

    /// Compiles what can be enforced of `constraint`, and returns beside the matcher the keywords that are not: the
    /// finished answer must be validated against those, and the user told. A list as in
    /// [`GrammarError::Unsupported`], empty when all is enforced.
    pub fn compile_lenient(&self, constraint: &Constraint) -> Result<(Matcher, Vec<String>), GrammarError> {
        let mut parser = self.parser(constraint, true)?;
        let keywords =
            parser.grammar_warnings().iter().flat_map(|warning| keywords_in(warning)).collect::<BTreeSet<_>>();
        Ok((Matcher::new(parser, self.width), keywords.into_iter().collect()))
    }

    fn parser(&self, constraint: &Constraint, lenient: bool) -> Result<TokenParser, GrammarError> {
        let grammar = match constraint {
            Constraint::None => return Err(GrammarError::NoConstraint),
            Constraint::JsonSchema(schema) => {
                check_schema(schema)?;
                TopLevelGrammar::from_json_schema(with_options(schema, lenient))
            }
            Constraint::Regex(pattern) => {
                check_regex(pattern)?;
                TopLevelGrammar::from_regex(pattern)
            }
            Constraint::Lark(grammar) => {
                check_lark(grammar)?;
                TopLevelGrammar::from_lark(grammar.clone())
            }
        };
        let parsers = self.parsers.clone();
        on_deep_stack(COMPILE_TIME_MAX, move || parsers.create_parser(grammar).map_err(fact))
            .map_err(|fault| GrammarError::Endless(fault.to_string()))?
            .map_err(GrammarError::Invalid)
    }
}

fn with_options(schema: &Value, lenient: bool) -> Value {
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        boolean => json!({ "allOf": [boolean] }),
    };
    schema["x-guidance"] = json!({
        // No blanks but ours: a small model that may write blanks writes blanks to the end of its tokens.
        "whitespace_flexible": false,
        "item_separator": ", ",
        "key_separator": ": ",
        "coerce_one_of": lenient,
        "lenient": lenient,
    });
    schema
}

// The wording of llguidance 1.9.1, for which it has no type.
const UNIMPLEMENTED: &str = "Unimplemented keys: ";
const UNKNOWN_FORMAT: &str = "Unknown format: ";
const ONE_OF: &str = "oneOf ";

fn is_unsupported(message: &str) -> bool {
    [UNIMPLEMENTED, UNKNOWN_FORMAT, ONE_OF].iter().any(|start| message.starts_with(start))
}

fn keywords_in(warning: &str) -> Vec<String> {
    let warning = without_count(warning);
    // Warnings are prefixed with where they arose.
    let after = |start: &str| warning.split_once(start).map(|(_, rest)| rest.trim().to_owned());
    if let Some(list) = after(UNIMPLEMENTED) {
        serde_json::from_str(&list).unwrap_or_else(|_| vec![list])
    } else if let Some(name) = after(UNKNOWN_FORMAT) {
        vec![format!("format: {name}")]
    } else if warning.contains(ONE_OF) {
        vec!["oneOf".into()]
    } else {
        vec![warning.trim().to_owned()]
    }
}

/// A warning that arose more than once ends with `(17 times)`.
fn without_count(warning: &str) -> &str {
    let counted = warning.trim().strip_suffix(" times)").and_then(|rest| rest.rsplit_once(" ("));
    match counted {
        Some((text, count)) if count.bytes().all(|byte| byte.is_ascii_digit()) => text,
        _ => warning.trim(),
    }
}

fn trie(tokenizer: &Tokenizer, width: usize) -> Result<TokTrie, GrammarError> {
    let words: Vec<Vec<u8>> = (0..width as TokenId)
        .map(|id| {
            let bytes = tokenizer.token_bytes(id);
            if tokenizer.is_special(id) {
                [&[SPECIAL_MARKER], bytes].concat()
            } else if tokenizer.is_text(id) {
                bytes.to_vec()
            } else {
                Vec::new()
            }
        })
        // A token longer than the trie is deep is left out: the text can be written with shorter ones.
        .map(|word| if word.len() > TOKEN_BYTES_MAX { Vec::new() } else { word })
        .collect();
    let num_bytes: usize = words.iter().map(Vec::len).sum();
    if num_bytes > TRIE_BYTES_MAX {
        let fact = format!("its tokens have {num_bytes} bytes, more than the limit of {TRIE_BYTES_MAX}");
        return Err(GrammarError::Vocabulary(fact));
    }
    let ends = tokenizer.end_ids();
    let first = tokenizer.eos().or(ends.first().copied()).unwrap_or(NO_TOKEN);
    let trie = TokTrie::from(&TokRxInfo::new(width as u32, first), &words);
    Ok(if ends.is_empty() { trie } else { trie.with_eos_tokens(ends) })
}

struct Env {
    trie: TokTrie,
    tokenizer: Arc<Tokenizer>,
}

impl TokenizerEnv for Env {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.tokenizer.encode_text(text))
    }
}

#[cfg(test)]
#[path = "factory_tests.rs"]
mod tests;
