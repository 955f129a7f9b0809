//! One tensor of the merged model, computed only while it is being written.

use std::borrow::Cow;

use safetensors::{Dtype, View};

use super::MergeMethod;
use crate::error::Result;
use crate::weights::{Element, WeightFile, WeightFiles};

pub(super) struct MergedTensor<'a> {
    name: String,
    shape: Vec<usize>,
    element: Element,
    sources: Vec<&'a WeightFile>,
    base: Option<&'a WeightFile>,
    method: &'a MergeMethod,
    weights: &'a [f64],
}

impl<'a> MergedTensor<'a> {
    pub fn new(
        name: String,
        sources: &'a [WeightFiles],
        base: Option<&'a WeightFiles>,
        method: &'a MergeMethod,
        weights: &'a [f64],
        element: Option<Element>,
    ) -> Result<Self> {
        let owners = sources.iter().map(|s| s.owner(&name)).collect::<Result<Vec<_>>>()?;
        let base = base.map(|b| b.owner(&name)).transpose()?;
        let (shape, stored) = sources[0].describe(&name)?;
        let element = element.unwrap_or(stored);
        Ok(Self { name, shape, element, sources: owners, base, method, weights })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    fn values(&self) -> Result<Vec<f32>> {
        let models = self.sources.iter().map(|s| s.read(&self.name, &self.shape)).collect::<Result<Vec<_>>>()?;
        let base = self.base.map(|b| b.read(&self.name, &self.shape)).transpose()?;
        Ok(self.method.apply(models, base, self.weights))
    }
}

impl View for MergedTensor<'_> {
    fn dtype(&self) -> Dtype {
        self.element.dtype()
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The trait has no way to fail. Reading cannot: the files are mapped, and names, shapes and element types were
        // compared before. Should it all the same, the writer sees a tensor of the wrong length and refuses the file.
        Cow::Owned(self.element.encode(&self.values().unwrap_or_default()))
    }

    fn data_len(&self) -> usize {
        self.count() * self.element.bytes()
    }
}
