//! All metrics over completions that exist, on one core: megabytes of completion per second.
//!
//! `cargo run --release -p smpo-eval --example metrics_throughput -- TIMES FILE...` measures the files TIMES times over,
//! reading not counted. `benches/peers/metrics.py` is the same in Python.
use std::path::Path;
use std::time::{Duration, Instant};

use smpo_eval::measure;
use smpo_eval::score::{CompletionFile, Store, assemble};
use smpo_results::Sample;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let times: usize = arguments.next().ok_or("usage: metrics_throughput TIMES FILE...")?.parse()?;
    let mut store = Store::beside(Path::new("."));
    let files = arguments.map(|path| CompletionFile::read(Path::new(&path), None, &mut store));
    let files = files.collect::<Result<Vec<_>, _>>()?;
    let models = assemble(files, None, None, store)?.models;
    let one = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let (mut completions, mut bytes, mut spent) = (0, 0, Duration::ZERO);
    for model in &models {
        let samples = model.samples().collect::<Result<Vec<Sample>, _>>()?;
        let started = Instant::now();
        for _ in 0..times {
            std::hint::black_box(one.install(|| measure(&samples, Vec::new())));
        }
        spent += started.elapsed();
        completions += times * samples.len();
        bytes += times * samples.iter().map(|sample| sample.completion.len()).sum::<usize>();
    }
    let (megabytes, seconds) = (bytes as f64 / 1e6, spent.as_secs_f64());
    println!(
        "{completions} completions, {megabytes:.1} MB in {seconds:.2} s = {:.1} MB/s on one core",
        megabytes / seconds
    );
    Ok(())
}
