//! A dialog with a model: what has been said, and what of it fits the window. Knows no terminal.

use serde_json::{Value, json};

use crate::inference::engine::{
    CancelToken, Chat, Constraint, FinishReason, GenerateError, GenerateRequest, Generator, Message, Prompt, Role,
    Usage,
};
use crate::inference::sampler::SamplingParams;

/// An answer may have fewer tokens than were asked for before anything said is left out, but not fewer than these.
const LEAST_ANSWER: usize = 128;

/// What has been said so far, by whom, and how answers are made.
pub struct Dialog<'a> {
    generator: &'a dyn Generator,
    sampling: SamplingParams,
    max_tokens: usize,
    system: Option<String>,
    messages: Vec<Message>, // user, assistant, user, …
    num_forgotten: usize,   // messages at the beginning that are no longer shown to the model
}

/// An answer.
#[derive(Debug, PartialEq)]
pub struct Reply {
    pub text: String,
    pub end: End,
    /// Exchanges that had to be left out of what the model is shown, since the last answer.
    pub num_left_out: usize,
    pub usage: Usage, // none for an answer that was stopped
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Said,
    /// At this many tokens.
    CutOff(usize),
    /// By hand.
    Stopped,
}

impl<'a> Dialog<'a> {
    pub fn new(
        generator: &'a dyn Generator,
        system: Option<String>,
        sampling: SamplingParams,
        max_tokens: usize,
    ) -> Self {
        Self { generator, sampling, max_tokens, system, messages: Vec::new(), num_forgotten: 0 }
    }

    /// Forgets what was said; the system message stays.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.num_forgotten = 0;
    }

    /// Sets the system message; an empty one leaves it to the model's template.
    pub fn set_system(&mut self, text: &str) {
        self.system = Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    }

    pub fn system(&self) -> Option<&str> {
        self.system.as_deref()
    }

    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The dialog as it is saved: all of it, what the model is no longer shown included.
    pub fn saved(&self) -> Value {
        let system = self.system.iter().map(|text| json!({ "role": "system", "content": text }));
        let said = self.messages.iter().map(|m| json!({ "role": m.role, "content": m.content }));
        json!({ "model": self.generator.card(), "messages": system.chain(said).collect::<Vec<_>>() })
    }

    /// Answers a message, and tells of the answer while it comes. An error leaves the dialog as it was. An answer that
    /// was stopped is kept as far as it went.
    pub fn answer(
        &mut self,
        text: &str,
        cancel: CancelToken,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Reply, GenerateError> {
        let (said, forgotten) = (self.messages.len(), self.num_forgotten);
        self.messages.push(Message { role: Role::User, content: text.to_owned() });
        let mut told = String::new();
        let answer = self.fit().and_then(|(prompt, max_tokens)| {
            let request = GenerateRequest {
                prompt,
                max_tokens,
                sampling: self.sampling.clone(),
                stop: Vec::new(),
                constraint: Constraint::None,
                cancel,
            };
            let completion = self.generator.generate_telling(request, &mut |piece| {
                told.push_str(piece);
                tell(piece);
            })?;
            let end = match completion.finish {
                FinishReason::Length => End::CutOff(max_tokens),
                FinishReason::Stop | FinishReason::StopString => End::Said,
            };
            Ok((completion.text, end, completion.usage))
        });
        let (text, end, usage) = match answer {
            Ok(answer) => answer,
            Err(GenerateError::Cancelled) if !told.trim().is_empty() => (told, End::Stopped, Usage::default()),
            Err(error) => {
                self.messages.truncate(said);
                self.num_forgotten = forgotten;
                return Err(error);
            }
        };
        self.messages.push(Message { role: Role::Assistant, content: text.clone() });
        Ok(Reply { text, end, num_left_out: (self.num_forgotten - forgotten) / 2, usage })
    }

    /// Renders what fits the window, with room for an answer: the oldest exchanges go first, and the last message never.
    fn fit(&mut self) -> Result<(Prompt, usize), GenerateError> {
        let window = self.generator.card().window;
        let least = self.max_tokens.min(LEAST_ANSWER);
        loop {
            let prompt = self.render()?;
            let left = window.saturating_sub(prompt.ids.len());
            if left >= least {
                return Ok((prompt, left.min(self.max_tokens)));
            }
            if self.num_forgotten + 1 >= self.messages.len() {
                return Err(GenerateError::OverWindow { prompt: prompt.ids.len(), max_tokens: least, window });
            }
            self.num_forgotten += 2;
        }
    }

    fn render(&self) -> Result<Prompt, GenerateError> {
        let system = self.system.iter().map(|text| Message { role: Role::System, content: text.clone() });
        let messages = system.chain(self.messages[self.num_forgotten..].iter().cloned()).collect();
        self.generator.encode_chat(&Chat { messages, ..Chat::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::engine::Scripted;

    fn scripted(window: usize) -> Scripted {
        let rules = json!([
            { "when": "fail", "error": "the engine lost its thread" },
            { "when": "long", "answer": "one two three four five six seven" },
            { "answer": ["Hello.", "Again."] },
        ]);
        Scripted::from_value(json!({ "window": window, "rules": rules })).unwrap()
    }

    fn dialog(generator: &Scripted, max_tokens: usize) -> Dialog<'_> {
        Dialog::new(generator, Some("Be brief.".into()), SamplingParams::default(), max_tokens)
    }

    fn say(dialog: &mut Dialog<'_>, text: &str) -> Result<Reply, GenerateError> {
        dialog.answer(text, CancelToken::default(), &mut |_| ())
    }

    #[test]
    fn what_was_said_is_shown_again_and_an_error_leaves_it_as_it_was() {
        let model = scripted(4000);
        let mut dialog = dialog(&model, 50);
        assert_eq!(say(&mut dialog, "Hi").unwrap().text, "Hello.");
        assert!(say(&mut dialog, "fail").is_err());
        assert_eq!(dialog.messages().len(), 2);
        assert_eq!(say(&mut dialog, "And now?").unwrap().text, "Again.");
        let saved = dialog.saved();
        let roles: Vec<&str> =
            saved["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
        dialog.clear();
        assert_eq!((dialog.messages().len(), dialog.system()), (0, Some("Be brief.")));
    }

    #[test]
    fn an_answer_that_is_cut_off_says_so() {
        let model = scripted(4000);
        let reply = say(&mut dialog(&model, 3), "a long one").unwrap();
        assert_eq!((reply.text.as_str(), reply.end), ("one two three", End::CutOff(3)));
    }

    #[test]
    fn what_no_longer_fits_the_window_is_left_out_oldest_first_and_counted() {
        let model = scripted(90);
        let mut dialog = dialog(&model, 20);
        let words = "word ".repeat(20);
        assert_eq!(say(&mut dialog, &words).unwrap().num_left_out, 0);
        let mut left_out = 0;
        for _ in 0..4 {
            left_out += say(&mut dialog, &words).unwrap().num_left_out;
        }
        assert_eq!((left_out, dialog.messages().len()), (3, 10), "all of it is still there to be saved");
        let error = say(&mut dialog, &"word ".repeat(100)).unwrap_err();
        assert!(matches!(error, GenerateError::OverWindow { window: 90, .. }), "{error}");
        assert_eq!(say(&mut dialog, "Hi").unwrap().text, "Again.", "the dialog goes on");
    }
}
