//! Chat template and special tokens.

use crate::config::TrainConfigBuilder;
use crate::config::builder::setters;

impl TrainConfigBuilder {
    setters! {
        chat_template?: into String,
        force_chat_template: bool,
        eos_token?: into String,
        bos_token?: into String,
        pad_token?: into String,
    }
}
