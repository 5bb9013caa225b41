//! What a user can write to name a model: a name of the catalogue, a path, or `hf:owner/repo[/file][@revision]`.
//! Knows spelling; asks neither the network nor, but for "is there such a path", the disk.

use std::path::{Path, PathBuf};

use super::HubError;
use super::catalogue::{CATALOGUE, CatalogueEntry, entry};
use crate::diagnostic::suggest;

/// A model as it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    Catalogue(&'static CatalogueEntry),
    Hub(HubReference),
    Local(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubReference {
    pub repo: String,         // `owner/name`
    pub file: Option<String>, // a GGUF inside it; `None` takes what the repository holds
    pub revision: Option<String>,
}

impl Reference {
    /// Reads what a user wrote. A name of the catalogue wins over a file of the same name: `./starter` is the file.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let bad = |fact: &str| Err(HubError::BadReference { reference: text.into(), fact: fact.into() });
        if text.trim().is_empty() {
            return bad("it is empty");
        }
        if text.chars().any(char::is_control) {
            return bad("it holds a control character");
        }
        if let Some(found) = entry(text) {
            return Ok(Self::Catalogue(found));
        }
        if let Some(rest) = text.strip_prefix("hf:") {
            return match HubReference::parse(rest) {
                Ok(reference) => Ok(Self::Hub(reference)),
                Err(fact) => bad(&fact),
            };
        }
        if text.contains("://") {
            return bad("an address cannot be given");
        }
        if is_written_as_path(text) || Path::new(text).exists() {
            return Ok(Self::Local(text.into()));
        }
        Err(HubError::Unknown { name: text.into(), suggestion: suggest(text, CATALOGUE.iter().map(|e| e.name)) })
    }
}

impl HubReference {
    fn parse(rest: &str) -> Result<Self, String> {
        let (path, revision) = match rest.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (rest, None),
        };
        if revision
            .is_some_and(|r| r.is_empty() || r.len() > 200 || r.contains("..") || r.contains(char::is_whitespace))
        {
            return Err("the revision after @ must be a branch, a tag or a commit".into());
        }
        let mut parts = path.splitn(3, '/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
            return Err("after hf: come the owner and the repository, as in hf:owner/repo".into());
        };
        if !is_repo_part(owner) || !is_repo_part(name) {
            return Err("owner and repository are letters, digits, '-', '_' and '.'".into());
        }
        let file = parts.next().map(str::to_owned);
        if let Some(file) = &file {
            if !is_safe_relative(file) {
                return Err(format!("{file:?} is not a path inside a repository"));
            }
            if !file.ends_with(".gguf") {
                return Err("only a .gguf file is a model by itself; leave the file away to take the repository".into());
            }
        }
        Ok(Self { repo: format!("{owner}/{name}"), file, revision: revision.map(str::to_owned) })
    }
}

/// Returns true for a relative path with `/` that names something inside its folder and nothing else.
pub(super) fn is_safe_relative(path: &str) -> bool {
    path.len() <= 1000
        && path.split('/').all(|part| !matches!(part, "" | "." | "..") && part.len() <= 255)
        && !path.contains(['\\', ':'])
        && !path.chars().any(char::is_control)
}

fn is_repo_part(part: &str) -> bool {
    !part.is_empty()
        && part.len() <= 96
        && !matches!(part, "." | "..")
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn is_written_as_path(text: &str) -> bool {
    text.contains(['/', '\\']) || text.starts_with(['.', '~']) || text.ends_with(".gguf")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(repo: &str, file: Option<&str>, revision: Option<&str>) -> Reference {
        let own = |s: Option<&str>| s.map(str::to_owned);
        Reference::Hub(HubReference { repo: repo.into(), file: own(file), revision: own(revision) })
    }

    fn check_reads_as(text: &str, expected: Reference) {
        assert_eq!(Reference::parse(text).unwrap(), expected, "{text}");
    }

    fn check_refuses(text: &str, fact: &str) {
        let message = Reference::parse(text).unwrap_err().to_string();
        assert!(message.contains(fact), "{text}: {message}");
    }

    #[test]
    fn the_three_ways_to_name_a_model_are_told_apart() {
        check_reads_as("starter", Reference::Catalogue(entry("starter").unwrap()));
        let q8 = "granite-3.1-1b-a400m-instruct:q8_0";
        check_reads_as(q8, Reference::Catalogue(entry(q8).unwrap()));
        check_reads_as("./starter", Reference::Local("./starter".into()));
        check_reads_as("models/a.gguf", Reference::Local("models/a.gguf".into()));
        check_reads_as("a.gguf", Reference::Local("a.gguf".into()));
        check_reads_as("hf:o/r", hub("o/r", None, None));
        check_reads_as("hf:o/r@main", hub("o/r", None, Some("main")));
        check_reads_as("hf:o/r/sub/a.gguf@refs/pr/1", hub("o/r", Some("sub/a.gguf"), Some("refs/pr/1")));
    }

    #[test]
    fn a_typo_is_met_with_the_name_that_was_meant() {
        let error = Reference::parse("strater").unwrap_err();
        assert_eq!(error.to_string(), "there is no model named \"strater\"");
        assert_eq!(error.hint().unwrap(), "did you mean \"starter\"?");
    }

    #[test]
    fn what_leaves_the_repository_or_the_hub_is_refused() {
        check_refuses("", "it is empty");
        check_refuses("hf:", "hf:owner/repo");
        check_refuses("hf:owner", "hf:owner/repo");
        check_refuses("hf:../etc", "letters, digits");
        check_refuses("hf:o/..", "letters, digits");
        check_refuses("hf:o/r/../../x.gguf", "not a path inside a repository");
        check_refuses("hf:o/r//x.gguf", "not a path inside a repository");
        check_refuses("hf:o/r/model.safetensors", "only a .gguf file");
        check_refuses("hf:o/r@", "revision after @");
        check_refuses("https://example.org/a.gguf", "an address cannot be given");
        check_refuses("a\nb", "control character");
    }
}
