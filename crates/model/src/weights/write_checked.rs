//! Tensors whose values are looked at as they are written.

use std::borrow::Cow;
use std::cell::RefCell;

use half::f16;
use safetensors::{Dtype, View};

/// A tensor that is written empty where its values are beyond its dtype.
pub(super) struct Checked<'a, V> {
    name: String,
    tensor: V,
    /// The first tensor beyond, with the place of its value.
    beyond: &'a RefCell<Option<(String, usize)>>,
}

impl<'a, V> Checked<'a, V> {
    pub fn new(name: &str, tensor: V, beyond: &'a RefCell<Option<(String, usize)>>) -> Self {
        Self { name: name.to_owned(), tensor, beyond }
    }
}

impl<V: View> View for Checked<'_, V> {
    fn dtype(&self) -> Dtype {
        self.tensor.dtype()
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.tensor.data();
        if self.dtype() != Dtype::F16 {
            return bytes;
        }
        let is_beyond = |value: &[u8]| f16::from_le_bytes([value[0], value[1]]).is_infinite();
        match bytes.chunks_exact(2).position(is_beyond) {
            None => bytes,
            // The trait is infallible: the writer refuses a tensor that is too short, and asks here why.
            Some(index) => {
                self.beyond.borrow_mut().get_or_insert((self.name.clone(), index));
                Cow::Owned(Vec::new())
            }
        }
    }

    fn data_len(&self) -> usize {
        self.tensor.data_len()
    }
}
