//! GGUF files: header, metadata, blocks, and the tokenizer files they describe.

#![no_main]

use std::sync::LazyLock;

use smpo_fuzz::{Files, target};
use smpo_gguf::{GgufFile, companions, tokenizer_home};

static FILES: LazyLock<Files> = LazyLock::new(Files::new);

target!(data, {
    let path = FILES.write("model.gguf", data);
    let _ = tokenizer_home(&path);
    let _ = companions(&path);
    if let Ok(file) = GgufFile::open(&path) {
        for tensor in file.tensors() {
            let _ = tensor.dequantise();
        }
    }
});
