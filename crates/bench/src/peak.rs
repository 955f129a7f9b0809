//! Peak FLOP/s of known GPUs.
//!
//! Dense tensor-core rates without sparsity at boost clock, from NVIDIA's data sheets: H100 and H200 (data sheets of
//! 2023 and 2024, SXM and PCIe columns, the sparse figures halved), A100 (2020), L40S (2023), L4 (2023), A10 (2021),
//! RTX 4090 (Ada architecture whitepaper 1.1, float32 accumulation), RTX 3090 (Ampere GA102 whitepaper 2.0, float32
//! accumulation), V100 (2017; float16 only), T4 (2018; float16 only). The float32 column is that of the plain units:
//! this program multiplies float32 without TF32.

/// dtype of a matrix product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// float32 on the plain units.
    F32,
    /// bfloat16 on tensor cores.
    Bf16,
    /// float16 on tensor cores.
    F16,
}

/// Part of a device's name; TFLOP/s in float32, bfloat16, float16.
type Known = (&'static str, f64, Option<f64>, f64);

/// In order of precedence: the first whose name is part of the device's.
const KNOWN: &[Known] = &[
    ("H200", 67.0, Some(989.5), 989.5),
    ("H100 PCIe", 51.0, Some(756.5), 756.5),
    ("H100 NVL", 60.0, Some(835.5), 835.5),
    ("H100", 67.0, Some(989.5), 989.5),
    ("A100", 19.5, Some(312.0), 312.0),
    ("L40S", 91.6, Some(362.0), 362.0),
    ("L4", 30.3, Some(121.0), 121.0),
    ("A10", 31.2, Some(125.0), 125.0),
    ("RTX 4090", 82.6, Some(165.2), 165.2),
    ("RTX 3090", 35.6, Some(71.0), 71.0),
    ("V100", 15.7, None, 125.0),
    ("T4", 8.1, None, 65.0),
];

/// Peak FLOP/s of a GPU by its name, a multiply-add counted as two; `None` for a GPU that is not listed.
pub fn peak_flops(name: &str, arithmetic: Arithmetic) -> Option<f64> {
    let words = |text: &str| text.split([' ', '-']).map(str::to_owned).collect::<Vec<_>>();
    let own = words(name);
    let is_part = |known: &str| {
        let known = words(known);
        own.windows(known.len()).any(|part| part == known)
            // As in "NVIDIA H100 80GB HBM3" with its interface at the end: "NVIDIA H100 PCIe".
            || known.iter().all(|word| own.contains(word))
    };
    let (_, f32, bf16, f16) = KNOWN.iter().find(|(known, ..)| is_part(known))?;
    let tera = match arithmetic {
        Arithmetic::F32 => Some(*f32),
        Arithmetic::Bf16 => *bf16,
        Arithmetic::F16 => Some(*f16),
    };
    tera.map(|tera| tera * 1e12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_the_names_that_drivers_give() {
        let bf16 = |name: &str| peak_flops(name, Arithmetic::Bf16);
        assert_eq!(bf16("NVIDIA H200"), Some(989.5e12));
        assert_eq!(bf16("NVIDIA H100 80GB HBM3"), Some(989.5e12));
        assert_eq!(bf16("NVIDIA H100 PCIe"), Some(756.5e12));
        assert_eq!(bf16("NVIDIA A100-SXM4-80GB"), Some(312e12));
        assert_eq!(bf16("NVIDIA A100-PCIE-40GB"), Some(312e12));
        assert_eq!(bf16("NVIDIA L40S"), Some(362e12));
        assert_eq!(bf16("NVIDIA L4"), Some(121e12));
        assert_eq!(bf16("NVIDIA GeForce RTX 4090"), Some(165.2e12));
        assert_eq!(bf16("Tesla T4"), None);
        assert_eq!(peak_flops("Tesla T4", Arithmetic::F16), Some(65e12));
        assert_eq!(bf16("NVIDIA B9999"), None);
        assert_eq!(bf16("NVIDIA A1000"), None);
    }
}
