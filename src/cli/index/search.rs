//! `quarry index search`: passages for a question, with their places and, if asked, why they came.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::exit::Exit;
use crate::cli::options::Settings;
use crate::cli::{Failure, print};
use crate::corpus::index::{Embed, Filter, Hit, IndexError, Query, Retriever};

#[derive(Args, Debug)]
pub struct SearchArgs {
    /// The index's folder
    #[arg(value_name = "INDEX")]
    pub index: PathBuf,
    /// What is looked for, in plain words
    #[arg(value_name = "QUESTION")]
    pub question: String,
    /// How many passages at most
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub top: usize,
    /// Only passages whose field has this value, such as language=de or ext=pdf; one name given more than once means any of its values
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub filter: Vec<(String, String)>,
    /// Only files whose name matches
    #[arg(long, value_name = "GLOB")]
    pub path: Vec<String>,
    /// Join each passage with so many before and after it
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=100))]
    pub context: usize,
    /// Search by words alone where the index has vectors too
    #[arg(long)]
    pub words_only: bool,
    /// Say of each passage where it came from
    #[arg(long)]
    pub explain: bool,
    /// Give the passages as JSON
    #[arg(long)]
    pub json: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

impl SearchArgs {
    fn filter(&self) -> Result<Filter, Failure> {
        let mut filter = Filter::default();
        for (name, value) in &self.filter {
            filter.fields.entry(name.clone()).or_default().push(value.clone());
        }
        for glob in &self.path {
            filter.add_path(glob).map_err(|e| Failure::wrong(format!("--path {glob}: {e}")))?;
        }
        Ok(filter)
    }
}

pub fn run(args: &SearchArgs, settings: &Settings) -> Result<Exit, Failure> {
    let filter = args.filter()?;
    let (index, embedder) = super::open(&args.index, args.words_only, settings)?;
    let vector = embedder.map(|e| e.question(&args.question)).transpose().map_err(IndexError::Embedding)?;
    let query = Query {
        text: &args.question,
        vector: vector.as_deref(),
        filter: &filter,
        top: args.top,
        context: args.context,
    };
    let hits = index.retrieve(&query)?;
    if args.json {
        print::json(&hits.iter().map(hit_value).collect::<Value>())?;
    } else if hits.is_empty() {
        print::note("nothing found");
    } else {
        print::result(&print::shown(&show_hits(&hits, args.explain)))?;
    }
    Ok(Exit::Done)
}

fn hit_value(hit: &Hit) -> Value {
    json!({ "place": hit.passage.place(), "score": hit.score, "found": hit.found, "passage": hit.passage })
}

/// Hits as people read them.
pub fn show_hits(hits: &[Hit], explain: bool) -> String {
    const SHOWN: usize = 300; // characters
    let mut text = String::new();
    for (rank, hit) in hits.iter().enumerate() {
        text.push_str(&format!("{}. {}\n", rank + 1, hit.passage.place()));
        if explain {
            text.push_str(&format!("   score {:.4}: {}\n", hit.score, hit.found.describe()));
        }
        let words: Vec<&str> = hit.passage.text.split_whitespace().collect();
        let words = words.join(" ");
        let shown: String = words.chars().take(SHOWN).collect();
        text.push_str(&format!("   {shown}{}\n\n", if shown.len() < words.len() { "…" } else { "" }));
    }
    text.trim_end().to_owned()
}
