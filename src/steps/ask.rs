//! Questions to the model: one way of wording, sizing and sending them for all verbs.
//!
//! Every prompt is a system message that all steps share and one user message that begins with the text of the
//! document (unless a step says `layout: instruction-first`), so that the steps over one document share the longest
//! possible prefix.

use serde_json::{Value, json};

use super::prompt::{Template, TemplateFault, Templates, counted, texts};
use super::{Reason, StepContext, StepError};
use crate::corpus::document::Document;
use crate::inference::engine::{
    CallAnswer, CallChoice, CallRequest, CancelToken, Chat, ChatDocument, Completion, Constraint, GenerateError,
    GenerateRequest, Generator, Message, Prompt, Role, ScoreRequest, Tools, Usage,
};
use crate::inference::sampler::SamplingParams;

/// Requests handed to the engine at once. It batches them as memory allows; between groups progress is told.
const GROUP: usize = 32;

/// What is asked, before it is rendered by the model's own template.
#[derive(Clone, Debug)]
pub struct Question {
    pub user: String,
    /// The opening words of the answer, which the model goes on from.
    pub opening: String,
    pub max_tokens: usize,
    pub stop: Vec<String>,
    pub constraint: Constraint,
    pub sampling: SamplingParams,
}

impl Question {
    pub fn new(user: String, max_tokens: usize, sampling: SamplingParams) -> Self {
        Self { user, opening: String::new(), max_tokens, stop: Vec::new(), constraint: Constraint::None, sampling }
    }
}

/// Asks the questions of one step about one document.
pub struct Asker<'a> {
    pub generator: &'a dyn Generator,
    cx: &'a StepContext<'a>,
    system: String,
    documents: Vec<ChatDocument>,
    history: Vec<Message>,
    cancel: CancelToken,
}

/// For each continuation of a prompt, the natural-log probability of each of its tokens.
pub type Scores = Vec<Vec<f32>>;

/// Answers that count as yes and no. Models differ in how they begin a word.
const YES: &[&str] = &["Yes", "yes", " yes", " Yes"];
const NO: &[&str] = &["No", "no", " no", " No"];

impl<'a> Asker<'a> {
    /// Panics when the step runs without a generator: its kind says that it needs one.
    pub fn new(cx: &'a StepContext<'a>) -> Result<Self, StepError> {
        let Some(generator) = cx.generator else { panic!("a step that needs a model runs without one") };
        let names = json!({ "language": language(cx), "transcript": !cx.document.turns.is_empty() });
        let system = texts::render(&texts::SYSTEM, &names)?;
        let cancel = cx.cancel.clone();
        Ok(Self { generator, cx, system, documents: Vec::new(), history: Vec::new(), cancel })
    }

    /// Shows these documents before every question, in the model's own way.
    pub fn with_documents(mut self, documents: Vec<ChatDocument>) -> Self {
        self.documents = documents;
        self
    }

    /// Puts what was said before in front of every question.
    pub fn with_history(mut self, history: Vec<Message>) -> Self {
        self.history = history;
        self
    }

    /// Gives up calls that are not done at `deadline`: they then fail with [`GenerateError::TimedOut`].
    pub fn until(mut self, deadline: std::time::Instant) -> Self {
        self.cancel = self.cancel.with_deadline(deadline);
        self
    }

    /// Returns the log-odds of yes against no as the answer to a user message.
    pub fn odds_of_yes(&self, user: &str) -> Result<(f64, Usage), StepError> {
        let (odds, usage) = self.odds_of_yes_all(&[user.to_owned()])?;
        Ok((odds.first().copied().unwrap_or_default(), usage))
    }

    /// Replaces the system message all steps share.
    pub fn with_system(mut self, system: String) -> Self {
        self.system = system;
        self
    }

    pub fn sampling(&self) -> SamplingParams {
        self.cx.defaults.sampling.clone()
    }

    /// The tokens that prompt and answer may have together.
    pub fn window(&self) -> usize {
        let own = self.generator.card().window;
        self.cx.defaults.window.map_or(own, |w| w.min(own))
    }

    /// Returns the tokens that remain for document text once `prompt` (with no text in it) and an answer are in.
    pub fn room(&self, prompt: &str, max_tokens: usize) -> Result<usize, StepError> {
        let prompt = self.prompt(prompt, "")?.ids.len();
        let window = self.window();
        // Text and prompt are encoded apart here: joining them can move a token or two at the seams.
        window
            .checked_sub(prompt + max_tokens + 8)
            .filter(|room| *room > 0)
            .ok_or_else(|| GenerateError::OverWindow { prompt, max_tokens, window }.into())
    }

