//! Weights in other storages than float32: the same products to the last bit, and the blocks of bitsandbytes.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use smpo_kernels::decode::PackedMatrix;
use smpo_kernels::{
    FourBit, FourBitType, Gradients, HeadOptions, KernelError, NestedScales, PackedWeight, Scales, Tape, Weight,
    embedding, emulate, linear, selected_log_probs_with_terminators,
};

use crate::comparison::Source;

const KINDS: [FourBitType; 2] = [FourBitType::Nf4, FourBitType::Fp4];

/// A weight in each storage, with its float32 copy.
enum Stored {
    Half(Tensor),
    Packed(PackedWeight),
}

impl Stored {
    fn weight(&self) -> Weight<'_> {
        match self {
            Self::Half(tensor) => tensor.into(),
            Self::Packed(packed) => packed.into(),
        }
    }

    fn widened(&self) -> Tensor {
        match self {
            Self::Half(tensor) => tensor.to_dtype(DType::F32).unwrap(),
            Self::Packed(packed) => Tensor::from_vec(packed.dequantise(), packed.shape(), &Device::Cpu).unwrap(),
        }
    }
}

fn quantised(values: &Tensor, kind: FourBitType, double: bool) -> PackedWeight {
    let shape = values.dims2().unwrap();
    let values = values.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    FourBit::quantise::<KernelError>(shape, kind, 64, double, |first, out| {
        out.copy_from_slice(&values[first..first + out.len()]);
        Ok(())
    })
    .unwrap()
}

fn storages(source: &mut Source, shape: [usize; 2]) -> Vec<Stored> {
    let values = source.tensor(&shape);
    let half = |dtype| Stored::Half(values.to_dtype(dtype).unwrap());
    let packed = |kind, double| Stored::Packed(quantised(&values, kind, double));
    vec![half(DType::BF16), half(DType::F16), packed(FourBitType::Nf4, true), packed(FourBitType::Fp4, false)]
}

/// The bits of `x·Wᵀ` and of the gradient of x.
fn product(x: &Tensor, weight: Weight<'_>, dy: &Tensor) -> [Vec<u32>; 2] {
    let x = candle_core::Var::from_tensor(x).unwrap();
    let mut gradients = Gradients::new([("x", &x)]).unwrap();
    let (tape, y) = Tape::record(|| linear(x.as_tensor(), weight, None));
    let y = y.unwrap();
    tape.backward(&y, dy, &mut gradients).unwrap();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let values = y.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    [bits(&values), bits(gradients.get(&x).unwrap())]
}

#[test]
fn a_product_is_that_of_the_widened_weight_to_the_last_bit() {
    let mut source = Source::new(1);
    // Small ones take other ways through the matrix product; wide ones are cut into strips.
    let shapes =
        [(1, 40, 50), (1, 1300, 1400), (2, 1290, 700), (3, 9, 1500), (7, 64, 2), (33, 1400, 1331), (70, 650, 1282)];
    for (rows, outer, inner) in shapes {
        let (x, dy) = (source.tensor(&[rows, inner]), source.tensor(&[rows, outer]));
        for (index, stored) in storages(&mut source, [outer, inner]).iter().enumerate() {
            let ours = product(&x, stored.weight(), &dy);
            assert!(ours == product(&x, (&stored.widened()).into(), &dy), "{rows} {outer} {inner}: storage {index}");
        }
    }
}

#[test]
fn head_and_embedding_are_those_of_the_widened_weight_to_the_last_bit() {
    let mut source = Source::new(2);
    let (vocabulary, width, rows) = (1200, 96, 11);
    let hidden = source.var(&[rows, width]);
    let (targets, ids) = (source.ids(rows, vocabulary), source.ids(20, vocabulary));
    let dy = source.tensor(&[rows]);
    for stored in storages(&mut source, [vocabulary, width]) {
        let run = |weight: Weight<'_>| {
            let mut gradients = Gradients::new([("hidden", &hidden)]).unwrap();
            let (tape, result) = Tape::record(|| {
                selected_log_probs_with_terminators(&hidden, weight, &targets, &[3, 9], HeadOptions::default())
            });
            let result = result.unwrap();
            tape.backward(&result.log_probs, &dy, &mut gradients).unwrap();
            let log_probs = result.log_probs.to_vec1::<f32>().unwrap();
            (log_probs, result.terminators, gradients.get(&hidden).unwrap().to_vec())
        };
        assert!(run(stored.weight()) == run((&stored.widened()).into()));
        if let Stored::Half(table) = &stored {
            let rows = |table: &Tensor| embedding(table, &ids).unwrap().to_vec2::<f32>().unwrap();
            assert!(rows(table) == rows(&stored.widened()));
        }
    }
}

