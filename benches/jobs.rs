//! A whole job, and what each of the engine's means adds to it: many documents through one schema.
//!
//! `cargo bench --bench jobs -- MODEL [FILE.jsonl] [COUNT]`: a GGUF file or a safetensors folder with its tokenizer, and
//! documents as JSON lines with a `text` (made-up receipts where no file is given). Every variant must give the same
//! tokens, and every answer that is whole must be of the schema, or the figures mean nothing and the program ends with 1.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use quarry::inference::engine::{
    CancelToken, Chat, Completion, Constraint, EngineOptions, FinishReason, GenerateRequest, Generator, Limits,
    Message, Origin, Role, load_engine,
};
use quarry::inference::sampler::SamplingParams;
use serde_json::{Value, json};

const MAX_TOKENS: usize = 200;
const FIELDS: [&str; 4] = ["company", "date", "address", "total"];

fn main() -> ExitCode {
    // Cargo gives `--bench` first.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let Some(model) = arguments.first() else {
        eprintln!("SKIPPED: no model; say which: cargo bench --bench jobs -- MODEL [FILE.jsonl] [COUNT]");
        return ExitCode::SUCCESS;
    };
    let count = arguments.get(2).map_or(40, |n| n.parse().expect("COUNT is a number"));
    let documents = match arguments.get(1) {
        Some(path) => texts(Path::new(path), count),
        None => (0..count).map(receipt).collect(),
    };
    let on = Limits::default();
    let alone = Limits { sequences_running: 1, ..on };
    let variants = [
        ("all means", on),
        ("no speculation", Limits { speculate: false, ..on }),
        ("no shared prefixes", Limits { share_prefixes: false, ..on }),
        ("no batching", alone),
        ("one by one, none of them", Limits { speculate: false, share_prefixes: false, ..alone }),
    ];
    println!("{} documents, at most {MAX_TOKENS} tokens each", documents.len());
    println!("{:26} {:>8} {:>10} {:>10} {:>9} {:>9}", "", "s", "docs/min", "computed", "written", "proposed");
    let mut truth: Option<Vec<Completion>> = None;
    for (name, limits) in variants {
        let options = EngineOptions { limits, window: Some(4096), ..EngineOptions::default() };
        let origin = Origin { name: model, digest: "", path: Path::new(model), quantized: None };
        let engine = load_engine(&origin, jiff::civil::date(2026, 1, 1), &options, &|_, _| ()).expect("a model");
        let requests = documents.iter().map(|text| request(&engine, text)).collect();
        let start = Instant::now();
        let answers: Vec<Completion> =
            engine.generate(requests).into_iter().map(|answer| answer.expect("an answer")).collect();
        let seconds = start.elapsed().as_secs_f64();
        let metrics = engine.metrics();
        println!(
            "{name:26} {seconds:8.1} {:10.1} {:10} {:9} {:9}",
            documents.len() as f64 * 60.0 / seconds,
            metrics.prompt_tokens - metrics.cached_tokens,
            metrics.completion_tokens,
            format!("{}/{}", metrics.accepted_tokens, metrics.proposed_tokens),
        );
        if let Some(wrong) = answers.iter().find(|a| a.finish == FinishReason::Stop && !is_of_the_schema(&a.text)) {
            println!("an answer is not of the schema: {}", wrong.text);
            return ExitCode::FAILURE;
        }
        let truth = truth.get_or_insert_with(|| answers.clone());
        if truth.iter().zip(&answers).any(|(a, b)| a.ids != b.ids) {
            println!("{name} gave other tokens");
            return ExitCode::FAILURE;
        }
    }
    let whole = truth.iter().flatten().filter(|a| a.finish == FinishReason::Stop).count();
    println!("the same tokens in every variant; {whole} answers whole and of the schema");
    ExitCode::SUCCESS
}

fn request(engine: &impl Generator, text: &str) -> GenerateRequest {
    let message = |role, content: String| Message { role, content };
    let fields = FIELDS.join(", ");
    let chat = Chat {
        messages: vec![
            message(Role::System, format!("Read the receipt and give its {fields} as JSON; null where it has none.")),
            message(Role::User, text.to_owned()),
        ],
        ..Chat::default()
    };
    GenerateRequest {
        prompt: engine.encode_chat(&chat).expect("a prompt"),
        max_tokens: MAX_TOKENS,
        sampling: SamplingParams::default(),
        stop: Vec::new(),
        constraint: Constraint::JsonSchema(schema()),
        cancel: CancelToken::default(),
    }
}

fn schema() -> Value {
    let field = json!({"type": ["string", "null"], "maxLength": 120});
    let properties: serde_json::Map<_, _> = FIELDS.iter().map(|f| ((*f).to_owned(), field.clone())).collect();
    json!({"type": "object", "properties": properties, "required": FIELDS, "additionalProperties": false})
}

fn is_of_the_schema(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else { return false };
    let fits = |v: &Value| v.is_null() || v.as_str().is_some_and(|s| s.chars().count() <= 120);
    fields.len() == FIELDS.len() && FIELDS.iter().all(|f| fields.get(*f).is_some_and(fits))
}

fn texts(path: &Path, count: usize) -> Vec<String> {
    let lines = std::fs::read_to_string(path).expect("a file of JSON lines");
    let text = |line: &str| -> Option<String> {
        Some(serde_json::from_str::<Value>(line).ok()?.get("text")?.as_str()?.to_owned())
    };
    lines.lines().take(count).map(|line| text(line).expect("a `text` in every line")).collect()
}

/// A receipt as a till prints it; no two are alike.
fn receipt(n: usize) -> String {
    let shops = ["KEDAI RUNCIT BERSAMA", "NORTH QUAY HARDWARE", "LUCKY STAR STATIONERY", "PASAR MINI DELIMA"];
    let goods = ["SOAP BAR 90G", "A4 PAPER 80GSM", "PAINT BRUSH 2IN", "GREEN TEA 25S", "BATTERY AA 4S", "MASKING TAPE"];
    let mut total = 0;
    let items: String = (0..4 + n % 9)
        .map(|i| {
            let (good, price) = (goods[(n * 7 + i * 5) % goods.len()], 95 + (n * 131 + i * 77) % 2400);
            total += price;
            format!("{good}\n1 x {}.{:02}\n{}.{:02} SR\n", price / 100, price % 100, price / 100, price % 100)
        })
        .collect();
    format!(
        "{}\n(GST ID: 0009{:08})\nNO {}, JALAN BUNGA RAYA {}\n81100 JOHOR BAHRU\nTAX INVOICE\nDATE: {:02}/{:02}/2018 \
         TIME: {:02}:{:02}\n{items}TOTAL SALES (INCLUSIVE OF GST): {}.{:02}\nCASH: 100.00\nGOODS SOLD ARE NOT RETURNABLE\n\
         THANK YOU, PLEASE COME AGAIN\n",
        shops[n % shops.len()],
        n * 7919,
        n + 1,
        1 + n % 20,
        1 + n % 28,
        1 + n % 12,
        8 + n % 12,
        n * 13 % 60,
        total / 100,
        total % 100,
    )
}
