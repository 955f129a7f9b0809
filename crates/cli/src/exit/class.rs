//! The exit class of every error type that reaches a command. The matches are exhaustive: a new variant does not compile
//! without a class.

use std::io::ErrorKind;

use smpo_bench::BenchError;
use smpo_chat::ChatError;
use smpo_collectives::CollectiveError;
use smpo_curation::CurationError;
use smpo_data::{ConvertError, DatasetError, Problem, ReadError};
use smpo_devices::DeviceError;
use smpo_eval::teacher_forced::TeacherForcedError;
use smpo_eval::{EvaluateError, InputError, RunError};
use smpo_files::FileError;
use smpo_gate::GateError;
use smpo_gguf::GgufError;
use smpo_hub::HubError;
use smpo_inference::InferenceError;
use smpo_losses::ConfigError;
use smpo_model::ModelError;
use smpo_native::{CompleteError, NativeError};
use smpo_pairs::PairsError;
use smpo_recipe::RecipeError;
use smpo_tokenizer::TokenizerError;
use smpo_tracking::TrackingError;
use smpo_trainer::TrainError;

use super::ExitClass::{self, Execution, User};

/// An error with an exit class.
pub trait Classify: std::error::Error {
    /// User error or execution error.
    fn exit_class(&self) -> ExitClass;
}

/// An I/O error is the machine's, unless the named file does not exist or is not what it should be.
impl Classify for std::io::Error {
    fn exit_class(&self) -> ExitClass {
        match self.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::InvalidData | ErrorKind::UnexpectedEof => User,
            _ => Execution,
        }
    }
}

/// Errors of reading; errors of writing are turned into execution errors where they occur.
impl Classify for FileError {
    fn exit_class(&self) -> ExitClass {
        self.source.exit_class()
    }
}

impl Classify for smpo_results::Error {
    fn exit_class(&self) -> ExitClass {
        use smpo_results::Error as E;
        match self {
            E::Io(error) => error.exit_class(),
            E::Parse { .. } | E::NewerSchema { .. } => User,
        }
    }
}

impl Classify for CollectiveError {
    fn exit_class(&self) -> ExitClass {
        match self {
            CollectiveError::Variable { .. } => User,
            CollectiveError::Gone(_)
            | CollectiveError::Lengths { .. }
            | CollectiveError::Failed { .. }
            | CollectiveError::Start { .. } => Execution,
        }
    }
}

impl Classify for ChatError {
    fn exit_class(&self) -> ExitClass {
        use ChatError as E;
        match self {
            E::Read { source, .. } => source.exit_class(),
            E::Malformed { .. }
            | E::NoTemplate { .. }
            | E::Parse { .. }
            | E::Refused { .. }
            | E::Render { .. }
            | E::Unbounded { .. } => User,
        }
    }
}

impl Classify for ReadError {
    fn exit_class(&self) -> ExitClass {
        match &self.problem {
            Problem::Io(source) => source.exit_class(),
            Problem::NotKept(_) => Execution,
            Problem::Parquet { .. }
            | Problem::NotUtf8 { .. }
            | Problem::TooLong { .. }
            | Problem::NotJson { .. }
            | Problem::NotRows { .. }
            | Problem::NoFiles { .. }
            | Problem::Hub(_)
            | Problem::NotAnObject { .. }
            | Problem::Missing { .. }
            | Problem::UnknownShape { .. }
            | Problem::ColumnsAbsent { .. }
            | Problem::Wrapped { .. }
            | Problem::WrongType { .. }
            | Problem::Roles { .. }
            | Problem::Contradiction { .. }
            | Problem::Unsupported { .. }
            | Problem::WrongKind { .. } => User,
        }
    }
}

impl Classify for HubError {
    fn exit_class(&self) -> ExitClass {
        match self {
            HubError::Name { .. } | HubError::Request { .. } | HubError::NotCached { .. } => User,
            HubError::Cache { source, .. } => source.exit_class(),
        }
    }
}

impl Classify for PairsError {
    fn exit_class(&self) -> ExitClass {
        match self {
            PairsError::Template { .. } => User,
            PairsError::Reward { .. } | PairsError::NoJudgeLeft { .. } => Execution,
            PairsError::Judge { last, .. } => last.exit_class(),
            PairsError::Results(error) => error.exit_class(),
        }
    }
}

impl Classify for RecipeError {
    fn exit_class(&self) -> ExitClass {
        match self {
            RecipeError::File(error) => error.exit_class(),
            RecipeError::Line { .. } | RecipeError::Whole { .. } | RecipeError::Stage { .. } => User,
            RecipeError::Failed { .. }
            | RecipeError::Start { .. }
            | RecipeError::Locked { .. }
            | RecipeError::StillRunning { .. } => Execution,
        }
    }
}

impl Classify for GgufError {
    fn exit_class(&self) -> ExitClass {
        match self {
            GgufError::Io { source, .. } => source.exit_class(),
            GgufError::Field { .. } | GgufError::Unsupported { .. } => User,
        }
    }
}

