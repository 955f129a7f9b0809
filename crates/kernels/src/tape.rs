//! A forward pass recorded for one backward pass, instead of candle's graph.
//!
//! candle's backward pass gives every edge of its graph a buffer of zeros and a sum into a third
//! buffer, keeps all activations until it ends, and keeps the arguments of every operation. On a
//! [`Tape`] each operation keeps what its own backward pass reads; gradients are added in place
//! (matrix products with `β = 1`), their memory is used again, and activations are freed on the
//! way.
//!
//! While a tape records, this crate's results are leaves to candle: variables of its graph. Plain
//! candle operations in between keep working; the tape takes their part of the way back through
//! candle. Views that keep the elements in place, such as a reshape, cost nothing.

use crate::dense::{Dense, Remake, same_shape};
use crate::device::{self, Engine, engine};
use crate::error::{KernelError, Result};
use crate::gradients::Gradients;
use crate::graph::{Backward, Incoming};
use crate::outlet::{Buffer, Outlet};
use crate::simd::add_assign;
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
#[must_use = "a tape that is dropped is a forward pass without a way back"]
pub struct Tape {
    nodes: Vec<Node>,
    /// Results that are cheap to make again. Forgotten when recording ends.
    remakes: HashMap<TensorId, Arc<Remake>>,
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
    Device(Engine, Vec<TensorId>, device::Backward),
}

