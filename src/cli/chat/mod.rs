//! `quarry chat`: a plain dialog with a model, on a terminal or line by line from a pipe. What was said before is a prefix
//! of every prompt, so that its keys and values are kept and only what is new is computed.

mod dialog;

use std::fs;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use clap::Args;

use self::dialog::{Dialog, End};
use super::exit::Exit;
use super::models::EngineArgs;
use super::options::{Settings, Verbosity};
use super::{Failure, generate, print};
use crate::diagnostic::Diagnostic;
use crate::inference::engine::{CancelToken, GenerateError, Generator, Role, Scripted};
use crate::inference::sampler::SamplingParams;

/// Longest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Begins and ends a message of several lines.
const BLOCK: &str = "\"\"\"";

const HELP: &str = "\
/help          these lines
/system TEXT   set the system message; alone, show it; `/system -` takes it away
/history       show what was said
/clear         forget what was said; the system message stays
/save FILE     write the dialog to a new file: Markdown for .md, else JSON
/exit          leave; so does the end of the input (Ctrl-D)
\"\"\"            begins a message of several lines, and ends it
Ctrl-C         stop the answer";

/// Talk with a model, in any language it knows
#[derive(Args, Debug)]
pub struct ChatArgs {
    /// The model: a name of the catalogue, a path, or hf:owner/repo[/file]
    #[arg(value_name = "MODEL")]
    pub model: Option<String>,
    /// A system message before the dialog
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Most tokens of an answer
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_tokens: usize,
    /// 0 takes the likeliest token each time
    #[arg(long, default_value_t = 0.0, value_name = "T")]
    pub temperature: f32,
    /// Choose among the likeliest tokens that have this probability together; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "P")]
    pub top_p: f32,
    /// Make tokens that were just used less likely; 1 is off
    #[arg(long, default_value_t = 1.0, value_name = "F")]
    pub repetition_penalty: f32,
    /// The same seed gives the same answers
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// The date that the model's template may print, as 2026-01-31 [default: 2024-12-31]
    #[arg(long, value_name = "DATE")]
    pub as_of: Option<jiff::civil::Date>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

pub fn run(args: &ChatArgs, settings: &Settings) -> Result<Exit, Failure> {
    let sampling = SamplingParams {
        temperature: args.temperature,
        top_p: args.top_p,
        repetition_penalty: args.repetition_penalty,
        seed: args.seed,
        ..SamplingParams::default()
    };
    sampling.check().map_err(|e| Failure::wrong(e.to_string()))?;
    let generator: Box<dyn Generator> = match args.model.as_deref().and_then(|m| m.strip_prefix("scripted:")) {
        Some(path) => {
            let script = Scripted::from_file(Path::new(path));
            Box::new(script.map_err(|e| Failure::new(Exit::NoModel, Diagnostic::error(e.to_string())))?)
        }
        None => Box::new(generate::load(args.model.as_deref(), &args.engine, args.as_of, settings)?),
    };
    let by_hand = io::stdin().is_terminal();
    let stop = StopKey::watch(by_hand)?;
    let dialog = Dialog::new(generator.as_ref(), args.system.clone(), sampling, args.max_tokens);
    let mut session = Session {
        dialog,
        stop,
        by_hand,
        quiet: settings.verbosity == Verbosity::Quiet,
        verbose: matches!(settings.verbosity, Verbosity::Verbose | Verbosity::VeryVerbose),
        num_failed: 0,
    };
    if by_hand && !session.quiet {
        print::note(&format!("{}: /help tells what can be typed", generator.card().name));
    }
    session.talk(&mut io::stdin().lock())
}

/// Who talks, and how much is told beside the answers.
struct Session<'a> {
    dialog: Dialog<'a>,
    stop: StopKey,
    by_hand: bool,
    quiet: bool,
    verbose: bool,
    num_failed: usize,
}

