//! Arguments of a recorded operation, as its backward pass sees them.

use crate::device::start_of;
use crate::error::Result;
use candle_core::{Tensor, TensorId};

/// One argument: its length and the destination of its gradient.
pub(crate) struct Argument {
    pub(crate) len: usize,
    pub(crate) route: Route,
}

/// The destination of an argument's gradient.
pub(crate) enum Route {
    /// Nowhere: it needs none.
    None,
    /// A variable or a result on a tape, with the same elements.
    Leaf(TensorId),
    /// The leaves of candle's graph behind the tensor.
    Graph(Tensor),
}

impl Argument {
    pub(super) fn new(tensor: &Tensor) -> Result<Self> {
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

    /// True if the argument needs a gradient.
    pub(super) fn wants(&self) -> bool {
        !matches!(self.route, Route::None)
    }
}

/// The variable of which `tensor` is a view with all elements in place: a chain of reshapes.
pub(super) fn viewed_leaf(tensor: &Tensor) -> Option<TensorId> {
    let start = start_of(tensor)?;
    let nodes = tensor.sorted_nodes();
    let (last, rest) = nodes.split_last()?;
    let same = |node: &Tensor| node.elem_count() == tensor.elem_count() && start_of(node) == Some(start);
    let chain = last.is_variable() && same(last);
    (chain && rest.iter().all(|node| !node.is_variable() && same(node))).then(|| last.id())
}
