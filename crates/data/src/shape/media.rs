//! Pictures, sound and film, which a text trainer cannot see.

use smpo_chat::Message;

use super::Remarks;
use super::columns::MEDIA;
use super::fields::Fields;
use crate::read_error::Problem;

/// Types of content parts.
pub(super) const PARTS: &[&str] =
    &["image", "image_url", "input_image", "audio", "audio_url", "input_audio", "video", "video_url", "file"];

/// Places of media in a text.
const PLACEHOLDERS: &[&str] = &["<image>", "<audio>", "<video>"];

/// Takes the columns of media.
///
/// # Errors
/// When the prompt has a place for one: without it the question cannot be answered. A column alone is a remark.
pub(super) fn media(row: &mut Fields, prompt: &[Message], remarks: &mut Remarks) -> Result<(), Problem> {
    for &name in MEDIA {
        if row.get(name).is_some_and(|value| !super::fields::is_silent(value)) {
            row.take(name);
            remarks.add_media(name);
        }
    }
    let anywhere = !remarks.media.is_empty();
    for message in prompt.iter().filter(|message| message.role == "user") {
        let text = message.content.trim();
        let holds = |mark: &&&str| match anywhere {
            true => text.contains(**mark),
            // in the middle of a text it may be a tag of HTML
            false => text.starts_with(**mark) || text.ends_with(**mark),
        };
        if let Some(mark) = PLACEHOLDERS.iter().find(holds) {
            return Err(refuse_media("prompt".to_string(), mark));
        }
    }
    Ok(())
}

pub(super) fn refuse_media(field: String, kind: &str) -> Problem {
    Problem::Unsupported {
        field,
        got: format!("{kind:?}: images, sound and video are not supported, text only"),
        remedy: "leave these rows out",
    }
}