impl Session<'_> {
    /// Goes on to the end of the input. A message that cannot be answered does not end it; from a pipe it is told in the
    /// end by the exit code.
    fn talk(&mut self, input: &mut dyn BufRead) -> Result<Exit, Failure> {
        loop {
            if self.by_hand {
                print::piece("> ")?;
            }
            let Some(message) = self.message(input)? else { break };
            match message.trim() {
                "" => {}
                command if command.starts_with('/') => {
                    if !self.command(command)? {
                        break;
                    }
                }
                _ => self.answer(&message)?,
            }
        }
        Ok(if self.num_failed > 0 && !self.by_hand { Exit::SomeFailed } else { Exit::Done })
    }

    /// Reads one line, or the lines between two marks; `None` at the end of the input.
    fn message(&self, input: &mut dyn BufRead) -> Result<Option<String>, Failure> {
        let Some(first) = self.line(input, MESSAGE_BYTES_MAX)? else {
            if self.by_hand {
                print::piece("\n")?;
            }
            return Ok(None);
        };
        let Some(opened) = first.trim().strip_prefix(BLOCK) else { return Ok(Some(first)) };
        if let Some(closed) = opened.strip_suffix(BLOCK) {
            return Ok(Some(closed.to_owned()));
        }
        let mut message = opened.to_owned();
        loop {
            if self.by_hand {
                print::piece("… ")?;
            }
            let left = MESSAGE_BYTES_MAX.saturating_sub(message.len());
            // What was begun and not ended is a message all the same.
            let Some(next) = self.line(input, left)? else { return Ok(Some(message)) };
            let (text, ends) = next.trim_end().strip_suffix(BLOCK).map_or((next.as_str(), false), |text| (text, true));
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(text);
            if ends {
                return Ok(Some(message));
            }
        }
    }

    fn line(&self, input: &mut dyn BufRead, limit: usize) -> Result<Option<String>, Failure> {
        let text = line(input, limit)?;
        Ok(if self.by_hand { text.map(|text| typed(&text)) } else { text })
    }

    fn answer(&mut self, text: &str) -> Result<(), Failure> {
        let on_terminal = io::stdout().is_terminal();
        let mut gone = None;
        let cancel = self.stop.arm();
        let by_reader = cancel.clone();
        let reply = self.dialog.answer(text.trim_end(), cancel, &mut |piece| {
            // Answers may hold escapes of a terminal; a pipe gets them as they are.
            let written = if on_terminal { print::piece(&print::shown(piece)) } else { print::piece(piece) };
            if let Err(error) = written {
                by_reader.cancel();
                gone = Some(error);
            }
        });
        self.stop.disarm();
        if let Some(error) = gone {
            return Err(error.into());
        }
        match reply {
            Ok(reply) => {
                print::piece("\n")?;
                match reply.end {
                    End::Said => {}
                    End::CutOff(n) => self.note(&format!("warning: the answer is cut off at {n} tokens")),
                    End::Stopped => self.note("stopped; what was said is kept"),
                }
                if reply.num_left_out > 0 {
                    let (n, s) = (reply.num_left_out, if reply.num_left_out == 1 { "" } else { "s" });
                    let what = format!("warning: {n} exchange{s} at the beginning no longer fit the window");
                    self.note(&format!("{what}: the model is not shown them any more"));
                }
                if self.verbose && reply.end != End::Stopped {
                    let u = reply.usage;
                    let (prompt, cached, answer) = (u.prompt_tokens, u.cached_tokens, u.completion_tokens);
                    self.note(&format!("{prompt} tokens of prompt, {cached} of them kept; {answer} of answer"));
                }
            }
            Err(GenerateError::Cancelled) => self.note("stopped; nothing was said"),
            Err(error) => {
                self.num_failed += 1;
                print::note(&format!("error: {error}"));
                if matches!(error, GenerateError::OverWindow { .. }) {
                    print::note("hint: a shorter message, or a larger --window");
                }
            }
        }
        Ok(())
    }

    /// Does what a command says; false ends the dialog.
    fn command(&mut self, command: &str) -> Result<bool, Failure> {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("/exit" | "/quit", "") => return Ok(false),
            ("/help", "") => print::note(HELP),
            ("/clear", "") => {
                self.dialog.clear();
                self.note("what was said is forgotten");
            }
            ("/history", "") => print::note(&print::shown(&markdown(&self.dialog))),
            ("/system", "") => print::note(&print::shown(self.dialog.system().unwrap_or("there is none of yours"))),
            ("/system", "-") => {
                self.dialog.set_system("");
                self.note("there is no system message of yours any more");
            }
            ("/system", text) => {
                self.dialog.set_system(text);
                self.note("the system message is set, for what was said before as well");
            }
            ("/save", path) if !path.is_empty() => match save(&self.dialog, Path::new(path)) {
                Ok(()) => self.note(&format!("saved as {path}")),
                Err(error) => self.wrong(&format!("{path} cannot be written: {error}")),
            },
            ("/save", _) => self.wrong("/save needs the name of a file"),
            _ => self.wrong(&format!("{} is no command; /help tells them", print::shown(command))),
        }
        Ok(true)
    }

    fn wrong(&mut self, text: &str) {
        self.num_failed += 1;
        print::note(&format!("error: {text}"));
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            print::note(text);
        }
    }
}

