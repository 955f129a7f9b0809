//! A forward pass recorded for one backward pass, instead of candle's graph.
//!
//! candle's backward pass gives every edge of its graph a buffer of zeros and a sum into a third
//! buffer, keeps all activations until it ends, and keeps the arguments of every operation. On a
//! [`Tape`] each operation keeps what its own backward pass reads; gradients are added in place
//! (matrix products with `β = 1`), their memory is reused, and activations are freed as the
//! backward pass goes.
//!
//! While a tape records, this crate's results are leaves to candle: variables of its graph. Plain
//! candle operations in between keep working; the tape runs their part of the backward pass through
//! candle. Views that keep the elements in place, such as a reshape, cost nothing.

use super::argument::{Argument, viewed_leaf};
use super::device_sink::{DeviceBackward, DeviceSink, ResultGrads};
use super::gradients::Gradients;
use super::pending::{DeviceSum, Pending};
use super::sink::{Backward, GradSink, ResultGrad, TapeSink};
use crate::checks::same_shape;
use crate::cpu::{Dense, Recompute};
use crate::device::Engine;
use crate::error::{KernelError, Result};
use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, Device, Shape, Storage, Tensor, TensorId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

/// Operations in the order they ran.
///
/// ```
/// # use candle_core::{Device, Tensor, Var};
/// # use smpo_kernels::{Gradients, Tape, linear};
/// # fn main() -> smpo_kernels::Result<()> {
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Var::new(&[[3f32, 4.0]], &Device::Cpu)?;
/// let mut gradients = Gradients::new([("weight", &weight)])?;
/// let (tape, y) = Tape::record(|| linear(&x, &weight, None));
/// tape.backward(&y?, &Tensor::new(&[[10f32]], &Device::Cpu)?, &mut gradients)?;
/// assert_eq!(gradients.get(&weight), Some(&[10.0, 20.0][..]));
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "a tape that is dropped is a forward pass without a backward pass"]
pub struct Tape {
    nodes: Vec<Node>,
    /// Results that are cheap to recompute. Dropped when recording ends.
    recomputes: HashMap<TensorId, Arc<Recompute>>,
}

struct Node {
    outputs: Outputs,
    arguments: Vec<Argument>,
    /// The result, or an empty tensor where the backward pass does not read it.
    result: Tensor,
}

enum Outputs {
    One(TensorId, Backward),
    Two([TensorId; 2], PairBackward),
    /// Of an operation on a device.
    Device(Engine, Vec<TensorId>, DeviceBackward),
    /// None: a place on the way.
    Mark(usize),
}

