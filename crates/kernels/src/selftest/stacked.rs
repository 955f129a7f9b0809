//! Sampling: what takes the products of stacked projections apart.

use super::Check;
use super::compare::{bound, difference, worse};
use super::decode::{host, tensor};
use crate::decode::{DeviceCache, StackedHeads};
use crate::device::on_host;
use crate::error::Result;
use crate::{Gate, NormOptions, RotaryPairs, columns, gated_halves, geglu, rms_norm, rotary, swiglu};
use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;

pub(super) fn compare(device: &Device, rng: &mut ChaCha8Rng, checks: &mut Vec<Check>) -> Result<()> {
    let unit_offset = |unit_offset| Some(NormOptions { eps: 1e-6, unit_offset });
    let cases = [
        Case { heads: [4, 2, 64], bias: true, norms: None, rotation: Some((32, RotaryPairs::Halves)) },
        Case { heads: [3, 1, 40], bias: false, norms: unit_offset(false), rotation: Some((16, RotaryPairs::Halves)) },
        Case {
            heads: [2, 2, 128],
            bias: true,
            norms: unit_offset(true),
            rotation: Some((64, RotaryPairs::Neighbours)),
        },
        Case { heads: [5, 1, 256], bias: false, norms: None, rotation: None },
        Case { heads: [1, 1, 8], bias: true, norms: unit_offset(false), rotation: Some((3, RotaryPairs::Neighbours)) },
    ];
    for dtype in [DType::F32, DType::BF16, DType::F16] {
        for case in &cases {
            checks.push(case.check(device, dtype, rng)?);
        }
        for (kind, width) in [(Gate::Silu, 64), (Gate::GeluTanh, 33)] {
            checks.push(gate(device, dtype, kind, width, rng)?);
        }
    }
    Ok(())
}

/// Queries, keys and values of six tokens, whose rows of the cache are not in order.
struct Case {
    /// Query heads, key heads, width of a head.
    heads: [usize; 3],
    bias: bool,
    norms: Option<NormOptions>,
    /// Number of pairs.
    rotation: Option<(usize, RotaryPairs)>,
}

const PLACES: [u32; 6] = [7, 0, 3, 9, 1, 4];

impl Case {
    fn check(&self, device: &Device, dtype: DType, rng: &mut ChaCha8Rng) -> Result<Check> {
        let [heads, kv_heads, width] = self.heads;
        let (rows, all) = (PLACES.len(), (heads + 2 * kv_heads) * width);
        let product = tensor(&[rows, all], dtype, rng)?;
        let bias = tensor(&[all], dtype, rng)?;
        let norms = [tensor(&[width], dtype, rng)?, tensor(&[width], dtype, rng)?];
        let half = self.rotation.map_or(1, |(half, _)| half);
        let angles = tensor(&[rows, half], DType::F32, rng)?;
        let angles = [angles.cos()?, angles.sin()?];
        let want = on_host(|| self.expected(&product, &bias, &norms, &angles))?;
        let place = |tensor: &Tensor| -> Result<Tensor> { Ok(tensor.to_device(device)?.to_dtype(dtype)?) };
        let (product, bias) = (place(&product)?, place(&bias)?);
        let [q_norm, k_norm] = [place(&norms[0])?, place(&norms[1])?];
        let [cos, sin] = [angles[0].to_device(device)?, angles[1].to_device(device)?];
        let stacked = StackedHeads {
            product: &product,
            bias: self.bias.then_some(&bias),
            norms: self.norms.map(|options| ([&q_norm, &k_norm], options)),
            angles: self.rotation.map(|(_, pairs)| ([&cos, &sin], pairs)),
        };
        let cache = DeviceCache::new(device, dtype, 2, [kv_heads, width], 10)?;
        let queries = cache.write_stacked(1, &stacked, &cache.places(&PLACES)?)?;
        let places = Tensor::new(&PLACES, &Device::Cpu)?;
        let [keys, values] = cache.layer(1)?;
        let cached = |tensor: &Tensor| host(&tensor.to_device(&Device::Cpu)?.index_select(&places, 0)?);
        let got = [host(&queries)?, cached(keys)?, cached(values)?];
        let largest = got.iter().zip(&want).map(|(got, want)| difference(got, want)).fold(0.0, worse);
        let shape = format!("{:?} bias {} {:?} {:?}", self.heads, self.bias, self.norms, self.rotation);
        Ok(Check::new("cached_heads".to_owned(), dtype, shape, largest, bound(dtype)))
    }

    /// Queries, keys and values by one operation after the other.
    fn expected(
        &self,
        product: &Tensor,
        bias: &Tensor,
        norms: &[Tensor; 2],
        [cos, sin]: &[Tensor; 2],
    ) -> Result<[Vec<f32>; 3]> {
        let [heads, kv_heads, width] = self.heads;
        let biased = if self.bias { product.broadcast_add(bias)? } else { product.clone() };
        let (q, kv) = (heads * width, kv_heads * width);
        let part = |from: usize, heads: usize, norm: Option<&Tensor>| -> Result<Vec<f32>> {
            let mut x = columns(&biased, from..from + heads * width)?.reshape(((), heads, width))?;
            if let (Some(norm), Some(options)) = (norm, self.norms) {
                x = rms_norm(&x, norm, options)?;
            }
            if let (Some(_), Some((_, pairs))) = (norm, self.rotation) {
                x = rotary(&x, cos, sin, pairs)?;
            }
            host(&x)
        };
        Ok([part(0, heads, Some(&norms[0]))?, part(q, kv_heads, Some(&norms[1]))?, part(q + kv, kv_heads, None)?])
    }
}

fn gate(device: &Device, dtype: DType, kind: Gate, width: usize, rng: &mut ChaCha8Rng) -> Result<Check> {
    let both = tensor(&[5, 2 * width], dtype, rng)?;
    let got = gated_halves(&both.to_device(device)?.to_dtype(dtype)?, kind)?;
    let want = on_host(|| {
        let (gate, up) = (columns(&both, 0..width)?, columns(&both, width..2 * width)?);
        host(&if kind == Gate::Silu { swiglu(&gate, &up)? } else { geglu(&gate, &up)? })
    })?;
    let shape = format!("[5, {}] {kind:?}", 2 * width);
    Ok(Check::new("gated_halves".to_owned(), dtype, shape, difference(&host(&got)?, &want), bound(dtype)))
}
