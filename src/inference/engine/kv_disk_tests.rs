//! Keys and values from disk give what computed ones give, bit for bit, and damaged ones are never used.

use std::fs;
use std::path::{Path, PathBuf};

use super::core::Core;
use super::kv_disk::{KvDisk, KvFolder};
use super::sequence::{Decoding, Goal, TokenResult};
use super::tests::{limits, prompt, tiny, tiny_decoder, together};
use crate::ids::TokenId;
use crate::inference::model::{KvKind, ModelSource};
use crate::inference::sampler::{Sampler, SamplingParams};

const SEGMENT_TOKENS: usize = 256;
/// Of 34 full blocks of 1100 tokens: three segments, and ten alone.
const FILES: usize = 3 + 10;

fn core(source: &ModelSource, kv: KvKind, disk: Option<(&Path, &str, u64)>) -> Core {
    let core = Core::new(Box::new(tiny_decoder(source, 2, kv, 128)), limits(512));
    match disk {
        None => core,
        Some((folder, model, bytes_max)) => {
            let folder = KvFolder { path: folder.to_owned(), bytes_max, tell: |_| () };
            core.with_disk(KvDisk::open(&folder, model).unwrap())
        }
    }
}

fn ask(core: &mut Core, prompt: &[TokenId]) -> TokenResult {
    let sampler = Sampler::new(&SamplingParams::default()).unwrap();
    let decoding = Decoding { max_tokens: 8, sampler, matcher: None, end_ids: Vec::new(), stop: None };
    together(core, vec![(prompt.to_vec(), Goal::Generate(Box::new(decoding)))]).remove(0)
}

/// The bits of how likely the model holds the last twenty tokens.
fn score(core: &mut Core, prompt: &[TokenId]) -> (usize, Vec<u32>) {
    let result = together(core, vec![(prompt.to_vec(), Goal::Score { from: prompt.len() - 20 })]).remove(0);
    (result.usage.cached_tokens, result.log_probs.iter().map(|p| p.to_bits()).collect())
}

/// A document, and the same document with another question.
fn questions() -> (Vec<TokenId>, Vec<TokenId>) {
    let mut document = prompt(3, 1100, 512);
    let first = document.clone();
    document[1060..].iter_mut().for_each(|t| *t = (*t + 5) % 512);
    (first, document)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn a_second_run_computes_only_what_is_new_and_gives_the_same_bits() {
    let source = tiny();
    let (first, second) = questions();
    for kv in [KvKind::Bf16, KvKind::Q8_0] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Some((folder.path(), "tiny", 1 << 30));
        assert_eq!(ask(&mut core(&source, kv, disk), &first).usage.cached_tokens, 0);
        assert_eq!(files(folder.path()).len(), FILES);
        let mut again = core(&source, kv, disk);
        let (fresh_cached, fresh) = score(&mut core(&source, kv, None), &second);
        let (cached, kept) = score(&mut again, &second);
        // All that the two have in common, 1060 tokens, but for the block in which they part.
        assert_eq!((fresh_cached, cached), (0, 1056), "{kv:?}");
        assert_eq!(kept, fresh, "{kv:?}");
        let truth = ask(&mut core(&source, kv, None), &second);
        assert_eq!(ask(&mut core(&source, kv, disk), &second).tokens, truth.tokens);
        // Another model finds nothing of this one's.
        assert_eq!(ask(&mut core(&source, kv, Some((folder.path(), "other", 1 << 30))), &first).usage.cached_tokens, 0);
    }
}

#[test]
fn a_damaged_file_is_removed_and_its_tokens_are_computed_again() {
    let source = tiny();
    let (first, second) = questions();
    let truth = score(&mut core(&source, KvKind::Bf16, None), &second).1;
    for cut in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let disk = Some((folder.path(), "tiny", 1 << 30));
        ask(&mut core(&source, KvKind::Bf16, disk), &first);
        for path in files(folder.path()) {
            let mut bytes = fs::read(&path).unwrap();
            if cut {
                bytes.truncate(bytes.len() / 2);
            } else {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            fs::write(&path, bytes).unwrap();
        }
        let mut core = core(&source, KvKind::Bf16, disk);
        assert_eq!(score(&mut core, &second), (0, truth.clone()));
        // The first is gone, found damaged, and written anew; those behind it were not looked at.
        assert_eq!(files(folder.path()).len(), FILES + 1, "and the block in which the question differs");
        let mut core = super::kv_disk_tests::core(&source, KvKind::Bf16, disk);
        assert_eq!(score(&mut core, &second), (SEGMENT_TOKENS, truth.clone()));
    }
}

#[test]
fn the_folder_stays_within_its_size_and_the_beginning_of_the_newest_prompt_stays() {
    let source = tiny();
    let (first, second) = (prompt(3, 1100, 512), prompt(8, 1100, 512));
    let folder = tempfile::tempdir().unwrap();
    ask(&mut core(&source, KvKind::Bf16, Some((folder.path(), "tiny", 1 << 30))), &first);
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    let most = 6 * files(folder.path()).iter().map(size).max().unwrap();
    let disk = Some((folder.path(), "tiny", most));
    ask(&mut core(&source, KvKind::Bf16, disk), &second);
    assert!(files(folder.path()).iter().map(size).sum::<u64>() <= most);
    let cached = |prompt: &[TokenId]| ask(&mut core(&source, KvKind::Bf16, disk), prompt).usage.cached_tokens;
    assert_eq!(cached(&second), 1088);
    assert_eq!(cached(&first), SEGMENT_TOKENS);
}

#[test]
fn short_prompts_leave_no_file() {
    let source = tiny();
    let folder = tempfile::tempdir().unwrap();
    ask(&mut core(&source, KvKind::Bf16, Some((folder.path(), "tiny", 1 << 30))), &prompt(1, 600, 512));
    assert!(files(folder.path()).is_empty());
}
