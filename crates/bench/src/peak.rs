//! Peak FLOP/s of known GPUs.
//!
//! Dense tensor-core rates without sparsity at boost clock, from NVIDIA's data sheets: GB200 and B200 (Blackwell data sheet of
//! 2025, individual GPUs, the sparse figures halved), GH200, H100 and H200 (of 2023 and 2024, SXM and PCIe columns, likewise),
//! A100 (2020), A40, A30 and A10 (2021), L40S, L40, L20 and L4 (2023), RTX A6000 and RTX 6000 Ada (data sheets, halved), RTX 50 (RTX
//! Blackwell whitepaper 1.1, float32 accumulation), RTX 40 (Ada architecture whitepaper 1.1, likewise), RTX 3090 (Ampere
//! GA102 whitepaper 2.0, likewise), V100 (2017; float16 only), T4 (2018; float16 only). The float32 column is that of the
//! plain units: this program multiplies float32 without TF32.

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
    ("GB200", 80.0, Some(2500.0), 2500.0),
    ("B200", 75.0, Some(2250.0), 2250.0),
    ("GH200", 67.0, Some(989.5), 989.5),
    ("H200", 67.0, Some(989.5), 989.5),
    ("H100 PCIe", 51.0, Some(756.5), 756.5),
    ("H100 NVL", 60.0, Some(835.5), 835.5),
    ("H100", 67.0, Some(989.5), 989.5),
    ("A100", 19.5, Some(312.0), 312.0),
    ("A40", 37.4, Some(149.7), 149.7),
    ("A30", 10.3, Some(165.0), 165.0),
    ("A10", 31.2, Some(125.0), 125.0),
    ("L40S", 91.6, Some(362.0), 362.0),
    ("L40", 90.5, Some(181.0), 181.0),
    ("L20", 59.8, Some(119.5), 119.5),
    ("L4", 30.3, Some(121.0), 121.0),
    ("RTX A6000", 38.7, Some(154.8), 154.8),
    ("RTX 6000 Ada", 91.1, Some(364.2), 364.2),
    ("RTX 5090", 104.8, Some(209.5), 209.5),
    ("RTX 5080", 56.3, Some(112.6), 112.6),
    ("RTX 5070 Ti", 43.9, Some(87.9), 87.9),
    ("RTX 5070", 30.9, Some(61.7), 61.7),
    ("RTX 4090", 82.6, Some(165.2), 165.2),
    ("RTX 4080", 48.7, Some(97.5), 97.5),
    ("RTX 3090", 35.6, Some(71.0), 71.0),
    ("V100", 15.7, None, 125.0),
    ("T4", 8.1, None, 65.0),
];

/// Words of names of which the rates are others: part of a card, cards of laptops, and variants that are not listed.
const OTHER: [&str; 6] = ["MIG", "Laptop", "Max", "D", "SUPER", "Ti"];

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
    let (name, f32, bf16, f16) = KNOWN.iter().find(|(known, ..)| is_part(known))?;
    if OTHER.iter().any(|word| own.iter().any(|own| own == word) && !words(name).iter().any(|own| own == word)) {
        return None;
    }
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
        assert_eq!(bf16("NVIDIA B200"), Some(2250e12));
        assert_eq!(bf16("NVIDIA GB200"), Some(2500e12));
        assert_eq!(bf16("NVIDIA GH200 480GB"), Some(989.5e12));
        assert_eq!(bf16("NVIDIA GeForce RTX 5090"), Some(209.5e12));
        assert_eq!(bf16("NVIDIA GeForce RTX 5070 Ti"), Some(87.9e12));
        assert_eq!(bf16("NVIDIA GeForce RTX 5070"), Some(61.7e12));
        assert_eq!(bf16("NVIDIA L20"), Some(119.5e12));
        assert_eq!(bf16("NVIDIA L40"), Some(181e12));
        assert_eq!(bf16("NVIDIA RTX A6000"), Some(154.8e12));
        assert_eq!(bf16("NVIDIA RTX 6000 Ada Generation"), Some(364.2e12));
        assert_eq!(peak_flops("NVIDIA B200", Arithmetic::F32), Some(75e12));
    }

    #[test]
    fn a_part_or_a_variant_of_a_card_has_not_the_cards_rate() {
        for name in [
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA GeForce RTX 4080 SUPER",
            "NVIDIA A100-SXM4-80GB MIG 1g.10gb",
            "NVIDIA GeForce RTX 3090 Ti",
        ] {
            assert_eq!(peak_flops(name, Arithmetic::Bf16), None, "{name}");
        }
    }
}
