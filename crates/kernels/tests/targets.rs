//! The GPUs that the build script compiles for.

#[path = "../build/targets.rs"]
mod targets;

use targets::{MACHINE_CODE, MIN_CAPABILITY, gencode, machine_code, minimum};

/// As nvcc 13.0 lists its targets.
const KNOWN: &str = "sm_75\nsm_80\nsm_86\nsm_87\nsm_88\nsm_89\nsm_90\nsm_100\nsm_110\nsm_103\nsm_120\nsm_121\n";

#[test]
fn a_build_is_for_a_number_alone() {
    assert_eq!((minimum(None), minimum(Some("90"))), (Ok(MIN_CAPABILITY), Ok(90)));
    for (text, message) in [
        (
            "90a",
            "CUDA_COMPUTE_CAP: expected a number, got `90a`: code of such a target runs on that GPU or family alone; set 90",
        ),
        (
            "100f",
            "CUDA_COMPUTE_CAP: expected a number, got `100f`: code of such a target runs on that GPU or family alone; set 100",
        ),
        ("75", "CUDA_COMPUTE_CAP: expected at least 80 (Ampere), got 75"),
        ("9.0", "CUDA_COMPUTE_CAP: expected a number such as 90, got `9.0`"),
        ("", "CUDA_COMPUTE_CAP: expected a number such as 90, got ``"),
        ("a", "CUDA_COMPUTE_CAP: expected a number such as 90, got `a`"),
    ] {
        assert_eq!(minimum(Some(text)), Err(message.to_owned()));
    }
}

#[test]
fn every_supported_gpu_has_machine_code_and_newer_ones_the_ptx() {
    let all = machine_code(MIN_CAPABILITY, KNOWN).unwrap();
    assert_eq!(all, MACHINE_CODE);
    let expected = "--generate-code=arch=compute_80,code=[compute_80,sm_80,sm_86,sm_89,sm_90,sm_100,sm_120]";
    assert_eq!(gencode(&all).as_deref(), Some(expected));
    // A build for one kind of card, one between two of the list, and a toolkit that knows no Blackwell.
    assert_eq!(machine_code(120, KNOWN), Ok(vec![120]));
    assert_eq!(machine_code(87, KNOWN), Ok(vec![87, 89, 90, 100, 120]));
    assert_eq!(machine_code(80, "sm_80\nsm_86\nsm_89\nsm_90\n"), Ok(vec![80, 86, 89, 90]));
    let refused = machine_code(100, "sm_80\nsm_90").unwrap_err();
    assert_eq!(refused, "CUDA_COMPUTE_CAP: this toolkit has no code for 100; it has sm_80, sm_90");
    assert_eq!(gencode(&[]), None);
}
