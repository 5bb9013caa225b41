//! A run as it goes on, on standard error: bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::options::{Settings, Verbosity};
use super::print;
use crate::inference::engine::Usage;
use crate::pipeline::events::{DocumentEvent, Event, ModelEvent, Observer};

/// Between two status lines, where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// A rate over less than this says nothing.
const RECKONED_AFTER: Duration = Duration::from_secs(5);

/// Shows a run to whoever waits for it.
pub struct Progress {
    quiet: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    documents: Option<ProgressBar>,
    download: Option<ProgressBar>,
    told: Option<Instant>,
    tokens: Usage,
    first_tokens: Option<Instant>,
    done: usize,
    to_do: usize,
    left: Option<Duration>,
    parts: std::collections::BTreeMap<String, String>, // what each document in flight is at
}

impl Progress {
    pub fn new(settings: &Settings) -> Self {
        Self {
            quiet: settings.verbosity == Verbosity::Quiet,
            terminal: std::io::stderr().is_terminal(),
            state: Mutex::new(State::default()),
        }
    }

    /// Lets `write` write to the terminal without a bar in its way.
    pub fn aside(&self, write: impl FnOnce()) {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        match &state.documents {
            Some(bar) if self.terminal => bar.suspend(write),
            _ => write(),
        }
    }

    fn line(&self, state: &State, text: &str) {
        match &state.documents {
            Some(bar) if self.terminal => bar.suspend(|| print::note(text)),
            _ => print::note(text),
        }
    }

    fn model(&self, state: &mut State, event: &ModelEvent<'_>) {
        match event {
            ModelEvent::Resolving { name } => self.line(state, &format!("model {name}: looking for it")),
            ModelEvent::Downloading { file, bytes, of } => self.download(state, file, *bytes, *of),
            ModelEvent::FallingBack { because, .. } => self.line(state, &format!("warning: {because}")),
            ModelEvent::Loading { name } => self.line(state, &format!("model {name}: loading")),
            ModelEvent::Loaded { name, seconds } => {
                self.line(state, &format!("model {name}: loaded in {seconds:.1} s"));
            }
        }
    }

    fn download(&self, state: &mut State, file: &str, bytes: u64, of: Option<u64>) {
        if self.terminal {
            let bar = state.download.get_or_insert_with(|| {
                let bar = of.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
                styled(bar, "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
            });
            bar.set_message(file.to_owned());
            bar.set_position(bytes);
            if of == Some(bytes) {
                bar.finish_and_clear();
                state.download = None;
            }
        } else if is_due(&mut state.told) {
            let mb = |n: u64| format!("{:.1} MB", n as f64 / 1e6);
            self.line(state, &format!("downloading {file}: {} of {}", mb(bytes), of.map_or("?".into(), mb)));
        }
    }

    fn document(&self, state: &mut State, document: &str, event: &DocumentEvent<'_>) {
        match event {
            DocumentEvent::Started => {
                state.parts.insert(document.to_owned(), String::new());
            }
            DocumentEvent::StepStarted { step } => {
                state.parts.insert(document.to_owned(), (*step).to_owned());
            }
            DocumentEvent::PartDone { step, done, of } => {
                state.parts.insert(document.to_owned(), format!("{step} {done}/{of}"));
            }
            DocumentEvent::StepDone { .. } => {}
            DocumentEvent::Finished { state: end, seconds, why, .. } => {
                state.parts.remove(document);
                let why = why.map(|w| format!(": {}", print::shown(w))).unwrap_or_default();
                self.line(state, &format!("{end:<9} {}  {seconds:.1} s{why}", print::shown(document)));
            }
        }
    }

    /// `2 of 5 documents, 812 tokens/s, about 40 s left; standup.vtt: summary 1/2`
    fn status(&self, state: &mut State) {
        let mut text = String::new();
        let computed = state.tokens.prompt_tokens - state.tokens.cached_tokens + state.tokens.completion_tokens;
        let enough = |first: &Instant| computed > 0 && first.elapsed() >= RECKONED_AFTER;
        if let Some(first) = state.first_tokens.filter(enough) {
            let rate = computed as f64 / first.elapsed().as_secs_f64().max(0.001);
            text.push_str(&format!("{rate:.0} tokens/s"));
        }
        if let Some(left) = state.left.filter(|left| *left >= Duration::from_secs(1)) {
            text.push_str(&format!(", about {} left", spoken(left)));
        }
        if let Some((document, part)) = state.parts.iter().find(|(_, p)| !p.is_empty()) {
            let name = document.rsplit('/').next().unwrap_or(document);
            text.push_str(&format!("; {}: {part}", print::shown(name)));
        }
        match &state.documents {
            Some(bar) if self.terminal => bar.set_message(text),
            _ => {
                if is_due(&mut state.told) {
                    let (done, to_do) = (state.done, state.to_do);
                    let text = text.trim_start_matches([',', ';', ' ']);
                    let text = format!("{done} of {to_do} documents done; {text}");
                    self.line(state, text.trim_end_matches([';', ' ']));
                }
            }
        }
    }
}

impl Observer for Progress {
    fn on(&self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        let state = &mut *self.state.lock().unwrap_or_else(|e| e.into_inner());
        match event {
            Event::Started { inputs, to_do } => {
                state.to_do = *to_do;
                state.told = Some(Instant::now());
                if self.terminal && *to_do > 0 {
                    let bar = ProgressBar::new(*to_do as u64);
                    let bar = styled(bar, "[{bar:20}] {pos}/{len} documents  {elapsed}  {msg}");
                    bar.enable_steady_tick(Duration::from_millis(500));
                    state.documents = Some(bar);
                } else {
                    let plural = if *inputs == 1 { "document" } else { "documents" };
                    self.line(state, &format!("{inputs} {plural}, {to_do} to do"));
                }
            }
            Event::Model(event) => self.model(state, event),
            Event::Document { document, event } => {
                self.document(state, document, event);
                self.status(state);
            }
            Event::Tokens(usage) => {
                state.first_tokens.get_or_insert_with(Instant::now);
                state.tokens += *usage;
                self.status(state);
            }
            Event::Progress { done, to_do, left } => {
                (state.done, state.to_do, state.left) = (*done, *to_do, *left);
                if let Some(bar) = &state.documents {
                    bar.set_position(*done as u64);
                }
                self.status(state);
            }
            Event::Note(text) => self.line(state, &format!("note: {}", print::shown(text))),
            Event::Finished(_) => {
                if let Some(bar) = state.documents.take() {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar, // the template is ours; without it the bar is plainer
    }
}

/// True at most once per pause.
fn is_due(told: &mut Option<Instant>) -> bool {
    let due = told.is_none_or(|t| t.elapsed() >= PAUSE);
    if due {
        *told = Some(Instant::now());
    }
    due
}

/// A duration as people say it: `40 s`, `3 min`, `2 h 5 min`.
fn spoken(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}
