//! Softmax attention over packed [`Segments`].

use crate::autograd::{FreshGrad, is_recording, push_on, record_with_result, single, tracks};
use crate::checks::same_shape;
use crate::cpu::attention::{Attention, BackwardInput, Output, backward, forward, sink_gradient};
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
        None => on_cpu(&[("q", q), ("k", k), ("v", v)], false, extents, segments, options),
        Some(engine) => on_device(&engine, [q, k, v], extents, segments, options),
    }
}

/// As [`attention`], with a logit for each query head, `sinks` (Hq), that takes part in the softmax and has no value: the
/// weights of the keys sum to less than one (gpt-oss; Xiao et al. 2023, arXiv 2309.17453). On the CPU alone.
///
/// # Errors
///
/// As for [`attention`], and [`KernelError::Shape`] unless there is a sink for each query head; [`KernelError::Device`] on a
/// device.
pub fn attention_with_sinks(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sinks: &Tensor,
    segments: &Segments,
    options: AttentionOptions,
) -> Result<Tensor> {
    let extents = check(q, k, v, segments, options)?;
    same_shape(OP, "sinks", &[extents.heads], sinks)?;
    if Engine::of(q).is_some() {
        let got = "the kernels of a GPU, which have none".to_owned();
        return Err(KernelError::Device { op: OP, argument: "sinks", got });
    }
    // candle's graph takes three arguments at most: keys and values go in as one.
    if !is_recording() && [q, k, v, sinks].iter().any(|argument| argument.track_op()) {
        let keys_values = Tensor::cat(&[k, v], 0)?;
        return on_cpu(&[("q", q), ("k", &keys_values), ("sinks", sinks)], true, extents, segments, options);
    }
    on_cpu(&[("q", q), ("k", k), ("v", v), ("sinks", sinks)], true, extents, segments, options)
}

/// `arguments` are queries, then keys and values, one after the other or in one tensor, then sinks if there are any.
fn on_cpu(
    arguments: &[(&'static str, &Tensor)],
    with_sinks: bool,
    extents: Extents,
    segments: &Segments,
    options: AttentionOptions,
) -> Result<Tensor> {
    let inputs = arguments.iter().map(|(name, tensor)| Dense::new(OP, name, tensor)).collect::<Result<Vec<_>>>()?;
    let arguments: Vec<&Tensor> = arguments.iter().map(|(_, tensor)| *tensor).collect();
    let segments = segments.clone();
    let slices: Vec<Slice<'_>> = inputs.iter().map(Dense::read).collect();
    let Output { mixed, log_sums } = forward(call(extents, &segments, options, &slices, with_sinks));
    drop(slices);
    record_with_result(OP, &arguments, mixed, arguments[0].dims(), move |gradient, result, sink| {
        let slices: Vec<Slice<'_>> = inputs.iter().map(Dense::read).collect();
        let lengths = slices.iter().map(|slice| slice.len()).enumerate();
        let mut grads: Vec<FreshGrad> = lengths.map(|(index, len)| FreshGrad::open(sink, index, len)).collect();
        let mixed = Dense::new(OP, "result", result)?;
        let input = BackwardInput { mixed: &mixed.read(), gradient, log_sums: &log_sums };
        let call = call(extents, &segments, options, &slices, with_sinks);
        let mut fresh: Vec<&mut [f32]> = grads.iter_mut().map(|grad| &mut grad.fresh[..]).collect();
        if with_sinks && let Some(sinks) = fresh.pop() {
            sinks.fill(0.0);
            sink_gradient(call, input, sinks);
        }
        match &mut fresh[..] {
            [dq, dk, dv] => backward(call, input, [dq, dk, dv]),
            [dq, both] => {
                let (dk, dv) = both.split_at_mut(both.len() / 2);
                backward(call, input, [dq, dk, dv]);
            }
            _ => {}
        }
        grads.into_iter().enumerate().try_for_each(|(index, grad)| grad.close(index, sink))
    })
}

fn call<'a>(
    extents: Extents,
    segments: &'a Segments,
    options: AttentionOptions,
    slices: &'a [Slice<'_>],
    with_sinks: bool,
) -> Attention<'a> {
    let (sinks, rest) = match slices.split_last() {
        Some((sinks, rest)) if with_sinks => (Some(&sinks[..]), rest),
        _ => (None, slices),
    };
    let (k, v) = match rest {
        [_, k, v] => (&k[..], &v[..]),
        _ => rest[1].split_at(rest[1].len() / 2),
    };
    Attention { extents, segments, options, q: &rest[0], k, v, sinks }
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
