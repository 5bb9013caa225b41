//! A model without weights in the place of one with them: the same tokenizer, template, window and digest, and answers
//! that mean nothing. With it a pipeline can be walked before its model is loaded: what is asked is what will be asked,
//! as far as it does not depend on what is answered.

use std::path::Path;

use jiff::civil::Date;
use serde::Serialize;

use super::core::Core;
use super::load::{
    EngineOptions, LoadError, Origin, card_digest, kv_of, num_blocks_of, template_of, tokenizer_of, window_of,
};
use super::local::{Engine, TextParts};
use super::request::ModelCard;
use super::scheduler::Limits;
use crate::ids::{BlockId, TokenId};
use crate::inference::model::{
    BLOCK_TOKENS, CausalLm, ForwardBatch, ForwardError, KvKind, KvShape, Logits, ModelConfig, ModelSource, Quantization,
};
use crate::inference::tokenizer::Tokenizer;

/// An answer in free text ends after about so many tokens: over the five meetings of `fixtures` the starter wrote 6767
/// tokens in 274 calls.
const ANSWER_TOKENS: usize = 25;

/// One token in so many ends a text inside JSON, where it may.
const TEXT_TOKENS: u64 = 10;

/// What a model takes of this machine's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Footprint {
    pub weight_bytes: usize,
    pub kv_token_bytes: usize, // of one position over all layers
    pub kv_tokens_max: usize,  // positions that the cache has room for
}

/// Makes an engine that answers without a model; reads headers and the tokenizer, and no weights.
///
/// The answers are the same for the same `seed` and prompt, and keep to the grammar that is asked for.
pub fn load_stand_in(
    origin: &Origin<'_>,
    as_of: Date,
    options: &EngineOptions,
    seed: u64,
) -> Result<(Engine, Footprint), LoadError> {
    let source = ModelSource::open(origin.path)?;
    let tokenizer = tokenizer_of(origin.path, source.gguf())?;
    let template = template_of(&source, &tokenizer)?;
    let window = window_of(&source, options)?;
    let config = source.config().clone();
    let num_blocks = num_blocks_of(window, options);
    let kind = match origin.quantized {
        Some(_) => options.kv.unwrap_or(KvKind::Bf16),
        None => kv_of(&source, options),
    };
    let shape = KvShape { layers: config.layers, kv_heads: config.kv_heads, head_dim: config.head_dim, kind };
    let footprint = Footprint {
        weight_bytes: weight_bytes(&source, origin.quantized),
        kv_token_bytes: shape.block_bytes() / BLOCK_TOKENS,
        kv_tokens_max: num_blocks * BLOCK_TOKENS,
    };
    let logits_width = config.vocabulary;
    let card = ModelCard {
        name: origin.name.to_owned(),
        digest: card_digest(origin.digest, origin.quantized.map(|(q, _)| q), options.kv, options.backend),
        window,
    };
    // Guesses are about a model's own words, and there are none here.
    let limits = Limits { speculate: false, ..options.limits };
    let core = Core::new(Box::new(StandInModel::new(config, &tokenizer, num_blocks, seed)), limits);
    let text = TextParts { tokenizer, template, as_of, logits_width };
    Ok((Engine::start(card, core, text)?, footprint))
}

/// What the weights take when they are loaded: as they lie in the file, or as they will be quantized.
fn weight_bytes(source: &ModelSource, quantized: Option<(Quantization, &Path)>) -> usize {
    let kept = quantized.and_then(|(_, kept)| std::fs::metadata(kept).ok()).map(|m| m.len() as usize);
    let per_32 = match quantized {
        None => return source.tensors().iter().map(|(_, t)| t.bytes.len()).sum(),
        Some((Quantization::Q8_0, _)) => 34,
        Some((Quantization::Q4K, _)) => 18,
        Some((Quantization::F32, _)) => 128,
    };
    let weights = || source.tensors().iter().map(|(_, t)| t.shape.iter().product::<usize>()).sum::<usize>();
    kept.unwrap_or_else(|| weights() / 32 * per_32)
}