/// The backward pass of a node with two results, either of which may have got no gradient.
pub(crate) type PairBackward = Box<dyn Fn([Option<&[f32]>; 2], &mut Outlet<'_>) -> Result<()> + Send + Sync>;

/// Where the gradient of an argument goes.
pub(crate) struct Argument {
    pub(crate) len: usize,
    pub(crate) route: Route,
}

pub(crate) enum Route {
    /// Nowhere: it needs none.
    None,
    /// To a variable or a result on a tape, which has the same elements.
    Leaf(TensorId),
    /// Back through candle's graph.
    Graph(Tensor),
}

thread_local! {
    /// The tape that records on this thread.
    static RECORDING: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Puts back the tape that was recording before, also after a panic.
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
        tape.remakes = HashMap::new();
        drop(restore);
        (tape, result)
    }

    /// The number of operations recorded.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// With `gradient` = ∂L/∂root, of the shape of `root`, adds ∂L/∂parameter to `gradients`, and
    /// returns the gradients of other variables, such as the input of a recomputed block. The sums
    /// take place in an order given by the tape alone.
    ///
    /// # Errors
    ///
    /// [`crate::KernelError::Shape`], [`crate::KernelError::Type`], [`crate::KernelError::Device`] for an unfit gradient;
    /// whatever an operation's backward pass refuses.
    pub fn backward(mut self, root: &Tensor, gradient: &Tensor, gradients: &mut Gradients) -> Result<OtherGradients> {
        same_shape("backward", "gradient", root.dims(), gradient)?;
        // Backward passes record nothing.
        let _restore = Restore(RECORDING.take());
        let mut pending = Pending::default();
        let start = [Argument::new(root)?];
        // While this is held nobody adds to it in place: it may be the caller's own memory.
        let _seed = match engine(root) {
            Some(engine) => {
                let seed = gradient.detach().to_device(&engine.device())?.to_dtype(root.dtype())?.contiguous()?;
                let seed = Arc::new(seed);
                pending.outlet(&engine, &start, gradients).pass(0, &seed)?;
                Some(seed)
            }
            None => {
                let seed = Dense::new("backward", "gradient", gradient)?.read().to_vec();
                let mut outlet = TapeOutlet { arguments: &start, pending: &mut pending, gradients };
                if outlet.wants(0) {
                    outlet.share(0, &Arc::new(seed))?;
                }
                None
            }
        };
        while let Some(node) = self.nodes.pop() {
            let Node { outputs, arguments, result } = node;
            match outputs {
                Outputs::One(id, backward) => {
                    let Some(gradient) = pending.sums.remove(&id) else { continue };
                    let tape = TapeOutlet { arguments: &arguments, pending: &mut pending, gradients };
                    backward(&Incoming::Shared(&gradient), &result, &mut Outlet::Tape(tape))?;
                    pending.recycle(gradient);
                }
                Outputs::Two(ids, backward) => {
                    let given = ids.map(|id| pending.sums.remove(&id));
                    if given.iter().all(Option::is_none) {
                        continue;
                    }
                    let tape = TapeOutlet { arguments: &arguments, pending: &mut pending, gradients };
                    let slices = [0, 1].map(|i| given[i].as_ref().map(|values| &values[..]));
                    backward(slices, &mut Outlet::Tape(tape))?;
                    given.into_iter().flatten().for_each(|values| pending.recycle(values));
                }
                Outputs::Device(engine, ids, backward) => {
                    let given: Vec<_> = ids.iter().map(|id| pending.device.0.remove(id)).collect();
                    if given.iter().any(Option::is_some) {
                        backward(&given, &mut pending.outlet(&engine, &arguments, gradients))?;
                    }
                }
            }
        }
        Ok(OtherGradients { host: pending.sums, device: pending.device })
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
    device: device::Pending,
}

impl OtherGradients {
    /// Takes out the gradient of `variable`, in its shape; `None` if nothing reached it.
    ///
    /// # Errors
    ///
    /// Whatever candle refuses.
    pub fn remove(&mut self, variable: &Tensor) -> Result<Option<Tensor>> {
        if let Some(gradient) = self.device.0.remove(&variable.id()) {
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

/// Tells the tape how to make `result` again, so that later operations need not keep it.
pub(crate) fn offer_remake(result: &Tensor, remake: impl FnOnce() -> Arc<Remake>) {
    RECORDING.with_borrow_mut(|tape| {
        if let Some(tape) = tape
            && result.is_variable()
        {
            tape.remakes.insert(result.id(), remake());
        }
    });
}

/// What a backward pass may keep in place of the tensor `argument`, of which `dense` holds the elements.
pub(crate) fn lightest(argument: &Tensor, dense: Dense) -> Dense {
    let remake = RECORDING.with_borrow(|tape| {
        let remakes = &tape.as_ref()?.remakes;
        let id = if argument.is_variable() { argument.id() } else { viewed_leaf(argument)? };
        remakes.get(&id).cloned()
    });
    remake.map_or(dense, Dense::remade)
}

/// Records a node with one result and returns the result.
pub(crate) fn push(
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

/// Whether a result of `arguments` is to be recorded.
///
/// # Errors
///
/// [`KernelError::NoTape`] if it is and no tape records: candle's graph knows nothing of operations on a device, and its
/// gradient would be cut silently.
pub(crate) fn tracks(op: &'static str, arguments: &[&Tensor]) -> Result<bool> {
    let tracked = arguments.iter().any(|argument| argument.track_op());
    if tracked && !is_recording() {
        return Err(KernelError::NoTape { op });
    }
    Ok(tracked)
}

/// Records a node of a device's operation, if its results are leaves.
pub(crate) fn push_on(
    engine: &Engine,
    arguments: &[&Tensor],
    results: &[&Tensor],
    backward: impl Fn(device::Incoming<'_>, &mut device::Outlet<'_>) -> Result<()> + Send + Sync + 'static,
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

/// A result that candle takes for a variable.
pub(crate) fn leaf(values: Vec<f32>, shape: &[usize]) -> Tensor {
    let storage = Storage::Cpu(CpuStorage::F32(values));
    Tensor::from_storage(storage, Shape::from(shape), BackpropOp::none(), true)
}

impl Argument {
    fn new(tensor: &Tensor) -> Result<Self> {
        let len = tensor.elem_count();
        let route = if !tensor.track_op() {
            Route::None
        } else if tensor.is_variable() {
            Route::Leaf(tensor.id())
        } else {
            match viewed_leaf(tensor) {
                Some(id) => Route::Leaf(id),
                None => Route::Graph(tensor.clone()),
            }
        };
        Ok(Self { len, route })
    }
}

/// The variable of which `tensor` is a view with all elements in place: a chain of reshapes.
fn viewed_leaf(tensor: &Tensor) -> Option<TensorId> {
    let start = device::start_of(tensor)?;
    let nodes = tensor.sorted_nodes();
    let (last, rest) = nodes.split_last()?;
    let same = |node: &Tensor| node.elem_count() == tensor.elem_count() && device::start_of(node) == Some(start);
    let chain = last.is_variable() && same(last);
    (chain && rest.iter().all(|node| !node.is_variable() && same(node))).then(|| last.id())
}

/// Gradients on their way: sums so far of results and variables, and memory to use again.
#[derive(Default)]
pub(crate) struct Pending {
    sums: HashMap<TensorId, Arc<Vec<f32>>>,
    spare: Vec<Vec<f32>>,
    device: device::Pending,
}

/// Elements kept for use again: enough for the small gradients whose memory is not worth asking the system for each
/// time, and no weight beside the large ones.
const SPARE_ELEMENTS: usize = 1 << 24;

impl Pending {
    /// The way of a device node's gradients.
    fn outlet<'a>(
        &'a mut self,
        engine: &'a Engine,
        arguments: &'a [Argument],
        gradients: &'a mut Gradients,
    ) -> device::Outlet<'a> {
        device::Outlet { engine, arguments, pending: &mut self.device, gradients }
    }

    /// Memory of `len` elements that hold anything.
    fn blank(&mut self, len: usize) -> Vec<f32> {
        let fit = self.spare.iter().position(|spare| spare.len() == len);
        match fit {
            Some(index) => self.spare.swap_remove(index),
            None => vec![0.0; len],
        }
    }

    fn recycle(&mut self, values: Arc<Vec<f32>>) {
        if let Ok(values) = Arc::try_unwrap(values) {
            self.spare.push(values);
            while self.spare.iter().map(Vec::len).sum::<usize>() > SPARE_ELEMENTS {
                self.spare.remove(0);
            }
        }
    }

    fn take(&mut self, id: TensorId, len: usize) -> Buffer {
        match self.sums.remove(&id) {
            Some(values) => Buffer { values: Arc::unwrap_or_clone(values), accumulate: true },
            None => Buffer { values: self.blank(len), accumulate: false },
        }
    }

    /// Adds `values`; one variable may be several arguments of a node.
    fn add(&mut self, id: TensorId, values: &Arc<Vec<f32>>) {
        match self.sums.get_mut(&id) {
            Some(sum) => add_assign(Arc::<Vec<f32>>::make_mut(sum), values),
            None => {
                self.sums.insert(id, Arc::clone(values));
            }
        }
    }
}

/// The way of one node's gradients on a tape.
pub(crate) struct TapeOutlet<'a> {
    arguments: &'a [Argument],
    pending: &'a mut Pending,
    gradients: &'a mut Gradients,
}

impl TapeOutlet<'_> {
    pub(crate) fn wants(&self, index: usize) -> bool {
        !matches!(self.arguments[index].route, Route::None)
    }

    pub(crate) fn open(&mut self, index: usize) -> Buffer {
        let Argument { len, route } = &self.arguments[index];
        match route {
            Route::Leaf(id) => self.gradients.take(*id).unwrap_or_else(|| self.pending.take(*id, *len)),
            _ => Buffer { values: self.pending.blank(*len), accumulate: false },
        }
    }

    pub(crate) fn close(&mut self, index: usize, buffer: Buffer) -> Result<()> {
        match &self.arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => {
                if let Some(buffer) = self.gradients.put(*id, buffer) {
                    self.pending.add(*id, &Arc::new(buffer.values));
                }
                Ok(())
            }
            Route::Graph(tensor) => {
                let values = Arc::new(buffer.values);
                let done = self.through_candle(&tensor.clone(), &values);
                self.pending.recycle(values);
                done
            }
        }
    }

    pub(crate) fn share(&mut self, index: usize, values: &Arc<Vec<f32>>) -> Result<()> {
        match &self.arguments[index].route {
            Route::None => Ok(()),
            Route::Leaf(id) => {
                if !self.gradients.add(*id, values) {
                    self.pending.add(*id, values);
                }
                Ok(())
            }
            Route::Graph(tensor) => self.through_candle(&tensor.clone(), values),
        }
    }

    /// Memory for a gradient that will be shared.
    pub(crate) fn blank(&mut self, len: usize) -> Vec<f32> {
        self.pending.blank(len)
    }

    /// Goes back from `tensor` to the leaves of candle's graph.
    fn through_candle(&mut self, tensor: &Tensor, values: &[f32]) -> Result<()> {
        let weights = Tensor::from_slice(values, tensor.shape(), &Device::Cpu)?;
        let store = crate::weighted_sum(tensor, &weights)?.backward()?;
        // Every leaf has a sum of its own, so their order does not matter.
        for &id in store.get_ids() {
            let Some(gradient) = store.get_id(id) else { continue };
            let gradient = Dense::new("backward", "gradient", gradient)?;
            let gradient = gradient.read();
            if !self.gradients.add(id, &gradient) {
                self.pending.add(id, &Arc::new(gradient.to_vec()));
            }
        }
        Ok(())
    }
}