impl Classify for ConvertError {
    fn exit_class(&self) -> ExitClass {
        match self {
            ConvertError::Read(error) => error.exit_class(),
            ConvertError::Write(error) => error.exit_class(),
        }
    }
}

impl Classify for CurationError {
    fn exit_class(&self) -> ExitClass {
        use CurationError as E;
        match self {
            E::Read(error) => error.exit_class(),
            E::Suite(error) => error.exit_class(),
            E::Inference(error) => error.exit_class(),
            E::Model(error) => error.exit_class(),
            E::Row { .. } | E::Option(_) | E::Pipe { .. } => User,
            E::Changed { .. } | E::Tensor(_) | E::Write(_) | E::Temporary(_) => Execution,
        }
    }
}

impl Classify for TokenizerError {
    fn exit_class(&self) -> ExitClass {
        use TokenizerError as E;
        match self {
            E::Chat(error) => error.exit_class(),
            E::Gguf(error) => error.exit_class(),
            E::File(error) => error.exit_class(),
            E::Load { .. }
            | E::Unusable { .. }
            | E::Tokenizer(_)
            | E::DropsText { .. }
            | E::NoTerminator { .. }
            | E::PromptChanges { .. }
            | E::TurnChanges { .. }
            | E::OpenTurn { .. }
            | E::Roles { .. } => User,
        }
    }
}

impl Classify for DatasetError {
    fn exit_class(&self) -> ExitClass {
        use DatasetError as E;
        match self {
            E::Read(error) => error.exit_class(),
            E::Tokens { .. } => Execution,
            E::Row { .. } | E::Vanished { .. } | E::Mixture { .. } | E::NoRows { .. } | E::Changed { .. } => User,
        }
    }
}

impl Classify for DeviceError {
    fn exit_class(&self) -> ExitClass {
        use DeviceError as E;
        match self {
            E::NotBuilt { .. } | E::NoSuchIndex { .. } => User,
            E::NoDriver { .. }
            | E::Driver { .. }
            | E::OldDriver { .. }
            | E::NoDevice { .. }
            | E::TooOld { .. }
            | E::OtherTarget { .. }
            | E::Occupied { .. }
            | E::Other { .. } => Execution,
        }
    }
}

impl Classify for ModelError {
    fn exit_class(&self) -> ExitClass {
        use ModelError as E;
        match self {
            E::Io(error) => error.exit_class(),
            E::Gguf(error) => error.exit_class(),
            E::Kernel(_) | E::Tensor(_) | E::Peers(_) => Execution,
            E::Json { .. }
            | E::Field { .. }
            | E::UnknownFamily { .. }
            | E::Unsupported { .. }
            | E::NoModel { .. }
            | E::NoWeights { .. }
            | E::Safetensors { .. }
            | E::MissingTensors { .. }
            | E::ExtraTensors { .. }
            | E::Shape { .. }
            | E::Dtype { .. }
            | E::NotFinite { .. }
            | E::BeyondDtype { .. }
            | E::TiedHeadDiffers { .. }
            | E::OtherBase { .. }
            | E::Head { .. }
            | E::NotEmpty { .. }
            | E::Stopped
            | E::Input { .. } => User,
        }
    }
}

impl Classify for InferenceError {
    fn exit_class(&self) -> ExitClass {
        use InferenceError as E;
        match self {
            E::Tokenizer(error) => error.exit_class(),
            E::Gguf(error) => error.exit_class(),
            E::MissingFile { .. } | E::InvalidFile { .. } | E::Server { .. } => User,
            E::Load { .. }
            | E::InvalidRequest { .. }
            | E::Prompt { .. }
            | E::PromptTooLong { .. }
            | E::Logits(_)
            | E::Engine { .. }
            | E::Http { .. }
            | E::Embeddings { .. }
            | E::Unscripted { .. }
            | E::RescoredLength { .. }
            | E::Rescore { .. }
            | E::NothingToRescore { .. } => Execution,
        }
    }
}

impl Classify for NativeError {
    fn exit_class(&self) -> ExitClass {
        match self {
            NativeError::Model(error) => error.exit_class(),
            NativeError::Tokenizer(error) => error.exit_class(),
            NativeError::Inference(error) => error.exit_class(),
            NativeError::NoReward { .. } => User,
        }
    }
}

impl Classify for ConfigError {
    fn exit_class(&self) -> ExitClass {
        User
    }
}