    /// Answers all questions, told of as `done..` of `of` parts; results stand in the order of the questions.
    pub fn ask(
        &self,
        questions: &[Question],
        done: usize,
        of: usize,
    ) -> Result<Vec<Result<Completion, GenerateError>>, StepError> {
        let mut answers = Vec::with_capacity(questions.len());
        for group in questions.chunks(GROUP) {
            self.cx.cancel.check()?;
            let prepared: Vec<Result<GenerateRequest, GenerateError>> = group.iter().map(|q| self.request(q)).collect();
            let requests = prepared.iter().filter_map(|r| r.as_ref().ok().cloned()).collect();
            let mut results = self.generator.generate(requests).into_iter();
            for (request, question) in prepared.into_iter().zip(group) {
                let answer = request.and_then(|_| {
                    results.next().unwrap_or_else(|| Err(GenerateError::Engine("an answer is missing".into())))
                });
                answers.push(answer.map(|a| Completion { text: joined(&question.opening, &a.text), ..a }));
            }
            (self.cx.progress)(done + answers.len(), of.max(done + answers.len()));
        }
        // A call that was stopped is no failed part: the document has not been worked on to its end.
        match answers.iter().find_map(|a| a.as_ref().err().filter(|e| ends_the_step(e))) {
            Some(error) => Err(error.clone().into()),
            None => Ok(answers),
        }
    }

    /// Asks one question.
    pub fn ask_one(&self, question: Question) -> Result<Completion, StepError> {
        let answer = self.ask(&[question], 0, 1)?.pop();
        Ok(answer.unwrap_or_else(|| Err(GenerateError::Engine("an answer is missing".into())))?)
    }

    /// Asks which of these functions to call, and with what.
    pub fn call(&self, question: &Question, tools: &Tools, choice: CallChoice) -> Result<CallAnswer, StepError> {
        self.cx.cancel.check()?;
        let chat = Chat { tools: tools.definitions(), ..self.chat(&question.user, "") };
        let (prompt, window) = (self.generator.encode_chat(&chat)?.ids.len() + 1, self.window());
        if prompt + question.max_tokens > window {
            return Err(GenerateError::OverWindow { prompt, max_tokens: question.max_tokens, window }.into());
        }
        let request = CallRequest {
            chat,
            max_tokens: question.max_tokens,
            sampling: question.sampling.clone(),
            stop: question.stop.clone(),
            cancel: self.cancel.clone(),
        };
        let answer = tools.ask(self.generator, &request, choice)?;
        (self.cx.progress)(1, 1);
        Ok(answer)
    }

    /// Returns, for each prompt and each of its continuations, the natural-log probability of each token of the
    /// continuation; all batched together. A prompt is a user message and the opening of the answer to it.
    pub fn score_all(&self, asked: &[(&str, &str, &[&str])]) -> Result<(Vec<Scores>, Usage), StepError> {
        let mut usage = Usage::default();
        let mut scores = Vec::with_capacity(asked.len());
        for group in asked.chunks(GROUP) {
            self.cx.cancel.check()?;
            let requests = group.iter().map(|(user, opening, c)| self.scoring(user, opening, c));
            let requests = requests.collect::<Result<Vec<_>, _>>()?;
            usage.prompt_tokens += requests.iter().map(|r| r.prompt.ids.len()).sum::<usize>();
            for score in self.generator.score_all(requests) {
                scores.push(score?);
            }
        }
        Ok((scores, usage))
    }

    /// Returns for each user message the log-odds of yes against no as the answer to it.
    pub fn odds_of_yes_all(&self, users: &[String]) -> Result<(Vec<f64>, Usage), StepError> {
        let answers: Vec<&str> = YES.iter().chain(NO).copied().collect();
        let asked: Vec<(&str, &str, &[&str])> = users.iter().map(|u| (u.as_str(), "", answers.as_slice())).collect();
        let (scores, usage) = self.score_all(&asked)?;
        let odds = |scores: &Vec<Vec<f32>>| {
            let (yes, no) = scores.split_at(YES.len().min(scores.len()));
            log_sum(yes) - log_sum(no)
        };
        Ok((scores.iter().map(odds).collect(), usage))
    }

    fn scoring(&self, user: &str, opening: &str, continuations: &[&str]) -> Result<ScoreRequest, StepError> {
        let prompt = self.prompt(user, opening)?;
        let window = self.window();
        let continuations: Vec<_> = continuations.iter().map(|c| self.generator.encode_text(c)).collect();
        let longest = continuations.iter().map(Vec::len).max().unwrap_or(0);
        if prompt.ids.len() + longest > window {
            return Err(GenerateError::OverWindow { prompt: prompt.ids.len(), max_tokens: longest, window }.into());
        }
        Ok(ScoreRequest { prompt, continuations, cancel: self.cancel.clone() })
    }

