//! A conversation as it is handed to a chat template. Knows no model and no markup.

use serde::{Deserialize, Serialize};

/// A conversation before it is rendered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    pub messages: Vec<Message>,
    /// Rendered by the template's own document protocol where it has one, else before the first user message.
    #[serde(default)]
    pub documents: Vec<ChatDocument>,
    /// Functions that may be called, each as `{"type": "function", "function": {"name", "description", "parameters"}}`.
    /// Rendered by the template's own protocol where it has one, else as a part of the system message.
    #[serde(default)]
    pub tools: Vec<serde_json::Value>,
    /// Granite's `controls`, such as `{"citations": true}`.
    #[serde(default)]
    pub controls: Option<serde_json::Value>,
    /// The opening words of the answer, put after the assistant's turn has been opened.
    #[serde(default)]
    pub assistant_prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    System,
    User,
    Assistant,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDocument {
    pub title: String,
    pub text: String,
}