proptest! {
    #[test]
    fn decoding_is_that_of_the_widened_weight_to_the_last_bit(
        seed: u64, rows in 1usize..12, inputs in 1usize..70, first in 1usize..80, second in 0usize..50,
    ) {
        let mut source = Source::new(seed);
        let (upper, lower) = (storages(&mut source, [first, inputs]), storages(&mut source, [second.max(1), inputs]));
        let x = source.values(rows * inputs);
        for (upper, lower) in upper.iter().zip(&lower) {
            let run = |weights: &[Weight<'_>]| {
                let matrix = PackedMatrix::stack(weights).unwrap();
                let mut y = vec![f32::NAN; rows * matrix.outputs()];
                matrix.multiply(&x, &mut y);
                (y, matrix.bytes())
            };
            let (ours, bytes) = run(&[upper.weight(), lower.weight()]);
            let (theirs, all) = run(&[(&upper.widened()).into(), (&lower.widened()).into()]);
            prop_assert!(ours == theirs);
            prop_assert!(bytes <= all / 2 + 512);
        }
    }

    #[test]
    fn any_part_of_packed_blocks_is_that_part_of_the_whole(seed: u64, rows in 1usize..9, columns in 1usize..90) {
        let mut source = Source::new(seed);
        let values = source.tensor(&[rows, columns]);
        let packed = quantised(&values, KINDS[(seed % 2) as usize], seed % 3 == 0);
        let whole = packed.dequantise();
        for first in 0..whole.len() {
            let mut part = vec![f32::NAN; (whole.len() - first).min(70)];
            packed.read(first, &mut part);
            prop_assert!(part == whole[first..first + part.len()]);
        }
    }
}

#[test]
fn a_trained_weight_in_16_bits_is_refused() {
    let mut source = Source::new(3);
    let weight = candle_core::Var::from_tensor(&source.tensor(&[4, 5]).to_dtype(DType::BF16).unwrap()).unwrap();
    let error = linear(&source.tensor(&[2, 5]), &weight, None).unwrap_err();
    assert_eq!(error.to_string(), "linear: expected `weight` as f32, got bf16; convert it with `to_dtype`");
}

fn golden() -> HashMap<String, Tensor> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/bitsandbytes.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn blocks_are_those_of_bitsandbytes_to_the_last_bit() {
    let golden = golden();
    for shape in ["24x128", "65x256", "7x50"] {
        let values = &golden[&format!("values.{shape}")];
        for kind in KINDS {
            for double in [false, true] {
                let name = format!("{}.{}.{shape}", kind.name(), if double { "double" } else { "single" });
                let get = |part: &str| golden.get(&format!("{name}.{part}"));
                let packed = quantised(values, kind, double);
                assert!(packed.four_bit().unwrap().codes() == bytes(get("codes").unwrap()), "{name}: codes");
                match packed.four_bit().unwrap().scales() {
                    Scales::Single(scales) => assert!(*scales == floats(get("scales").unwrap()), "{name}: scales"),
                    Scales::Nested(nested) => {
                        assert_eq!(nested.offset.to_bits(), floats(get("offset").unwrap())[0].to_bits(), "{name}");
                        assert!(nested.codes == bytes(get("scales").unwrap()), "{name}: codes of the scales");
                        assert!(nested.scales == floats(get("nested_scales").unwrap()), "{name}: nested scales");
                        assert!(nested.numbers == floats(&golden["map.signed"]), "{name}: numbers");
                    }
                }
                if let Some(expected) = get("values") {
                    assert!(packed.dequantise() == floats(expected), "{name}: values");
                }
            }
        }
    }
}

#[test]
fn blocks_that_do_not_fit_are_refused() {
    let store = |codes: usize, scales: Scales, rounding| {
        FourBit::stored((2, 64), FourBitType::Nf4, 64, vec![0; codes], scales, rounding)
            .map(|_| ())
            .unwrap_err()
            .to_string()
    };
    assert!(store(63, Scales::Single(vec![1.0; 2]), DType::F32).contains("`codes`"));
    assert!(store(64, Scales::Single(vec![1.0; 3]), DType::F32).contains("`scales`"));
    assert!(store(64, Scales::Single(vec![1.0, f32::NAN]), DType::F32).contains("finite"));
    assert!(store(64, Scales::Single(vec![1.0; 2]), DType::F64).contains("`dtype`"));
    let nested = |numbers: usize, scales: usize, block: usize| {
        let (codes, numbers, scales) = (vec![0; 2], vec![0.0; numbers], vec![0.0; scales]);
        Scales::Nested(NestedScales { codes, numbers, scales, block, offset: 0.0 })
    };
    assert!(store(64, nested(255, 1, 256), DType::F32).contains("`nested scales`"));
    assert!(store(64, nested(256, 2, 256), DType::F32).contains("`nested scales`"));
    assert!(store(64, nested(256, 1, 0), DType::F32).contains("`nested scales`"));
    let error = FourBit::stored((2, 64), FourBitType::Nf4, 7, vec![0; 64], Scales::Single(vec![0.0; 19]), DType::F32);
    assert!(error.unwrap_err().to_string().contains("`block`"));
}

#[test]
fn the_device_dequantises_to_the_same_values() {
    let mut source = Source::new(4);
    for (rows, columns) in [(3, 64), (5, 50), (9, 129)] {
        let values = source.tensor(&[rows, columns]);
        let x = source.tensor(&[2, columns]);
        for kind in KINDS {
            for double in [false, true] {
                let packed = quantised(&values, kind, double);
                let widened = Tensor::from_vec(packed.dequantise(), packed.shape(), &Device::Cpu).unwrap();
                let run = |weight: Weight<'_>| emulate(|| linear(&x, weight, None)).unwrap().to_vec2::<f32>().unwrap();
                assert!(run((&packed).into()) == run((&widened).into()), "{rows}x{columns} {kind:?} {double}");
            }
        }
    }
}
