//! A run over a folder of small files with a model that answers at once: what every test of the runner stands on.

mod ahead;
mod behavior;
mod crash;
mod kill;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{DocumentReader, RunEnvironment, RunError, run};
use crate::corpus::document::{Document, Format};
use crate::ids::TokenId;
use crate::inference::engine::{
    Chat, Completion, Constraint, FinishReason, GenerateError, GenerateRequest, Generator, ModelCard, Prompt,
    ScoreRequest, Usage,
};
use crate::pipeline::disk::Disk;
use crate::pipeline::evaluate::Evaluator;
use crate::pipeline::model::{ModelError, ModelIdentity, ModelSource};
use crate::pipeline::plan::{
    MaxFailed, ModelPlan, OnError, OutputContent, OutputFormat, OutputPlan, Per, Plan, Rounds, RunPlan, SourcePlan,
    StepPlan,
};
use crate::pipeline::report::{RunReport, State};
use crate::steps::{BuildContext, OptionFault, Reason, Step, StepContext, StepError, StepKind, StepOutput};

fn not_built(_: &BuildContext<'_>) -> Result<Box<dyn Step>, Vec<OptionFault>> {
    Err(Vec::new())
}

static ECHO: StepKind = StepKind {
    name: "echo",
    summary: "Asks the model twice.",
    guide: "",
    needs_model: true,
    keys: &[],
    outputs: &[],
    example: "",
    build: not_built,
};

static PLAIN: StepKind = StepKind { name: "plain", needs_model: false, ..ECHO };

/// Asks the model for each line of the document, one call after the other.
pub struct Echo;

impl Step for Echo {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        let model = cx.generator.expect("the kind says so");
        let lines: Vec<&str> = cx.document.text.lines().collect();
        let mut output = StepOutput::default();
        let mut words = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let request = GenerateRequest {
                prompt: Prompt { ids: model.encode_text(line) },
                max_tokens: 16,
                sampling: cx.defaults.sampling.clone(),
                stop: Vec::new(),
                constraint: Constraint::None,
                cancel: cx.cancel.clone(),
            };
            let answer = model.generate(vec![request]).remove(0)?;
            output.usage += answer.usage;
            words.push(answer.text);
            (cx.progress)(at + 1, lines.len());
        }
        output.value = json!({ "text": words.join(" "), "lines": words });
        Ok(output)
    }
}

type Body = dyn Fn(&StepContext<'_>) -> Result<StepOutput, StepError> + Send + Sync;

/// A step made of a closure.
pub struct Does(pub Box<Body>);

impl Step for Does {
    fn run(&self, cx: &StepContext<'_>) -> Result<StepOutput, StepError> {
        (self.0)(cx)
    }
}

/// Answers with the prompt in capitals.
pub struct Shouter {
    card: ModelCard,
    delay: Duration,
    calls: Arc<AtomicUsize>,
}

impl Generator for Shouter {
    fn card(&self) -> &ModelCard {
        &self.card
    }
    fn encode_chat(&self, chat: &Chat) -> Result<Prompt, GenerateError> {
        Ok(Prompt { ids: self.encode_text(&chat.messages[0].content) })
    }
    fn encode_text(&self, text: &str) -> Vec<TokenId> {
        text.chars().map(TokenId::from).collect()
    }
    fn token_ends(&self, text: &str) -> Vec<usize> {
        text.char_indices().map(|(at, c)| at + c.len_utf8()).collect()
    }
    fn generate(&self, requests: Vec<GenerateRequest>) -> Vec<Result<Completion, GenerateError>> {
        let answer = |request: GenerateRequest| {
            self.calls.fetch_add(1, Ordering::Relaxed);
            request.cancel.check()?;
            std::thread::sleep(self.delay);
            request.cancel.check()?;
            let text: String = request.prompt.ids.iter().filter_map(|id| char::from_u32(*id)).collect();
            let usage = Usage { prompt_tokens: text.len(), cached_tokens: 0, completion_tokens: text.len() };
            let (ids, text, finish) = (request.prompt.ids, text.to_uppercase(), FinishReason::Stop);
            Ok(Completion { ids, text, finish, usage })
        };
        requests.into_iter().map(answer).collect()
    }
    fn score(&self, _: ScoreRequest) -> Result<Vec<Vec<f32>>, GenerateError> {
        Err(GenerateError::EmptyPrompt)
    }
}

/// Gives the shouter, and counts how often it was opened.
#[derive(Default)]
pub struct Shouters {
    pub digest: &'static str,
    pub delay: Duration,
    pub opened: AtomicUsize,
    pub calls: Arc<AtomicUsize>,
    pub missing: bool,
}

impl ModelSource for Shouters {
    fn identity(&self) -> Result<ModelIdentity, ModelError> {
        Ok(ModelIdentity { name: "shouter".into(), digest: format!("d{}", self.digest), fallback: None })
    }
    fn open(&self) -> Result<Arc<dyn Generator>, ModelError> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        if self.missing {
            return Err(ModelError::new("shouter.gguf is missing"));
        }
        let card = ModelCard { name: "shouter".into(), digest: format!("d{}", self.digest), window: 1000 };
        Ok(Arc::new(Shouter { card, delay: self.delay, calls: self.calls.clone() }))
    }
}

