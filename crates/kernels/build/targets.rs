//! The GPUs that kernels are compiled for.

/// The minimum compute capability: the first with bfloat16 on tensor cores and asynchronous copies.
pub const MIN_CAPABILITY: u32 = 80;

/// Compute capabilities with machine code of their own: A100, RTX 30 and A10, RTX 40 and L4, H100 and H200, B200, RTX 50. Any
/// other GPU runs the code of an older one of its major version, or what its driver makes of the PTX.
pub const MACHINE_CODE: [u32; 6] = [80, 86, 89, 90, 100, 120];

/// The minimum compute capability that a build is for, from `CUDA_COMPUTE_CAP`.
///
/// # Errors
/// Other text than a number, and a number below [`MIN_CAPABILITY`].
pub fn minimum(text: Option<&str>) -> Result<u32, String> {
    let Some(text) = text else { return Ok(MIN_CAPABILITY) };
    let digits = text.trim_end_matches(['a', 'f']);
    if digits.len() < text.len() && !digits.is_empty() {
        return Err(format!(
            "CUDA_COMPUTE_CAP: expected a number, got `{text}`: code of such a target runs on that GPU or family alone; set {digits}"
        ));
    }
    let number: u32 =
        text.parse().map_err(|_| format!("CUDA_COMPUTE_CAP: expected a number such as 90, got `{text}`"))?;
    if number < MIN_CAPABILITY {
        return Err(format!("CUDA_COMPUTE_CAP: expected at least {MIN_CAPABILITY} (Ampere), got {number}"));
    }
    Ok(number)
}

/// Compute capabilities to make machine code for: those from `minimum` on that the toolkit knows, `minimum` itself among
/// them. `known` is what `nvcc --list-gpu-code` prints: `sm_80`, line by line.
///
/// # Errors
/// A toolkit that does not know `minimum`.
pub fn machine_code(minimum: u32, known: &str) -> Result<Vec<u32>, String> {
    let is_known = |capability: &u32| known.split_whitespace().any(|name| name == format!("sm_{capability}"));
    if !is_known(&minimum) {
        let known = known.split_whitespace().collect::<Vec<_>>().join(", ");
        return Err(format!("CUDA_COMPUTE_CAP: this toolkit has no code for {minimum}; it has {known}"));
    }
    let above = MACHINE_CODE.into_iter().filter(|capability| *capability > minimum).filter(is_known);
    Ok([minimum].into_iter().chain(above).collect())
}

/// nvcc's option for machine code of all and PTX of the lowest, which newer GPUs' drivers compile.
pub fn gencode(machine_code: &[u32]) -> Option<String> {
    let lowest = machine_code.first()?;
    let codes: Vec<String> = machine_code.iter().map(|capability| format!("sm_{capability}")).collect();
    Some(format!("--generate-code=arch=compute_{lowest},code=[compute_{lowest},{}]", codes.join(",")))
}
