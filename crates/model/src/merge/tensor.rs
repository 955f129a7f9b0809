//! One tensor of the merged model, computed while it is written.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::{ControlFlow, Range};

use safetensors::{Dtype, View};

use super::MergeMethod;
use super::rule::{Parts, merge_parts};
use crate::error::{ModelError, Result};
use crate::weights::{OutputValues, WeightDtype, WeightFile, WeightFiles};

/// State shared by all tensors of a merge.
pub(super) struct Merge<'a> {
    pub sources: &'a [WeightFiles],
    pub base: Option<&'a WeightFiles>,
    pub method: &'a MergeMethod,
    pub weights: &'a [f64],
    /// dtype; `None` is the first model's.
    pub dtype: Option<WeightDtype>,
    /// Called before each tensor.
    pub go_on: &'a dyn Fn() -> ControlFlow<()>,
    /// Error of computing a tensor.
    pub failure: RefCell<Option<ModelError>>,
}

pub(super) struct MergedTensor<'a> {
    merge: &'a Merge<'a>,
    shape: Vec<usize>,
    dtype: WeightDtype,
    /// File of each model, and the tensor's name there.
    sources: Vec<(&'a WeightFile, &'a str)>,
    base: Option<(&'a WeightFile, &'a str)>,
}

impl<'a> MergedTensor<'a> {
    pub fn new(name: &str, merge: &'a Merge<'a>) -> Result<Self> {
        let sources = merge.sources.iter().map(|s| s.place(name)).collect::<Result<Vec<_>>>()?;
        let base = merge.base.map(|b| b.place(name)).transpose()?;
        let (shape, stored) = sources[0].0.describe(sources[0].1)?;
        let dtype = merge.dtype.unwrap_or(stored);
        Ok(Self { merge, shape, dtype, sources, base })
    }

    /// Computes the values and hands them on part by part; the error of a failure is kept.
    fn compute(&self, take: impl FnMut(&[f32])) -> bool {
        // After a failure nothing more is computed: the file is discarded.
        if self.merge.failure.borrow().is_some() {
            return false;
        }
        let computed = match (self.merge.go_on)().is_break() {
            true => Err(ModelError::Stopped),
            false => merge_parts(self, self.merge.method, self.merge.weights, take),
        };
        computed.map_err(|error| self.merge.failure.replace(Some(error))).is_ok()
    }
}

impl Parts for MergedTensor<'_> {
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn models(&self) -> usize {
        self.sources.len()
    }

    fn model(&self, index: usize, part: Range<usize>) -> Result<Vec<f32>> {
        let (file, stored) = self.sources[index];
        file.read_part(stored, part)
    }

    fn base(&self, part: Range<usize>) -> Result<Vec<f32>> {
        match self.base {
            Some((file, stored)) => file.read_part(stored, part),
            None => Ok(vec![0.0; part.len()]),
        }
    }
}

impl View for MergedTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype.safetensors()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The trait is infallible: the error is kept, and the writer refuses a tensor of the wrong length.
        let mut bytes = Vec::with_capacity(self.data_len());
        let done = self.compute(|part| self.dtype.encode(part, &mut bytes));
        Cow::Owned(if done { bytes } else { Vec::new() })
    }

    fn data_len(&self) -> usize {
        self.count() * self.dtype.bytes()
    }
}

impl OutputValues for MergedTensor<'_> {
    fn output_dtype(&self) -> WeightDtype {
        self.dtype
    }

    fn values(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.count());
        if self.compute(|part| values.extend_from_slice(part)) { values } else { Vec::new() }
    }
}