/// Reads UTF-8 text.
pub struct PlainReader;

impl DocumentReader for PlainReader {
    fn read(&self, path: &Path, _: &Value) -> Result<Document, StepError> {
        let fail = |reason, e: &dyn std::fmt::Display| StepError { reason, detail: e.to_string() };
        let bytes = fs::read(path).map_err(|e| fail(Reason::Missing, &e))?;
        let sha256 = Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
        let text = String::from_utf8(bytes).map_err(|e| fail(Reason::Unreadable, &e))?;
        Ok(Document { path: path.to_path_buf(), sha256, ..Document::of(Format::Text, text) })
    }
}

/// A folder with inputs in `in/` and a pipeline over them.
pub struct Stage {
    _folder: tempfile::TempDir,
    pub plan: Plan,
    pub models: Shouters,
}

pub fn step(id: &str, kind: &'static StepKind, step: impl Step + 'static) -> StepPlan {
    StepPlan {
        id: id.into(),
        kind,
        step: Arc::new(step),
        when: None,
        rounds: Rounds::default(),
        on_error: OnError::Quarantine,
        resolved: json!({}),
        reads: Vec::new(),
    }
}

fn records(fields: &[(&str, &str)], key: Option<&str>, explode: Option<&str>) -> OutputContent {
    OutputContent::Records {
        fields: fields.iter().map(|(n, e)| (n.to_string(), e.to_string())).collect(),
        key: key.map(str::to_owned),
        explode: explode.map(str::to_owned),
    }
}

fn output(name: &str, path: &str, format: OutputFormat, content: OutputContent) -> OutputPlan {
    OutputPlan {
        name: name.into(),
        path: path.into(),
        format,
        content,
        only: None,
        per: Per::Document,
        reads: Vec::new(),
        on_removed: None,
        contract: None,
        is_markup: false,
    }
}

impl Stage {
    /// `num` files `in/00.txt`… of three lines each; a page, a record and a row per line come out.
    pub fn new(num: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stage = Self::over(folder.path());
        let stage = Self { _folder: folder, ..stage };
        (0..num).for_each(|n| stage.write(&format!("{n:02}.txt"), &format!("one {n}\ntwo {n}\nthree {n}\n")));
        stage
    }

