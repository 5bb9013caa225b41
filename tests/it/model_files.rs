//! Damaged and hostile model files through the real commands: exit 8 within five seconds, one line that names the file
//! and the fact, no panic, no signal. What only a deeper stage can find, only deeper commands refuse.

mod gguf_files;
mod safetensors_files;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Ran, quarry, run};

const TIME_MAX: Duration = Duration::from_secs(15);

/// The least command that has to refuse a file; all after it do too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// `model inspect`: what is wrong stands in the headers.
    Header,
    /// `model logits`: the headers are sound, and do not go with the weights.
    Weights,
    /// `generate`: only the text around the weights is wrong.
    Text,
}

/// A folder for one model after the other.
struct Bench {
    folder: tempfile::TempDir,
    num_cases: AtomicUsize,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap(), num_cases: AtomicUsize::new(0) };
        fs::write(bench.path("ids.json"), "[1, 2, 3, 5, 8, 13]").unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command of a stage on a model, held to four gigabytes of addresses, so that a length that is believed shows.
    fn command(&self, stage: Stage, model: &Path) -> Command {
        let mut inner = quarry(&self.path("cache"));
        match stage {
            Stage::Header => inner.args(["model", "inspect"]).arg(model),
            Stage::Weights => {
                inner.args(["model", "logits", "--threads", "1"]).arg(model);
                inner.arg("--tokens").arg(self.path("ids.json")).arg("--out").arg(self.path("logits.npy"))
            }
            Stage::Text => inner.args(["generate", "hi", "--threads", "1", "--max-tokens", "4", "-m"]).arg(model),
        };
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -v 4194304; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(std::process::Stdio::null());
        command
    }

    /// Every command from `stage` on refuses `model`, with a line that names `file` and `fact`.
    #[track_caller]
    fn refused(&self, what: &str, model: &Path, file: &str, stage: Stage, fact: &str) {
        self.num_cases.fetch_add(1, Ordering::Relaxed);
        let _ = fs::remove_file(self.path("logits.npy")); // of the case before
        for each in [Stage::Header, Stage::Weights, Stage::Text] {
            let ran = run(&mut self.command(each, model));
            assert_whole(what, &ran);
            if each < stage {
                assert_eq!(ran.code, Some(0), "{what}: {ran}");
                continue;
            }
            assert_eq!(ran.code, Some(8), "{what}: {ran}");
            let errors = ran.errors();
            assert!(errors.len() == 1 && errors[0].contains(file), "{what}: {ran}");
            assert!(errors[0].contains(fact), "{what}: \"{fact}\" is not what is said: {ran}");
            assert!(errors[0].len() < 1000, "{what}: {ran}");
        }
        assert!(!self.path("logits.npy").exists() || stage == Stage::Text, "{what}: logits of a refused model");
    }
}

/// No panic, no signal, no long wait, whatever came out.
#[track_caller]
fn assert_whole(what: &str, ran: &Ran) {
    assert!(ran.signal.is_none() && ran.code.is_some_and(|c| c < 128), "{what}: {ran}");
    assert!(!ran.stderr.contains("panicked") && !ran.stderr.contains("a bug in quarry"), "{what}: {ran}");
    assert!(ran.took < TIME_MAX, "{what}: {ran}");
}

/// Numbers that look random and are the same everywhere, from -0.25 to 0.25.
fn weights(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 0.5
    };
    (0..count).map(|_| next()).collect()
}

const SPECIAL: [&str; 3] = ["<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"];

/// The special tokens, then every byte in the alphabet of byte-level vocabularies.
fn vocabulary() -> Vec<String> {
    let mut next = 256u32;
    let byte = |b: u8| match b {
        33..=126 | 161..=172 | 174..=255 => char::from(b).to_string(),
        _ => {
            next += 1;
            char::from_u32(next - 1).unwrap().to_string()
        }
    };
    SPECIAL.iter().map(|s| s.to_string()).chain((0..=255u8).map(byte)).collect()
}

/// The sizes of the small models of these tests.
mod small {
    pub const HIDDEN: usize = 32;
    pub const HEADS: usize = 2;
    pub const KV_HEADS: usize = 1;
    pub const HEAD: usize = 16;
    pub const INNER: usize = 32;
    pub const EXPERTS: usize = 4;
    pub const PER_TOKEN: usize = 2;
    pub const LAYERS: usize = 2;
    pub const VOCABULARY: usize = 259;
    pub const WINDOW: usize = 512;
}
