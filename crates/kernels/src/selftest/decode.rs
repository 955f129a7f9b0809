//! Sampling: attention to a cache, and the draw of tokens.

use super::Check;
use super::compare::{bound, difference, worse};
use super::large::{Sizes, WIDTHS};
use crate::decode::{CachedSequence, DeviceCache, device_draw, device_logits};
use crate::device::on_host;
use crate::error::{KernelError, Result};
use crate::{AttentionOptions, DrawnToken, Segments, Span, TokenDraw, attention};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) fn compare(device: &Device, sizes: Sizes, checks: &mut Vec<Check>) -> Result<()> {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let plain = AttentionOptions::for_width;
    let mut cases: Vec<Case> = vec![];
    // Lengths of one token, within a split, at its end, of several.
    let lengths = vec![1, 70, 256, 300];
    for [heads, kv_heads, width] in [[2, 1, 32], [6, 2, 64], [3, 3, 40], [11, 1, 128], [2, 1, 256]] {
        cases.push(Case { lengths: lengths.clone(), heads: [heads, kv_heads, width], options: plain(width) });
    }
    for (window, soft_cap) in [(Some(1), None), (Some(60), Some(0.8)), (Some(257), None), (None, Some(20.0))] {
        let options = AttentionOptions { window, soft_cap, ..plain(64) };
        cases.push(Case { lengths: lengths.clone(), heads: [4, 2, 64], options });
    }
    for width in WIDTHS {
        cases.push(Case { lengths: vec![sizes.tokens, 9], heads: [2, 1, width], options: plain(width) });
    }
    for case in &cases {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            checks.push(case.check(device, dtype, &mut rng)?);
        }
    }
    for (vocabulary, soft_cap) in [(7, None), (300, Some(3.0)), (4_500, None), (sizes.vocabulary, None)] {
        checks.push(draws(device, vocabulary, soft_cap, &mut rng)?);
    }
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        checks.push(logits(device, dtype, &mut rng)?);
    }
    super::stacked::compare(device, &mut rng, checks)
}

fn values(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-1.5f32..1.5)).collect()
}

/// Values that `dtype` represents, in float32.
pub(super) fn tensor(shape: &[usize], dtype: DType, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    let values = Tensor::from_vec(values(shape.iter().product(), rng), shape, &Device::Cpu)?;
    Ok(values.to_dtype(dtype)?.to_dtype(DType::F32)?)
}

pub(super) fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Sequences in one cache, and the query of each one's last token.
struct Case {
    lengths: Vec<usize>,
    /// Query heads, key heads, width of a head.
    heads: [usize; 3],
    options: AttentionOptions,
}

impl Case {
    fn check(&self, device: &Device, dtype: DType, rng: &mut ChaCha8Rng) -> Result<Check> {
        let Self { lengths, heads: [heads, kv_heads, width], options } = self;
        let (tokens, sequences) = (lengths.iter().sum::<usize>(), lengths.len());
        let keys = tensor(&[tokens, *kv_heads, *width], dtype, rng)?;
        let values = tensor(&[tokens, *kv_heads, *width], dtype, rng)?;
        let queries = tensor(&[sequences, *heads, *width], dtype, rng)?;
        // The cache has the sequences in another order, with rows between that nobody writes.
        let (mut cached, mut rows) = (vec![], vec![]);
        let mut end = tokens + 3 * sequences;
        for length in lengths {
            end -= length + 3;
            cached.push(CachedSequence { first_row: end, position: length - 1 });
            rows.extend((end..end + length).map(|row| row as u32));
        }
        let cache = DeviceCache::new(device, dtype, 1, [*kv_heads, *width], tokens + 3 * sequences)?;
        let place = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.to_device(device)?.to_dtype(dtype)?) };
        cache.write(0, &place(&keys)?, &place(&values)?, &cache.places(&rows)?)?;
        let got = cache.attend(0, &place(&queries)?, &mut cache.queries(cached)?, *options)?;
        let want = on_host(|| self.expected(&queries, &keys, &values))?;
        let largest = difference(&host(&got)?, &want);
        let shape = format!("{lengths:?} tokens, heads {:?}, {options:?}", self.heads);
        Ok(Check::new("cached_attention".to_owned(), dtype, shape, largest, bound(dtype)))
    }

    /// By attention over whole sequences, of whose queries the last alone are not zero.
    fn expected(&self, queries: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Vec<f32>> {
        let [heads, _, width] = self.heads;
        let mut ends = vec![];
        let mut all = vec![0f32; self.lengths.iter().sum::<usize>() * heads * width];
        let mut end = 0;
        for (length, query) in self.lengths.iter().zip(host(queries)?.chunks_exact(heads * width)) {
            end += length;
            ends.push(end);
            all[(end - 1) * heads * width..end * heads * width].copy_from_slice(query);
        }
        let all = Tensor::from_vec(all, (end, heads, width), &Device::Cpu)?;
        let spans = ends.iter().zip(&self.lengths).map(|(end, length)| Span::new(end - length..*end)).collect();
        let mixed = host(&attention(&all, keys, values, &Segments::new(spans)?, self.options)?)?;
        Ok(ends.iter().flat_map(|end| mixed[(end - 1) * heads * width..end * heads * width].to_vec()).collect())
    }
}