    /// The same over files that are already there.
    pub fn over(folder: &Path) -> Self {
        let folder = fs::canonicalize(folder).unwrap();
        fs::create_dir_all(folder.join("in")).unwrap();
        let fields = [("doc", "doc.stem"), ("text", "steps.echo.text"), ("state", "doc.state")];
        let plan = Plan {
            file: folder.join("p.yaml"),
            name: "p".into(),
            params: json!({ "out": "out" }),
            model: ModelPlan::default(),
            indexes: Vec::new(),
            sources: vec![SourcePlan {
                name: "files".into(),
                patterns: vec![format!("{}/in/**/*.txt", folder.display())],
                ignore: Vec::new(),
                read: json!({}),
                ..SourcePlan::default()
            }],
            tables: Vec::new(),
            grouping: None,
            kept: Vec::new(),
            counts_tokens: false,
            steps: vec![step("echo", &ECHO, Echo)],
            outputs: vec![
                output(
                    "page",
                    "{{ params.out }}/{{ doc.stem }}.md",
                    OutputFormat::Markdown,
                    OutputContent::Text("steps.echo".into()),
                ),
                output(
                    "record",
                    "{{ params.out }}/all.jsonl",
                    OutputFormat::Jsonl,
                    records(&fields, Some("doc.path"), None),
                ),
                output(
                    "lines",
                    "{{ params.out }}/lines.csv",
                    OutputFormat::Csv,
                    records(&[("doc", "doc.stem"), ("line", "item")], None, Some("steps.echo.lines")),
                ),
            ],
            run: RunPlan {
                on_error: OnError::Quarantine,
                max_failed: MaxFailed::Share(1.0),
                document_timeout: None,
                step_timeout: None,
                in_flight: 3,
                read_ahead_bytes: 1 << 20,
                quarantine: None,
                retry: None,
                deadline: None,
                events: None,
                lock_wait: Duration::ZERO,
                nice: None,
            },
            eval: None,
            tests: Vec::new(),
            folder,
        };
        Self { _folder: tempfile::tempdir().unwrap(), plan, models: Shouters::default() }
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.plan.folder.join("in").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.plan.folder.join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn run(&self) -> RunReport {
        self.run_on(Disk::default()).unwrap()
    }

    pub fn run_with(&self, change: impl FnOnce(&mut RunEnvironment<'_>)) -> Result<RunReport, RunError> {
        let evaluator = Evaluator::default();
        let started: jiff::Zoned = "2026-01-31T10:00:00+00:00[UTC]".parse().unwrap();
        let cache = self.plan.folder.join("cache");
        let mut env = RunEnvironment::new(&self.models, &PlainReader, &evaluator, cache, started);
        change(&mut env);
        run(&self.plan, &env)
    }

    pub fn run_on(&self, disk: Disk) -> Result<RunReport, RunError> {
        // A test that starts processes holds every open file, locks too, for the moment between fork and exec.
        loop {
            match self.run_with(|env| env.disk = disk.clone()) {
                Err(RunError::Locked(_)) => std::thread::sleep(Duration::from_millis(5)),
                other => return other,
            }
        }
    }

    pub fn opened(&self) -> usize {
        self.models.opened.load(Ordering::Relaxed)
    }

    pub fn calls(&self) -> usize {
        self.models.calls.load(Ordering::Relaxed)
    }

    /// Everything that came out, by name, without what is quarry's own.
    pub fn outputs(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        collect(&self.path("out"), &mut files);
        files
    }
}

fn collect(folder: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == ".quarry" {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.insert(
                path.display().to_string().rsplit("/out/").next().unwrap().to_owned(),
                fs::read_to_string(&path).unwrap(),
            );
        }
    }
}

/// Compares two sets of outputs, and names only the first file that differs.
pub fn assert_same(found: &BTreeMap<String, String>, expected: &BTreeMap<String, String>, when: &str) {
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{when}");
    if let Some((name, text)) = found.iter().find(|(name, text)| expected[*name] != **text) {
        panic!("{when}: {name} differs:\n{text}\nexpected:\n{}", expected[name]);
    }
}

/// The states of the documents, in their order.
pub fn states(report: &RunReport) -> Vec<State> {
    report.documents.iter().map(|d| d.state).collect()
}