/// The backward pass of a node with two results, either of which may have got no gradient.
pub(crate) type PairBackward = Box<dyn Fn([Option<&[f32]>; 2], &mut GradSink<'_>) -> Result<()> + Send + Sync>;

thread_local! {
    /// The tape that records on this thread.
    static RECORDING: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Resumes the tape that was recording before, also after a panic.
struct Restore(Option<Tape>);

impl Drop for Restore {
    fn drop(&mut self) {
        RECORDING.set(self.0.take());
    }
}

pub(crate) fn is_recording() -> bool {
    RECORDING.with_borrow(Option::is_some)
}

impl Tape {
    /// Runs `forward` and records this crate's operations in it, on this thread. Tapes nest: an
    /// inner one records alone.
    pub fn record<T>(forward: impl FnOnce() -> T) -> (Self, T) {
        let restore = Restore(RECORDING.replace(Some(Self::default())));
        let result = forward();
        let mut tape = RECORDING.take().unwrap_or_default();
        tape.recomputes = HashMap::new();
        drop(restore);
        (tape, result)
    }

    /// Marks a place of the tape that records on this thread, if one does. The backward pass tells it to the watcher of its
    /// [`Gradients`] once it is through with all that was recorded after it.
    pub fn mark(mark: usize) {
        RECORDING.with_borrow_mut(|tape| {
            if let Some(tape) = tape {
                tape.nodes.push(Node {
                    outputs: Outputs::Mark(mark),
                    arguments: Vec::new(),
                    result: leaf(vec![], &[0]),
                });
            }
        });
    }

    /// The number of operations and marks recorded.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True if nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// With `gradient` = ∂L/∂root, of the shape of `root`, adds ∂L/∂parameter to `gradients`, and
    /// returns the gradients of other variables, such as the input of a recomputed block. The order
    /// of the sums depends on the tape alone.
    ///
    /// # Errors
    ///
    /// [`crate::KernelError::Shape`], [`crate::KernelError::Type`], [`crate::KernelError::Device`] for an unfit gradient;
    /// those of the operations' backward passes.
    pub fn backward(mut self, root: &Tensor, gradient: &Tensor, gradients: &mut Gradients) -> Result<OtherGradients> {
        same_shape("backward", "gradient", root.dims(), gradient)?;
        // Backward passes record nothing.
        let _restore = Restore(RECORDING.take());
        let mut pending = Pending::default();
        // While this is held nobody adds to it in place: it may be the caller's own memory.
        let _seed = seed(root, gradient, &mut pending, gradients)?;
        while let Some(node) = self.nodes.pop() {
            node.backward(&mut pending, gradients)?;
        }
        Ok(OtherGradients { host: pending.host, device: pending.device })
    }
}

/// Delivers `gradient` to `root`; returns the memory it is in, if that is on a device.
fn seed(
    root: &Tensor,
    gradient: &Tensor,
    pending: &mut Pending,
    gradients: &mut Gradients,
) -> Result<Option<DeviceSum>> {
    let arguments = [Argument::new(root)?];
    let Some(engine) = Engine::of(root) else {
        let seed = Dense::new("backward", "gradient", gradient)?.read().to_vec();
        TapeSink { arguments: &arguments, pending, gradients }.share(0, &Arc::new(seed))?;
        return Ok(None);
    };
    let seed = gradient.detach().to_device(&engine.device())?.to_dtype(root.dtype())?.contiguous()?;
    let seed = Arc::new(seed);
    let tape = TapeSink { arguments: &arguments, pending, gradients };
    DeviceSink { engine: &engine, tape }.pass(0, &seed)?;
    Ok(Some(seed))
}

impl Node {
    /// Delivers the gradients of the arguments, if any gradient has reached the results.
    fn backward(self, pending: &mut Pending, gradients: &mut Gradients) -> Result<()> {
        let Self { outputs, arguments, result } = self;
        let arguments = &arguments[..];
        match outputs {
            Outputs::One(id, backward) => {
                let Some(gradient) = pending.host.remove(&id) else { return Ok(()) };
                let mut sink = GradSink::Tape(TapeSink { arguments, pending: &mut *pending, gradients });
                backward(&ResultGrad::Shared(&gradient), &result, &mut sink)?;
                pending.recycle(gradient);
            }
            Outputs::Two(ids, backward) => {
                let given = ids.map(|id| pending.host.remove(&id));
                if given.iter().all(Option::is_none) {
                    return Ok(());
                }
                let mut sink = GradSink::Tape(TapeSink { arguments, pending: &mut *pending, gradients });
                backward([0, 1].map(|i| given[i].as_ref().map(|values| &values[..])), &mut sink)?;
                given.into_iter().flatten().for_each(|values| pending.recycle(values));
            }
            Outputs::Device(engine, ids, backward) => {
                let given: Vec<_> = ids.iter().map(|id| pending.device.remove(id)).collect();
                if given.iter().any(Option::is_some) {
                    let tape = TapeSink { arguments, pending, gradients };
                    backward(&given, &mut DeviceSink { engine: &engine, tape })?;
                }
            }
            Outputs::Mark(mark) => gradients.reach(mark),
        }
        Ok(())
    }
}

impl std::fmt::Debug for Tape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("len", &self.len()).finish()
    }
}

/// Gradients of variables that are no parameters of the [`Gradients`] given to [`Tape::backward`].
#[derive(Debug, Default)]
pub struct OtherGradients {
    host: HashMap<TensorId, Arc<Vec<f32>>>,
    device: HashMap<TensorId, DeviceSum>,
}