    fn prompt(&self, user: &str, opening: &str) -> Result<Prompt, GenerateError> {
        self.generator.encode_chat(&self.chat(user, opening))
    }

    fn chat(&self, user: &str, opening: &str) -> Chat {
        let message = |role, content: &str| Message { role, content: content.to_owned() };
        let system = Some(message(Role::System, &self.system)).filter(|m| !m.content.is_empty());
        Chat {
            messages: system
                .into_iter()
                .chain(self.history.iter().cloned())
                .chain([message(Role::User, user)])
                .collect(),
            documents: self.documents.clone(),
            assistant_prefix: opening.to_owned(),
            ..Chat::default()
        }
    }

    fn request(&self, question: &Question) -> Result<GenerateRequest, GenerateError> {
        let prompt = self.prompt(&question.user, &question.opening)?;
        let window = self.window();
        if prompt.ids.len() + question.max_tokens > window {
            return Err(GenerateError::OverWindow {
                prompt: prompt.ids.len(),
                max_tokens: question.max_tokens,
                window,
            });
        }
        Ok(GenerateRequest {
            prompt,
            max_tokens: question.max_tokens,
            sampling: question.sampling.clone(),
            stop: question.stop.clone(),
            constraint: question.constraint.clone(),
            cancel: self.cancel.clone(),
        })
    }
}

/// The log of the summed probabilities of several answers.
fn log_sum(answers: &[Vec<f32>]) -> f64 {
    let each: Vec<f64> = answers.iter().map(|tokens| tokens.iter().map(|p| f64::from(*p)).sum()).collect();
    let most = each.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if most.is_finite() { most + each.iter().map(|s| (s - most).exp()).sum::<f64>().ln() } else { most }
}

/// An opening and what follows it; a tokenizer may or may not have kept the space between them.
fn joined(opening: &str, rest: &str) -> String {
    let apart = opening.is_empty()
        || opening.ends_with(char::is_whitespace)
        || rest.starts_with(|c: char| !c.is_alphanumeric());
    format!("{opening}{}{rest}", if apart { "" } else { " " })
}

/// Whether an error is about the whole call and not about one part of it.
fn ends_the_step(error: &GenerateError) -> bool {
    matches!(error, GenerateError::Cancelled | GenerateError::TimedOut | GenerateError::Template(_))
}

/// The document's language as its reader found it: `en`, `de`, …; empty where it is not known.
pub fn language(cx: &StepContext<'_>) -> String {
    language_of(cx.document)
}

pub fn language_of(document: &Document) -> String {
    let tag = document.meta.get("language").map(String::as_str).unwrap_or_default();
    match tag.to_lowercase().as_str() {
        // whatlang's three letters and the usual two are both met with.
        "deu" | "ger" => "de".into(),
        "eng" => "en".into(),
        other => other.split(['-', '_']).next().unwrap_or_default().to_owned(),
    }
}

/// The English name of a language, as prompts say it; the tag itself where it is not known.
pub fn language_name(tag: &str) -> &str {
    const NAMES: &[(&str, &str)] = &[
        ("en", "English"),
        ("de", "German"),
        ("es", "Spanish"),
        ("fr", "French"),
        ("ja", "Japanese"),
        ("pt", "Portuguese"),
        ("ar", "Arabic"),
        ("cs", "Czech"),
        ("it", "Italian"),
        ("ko", "Korean"),
        ("nl", "Dutch"),
        ("zh", "Chinese"),
    ];
    NAMES.iter().find(|(code, _)| *code == tag).map_or(tag, |(_, name)| name)
}

/// Renders a template of the author's over the step's names and some of its own.
pub fn render_with(cx: &StepContext<'_>, template: &Template, more: &[(&str, Value)]) -> Result<String, StepError> {
    let mut names = cx.names.clone();
    if let Value::Object(map) = &mut names {
        map.extend(more.iter().map(|(k, v)| (k.to_string(), v.clone())));
    }
    let render = || Templates::new().render(template, &names);
    match cx.generator {
        Some(generator) => Ok(counted(&|text| generator.token_ends(text), &render)?),
        None => Ok(render()?),
    }
}

impl From<TemplateFault> for StepError {
    fn from(fault: TemplateFault) -> Self {
        let place = fault.line.map(|l| format!("line {l}: ")).unwrap_or_default();
        Self { reason: Reason::TemplateFailed, detail: format!("{place}{}", fault.message) }
    }
}
