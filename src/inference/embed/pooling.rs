//! How a model's states become one vector: read from the files that sentence-transformers writes beside its weights.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::EmbedError;

/// How the states of a text's tokens become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Mean,
    /// The state of the first token.
    First,
    Max,
}

/// What a model's files say of how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    pub pooling: Pooling,
    pub max_tokens: usize, // of one input, marks included
    pub question_prefix: String,
    pub passage_prefix: String,
    /// What was taken for granted because no file says it.
    pub assumed: Vec<String>,
}

impl Pooling {
    /// Pools states of (tokens, dims) in a row.
    pub fn pool(self, states: &[f32], dims: usize) -> Vec<f32> {
        let mut rows = states.chunks_exact(dims);
        let num_tokens = rows.len().max(1) as f32;
        let mut pooled = rows.next().map_or_else(|| vec![0.0; dims], <[f32]>::to_vec);
        match self {
            Self::First => {}
            Self::Max => rows.for_each(|row| pooled.iter_mut().zip(row).for_each(|(p, v)| *p = p.max(*v))),
            Self::Mean => {
                rows.for_each(|row| pooled.iter_mut().zip(row).for_each(|(p, v)| *p += v));
                pooled.iter_mut().for_each(|p| *p /= num_tokens);
            }
        }
        pooled
    }
}

#[derive(Deserialize)]
struct Module {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Description {
    /// Reads what there is. `positions` is the longest input that the weights allow.
    ///
    /// Without a word on it a model is pooled by the mean, as most are, and takes as many tokens as its positions.
    /// Vectors are always made of length 1, for nearness is their cosine.
    pub fn read(folder: &Path, positions: usize) -> Result<Self, EmbedError> {
        let mut assumed = Vec::new();
        let pooling = match pooling_folder(folder)? {
            Some(path) => read_pooling(folder, &format!("{path}/config.json"))?,
            None => None,
        };
        let pooling = pooling.unwrap_or_else(|| {
            assumed.push("mean pooling, for no file says how the model pools".into());
            Pooling::Mean
        });
        let limit = json(folder, "sentence_bert_config.json")?.and_then(|c| c.get("max_seq_length")?.as_u64());
        if limit.is_none() {
            assumed.push(format!("inputs of {positions} tokens, for no file gives a limit"));
        }
        let max_tokens = limit.map_or(positions, |n| (n as usize).min(positions));
        if max_tokens < 8 {
            return Err(EmbedError::Model { path: folder.to_owned(), fact: format!("takes {max_tokens} tokens only") });
        }
        let prompts = json(folder, "config_sentence_transformers.json")?;
        let prefix = |names: &[&str]| {
            let prompts = prompts.as_ref()?.get("prompts")?;
            names.iter().find_map(|n| prompts.get(n)?.as_str()).map(str::to_owned)
        };
        Ok(Self {
            pooling,
            max_tokens,
            question_prefix: prefix(&["query", "question"]).unwrap_or_default(),
            passage_prefix: prefix(&["passage", "document"]).unwrap_or_default(),
            assumed,
        })
    }
}

/// Where `modules.json` says that the pooling is described; without that file, the usual place.
fn pooling_folder(folder: &Path) -> Result<Option<String>, EmbedError> {
    let Some(modules) = json(folder, "modules.json")? else { return Ok(Some("1_Pooling".into())) };
    let wrong = |fact: String| EmbedError::Model { path: folder.join("modules.json"), fact };
    let modules: Vec<Module> = serde_json::from_value(modules).map_err(|e| wrong(e.to_string()))?;
    let mut found = None;
    for module in modules {
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "Normalize" => {}
            "Pooling" if !module.path.contains("..") => found = Some(module.path),
            other => return Err(wrong(format!("has a module `{other}`, which this version does not compute"))),
        }
    }
    Ok(found)
}

fn read_pooling(folder: &Path, name: &str) -> Result<Option<Pooling>, EmbedError> {
    let Some(config) = json(folder, name)? else { return Ok(None) };
    let on: Vec<&str> = config
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| key.starts_with("pooling_mode_") && **value == Value::Bool(true))
        .map(|(key, _)| key.trim_start_matches("pooling_mode_"))
        .collect();
    match on.as_slice() {
        [] => Ok(None),
        ["mean_tokens"] => Ok(Some(Pooling::Mean)),
        ["cls_token"] => Ok(Some(Pooling::First)),
        ["max_tokens"] => Ok(Some(Pooling::Max)),
        other => Err(EmbedError::Model {
            path: folder.join(name),
            fact: format!("pools by {}, which this version does not compute", other.join(" and ")),
        }),
    }
}

/// Reads a file of JSON; `None` where there is none.
fn json(folder: &Path, name: &str) -> Result<Option<Value>, EmbedError> {
    let path = folder.join(name);
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(EmbedError::Model { path, fact: error.to_string() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EmbedError::Model { path, fact: format!("cannot be read: {error}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn pooling_and_length_are_the_models_own() {
        let files = [
            ("modules.json", r#"[{"path":"","type":"s.Transformer"},{"path":"p","type":"s.Pooling"}]"#),
            ("p/config.json", r#"{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#),
            ("sentence_bert_config.json", r#"{"max_seq_length":128}"#),
            ("config_sentence_transformers.json", r#"{"prompts":{"query":"query: ","passage":"passage: "}}"#),
        ];
        let found = Description::read(folder(&files).path(), 512).unwrap();
        assert_eq!((found.pooling, found.max_tokens), (Pooling::First, 128));
        assert_eq!((found.question_prefix.as_str(), found.passage_prefix.as_str()), ("query: ", "passage: "));
        assert_eq!(found.assumed, [""; 0]);
    }

    #[test]
    fn what_no_file_says_is_assumed_and_told() {
        let found = Description::read(folder(&[]).path(), 512).unwrap();
        assert_eq!((found.pooling, found.max_tokens, found.assumed.len()), (Pooling::Mean, 512, 2));
    }

    #[test]
    fn what_this_version_does_not_compute_is_refused() {
        let dense = [("modules.json", r#"[{"path":"2_Dense","type":"s.models.Dense"}]"#)];
        assert!(Description::read(folder(&dense).path(), 512).unwrap_err().to_string().contains("Dense"));
        let both = [("1_Pooling/config.json", r#"{"pooling_mode_cls_token":true,"pooling_mode_max_tokens":true}"#)];
        assert!(Description::read(folder(&both).path(), 512).unwrap_err().to_string().contains("and"));
    }

    #[test]
    fn states_are_pooled_as_named() {
        let states = [1.0, -4.0, 3.0, 2.0];
        assert_eq!(Pooling::Mean.pool(&states, 2), [2.0, -1.0]);
        assert_eq!(Pooling::First.pool(&states, 2), [1.0, -4.0]);
        assert_eq!(Pooling::Max.pool(&states, 2), [3.0, 2.0]);
    }
}