impl OtherGradients {
    /// Takes out the gradient of `variable`, in its shape; `None` if no gradient reached it.
    ///
    /// # Errors
    ///
    /// [`KernelError::Candle`].
    pub fn remove(&mut self, variable: &Tensor) -> Result<Option<Tensor>> {
        if let Some(gradient) = self.device.remove(&variable.id()) {
            return Ok(Some(gradient.reshape(variable.shape())?));
        }
        match self.host.remove(&variable.id()) {
            None => Ok(None),
            Some(values) => {
                let values = Arc::unwrap_or_clone(values);
                Ok(Some(Tensor::from_vec(values, variable.shape(), &Device::Cpu)?))
            }
        }
    }
}

/// Registers a function that recomputes `result`, so that later operations need not save it.
pub(crate) fn register_recompute(result: &Tensor, recompute: impl FnOnce() -> Arc<Recompute>) {
    RECORDING.with_borrow_mut(|tape| {
        if let Some(tape) = tape
            && result.is_variable()
        {
            tape.recomputes.insert(result.id(), recompute());
        }
    });
}

/// The cheapest form in which a backward pass can save the tensor `argument`, whose elements `dense` holds: recomputed
/// where that is registered.
pub(crate) fn cheapest_to_save(argument: &Tensor, dense: Dense) -> Dense {
    let recompute = RECORDING.with_borrow(|tape| {
        let recomputes = &tape.as_ref()?.recomputes;
        let id = if argument.is_variable() { argument.id() } else { viewed_leaf(argument)? };
        recomputes.get(&id).cloned()
    });
    recompute.map_or(dense, Dense::recomputed)
}

/// Records a node with one result and returns the result.
pub(super) fn push(
    arguments: &[&Tensor],
    values: Vec<f32>,
    shape: &[usize],
    keeps_result: bool,
    backward: Backward,
) -> Result<Tensor> {
    let output = leaf(values, shape);
    let result = if keeps_result { output.detach() } else { leaf(vec![], &[0]) };
    push_node(arguments, Outputs::One(output.id(), backward), result)?;
    Ok(output)
}

/// Records a node with two results.
pub(crate) fn push_pair(arguments: &[&Tensor], results: [&Tensor; 2], backward: PairBackward) -> Result<()> {
    push_node(arguments, Outputs::Two(results.map(Tensor::id), backward), leaf(vec![], &[0]))
}

/// True if a result of `arguments` is to be recorded.
///
/// # Errors
///
/// [`KernelError::NoTape`] if it is and no tape records: operations on a device are not nodes of candle's graph, and
/// their gradient would be cut silently.
pub(crate) fn tracks(op: &'static str, arguments: &[&Tensor]) -> Result<bool> {
    let tracked = arguments.iter().any(|argument| argument.track_op());
    if tracked && !is_recording() {
        return Err(KernelError::NoTape { op });
    }
    Ok(tracked)
}

/// Records an operation on a device, if its results are leaves.
pub(crate) fn push_on(
    engine: &Engine,
    arguments: &[&Tensor],
    results: &[&Tensor],
    backward: impl Fn(ResultGrads<'_>, &mut DeviceSink<'_>) -> Result<()> + Send + Sync + 'static,
) -> Result<()> {
    if !results.iter().any(|result| result.is_variable()) {
        return Ok(());
    }
    let ids = results.iter().map(|result| result.id()).collect();
    push_node(arguments, Outputs::Device(engine.clone(), ids, Box::new(backward)), leaf(vec![], &[0]))
}

fn push_node(arguments: &[&Tensor], outputs: Outputs, result: Tensor) -> Result<()> {
    let arguments = arguments.iter().map(|argument| Argument::new(argument)).collect::<Result<Vec<_>>>()?;
    RECORDING.with_borrow_mut(|tape| {
        if let Some(tape) = tape {
            tape.nodes.push(Node { outputs, arguments, result });
        }
    });
    Ok(())
}

/// A result as a variable of candle's graph.
pub(crate) fn leaf(values: Vec<f32>, shape: &[usize]) -> Tensor {
    let storage = Storage::Cpu(CpuStorage::F32(values));
    Tensor::from_storage(storage, Shape::from(shape), BackpropOp::none(), true)
}