/// Writes the dialog to a file that is not there yet.
fn save(dialog: &Dialog<'_>, path: &Path) -> io::Result<()> {
    let text = match path.extension().and_then(|e| e.to_str()) {
        Some("md") => markdown(dialog),
        _ => format!("{:#}\n", dialog.saved()),
    };
    let mut file = fs::File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn markdown(dialog: &Dialog<'_>) -> String {
    let system = dialog.system().map(|text| format!("**System:** {text}\n"));
    let said = dialog.messages().iter().map(|m| {
        let who = if m.role == Role::User { "You" } else { "Model" };
        format!("**{who}:** {}\n", m.content)
    });
    let text = system.into_iter().chain(said).collect::<Vec<_>>().join("\n");
    if text.is_empty() { "nothing was said yet\n".into() } else { text }
}

/// Reads a line of at most `limit` bytes, without its end.
fn line(input: &mut dyn BufRead, limit: usize) -> Result<Option<String>, Failure> {
    let mut bytes = Vec::new();
    let cannot = |e: io::Error| Failure::wrong(format!("standard input cannot be read: {e}"));
    input.take(limit as u64 + 1).read_until(b'\n', &mut bytes).map_err(cannot)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.len() > limit {
        return Err(Failure::wrong(format!("a message is longer than the limit of {MESSAGE_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|e| Failure::wrong(format!("standard input is not UTF-8: {e}")))?;
    Ok(Some(text.trim_end_matches(['\n', '\r']).to_owned()))
}

/// A line as it was meant: keys such as the arrows, which a plain terminal writes as escapes, are no text.
fn typed(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next_if(|c| matches!(c, '[' | 'O')) {
                // Parameters, then one letter or `~`.
                Some('[') => {
                    while chars.next_if(|c| c.is_ascii_digit() || *c == ';').is_some() {}
                    chars.next();
                }
                Some(_) => drop(chars.next()),
                None => {}
            },
            c if c.is_control() && c != '\t' => {}
            c => kept.push(c),
        }
    }
    kept
}

/// Ctrl-C: ends the answer that is being given, and nothing else on a terminal.
struct StopKey(Arc<Mutex<Option<CancelToken>>>);

impl StopKey {
    fn watch(by_hand: bool) -> Result<Self, Failure> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let answering = Arc::new(Mutex::new(None::<CancelToken>));
        let seen = answering.clone();
        let cannot = |e: io::Error| {
            Failure::new(Exit::OutOfResources, Diagnostic::error(format!("signals cannot be watched: {e}")))
        };
        let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]).map_err(cannot)?;
        let watch = move || {
            for signal in signals.forever() {
                let answering = seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                match &*answering {
                    _ if signal == SIGTERM => std::process::exit(128 + signal),
                    Some(cancel) => cancel.cancel(),
                    None if by_hand => {
                        print::note("\nnothing is being said; /exit or Ctrl-D leaves");
                        // The terminal has thrown away what was typed: the next line begins anew. Where it cannot be
                        // written to, the dialog itself finds out.
                        let _ = print::piece("> ");
                    }
                    None => std::process::exit(128 + signal),
                }
            }
        };
        std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(cannot)?;
        Ok(Self(answering))
    }

    /// Returns the token of a new answer.
    fn arm(&self) -> CancelToken {
        let cancel = CancelToken::default();
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(cancel.clone());
        cancel
    }

    fn disarm(&self) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::typed;

    #[test]
    fn keys_that_a_terminal_writes_as_escapes_are_no_text() {
        assert_eq!(typed("\u{1b}[A\u{1b}[1;5CGrüße\u{1b}[3~\u{1b}OH an\tdich\u{7f}"), "Grüße an\tdich");
        assert_eq!(typed("a [b] ~"), "a [b] ~");
        assert_eq!(typed("x\u{1b}"), "x");
    }
}
