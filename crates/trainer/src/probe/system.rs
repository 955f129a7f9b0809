//! The system message of a probe's prompt.

use smpo_chat::Message;

use crate::config::TrainConfig;

/// Gives a prompt its system message as training rows get theirs (`smpo_data::Preparation`, which a test compares it with):
/// what is probed is the model that is trained.
pub(super) fn prepare(config: &TrainConfig, prompt: &mut Vec<Message>) {
    let is_system = |message: &Message| message.role == "system";
    if let Some(text) = config.system_prompt.as_ref().filter(|_| !prompt.first().is_some_and(is_system)) {
        prompt.insert(0, Message::system(text));
    }
    if config.model_support_system_role || !prompt.first().is_some_and(is_system) {
        return;
    }
    if prompt.get(1).is_some_and(|next| next.role == "user") {
        let system = prompt.remove(0);
        prompt[0].content = format!("{}\n{}", system.content, prompt[0].content);
    } else {
        prompt[0].role = "user".to_owned();
    }
}
