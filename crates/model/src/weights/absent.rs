//! Contents of a directory that stand in place of weights that are read.

use std::fs;
use std::path::Path;

use smpo_files::{FileError, is_dir};

use crate::error::ModelError;

/// Stem of an adapter's weights.
const ADAPTER: &str = "adapter_model";

/// The error of a directory without `<stem>.safetensors`, with the way out for what it holds instead.
pub(super) fn no_weights(dir: &Path, stem: &str) -> ModelError {
    let expected = match stem {
        ADAPTER => "adapter_model.safetensors",
        _ => "model.safetensors, or model.safetensors.index.json with its shards",
    };
    let mut names = match names(dir) {
        Ok(names) => names,
        Err(error) => return error.into(),
    };
    names.sort();
    let found = |fits: &dyn Fn(&str) -> bool| names.iter().find(|name| fits(name));
    let torch = |name: &str| {
        let weights = [".bin", ".pt", ".pth", ".bin.index.json"].iter().any(|end| name.ends_with(end));
        weights
            && !["optimizer.", "scheduler.", "rng_state", "training_args."].iter().any(|other| name.starts_with(other))
    };
    let got = if names.is_empty() && !dir.is_dir() {
        "no such directory".to_owned()
    } else if let Some(file) = found(&|name| name.ends_with(".gguf")) {
        format!("`{file}`; give that file itself in place of its directory")
    } else if let Some(file) = found(&torch) {
        format!("PyTorch's `{file}`, which may run code when it is read; {}", conversion(dir, stem))
    } else if let Some(file) =
        found(&|name| name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json"))
    {
        format!("`{file}`; rename it, or give the directory in the layout of transformers")
    } else if let Some(file) = found(&|name| [".h5", ".msgpack", ".onnx"].iter().any(|end| name.ends_with(end))) {
        format!("`{file}`; save the model as safetensors with transformers")
    } else {
        "no file of weights".to_owned()
    };
    ModelError::NoWeights { path: dir.to_path_buf(), expected, got }
}

/// Names of the files in a directory; none where there is no such directory.
fn names(dir: &Path) -> Result<Vec<String>, FileError> {
    if !is_dir(dir)? {
        return Ok(Vec::new());
    }
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names = fs::read_dir(dir).and_then(|entries| entries.map(name).collect());
    names.map_err(FileError::at(dir, "list"))
}

/// The command that makes a safetensors file of PyTorch's.
fn conversion(dir: &Path, stem: &str) -> String {
    let dir = dir.display();
    if stem == ADAPTER {
        return format!(
            "convert it: python -c \"import torch; from safetensors.torch import save_file; \
             save_file(torch.load('{dir}/{stem}.bin', weights_only=True), '{dir}/{stem}.safetensors')\""
        );
    }
    format!(
        "convert it: python -c \"from transformers import AutoModelForCausalLM; \
         AutoModelForCausalLM.from_pretrained('{dir}').save_pretrained('{dir}-safetensors')\", then copy the tokenizer's files"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_fits_what_is_there() {
        let message = |file: &str| {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("config.json"), "{}").unwrap();
            fs::write(dir.path().join(file), "x").unwrap();
            no_weights(dir.path(), "model").to_string()
        };
        for (file, part) in [
            ("pytorch_model.bin", "AutoModelForCausalLM.from_pretrained"),
            ("pytorch_model.bin.index.json", "PyTorch's `pytorch_model.bin.index.json`"),
            ("consolidated.00.pth", "save_pretrained"),
            ("m-Q4_K_M.gguf", "give that file itself"),
            ("consolidated.safetensors", "rename it"),
            ("tf_model.h5", "save the model as safetensors"),
            ("training_args.bin", "no file of weights"),
        ] {
            let message = message(file);
            assert!(message.contains(part), "{file}: {message}");
            assert!(message.contains("expected model.safetensors, or model.safetensors.index.json"), "{message}");
        }
        assert!(no_weights(Path::new("/nowhere"), "adapter_model").to_string().contains("adapter_model.safetensors"));
    }
}