/// Goes on with words of the prompt, and closes what a grammar has open now and then.
struct StandInModel {
    config: ModelConfig,
    blocks: Vec<[TokenId; BLOCK_TOKENS]>,
    closes_text: Vec<bool>, // by token: it holds a quotation mark
    is_special: Vec<bool>,  // by token
    end_ids: Vec<TokenId>,
    seed: u64,
}

impl StandInModel {
    fn new(config: ModelConfig, tokenizer: &Tokenizer, num_blocks: usize, seed: u64) -> Self {
        let ids = 0..config.vocabulary as TokenId;
        Self {
            blocks: vec![[0; BLOCK_TOKENS]; num_blocks],
            closes_text: ids.clone().map(|id| tokenizer.token_bytes(id).contains(&b'"')).collect(),
            is_special: ids.map(|id| tokenizer.is_special(id)).collect(),
            end_ids: tokenizer.end_ids().to_vec(),
            config,
            seed,
        }
    }

    /// The scores of what comes after `context`.
    fn scores(&self, context: &[TokenId], values: &mut Vec<f32>) {
        let is_special = |id: &TokenId| self.is_special.get(*id as usize).copied().unwrap_or(false);
        // The last special token of a prompt opens the answer: text never holds any.
        let answer_at = context.iter().rposition(is_special).map_or(context.len(), |at| at + 1);
        let (prompt, answer) = context.split_at(answer_at);
        let start = self.seed ^ mixed(prompt.len() as u64);
        let last = context.last().copied().unwrap_or(0);
        let state = mixed(start ^ mixed(answer.len() as u64) ^ u64::from(last));
        let first = values.len();
        values.extend((0..self.config.vocabulary as u64).map(|id| noise(state, id)));
        let scores = &mut values[first..];
        if let Some(next) = follower(prompt, answer, state) {
            scores[next as usize] += 3.0;
        }
        if state.is_multiple_of(TEXT_TOKENS) {
            let closing = self.closes_text.iter().zip(scores.iter_mut()).filter(|(closes, _)| **closes);
            closing.for_each(|(_, score)| *score += 4.0);
        }
        let length = ANSWER_TOKENS / 2 + (mixed(start) % ANSWER_TOKENS as u64) as usize;
        let is_long = answer.len() >= length;
        for id in &self.end_ids {
            if let Some(score) = scores.get_mut(*id as usize) {
                *score = if is_long { 9.0 } else { 1.5 };
            }
        }
    }
}

/// Returns the token that followed the last one somewhere in the prompt; any of the prompt's where it never stood there.
fn follower(prompt: &[TokenId], answer: &[TokenId], state: u64) -> Option<TokenId> {
    if prompt.len() < 2 {
        return None;
    }
    let anywhere = (state % prompt.len() as u64) as usize;
    let last = match answer.last() {
        Some(last) => *last,
        None => return Some(prompt[anywhere]),
    };
    let pair = |window: &[TokenId]| window[0] == last;
    let found = prompt.windows(2).rposition(pair).map(|at| prompt[at + 1]);
    found.or(Some(prompt[anywhere]))
}

fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (value ^ (value >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// A score of 0 to 1 that is another one for each token and state.
fn noise(state: u64, id: u64) -> f32 {
    let hash = (state ^ id.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (hash >> 40) as f32 / (1u64 << 24) as f32
}

impl CausalLm for StandInModel {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn num_blocks(&self) -> usize {
        self.blocks.len()
    }

    fn forward(&mut self, batch: &ForwardBatch<'_>) -> Result<Logits, ForwardError> {
        let mut values = Vec::with_capacity(batch.logits_rows.len() * self.config.vocabulary);
        let mut wanted = batch.logits_rows.iter().peekable();
        for span in batch.spans {
            let block_of = |position: usize| span.block_table[position / BLOCK_TOKENS].index();
            for i in 0..span.rows {
                let position = span.first_position + i;
                self.blocks[block_of(position)][position % BLOCK_TOKENS] = batch.tokens[span.first_row + i];
                if wanted.next_if_eq(&&(span.first_row + i)).is_some() {
                    let token = |p: usize| self.blocks[block_of(p)][p % BLOCK_TOKENS];
                    let context: Vec<TokenId> = (0..=position).map(token).collect();
                    self.scores(&context, &mut values);
                }
            }
        }
        Ok(Logits { width: self.config.vocabulary, values })
    }

    fn copy_block(&mut self, from: BlockId, to: BlockId) -> Result<(), ForwardError> {
        self.blocks[to.index()] = self.blocks[from.index()];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::engine::{
        CancelToken, Chat, Constraint, GenerateRequest, Generator, Message, Role, load_engine,
    };
    use crate::inference::model::SmallFolder;
    use crate::inference::sampler::SamplingParams;
    use crate::inference::tokenizer::tests_support::small_json;
    use safetensors::tensor::Dtype;

    fn origin(path: &Path) -> Origin<'_> {
        Origin { name: "tiny", digest: "d", path, quantized: None }
    }

    #[test]
    fn a_stand_in_has_the_models_card_and_prompts_and_keeps_to_the_grammar() {
        let folder = SmallFolder::new("granitemoe", 64, Dtype::BF16);
        std::fs::write(folder.path.join("tokenizer.json"), small_json().to_string()).unwrap();
        let config = serde_json::json!({
            "bos_token": "<|im_start|>", "eos_token": "<|im_end|>",
            "chat_template": "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}<|im_start|>",
        });
        std::fs::write(folder.path.join("tokenizer_config.json"), config.to_string()).unwrap();
        let (path, day) = (folder.path.as_path(), Date::constant(2026, 1, 31));
        let options = EngineOptions { threads: 1, ..EngineOptions::default() };
        let whole = load_engine(&origin(path), day, &options, &|_, _| ()).unwrap();
        let (stand_in, footprint) = load_stand_in(&origin(path), day, &options, 1).unwrap();
        assert_eq!(stand_in.card(), whole.card());
        assert!(footprint.weight_bytes > 0 && footprint.kv_tokens_max >= 2 * stand_in.card().window);
        let message = Message { role: Role::User, content: "The machine stands still. Bo repairs it.".into() };
        let chat = Chat { messages: vec![message], ..Chat::default() };
        let prompt = stand_in.encode_chat(&chat).unwrap();
        assert_eq!(prompt, whole.encode_chat(&chat).unwrap());
        let ask = |engine: &Engine, constraint| {
            let request = GenerateRequest {
                prompt: prompt.clone(),
                max_tokens: 200,
                sampling: SamplingParams::default(),
                stop: Vec::new(),
                constraint,
                cancel: CancelToken::default(),
            };
            engine.generate(vec![request]).remove(0).unwrap()
        };
        let schema = serde_json::json!({
            "type": "object", "additionalProperties": false, "required": ["who", "what"],
            "properties": { "who": { "enum": ["Anna", "Bo"] }, "what": { "type": "string", "maxLength": 40 } },
        });
        let answer = ask(&stand_in, Constraint::JsonSchema(schema.clone()));
        let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
        assert!(jsonschema::is_valid(&schema, &value), "{value}");
        let free = ask(&stand_in, Constraint::None);
        assert!(free.usage.completion_tokens < 2 * ANSWER_TOKENS, "an answer has an end: {free:?}");
        assert_eq!(free.ids, ask(&stand_in, Constraint::None).ids, "the same seed gives the same answer");
        let (other, _) = load_stand_in(&origin(path), day, &options, 2).unwrap();
        assert_ne!(free.ids, ask(&other, Constraint::None).ids, "another seed gives another answer");
    }
}