/// The draw by every kind of sampler. Largest difference of a log-prob; another token counts as infinite.
fn draws(device: &Device, vocabulary: usize, soft_cap: Option<f64>, rng: &mut ChaCha8Rng) -> Result<Check> {
    let terminators = [3, vocabulary as u32 - 1, vocabulary as u32];
    let plain = TokenDraw {
        key: [0; 8],
        step: 0,
        temperature: 1.0,
        top_k: None,
        top_p: None,
        min_p: None,
        terminators: &terminators[..],
    };
    let samplers = [
        plain,
        TokenDraw { temperature: 0.0, terminators: &[], ..plain },
        TokenDraw { temperature: 0.3, top_k: Some(5), ..plain },
        TokenDraw { top_k: Some(1_000), top_p: Some(0.9), ..plain },
        TokenDraw { temperature: 1.7, top_p: Some(0.5), min_p: Some(0.05), ..plain },
        TokenDraw { temperature: 2.5, min_p: Some(0.2), ..plain },
        TokenDraw { top_k: Some(2), top_p: Some(0.999), min_p: Some(1.0), ..plain },
    ];
    let mut settings = vec![];
    for step in 0..3 {
        for sampler in samplers {
            let mut key = [0; 8];
            key.iter_mut().for_each(|word| *word = rng.next_u32());
            settings.push(TokenDraw { key, step: step << (16 * step), ..sampler });
        }
    }
    let mut logits: Vec<f32> = values(settings.len() * vocabulary, rng).iter().map(|x| 2.0 * x).collect();
    // Ties, and tokens that are impossible.
    for row in logits.chunks_exact_mut(vocabulary) {
        row.iter_mut().step_by(3).for_each(|logit| *logit = (*logit * 4.0).round() / 4.0);
        row[vocabulary / 2] = f32::NEG_INFINITY;
    }
    let on_device = Tensor::from_slice(&logits, (settings.len(), vocabulary), &Device::Cpu)?.to_device(device)?;
    let drawn = device_draw(&on_device, soft_cap, &settings)?;
    let rows = logits.chunks_exact(vocabulary).zip(&settings).zip(&drawn);
    let differences = rows.map(|((logits, draw), drawn)| off_by(logits, soft_cap, draw, drawn));
    let largest = differences.fold(0.0, worse);
    let shape = format!("{} x {vocabulary}, cap {soft_cap:?}", settings.len());
    Ok(Check::new("draw".to_owned(), DType::F32, shape, largest, bound(DType::F32)))
}

/// Difference of the log-probs from those of the formula; NaN for another token.
fn off_by(logits: &[f32], soft_cap: Option<f64>, draw: &TokenDraw<'_>, drawn: &DrawnToken) -> f64 {
    let capped = |logit: &f32| match soft_cap {
        Some(cap) => cap as f32 * (logit / cap as f32).tanh(),
        None => *logit,
    };
    let logits: Vec<f32> = logits.iter().map(capped).collect();
    let log_sum = |logits: &mut dyn Iterator<Item = f32>| logits.map(|logit| f64::from(logit).exp()).sum::<f64>().ln();
    let mut terminators = draw.terminators.iter().filter_map(|id| logits.get(*id as usize).copied());
    let (all, ending) = (log_sum(&mut logits.iter().copied()), log_sum(&mut terminators));
    let token = naive_draw(&logits, draw);
    if drawn.token != Some(token) || drawn.broken.is_some() {
        return f64::NAN;
    }
    let ends = if ending == drawn.terminator_log_sum { 0.0 } else { (ending - drawn.terminator_log_sum).abs() };
    let logit = f64::from((logits[token as usize] - drawn.logit).abs());
    worse(worse((all - drawn.log_sum).abs(), ends), logit)
}

/// The race over a sorted list of the tokens that are kept.
fn naive_draw(logits: &[f32], draw: &TokenDraw<'_>) -> u32 {
    let mut ranked: Vec<(f32, u32)> = logits.iter().copied().zip(0..).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let (largest, first) = ranked[0];
    if draw.temperature == 0.0 {
        return first;
    }
    let weight = |logit: f32| (f64::from(logit - largest) * (1.0 / draw.temperature)).exp();
    ranked.truncate(draw.top_k.map_or(usize::MAX, |k| k as usize));
    if let Some(p) = draw.top_p {
        let mass = p * ranked.iter().map(|(logit, _)| weight(*logit)).sum::<f64>();
        let mut sum = 0.0;
        let last = ranked.iter().position(|(logit, _)| {
            sum += weight(*logit);
            sum >= mass
        });
        ranked.truncate(last.map_or(usize::MAX, |last| last + 1));
    }
    ranked.retain(|(logit, _)| weight(*logit) >= draw.min_p.unwrap_or(0.0));
    let seed = draw.key.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut noise = ChaCha8Rng::from_seed(seed.try_into().unwrap_or_default());
    noise.set_stream(draw.step);
    let numbers: Vec<f64> =
        logits.iter().map(|_| ((noise.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64).collect();
    let arrival = |(logit, id): &(f32, u32)| -numbers[*id as usize].ln() / weight(*logit);
    ranked.iter().min_by(|a, b| arrival(a).total_cmp(&arrival(b)).then(a.1.cmp(&b.1))).map_or(first, |(_, id)| *id)
}

/// Logits in float32 of hidden states in a dtype, whose sums no rounding to that dtype explains.
fn logits(device: &Device, dtype: DType, rng: &mut ChaCha8Rng) -> Result<Check> {
    let (hidden, weight) = (tensor(&[3, 40], dtype, rng)?, tensor(&[50, 40], dtype, rng)?);
    let place = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.to_device(device)?.to_dtype(dtype)?) };
    let got = device_logits(&place(&hidden)?, &place(&weight)?)?;
    if got.dtype() != DType::F32 {
        return Err(KernelError::OtherType {
            op: "logits",
            argument: "result",
            expected: DType::F32,
            got: got.dtype(),
        });
    }
    let want = on_host(|| host(&crate::linear(&hidden, &weight, None)?))?;
    let shape = "[3, 40] [50, 40]".to_owned();
    Ok(Check::new("logits".to_owned(), dtype, shape, difference(&host(&got)?, &want), bound(DType::F32)))
}