impl Classify for TrainError {
    fn exit_class(&self) -> ExitClass {
        use TrainError as E;
        match self {
            E::Io { action: "read", source, .. } => source.exit_class(),
            E::Data(error) => error.exit_class(),
            E::Encode(error) => error.exit_class(),
            E::Device(error) => error.exit_class(),
            E::Collective(error) => error.exit_class(),
            E::Model(error) => error.exit_class(),
            E::Tracking(error) => error.exit_class(),
            E::Probe(CompleteError::Model(_)) => User,
            E::Config(_)
            | E::Loss(_)
            | E::DataCheck { .. }
            | E::NoSuchMetric { .. }
            | E::OtherRun { .. }
            | E::UnknownRun { .. }
            | E::OtherData { .. }
            | E::FinishedOnOtherData { .. }
            | E::OtherWeights { .. }
            | E::NoStepsLeft { .. }
            | E::NothingHeldOut { .. }
            | E::ReferenceVocabulary { .. }
            | E::OtherTokenizer { .. }
            | E::OnePrompt { .. } => User,
            E::Io { .. }
            | E::Probe(_)
            | E::Kernel(_)
            | E::OutOfMemory(_)
            | E::DeviceLost(_)
            | E::Tensor(_)
            | E::Batch { .. }
            | E::Memory(_)
            | E::Vocabulary { .. }
            | E::Busy { .. }
            | E::NotFinite { .. }
            | E::TooManySkipped { .. }
            | E::NoTeacher
            | E::OtherRank { .. }
            | E::Checkpoint { .. } => Execution,
        }
    }
}

impl Classify for TrackingError {
    fn exit_class(&self) -> ExitClass {
        use TrackingError as E;
        match self {
            E::File(error) => error.exit_class(),
            E::Setting { .. } | E::Line { .. } | E::NoRun { .. } => User,
            E::Unreachable { .. } | E::Refused { .. } | E::Answer { .. } | E::ArtifactStore { .. } => Execution,
        }
    }
}

impl Classify for BenchError {
    fn exit_class(&self) -> ExitClass {
        use BenchError as E;
        match self {
            E::Option { .. } => User,
            E::Device(error) => error.exit_class(),
            E::Model(error) => error.exit_class(),
            E::Train(error) => error.exit_class(),
            E::Loss(_) | E::Kernel(_) | E::Tensor(_) => Execution,
        }
    }
}

impl Classify for InputError {
    fn exit_class(&self) -> ExitClass {
        match self {
            InputError::Io { source, .. } => source.exit_class(),
            InputError::File(error) => error.exit_class(),
            InputError::Line { .. } | InputError::Whole { .. } => User,
        }
    }
}

impl Classify for RunError {
    fn exit_class(&self) -> ExitClass {
        use RunError as E;
        match self {
            E::OtherRun { .. } | E::ForeignSample { .. } | E::Locked { .. } | E::Unusable { .. } => User,
            E::File(_) | E::Io { .. } | E::Failing { .. } | E::Fatal(_) | E::NoneLeft { .. } | E::NoGenerator => {
                Execution
            }
        }
    }
}

impl Classify for EvaluateError {
    fn exit_class(&self) -> ExitClass {
        use EvaluateError as E;
        match self {
            E::Suite(error) => error.exit_class(),
            E::Run(error) => error.exit_class(),
            E::TeacherForced { source: TeacherForcedError::Pairs(error), .. } => error.exit_class(),
            E::Restart { .. }
            | E::Fidelity(_)
            | E::NothingSampled { .. }
            | E::TeacherForced { .. }
            | E::Reward(_)
            | E::Results(_) => Execution,
        }
    }
}

impl Classify for smpo_report::curves::ReadError {
    fn exit_class(&self) -> ExitClass {
        use smpo_report::curves::ReadError as E;
        match self {
            E::Io { source, .. } => source.exit_class(),
            E::Missing(_) | E::Line { .. } | E::Empty(_) => User,
        }
    }
}

#[cfg(feature = "mistralrs")]
impl Classify for smpo_demo::DemoError {
    fn exit_class(&self) -> ExitClass {
        use smpo_demo::DemoError as E;
        match self {
            E::File(error) => error.exit_class(),
            E::Results(error) => error.exit_class(),
            E::Suite(error) => error.exit_class(),
            E::Gate(error) => error.exit_class(),
            E::Recipe(error) => error.exit_class(),
        }
    }
}

impl Classify for GateError {
    fn exit_class(&self) -> ExitClass {
        match self {
            GateError::Results(error) => error.exit_class(),
            GateError::PolicySyntax { .. }
            | GateError::PolicyValue { .. }
            | GateError::UnknownPolicy { .. }
            | GateError::UnknownMetric { .. }
            | GateError::MisspeltSlice { .. }
            | GateError::NotPerPrompt { .. }
            | GateError::NoDirection { .. }
            | GateError::Incomparable { .. }
            | GateError::DifferentPrompt { .. }
            | GateError::NoOverlap { .. }
            | GateError::OtherSlices { .. }
            | GateError::DuplicatePrompt { .. }
            | GateError::Impossible { .. }
            | GateError::Unfinished { .. }
            | GateError::SameCheckpoint { .. }
            | GateError::EmptyArm { .. }
            | GateError::UnknownEntry { .. }
            | GateError::Stats { .. } => User,
        }
    }
}
