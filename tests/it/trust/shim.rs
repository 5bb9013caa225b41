//! A library between the program and the C library that ends it, or lets it fail, at the n-th thing it changes on the disk.
//! The program itself knows nothing of it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::pipelines::Stage;
use crate::support::skipped;

const SOURCE: &str = include_str!("shim.c");

pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Compiles it; `None`, said aloud, where there is no C compiler.
    pub fn build() -> Option<Self> {
        static BUILT: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
        let built = BUILT.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let (source, library) = (folder.path().join("shim.c"), folder.path().join("shim.so"));
            std::fs::write(&source, SOURCE).unwrap();
            let mut compiler = Command::new("cc");
            compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(&source);
            match compiler.args(["-ldl", "-lpthread"]).output() {
                Ok(out) if out.status.success() => Some((folder, library)),
                Ok(out) => panic!("the shim does not compile:\n{}", String::from_utf8_lossy(&out.stderr)),
                Err(_) => None,
            }
        });
        match built {
            Some((_, library)) if cfg!(all(target_os = "linux", target_env = "gnu")) => {
                Some(Self { library: library.clone() })
            }
            _ => {
                skipped("the shim between the program and the C library needs cc and glibc");
                None
            }
        }
    }

    /// Has the command count what it changes below the stage's folder.
    pub fn counting<'c>(&self, command: &'c mut Command, stage: &Stage) -> &'c mut Command {
        let below = std::fs::canonicalize(stage.path(".")).unwrap();
        std::fs::write(stage.path("count"), [0; 8]).unwrap();
        command.env("LD_PRELOAD", &self.library).env("SHIM_BELOW", below).env("SHIM_COUNT", stage.path("count"))
    }

    /// `kill` before the n-th change, `torn` in the middle of it where it is a write, `eio` for that one alone, `full` from
    /// there on for whatever takes room.
    pub fn failing<'c>(&self, command: &'c mut Command, stage: &Stage, mode: &str, n: usize) -> &'c mut Command {
        self.counting(command, stage).env("SHIM_MODE", mode).env("SHIM_AT", n.to_string())
    }

    pub fn count(&self, stage: &Stage) -> usize {
        let bytes = std::fs::read(stage.path("count")).unwrap();
        u64::from_ne_bytes(bytes.try_into().expect("eight bytes")) as usize
    }
}
