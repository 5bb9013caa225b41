//! Which models could not be had lately, in one small file of the store. Only a hint: a file that cannot be read or
//! written, or makes no sense, is as good as none. Knows names and times; decides nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Attempt, one_line};
use super::store::models_folder;
use super::{HubError, Options};

const FORMAT: u32 = 1;
/// More names than anyone lists; the oldest go first.
const NAMES_MAX: usize = 64;
const BYTES_MAX: u64 = 1 << 20;

/// What could not be had, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Memory {
    format: u32,
    models: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    why: Vec<Attempt>,
    when: String, // RFC 3339
    /// The hub that was asked: another one may have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
}

impl Memory {
    /// Returns what is remembered about the hub of these options.
    pub(super) fn read(options: &Options) -> Self {
        let mut memory = read(&path(&options.cache)).unwrap_or_default();
        memory.models.retain(|_, entry| entry.endpoint == options.endpoint);
        memory
    }

    /// Returns since when and why a model cannot be had, if that was less than `age` ago. A time that is still to come
    /// was written by a clock that has been set since, and says nothing.
    pub(super) fn recent(&self, name: &str, now: Timestamp, age: Duration) -> Option<(Timestamp, HubError)> {
        let entry = self.models.get(name)?;
        let since: Timestamp = entry.when.parse().ok()?;
        let passed = Duration::try_from(now.duration_since(since)).ok()?;
        // The file may have been written by anyone who may write into the cache: it is shown on a terminal.
        let why = entry.why.iter().map(|a| Attempt { source: one_line(&a.source), why: one_line(&a.why) }).collect();
        (passed < age).then(|| (since, HubError::Unavailable { model: name.into(), attempts: why }))
    }
}

/// Writes down that every source of a model was asked in vain; anything else is no reason to remember.
pub(super) fn remember(options: &Options, name: &str, why: &HubError, now: Timestamp) {
    let HubError::Unavailable { attempts, .. } = why else { return };
    let path = path(&options.cache);
    let mut memory = read(&path).unwrap_or_default();
    let entry = Entry { why: attempts.clone(), when: now.to_string(), endpoint: options.endpoint.clone() };
    memory.models.insert(name.into(), entry);
    while memory.models.len() > NAMES_MAX {
        let oldest = memory.models.iter().min_by(|a, b| a.1.when.cmp(&b.1.when)).map(|(name, _)| name.clone());
        oldest.and_then(|name| memory.models.remove(&name));
    }
    // Only a hint: where it cannot be written the model is asked for again.
    let _ = write(&path, &memory);
}

/// Forgets a model: somebody is asking for it by its name.
pub(super) fn forget(options: &Options, name: &str) {
    let path = path(&options.cache);
    if let Some(mut memory) = read(&path)
        && memory.models.remove(name).is_some()
    {
        let _ = write(&path, &memory);
    }
}

fn path(cache: &Path) -> PathBuf {
    models_folder(cache).join(".unavailable.json")
}

fn read(path: &Path) -> Option<Memory> {
    if fs::metadata(path).ok()?.len() > BYTES_MAX {
        return None;
    }
    let memory: Memory = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (memory.format == FORMAT).then_some(memory)
}

/// Writes the file whole or not at all. Of two at once one is lost, which costs a question.
fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let memory = Memory { format: FORMAT, ..memory.clone() };
    let mut text = serde_json::to_vec_pretty(&memory)?;
    text.push(b'\n');
    let mut file = tempfile::Builder::new().prefix(".unavailable-").tempfile_in(folder)?;
    file.write_all(&text)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn unavailable(name: &str) -> HubError {
        let attempts = vec![Attempt { source: "model hub o/r".into(), why: "no connection".into() }];
        HubError::Unavailable { model: name.into(), attempts }
    }

    fn later(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(1_000_000 + seconds)
    }

    fn remembering() -> (tempfile::TempDir, Options) {
        let cache = tempfile::tempdir().unwrap();
        let options = Options::new(cache.path());
        remember(&options, "m", &unavailable("m"), later(0));
        (cache, options)
    }

    #[test]
    fn what_could_not_be_had_is_remembered_with_its_reason_for_a_while() {
        let (_cache, options) = remembering();
        let memory = Memory::read(&options);
        let (since, why) = memory.recent("m", later(3599), HOUR).unwrap();
        assert_eq!((since, why.to_string()), (later(0), unavailable("m").to_string()));
        assert!(memory.recent("m", later(3600), HOUR).is_none());
        assert!(memory.recent("m", later(-1), HOUR).is_none(), "the clock was set back");
        assert!(memory.recent("other", later(1), HOUR).is_none());
    }

    #[test]
    fn another_hub_has_not_been_asked() {
        let (_cache, mut options) = remembering();
        options.endpoint = Some("https://mirror.example".into());
        assert_eq!(Memory::read(&options), Memory { format: FORMAT, ..Memory::default() });
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none_and_is_replaced() {
        let (_cache, options) = remembering();
        let file = path(&options.cache);
        let good = fs::read_to_string(&file).unwrap();
        let other_format = good.replace("\"format\": 1", "\"format\": 7");
        let bad_time = good.replace(&later(0).to_string(), "yesterday");
        for bad in ["", "{", "[]", "{\"format\": 1}", &other_format, &bad_time, &good[..good.len() / 2]] {
            fs::write(&file, bad).unwrap();
            assert!(Memory::read(&options).recent("m", later(1), HOUR).is_none(), "{bad}");
            forget(&options, "m");
            remember(&options, "m", &unavailable("m"), later(0));
            assert!(Memory::read(&options).recent("m", later(1), HOUR).is_some(), "after {bad}");
        }
    }

    #[test]
    fn only_a_name_that_was_asked_for_is_forgotten() {
        let (_cache, options) = remembering();
        remember(&options, "n", &unavailable("n"), later(0));
        forget(&options, "m");
        let memory = Memory::read(&options);
        assert!(memory.recent("m", later(1), HOUR).is_none() && memory.recent("n", later(1), HOUR).is_some());
    }

    #[test]
    fn the_file_stays_small_and_other_failures_are_not_in_it() {
        let (_cache, options) = remembering();
        remember(&options, "offline", &HubError::NotCached { model: "offline".into() }, later(1));
        for i in 0..100 {
            let name = format!("n{i}");
            remember(&options, &name, &unavailable(&name), later(1 + i));
        }
        let memory = Memory::read(&options);
        assert_eq!(memory.models.len(), NAMES_MAX);
        assert!(memory.models.contains_key("n99") && !memory.models.contains_key("m"));
        assert!(!memory.models.contains_key("offline"));
    }
}
