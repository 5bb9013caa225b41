//! `quarry index eval`: nDCG, MAP and recall over judged queries, each with its interval.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::Table;
use serde_json::json;

use crate::cli::exit::Exit;
use crate::cli::options::Settings;
use crate::cli::{Failure, print};
use crate::corpus::index::measure::{
    Interval, Judgements, RECALL_AT, Scores, interval, parse_judgements, parse_queries, score,
};
use crate::corpus::index::{Embed, Filter, IndexError, Query, Retriever};

#[derive(Args, Debug)]
pub struct EvalArgs {
    /// The index's folder
    #[arg(value_name = "INDEX")]
    pub index: PathBuf,
    /// Queries: BEIR lines of JSON, TREC topics, or `id<TAB>text`
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// Judgements, TREC or BEIR; a document is known by its name in the index, its file name or its stem
    #[arg(long, value_name = "FILE")]
    pub qrels: PathBuf,
    /// Documents that are ranked
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(10..=1000))]
    pub depth: usize,
    /// Search by words alone where the index has vectors too
    #[arg(long)]
    pub words_only: bool,
    /// Write the ranking as a TREC run, for other scorers
    #[arg(long, value_name = "FILE")]
    pub run: Option<PathBuf>,
    /// Give the figures as JSON
    #[arg(long)]
    pub json: bool,
}

/// Passages of one document share a rank: so many more are asked for.
const PASSAGES_PER_DOCUMENT: usize = 4;

pub fn run(args: &EvalArgs, settings: &Settings) -> Result<Exit, Failure> {
    let read = |path: &PathBuf| {
        std::fs::read_to_string(path).map_err(|e| Failure::wrong(format!("{} cannot be read: {e}", path.display())))
    };
    let wrong = |path: &PathBuf, fact: String| Failure::wrong(format!("{}: {fact}", path.display()));
    let queries = parse_queries(&read(&args.queries)?).map_err(|e| wrong(&args.queries, e))?;
    let judgements = parse_judgements(&read(&args.qrels)?).map_err(|e| wrong(&args.qrels, e))?;
    let (index, embedder) = super::open(&args.index, args.words_only, settings)?;
    let ids = document_ids(index.table().files.keys().map(String::as_str), &judgements);

    let filter = Filter::default();
    let (mut scores, mut times, mut ranking) = (Vec::new(), Vec::new(), String::new());
    let judged: Vec<_> = queries.iter().filter(|(id, _)| judgements.contains_key(id)).collect();
    if judged.is_empty() {
        return Err(Failure::wrong("no query of --queries is judged in --qrels"));
    }
    for (id, text) in &judged {
        let vector = embedder.as_ref().map(|e| e.question(text)).transpose().map_err(IndexError::Embedding)?;
        let started = Instant::now();
        let query = Query {
            text,
            vector: vector.as_deref(),
            filter: &filter,
            top: args.depth * PASSAGES_PER_DOCUMENT,
            context: 0,
        };
        let hits = index.retrieve(&query)?;
        times.push(started.elapsed());
        let mut seen = BTreeSet::new();
        let mut documents: Vec<(&str, f64)> = Vec::new();
        for hit in &hits {
            let document = ids.get(hit.passage.file.as_str()).copied().unwrap_or_default();
            if documents.len() < args.depth && seen.insert(document) {
                documents.push((document, hit.score));
            }
        }
        for (rank, (document, score)) in documents.iter().enumerate() {
            // Writing to a text cannot fail.
            let _ = writeln!(ranking, "{id} Q0 {document} {} {score:.6} quarry", rank + 1);
        }
        let documents: Vec<&str> = documents.into_iter().map(|(d, _)| d).collect();
        scores.push(score(&documents, &judgements[id]));
    }
    if let Some(path) = &args.run {
        std::fs::write(path, &ranking).map_err(|e| wrong(path, format!("cannot be written: {e}")))?;
    }
    tell(args, &scores, &mut times, queries.len() - judged.len())
}

/// Each file's name as the judgements know it.
fn document_ids<'a>(files: impl Iterator<Item = &'a str>, judgements: &Judgements) -> HashMap<&'a str, &'a str> {
    let known: BTreeSet<&str> = judgements.values().flat_map(|g| g.keys().map(String::as_str)).collect();
    let id = |file: &'a str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        [file, name, stem].into_iter().find(|n| known.contains(n)).unwrap_or(stem)
    };
    files.map(|file| (file, id(file))).collect()
}

fn tell(args: &EvalArgs, scores: &[Scores], times: &mut [Duration], unjudged: usize) -> Result<Exit, Failure> {
    let of = |value: &dyn Fn(&Scores) -> f64| interval(&scores.iter().map(value).collect::<Vec<_>>());
    let mut figures: Vec<(String, Interval)> =
        vec![("nDCG@10".into(), of(&|s| s.ndcg_10)), ("MAP".into(), of(&|s| s.average_precision))];
    for (i, depth) in RECALL_AT.iter().enumerate().filter(|(_, d)| **d <= args.depth) {
        figures.push((format!("recall@{depth}"), of(&|s| s.recall[i])));
    }
    times.sort_unstable();
    let ms = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    if args.json {
        let values: serde_json::Map<_, _> = figures.into_iter().map(|(name, i)| (name, json!(i))).collect();
        print::json(&json!({ "queries": scores.len(), "unjudged": unjudged, "measures": values,
            "milliseconds": { "p50": ms(0.5), "p99": ms(0.99) } }))?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(["MEASURE", "MEAN", "95 % INTERVAL"]);
    for (name, i) in &figures {
        table.add_row([name.clone(), format!("{:.4}", i.mean), format!("{:.4} to {:.4}", i.low, i.high)]);
    }
    let left_out = if unjudged > 0 { format!(", {unjudged} more have no judgement") } else { String::new() };
    let (p50, p99) = (ms(0.5), ms(0.99));
    print::result(&format!(
        "{table}\n\n{} queries{left_out}; a search takes {p50:.2} ms, and {p99:.2} ms at the 99th of 100",
        scores.len()
    ))?;
    Ok(Exit::Done)
}
