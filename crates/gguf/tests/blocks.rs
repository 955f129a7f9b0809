//! Dequantisation of every block type against the package gguf.

use serde_json::Value;
use smpo_gguf::{GgmlType, dequantise};

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_type_gives_the_same_bits() {
    let golden = std::fs::read_to_string(smpo_fixtures::golden("gguf", "blocks.json")).unwrap();
    let golden: Value = serde_json::from_str(&golden).unwrap();
    for kind in GgmlType::ALL.iter().filter(|kind| kind.is_dequantised()) {
        let case = &golden[kind.name()];
        let mut values = Vec::new();
        dequantise(*kind, &bytes(&case["bytes"]), &mut values).unwrap();
        let expected = bytes(&case["values"]);
        assert_eq!(values.len() * 4, expected.len(), "{}", kind.name());
        for (index, (value, bits)) in values.iter().zip(expected.chunks_exact(4)).enumerate() {
            let expected = f32::from_le_bytes(bits.try_into().unwrap());
            // Zero has two signs, which sums of products do not keep.
            let same = value.to_bits() == expected.to_bits() || (*value == 0.0 && expected == 0.0);
            assert!(same, "{}[{index}]: {value} instead of {expected}", kind.name());
        }
    }
}

#[test]
fn other_types_are_not_dequantised() {
    for kind in GgmlType::ALL.iter().filter(|kind| !kind.is_dequantised()) {
        assert!(dequantise(*kind, &vec![0; kind.block_bytes()], &mut Vec::new()).is_none(), "{}", kind.name());
    }
}
