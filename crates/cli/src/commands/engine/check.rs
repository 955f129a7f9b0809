//! Checks of a model's options.

use std::path::Path;

use smpo_devices::Choice;
use smpo_gguf::is_gguf;

use super::{Api, Base, EngineArgs, LocalEngine};
use crate::exit::Failure;

/// Kind of model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Hugging Face directory or adapter.
    Directory,
    /// GGUF file.
    Gguf,
    /// URL of an OpenAI-compatible server.
    Server,
}

impl Kind {
    /// Kind of the MODEL argument.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn of(source: &str) -> Result<Self, Failure> {
        Ok(match is_url(source) {
            true => Kind::Server,
            false if is_gguf(Path::new(source))? => Kind::Gguf,
            false => Kind::Directory,
        })
    }
}

/// True for the URL of a server.
pub fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// Kind of the models that are given, all of one.
///
/// # Errors
/// Several models that are not all servers; a file that cannot be read.
pub fn kind(sources: &[&str]) -> Result<Kind, Failure> {
    if let [one] = sources {
        return Kind::of(one);
    }
    match sources.iter().find(|source| !is_url(source)) {
        None => Ok(Kind::Server),
        Some(other) => Err(Failure::user(format!(
            "expected one model, or several URLs (http://…) of servers of one model, got {} arguments, of which {other:?} \
             is no URL",
            sources.len()
        ))),
    }
}

/// Refuses options that would have no effect or are out of range.
pub fn check(args: &EngineArgs, kind: Kind) -> Result<(), Failure> {
    refuse_misplaced(args, kind)?;
    refuse_out_of_range(args)?;
    refuse_devices(&args.device)?;
    if let Some(name) = args.api_key_env.as_ref().filter(|name| std::env::var_os(name).is_none()) {
        // It may be the key itself.
        let is_name = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        let shown = if is_name { name.as_str() } else { "" };
        return Err(Failure::user(format!("--api-key-env {shown}: expected the name of a variable that is set")));
    }
    let native = args.engine.unwrap_or_default() == LocalEngine::Native;
    let problem = match args.device.first() {
        _ if kind == Kind::Server && args.model.is_none() => "a server's URL needs --model, the model's name there",
        _ if args.template.is_some() && args.api == Api::Chat => {
            "--template is for --api completions; with --api chat the server renders conversations"
        }
        _ if args.api == Api::Completions && args.template.is_none() && args.weights.is_none() => {
            "--api completions needs --template or --weights, to render conversations"
        }
        Some(Choice::Cuda(_) | Choice::Emulated) if native && args.weights.is_some() => {
            "--weights is compared with on the CPU; with --engine native on a GPU the model is compared with itself"
        }
        Some(Choice::Emulated) if !native => "--device emulated is for --engine native",
        _ if args.base.is_some() && kind == Kind::Directory && !is_adapter(args) => {
            "--base is for a PEFT adapter, or for a GGUF file; a whole model has no base"
        }
        _ => return Ok(()),
    };
    Err(Failure::user(problem))
}

/// True for a directory with an adapter, and for one that is not there.
fn is_adapter(args: &EngineArgs) -> bool {
    args.split().first().is_some_and(|dir| {
        let dir = Path::new(dir);
        dir.join("adapter_config.json").exists() || !dir.join("config.json").exists()
    })
}

/// Refuses options of another kind of model or engine.
fn refuse_misplaced(args: &EngineArgs, kind: Kind) -> Result<(), Failure> {
    let native = args.engine.unwrap_or_default() == LocalEngine::Native;
    let server = (kind == Kind::Server, "a server's URL");
    let weights = (kind != Kind::Directory, "a server's URL or a GGUF file");
    let local = (kind != Kind::Server, "a local model");
    let auto = args.engine.unwrap_or_default() == LocalEngine::Auto;
    let mistral = (local.0 && !native, "a local model with mistral.rs");
    let batched = (local.0 && (native || auto && args.instances.is_none()), "a local model with --engine native");
    let options = [
        ("--model", args.model.is_some(), server),
        ("--api", args.api != Api::Chat, server),
        ("--template", args.template.is_some(), server),
        ("--concurrency", args.concurrency.is_some(), server),
        ("--logprob-base", args.logprob_base != Base::E, server),
        ("--extra-body", args.extra_body.is_some(), server),
        ("--timeout-secs", args.timeout_secs.is_some(), server),
        ("--header", !args.header.is_empty(), server),
        ("--api-key-env", args.api_key_env.is_some(), server),
        ("--weights", args.weights.is_some(), weights),
        ("--base", args.base.is_some(), local),
        ("--engine", args.engine.is_some(), local),
        ("--device", !args.device.is_empty(), local),
        ("--threads", args.threads.is_some(), local),
        ("--instances", args.instances.is_some(), mistral),
        ("--batch", args.batch.is_some(), batched),
    ];
    match options.iter().find(|(_, given, (fits, _))| *given && !fits) {
        Some((option, _, (_, place))) => {
            Err(Failure::user(format!("{option} is for {place}; it has no effect on {}", args.split().join(", "))))
        }
        None => Ok(()),
    }
}

/// Refuses several devices that are not several GPUs.
fn refuse_devices(devices: &[Choice]) -> Result<(), Failure> {
    for (index, device) in devices.iter().enumerate() {
        if devices.len() > 1 && !matches!(device, Choice::Cuda(_)) {
            return Err(Failure::user(format!(
                "--device: several devices are several GPUs (cuda:0,cuda:1), got {device}; the CPU is one device, whose \
                 cores one engine shares out (--batch, --threads, --instances)"
            )));
        }
        if devices[..index].contains(device) {
            return Err(Failure::user(format!(
                "--device: {device} is given twice; --instances N runs N engines on each"
            )));
        }
    }
    Ok(())
}

fn refuse_out_of_range(args: &EngineArgs) -> Result<(), Failure> {
    // beyond these there is no memory for what a number asks for
    for (option, number, most) in
        [("--instances", args.instances, 256), ("--batch", args.batch, 4096), ("--concurrency", args.concurrency, 4096)]
    {
        if number.is_some_and(|number| !(1..=most).contains(&number)) {
            let got = number.unwrap_or_default();
            return Err(Failure::user(format!("{option}: expected 1 to {most}, got {got}")));
        }
    }
    Ok(())
}
