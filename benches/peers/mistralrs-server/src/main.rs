//! mistral.rs' own server on loopback, in float32 on the CPU: `mistralrs-server-peer MODEL_DIR [MAX_SEQS]`.
//!
//! Prints its base URL on standard output once it listens, and ends when standard input does.

use std::io::Read;

use mistralrs_core::{AutoDeviceMapParams, ModelDType, ModelSelected};
use mistralrs_server_core::mistralrs_for_server_builder::MistralRsForServerBuilder;
use mistralrs_server_core::mistralrs_server_router_builder::MistralRsServerRouterBuilder;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let model_id = arguments.next().ok_or_else(|| anyhow::anyhow!("usage: MODEL_DIR [MAX_SEQS]"))?;
    let max_seqs = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let model = ModelSelected::Plain {
        model_id,
        tokenizer_json: None,
        arch: None,
        dtype: ModelDType::F32,
        topology: None,
        organization: None,
        write_uqff: None,
        from_uqff: None,
        imatrix: None,
        calibration_file: None,
        max_seq_len: AutoDeviceMapParams::DEFAULT_MAX_SEQ_LEN,
        max_batch_size: AutoDeviceMapParams::DEFAULT_MAX_BATCH_SIZE,
        hf_cache_path: None,
        matformer_config_path: None,
        matformer_slice_name: None,
    };
    let state = MistralRsForServerBuilder::new()
        .with_model(model)
        .with_max_seqs(max_seqs)
        .with_cpu(true)
        .with_prefix_cache_n(0)
        .build()
        .await?;
    let router = MistralRsServerRouterBuilder::new().with_mistralrs(state).build().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/v1", listener.local_addr()?);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    axum::serve(listener, router).await?;
    Ok(())
}
