//! The native engine on GPUs.

use std::path::Path;

use serde_json::{Map, Value};
use smpo_devices::{Choice, Kind, OpenDevice, format_bytes, on_device, sampling_memory};
use smpo_eval::{Engines, Worker, weights};
use smpo_model::{FrozenStorage, ModelDir, ModelInfo, Placement, Storage, WeightDtype};
use smpo_native::{NativeGenerator, NativeModel};

use super::local::{Loaded, Local, template_sha256};
use crate::exit::{Failure, OrFail};

/// Sequences a batch on a GPU, whose memory is read once for all of them.
const BATCH: usize = 64;

const ELSEWHERE: &str = "end what else runs there (`nvidia-smi`), choose another GPU with --device cuda:N, or use \
                         --device cpu";

impl Local<'_> {
    /// The GPUs that the native engine is to use; none for the CPU, with a remark where `auto` leaves out a GPU because the
    /// model has no kernels for one.
    pub(super) fn native_devices(&self, model: &Path) -> Result<(Vec<OpenDevice>, Option<String>), Failure> {
        let chosen = if self.devices.is_empty() { &[Choice::Auto][..] } else { self.devices };
        let opened = chosen.iter().map(|choice| choice.open()).collect::<Result<Vec<_>, _>>()?;
        let gpus: Vec<OpenDevice> = opened.into_iter().filter(|device| device.kind() != Kind::Cpu).collect();
        let refused = match ModelDir::open(model, self.base) {
            Ok(dir) if !gpus.is_empty() => {
                ModelInfo::read(dir.weights()).ok().and_then(|info| info.spec.lacks_kernels())
            }
            _ => None,
        };
        match refused {
            Some(lacking) if chosen == [Choice::Auto] => {
                let note = format!("sampling on the CPU: {lacking} have no kernels for a GPU");
                Ok((Vec::new(), Some(note)))
            }
            _ => Ok((gpus, None)),
        }
    }

    /// The model on each device, in the dtype of its weights, as a worker.
    pub(super) fn native_on(&self, devices: &[OpenDevice], variables: &Map<String, Value>) -> Result<Loaded, Failure> {
        let model = Path::new(self.model);
        let weights_sha256 = Some(weights::sha256(model).or_execution_error()?);
        let options = self.native_options(BATCH);
        let (mut workers, mut scorer) = (Vec::new(), None);
        let (mut terminators, mut hash) = (None, None);
        for device in devices {
            let loaded = on_device(device, || self.load_to(device))?.with_template_variables(variables)?;
            let name = device.choice().to_string();
            let generators = on_device(device, || loaded.generators_on_device(options, (name.clone(), free(device))))?;
            let tokenizer = generators.first().map(NativeGenerator::tokenizer);
            terminators = tokenizer.map(|tokenizer| tokenizer.terminators().into());
            hash = tokenizer.map(|tokenizer| template_sha256(tokenizer, variables));
            workers.push(Worker::new(name, generators));
            scorer.get_or_insert(loaded);
        }
        let engines = Engines { terminators, template_sha256: hash, ..Engines::of(workers) };
        Ok(Loaded::new(engines, scorer.ok_or("no device"), weights_sha256))
    }

    /// The model in a device's memory; refused where its weights, or one sequence beside them, do not fit.
    fn load_to(&self, device: &OpenDevice) -> Result<NativeModel, Failure> {
        let model = Path::new(self.model);
        let dir = ModelDir::open(model, self.base)?;
        let info = ModelInfo::read(dir.weights())?;
        // The emulator's scorer is the CPU, which computes in float32.
        let dtype = if device.kind() == Kind::Emulated { WeightDtype::F32 } else { info.matrices.dtype };
        let frozen = FrozenStorage { storage: &Storage::default(), stored: info.matrices };
        let needed = frozen.total(&info.spec, Some(dtype), 1)?;
        if let Some(memory) = device.gpu_memory().filter(|memory| needed > memory.free) {
            return Err(Failure::execution(format!(
                "{}: its weights take {} in {}, {} of the GPU's {} are free; {ELSEWHERE}",
                self.model,
                format_bytes(needed),
                dtype.name(),
                format_bytes(memory.free),
                format_bytes(memory.total)
            )));
        }
        let placement = Placement { device: device.device().clone(), dtype };
        let loaded = NativeModel::load_on(model, self.base, &placement)?;
        let (needed, memory) = (info.spec.sampling_bytes(dtype, 1) + info.spec.cached_bytes(dtype), free(device));
        match needed > memory {
            true => Err(Failure::execution(format!(
                "{}: sampling takes at least {} beside the weights, {} of the GPU's memory are there for it; {ELSEWHERE}",
                self.model,
                format_bytes(needed as u64),
                format_bytes(memory as u64)
            ))),
            false => Ok(loaded),
        }
    }
}

/// Bytes for the cache and a step's intermediate values, beside the weights that are there already.
fn free(device: &OpenDevice) -> usize {
    sampling_memory(device.kind(), device.gpu_memory().map(|memory| memory.free))
}
