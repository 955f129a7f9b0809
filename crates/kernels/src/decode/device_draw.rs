//! Logits and the draw of tokens on a device.

use candle_core::{DType, Tensor};

use crate::cpu::weight::Weight;
use crate::device::linear::Factors;
use crate::device::{Engine, Role, draw};
use crate::error::{KernelError, Result};
use crate::options::{DrawnToken, TokenDraw};

const OP: &str = "draw";

fn engine_of(tensor: &Tensor) -> Result<Engine> {
    let got = || KernelError::Device { op: OP, argument: "logits", got: "the CPU".to_owned() };
    Engine::of(tensor).ok_or_else(got)
}

/// Logits of `hidden` (B, H) by the head's `weight` (V, H), in float32 whatever their dtype: (B, V).
///
/// # Errors
///
/// [`KernelError::Device`] unless they are on a device; [`KernelError::Shape`], [`KernelError::OtherType`] for unfit tensors.
pub fn device_logits<'w>(hidden: &Tensor, weight: impl Into<Weight<'w>>) -> Result<Tensor> {
    let (engine, weight): (_, Weight<'_>) = (engine_of(hidden)?, weight.into());
    let (rows, width) = hidden.dims2()?;
    let vocabulary = match weight.shape() {
        Some((vocabulary, own)) if own == width => vocabulary,
        got => {
            let got = got.map(|(rows, columns)| vec![rows, columns]).unwrap_or_default();
            return Err(KernelError::Shape { op: OP, argument: "weight", expected: format!("[V, {width}]"), got });
        }
    };
    let logits = engine.allocate(DType::F32, &[rows, vocabulary], Role::Constant)?;
    Factors::new(&engine, hidden, weight, 1.0)?.multiply(&logits, false)?;
    Ok(logits)
}

/// Draws a token for each row of `logits` (B, V), float32, which the soft cap has not changed yet. A row's token depends on
/// that row alone.
///
/// # Errors
///
/// [`KernelError::Device`] unless they are on a device; [`KernelError::Shape`] unless there is a draw for each row,
/// [`KernelError::OtherType`] for another dtype.
pub fn device_draw(logits: &Tensor, soft_cap: Option<f64>, draws: &[TokenDraw<'_>]) -> Result<Vec<DrawnToken>> {
    let engine = engine_of(logits)?;
    if logits.dtype() != DType::F32 {
        return Err(KernelError::OtherType { op: OP, argument: "logits", expected: DType::F32, got: logits.dtype() });
    }
    if logits.dims2()?.0 != draws.len() {
        let expected = format!("[{}, V]", draws.len());
        return Err(KernelError::Shape { op: OP, argument: "logits", expected, got: logits.dims().to_vec() });
    }
    let drawn = |[token, logit, log_sum, terminator_log_sum, broken, its_logit]: [f64; 6]| DrawnToken {
        token: (token >= 0.0).then_some(token as u32),
        logit: logit as f32,
        log_sum,
        terminator_log_sum,
        broken: (broken >= 0.0).then_some((broken as u32, its_logit as f32)),
    };
    Ok(draw::draw(&engine, &logits.contiguous()?, soft_cap, draws)?.into_iter().map(drawn).collect())
}
