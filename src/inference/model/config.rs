//! What a decoder is shaped like: read from GGUF metadata or a `config.json`, checked against sane limits.

use serde_json::Value as Json;

use super::gguf::Gguf;

/// The three families that one configured decoder serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    Llama,
    Granite,
    GraniteMoe,
}

impl Architecture {
    /// From `general.architecture` or `model_type`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "llama" => Some(Self::Llama),
            "granite" => Some(Self::Granite),
            "granitemoe" => Some(Self::GraniteMoe),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Granite => "granite",
            Self::GraniteMoe => "granitemoe",
        }
    }
}

/// Sizes and constants of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub layers: usize,
    pub hidden: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub inner: usize,             // of the feed-forward layer, or of one expert
    pub experts: usize,           // 1: a dense feed-forward layer
    pub experts_per_token: usize, // 1 where dense
    pub vocabulary: usize,
    pub window: usize, // trained positions
    pub norm_eps: f32,
    pub rope_theta: f64,
    pub embedding_multiplier: f32,
    pub residual_multiplier: f32,
    pub attention_multiplier: f32, // scores are scaled by this
    pub logits_divisor: f32,
}

impl ModelConfig {
    /// Reads the metadata of a GGUF file. The error is one fact, to be put behind the file's name.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, String> {
        let name = gguf.text("general.architecture").ok_or("general.architecture is missing")?;
        let architecture = known(name)?;
        let key = |suffix: &str| format!("{name}.{suffix}");
        let count =
            |suffix: &str| gguf.unsigned(&key(suffix)).ok_or_else(|| format!("{} is missing or no count", key(suffix)));
        let number = |suffix: &str, default: f64| match gguf.get(&key(suffix)) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| format!("{} is no number", key(suffix))),
        };
        let scaling = gguf.text(&key("rope.scaling.type")).unwrap_or("none");
        if scaling != "none" {
            return Err(format!("rope scaling {scaling:?} is not supported"));
        }
        let (hidden, heads) = (count("embedding_length")?, count("attention.head_count")?);
        let head_dim = match gguf.unsigned(&key("attention.key_length")) {
            Some(dim) => dim,
            None => hidden.checked_div(heads).ok_or("attention.head_count is 0")?,
        };
        let rotated = gguf.unsigned(&key("rope.dimension_count")).unwrap_or(head_dim);
        if rotated != head_dim {
            return Err(format!("rope turns {rotated} of {head_dim} values of a head; all are expected"));
        }
        let moe = architecture == Architecture::GraniteMoe;
        let embedding = gguf.tensor("token_embd.weight").ok_or("the tensor token_embd.weight is missing")?;
        Self {
            architecture,
            layers: count("block_count")?,
            hidden,
            heads,
            kv_heads: gguf.unsigned(&key("attention.head_count_kv")).unwrap_or(heads),
            head_dim,
            inner: count("feed_forward_length")?,
            experts: if moe { count("expert_count")? } else { 1 },
            experts_per_token: if moe { count("expert_used_count")? } else { 1 },
            vocabulary: embedding.shape.first().copied().unwrap_or(0),
            window: count("context_length")?,
            norm_eps: number("attention.layer_norm_rms_epsilon", 1e-5)? as f32,
            rope_theta: number("rope.freq_base", 10_000.0)?,
            embedding_multiplier: number("embedding_scale", 1.0)? as f32,
            residual_multiplier: number("residual_scale", 1.0)? as f32,
            attention_multiplier: number("attention.scale", (head_dim as f64).powf(-0.5))? as f32,
            logits_divisor: number("logit_scale", 1.0)? as f32,
        }
        .checked()
    }

    /// Reads a Hugging Face `config.json`.
    pub fn from_json(json: &Json) -> Result<Self, String> {
        let name = json.get("model_type").and_then(Json::as_str).ok_or("model_type is missing")?;
        let architecture = known(name)?;
        let count = |key: &str| {
            json.get(key)
                .and_then(Json::as_u64)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| format!("{key} is missing or no count"))
        };
        let number = |key: &str, default: f64| match json.get(key) {
            None | Some(Json::Null) => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| format!("{key} is no number")),
        };
        for bias in ["attention_bias", "mlp_bias"] {
            if json.get(bias).and_then(Json::as_bool) == Some(true) {
                return Err(format!("{bias} is true; biases are not supported"));
            }
        }
        // transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`.
        let rope = json.get("rope_parameters").or_else(|| json.get("rope_scaling")).filter(|r| !r.is_null());
        let kind = rope.and_then(|r| r.get("rope_type").or_else(|| r.get("type"))).and_then(Json::as_str);
        if kind.is_some_and(|k| k != "default") {
            return Err(format!("rope scaling {:?} is not supported", kind.unwrap_or_default()));
        }
        let theta = rope.and_then(|r| r.get("rope_theta")).and_then(Json::as_f64);
        let (hidden, heads) = (count("hidden_size")?, count("num_attention_heads")?);
        let head_dim = match json.get("head_dim").and_then(Json::as_u64) {
            Some(dim) => dim as usize,
            None => hidden.checked_div(heads).ok_or("num_attention_heads is 0")?,
        };
        let moe = architecture == Architecture::GraniteMoe;
        let scaled = architecture != Architecture::Llama;
        let multiplier = |key: &str, default: f64| if scaled { number(key, default) } else { Ok(default) };
        Self {
            architecture,
            layers: count("num_hidden_layers")?,
            hidden,
            heads,
            kv_heads: count("num_key_value_heads").unwrap_or(heads),
            head_dim,
            inner: count("intermediate_size")?,
            experts: if moe { count("num_local_experts")? } else { 1 },
            experts_per_token: if moe { count("num_experts_per_tok")? } else { 1 },
            vocabulary: count("vocab_size")?,
            window: count("max_position_embeddings")?,
            norm_eps: number("rms_norm_eps", 1e-6)? as f32,
            rope_theta: match theta {
                Some(theta) => theta,
                None => number("rope_theta", 10_000.0)?,
            },
            embedding_multiplier: multiplier("embedding_multiplier", 1.0)? as f32,
            residual_multiplier: multiplier("residual_multiplier", 1.0)? as f32,
            attention_multiplier: multiplier("attention_multiplier", (head_dim as f64).powf(-0.5))? as f32,
            logits_divisor: multiplier("logits_scaling", 1.0)? as f32,
        }
        .checked()
    }

    /// Refuses sizes that no model of these families has, before anything is allocated by them.
    fn checked(self) -> Result<Self, String> {
        let limits = [
            ("layers", self.layers, 1, 1024),
            ("hidden size", self.hidden, 16, 65_536),
            ("heads", self.heads, 1, 1024),
            ("key/value heads", self.kv_heads, 1, 1024),
            ("head size", self.head_dim, 16, 1024),
            ("feed-forward size", self.inner, 1, 1 << 20),
            ("experts", self.experts, 1, 1024),
            ("experts per token", self.experts_per_token, 1, 256),
            ("vocabulary", self.vocabulary, 1, 1 << 22),
            ("window", self.window, 1, 1 << 24),
        ];
        for (what, value, min, max) in limits {
            if !(min..=max).contains(&value) {
                return Err(format!("{what} is {value}; {min} to {max} is supported"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(format!("{} heads do not divide over {} key/value heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(16) {
            return Err(format!("head size {} is not a multiple of 16", self.head_dim));
        }
        if self.experts_per_token > self.experts {
            return Err(format!("{} experts per token of {}", self.experts_per_token, self.experts));
        }
        let constants = [
            ("norm epsilon", f64::from(self.norm_eps)),
            ("rope theta", self.rope_theta),
            ("logits scale", f64::from(self.logits_divisor)),
        ];
        for (what, value) in constants {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{what} is {value}; a positive number is expected"));
            }
        }
        Ok(self)
    }

    /// Weights read for one token, without the embedding's single row: what decoding streams.
    pub fn active_weights(&self) -> usize {
        let attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads);
        let experts = self.experts_per_token * 3 * self.hidden * self.inner;
        self.layers * (attention + experts) + self.vocabulary * self.hidden
    }
}

fn known(name: &str) -> Result<Architecture, String> {
    Architecture::from_name(name)
        .ok_or_else(|| format!("architecture {name:?} is not supported: llama, granite and granitemoe are"))
}
