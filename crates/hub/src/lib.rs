//! Repositories of the Hugging Face Hub by name, `hf://ORG/MODEL[@REVISION]` and `hf://datasets/ORG/NAME[@REVISION][/PATH]`,
//! read through the cache that `huggingface_hub` shares.
//!
//! | variable | effect |
//! |---|---|
//! | `HF_ENDPOINT` | address of the Hub |
//! | `HF_TOKEN`, `HF_TOKEN_PATH` | access token, or the file that holds it; else that of `hf auth login` |
//! | `HF_HUB_CACHE`, `HF_HOME` | folder of the cache |
//! | `HF_HUB_OFFLINE` | the cached copy is taken, nothing is asked for |
//!
//! A revision is looked up once and its files are those of one commit, however long the download takes.

mod error;
mod name;
mod observer;
mod repository;
mod settings;

pub use error::HubError;
pub use name::{HubName, RepoKind};
pub use observer::{Download, observe};
pub use repository::Repository;
pub use settings::Settings;
