//! Tensors that have all experts of a block in one (gpt-oss), and where a single expert's tensors lie in them.
//!
//! `gate_up_proj` is (E, H, 2·I) and `down_proj` (E, I, H): inputs before outputs, where the weight of a linear layer has
//! outputs before inputs. Outputs of gate and up take turns. Biases are (E, 2·I) and (E, H).

use crate::layout::EXPERTS;

/// Side of a tile of [`transposed`].
const TILE: usize = 64;

/// The place of a single expert's tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StackedPlace {
    /// Name of the tensor of all experts.
    pub whole: String,
    pub expert: usize,
    /// Its outputs among those of the tensor.
    pub outputs: Outputs,
}

/// Outputs of one layer among those of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outputs {
    /// The first.
    pub first: usize,
    /// From one to the next.
    pub step: usize,
}

impl Outputs {
    /// All, one after the other.
    pub const ALL: Self = Self { first: 0, step: 1 };
    /// Those of gate, which takes turns with up.
    pub const GATE: Self = Self { first: 0, step: 2 };
    /// Those of up.
    pub const UP: Self = Self { first: 1, step: 2 };

    /// Index among all of output `index`.
    pub fn of(self, index: usize) -> usize {
        self.first + index * self.step
    }
}

/// The place of the tensor `name`, such as `model.layers.0.mlp.experts.3.up_proj.weight`; `None` for one that is not of an
/// expert.
pub(crate) fn stacked_place(name: &str) -> Option<StackedPlace> {
    let (block, rest) = name.split_once(EXPERTS)?;
    let mut parts = rest.split('.');
    let (expert, layer, kind) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
    let (parameter, outputs) = match layer {
        "gate_proj" => ("gate_up_proj", Outputs::GATE),
        "up_proj" => ("gate_up_proj", Outputs::UP),
        "down_proj" => ("down_proj", Outputs::ALL),
        _ => return None,
    };
    let end = match kind {
        "weight" => "",
        "bias" => "_bias",
        _ => return None,
    };
    parts.next().is_none().then(|| StackedPlace { whole: format!("{block}{EXPERTS}{parameter}{end}"), expert, outputs })
}

/// A matrix (`rows`, `columns`) with its rows as columns.
pub(crate) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for row in row..(row + TILE).min(rows) {
                for column in column..(column + TILE).min(columns) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_of_an_expert_has_a_place_in_that_of_all() {
        let place = |name: &str| stacked_place(&format!("model.layers.7.mlp.{name}"));
        let of = |parameter: &str, outputs| {
            let whole = format!("model.layers.7.mlp.experts.{parameter}");
            Some(StackedPlace { whole, expert: 3, outputs })
        };
        assert_eq!(place("experts.3.gate_proj.weight"), of("gate_up_proj", Outputs::GATE));
        assert_eq!(place("experts.3.up_proj.bias"), of("gate_up_proj_bias", Outputs::UP));
        assert_eq!(place("experts.3.down_proj.weight"), of("down_proj", Outputs::ALL));
        for other in
            ["router.weight", "experts.gate_up_proj", "experts.3.gate_proj.weight.absmax", "experts.x.up_proj.bias"]
        {
            assert_eq!(place(other), None, "{other}");
        }
    }

    #[test]
    fn a_transposed_matrix_has_its_rows_as_columns() {
        let (rows, columns) = (70, 130);
        let values: Vec<f32> = (0..rows * columns).map(|index| index as f32).collect();
        let turned = transposed(&values, rows, columns);
        assert_eq!(turned[3 * rows + 68], values[68 * columns + 3]);
        assert_eq!(transposed(&turned, columns, rows), values);
    }
}
