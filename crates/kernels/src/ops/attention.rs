//! Softmax attention over packed [`Segments`].

use crate::autograd::{FreshGrad, push_on, record_with_result, single, tracks};
use crate::cpu::attention::{Attention, BackwardInput, Output, backward, forward};
use crate::cpu::{Dense, Slice};
use crate::device::{self, Engine, Role};
use crate::error::{KernelError, Result};
use crate::options::{AttentionOptions, Extents, Segments};
use candle_core::Tensor;

const OP: &str = "attention";

/// `q` (N, Hq, D), `k` and `v` (N, Hkv, D) to (N, Hq, D); Hq is a multiple of Hkv, and query head h
/// reads key head h·Hkv/Hq.
///
/// # Errors
///
/// [`KernelError::Rank`], [`KernelError::Shape`], [`KernelError::Type`], [`KernelError::Device`]
/// for unfit tensors, [`KernelError::Option`] for a scale that is not finite, a cap that is not
/// positive, or a window of 0; on a device also for a D that is no multiple of 8 or above 256.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, options: AttentionOptions) -> Result<Tensor> {
    let extents = check(q, k, v, segments, options)?;
    match Engine::of(q) {
        None => on_cpu([q, k, v], extents, segments, options),
        Some(engine) => on_device(&engine, [q, k, v], extents, segments, options),
    }
}

fn on_cpu([q, k, v]: [&Tensor; 3], extents: Extents, segments: &Segments, options: AttentionOptions) -> Result<Tensor> {
    let inputs = [Dense::new(OP, "q", q)?, Dense::new(OP, "k", k)?, Dense::new(OP, "v", v)?];
    let segments = segments.clone();
    let Output { mixed, log_sums } = forward(call(extents, &segments, options, &inputs.each_ref().map(Dense::read)));
    record_with_result(OP, &[q, k, v], mixed, q.dims(), move |gradient, result, sink| {
        let slices = inputs.each_ref().map(Dense::read);
        let mut grads = [0, 1, 2].map(|index| FreshGrad::open(sink, index, slices[index].len()));
        let mixed = Dense::new(OP, "result", result)?;
        let input = BackwardInput { mixed: &mixed.read(), gradient, log_sums: &log_sums };
        let fresh = grads.each_mut().map(|grad| &mut grad.fresh[..]);
        backward(call(extents, &segments, options, &slices), input, fresh);
        for (index, grad) in grads.into_iter().enumerate() {
            grad.close(index, sink)?;
        }
        Ok(())
    })
}

fn call<'a>(
    extents: Extents,
    segments: &'a Segments,
    options: AttentionOptions,
    [q, k, v]: &'a [Slice<'_>; 3],
) -> Attention<'a> {
    Attention { extents, segments, options, q, k, v }
}

fn on_device(
    engine: &Engine,
    [q, k, v]: [&Tensor; 3],
    extents: Extents,
    segments: &Segments,
    options: AttentionOptions,
) -> Result<Tensor> {
    let tracked = tracks(OP, &[q, k, v])?;
    let call = device::attention::Attention::new(engine, [q, k, v], extents, segments, options)?;
    let out = engine.allocate(q.dtype(), q.dims(), Role::leaf_if(tracked))?;
    call.forward(&out)?;
    let result = out.detach();
    push_on(engine, &[q, k, v], &[&out], move |gradients, sink| {
        let result_grad = call.result_grad(&result, single(gradients, OP)?)?;
        if sink.wants(0) {
            sink.give(0, call.query_grad(&result_grad)?)?;
        }
        if sink.wants(1) || sink.wants(2) {
            let [dk, dv] = call.key_grads(&result_grad)?;
            sink.give(1, dk)?;
            sink.give(2, dv)?;
        }
        Ok(())
    })?;
    Ok(out)
}

fn check(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments, options: AttentionOptions) -> Result<Extents> {
    let &[tokens, heads, width] = q.dims() else {
        let got = q.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "q", expected: "(N, Hq, D)", got });
    };
    let &[key_tokens, kv_heads, key_width] = k.dims() else {
        let got = k.dims().to_vec();
        return Err(KernelError::Rank { op: OP, argument: "k", expected: "(N, Hkv, D)", got });
    };
    let shape = |argument, expected, tensor: &Tensor| {
        Err(KernelError::Shape { op: OP, argument, expected, got: tensor.dims().to_vec() })
    };
    if tokens != segments.tokens() {
        return shape("q", format!("[{}, Hq, D], as the segments", segments.tokens()), q);
    }
    let divides = kv_heads > 0 && heads.is_multiple_of(kv_heads);
    if key_tokens != tokens || key_width != width || !divides {
        return shape("k", format!("[{tokens}, a divisor of {heads}, {width}]"), k);
    }
    if v.dims() != k.dims() {
        return shape("v", format!("{:?}", k.dims()), v);
    }
    let option = |option, expected, got| Err(KernelError::Option { op: OP, option, expected, got });
    if !options.scale.is_finite() {
        return option("scale", "finite", options.scale.to_string());
    }
    if let Some(cap) = options.soft_cap
        && !(cap.is_finite() && cap > 0.0)
    {
        return option("soft_cap", "finite and above 0", cap.to_string());
    }
    if options.window == Some(0) {
        return option("window", "of at least 1", "0".to_owned());
    }
    Ok(Extents { tokens, heads, kv_heads, width })
}
