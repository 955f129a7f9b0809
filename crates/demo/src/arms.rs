//! The arms of the experiment.

use smpo_recipe::START;

/// An arm of the experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// The model before.
    Start,
    /// SFT on chosen: the control for the preference losses.
    Control,
    /// Regular SMPO.
    Regular,
    /// Modified SMPO.
    Modified,
}

impl Arm {
    /// Every arm, in the order of the table.
    pub const ALL: [Arm; 4] = [Arm::Start, Arm::Control, Arm::Regular, Arm::Modified];

    /// Name in the recipe and in files.
    pub fn id(self) -> &'static str {
        match self {
            Arm::Start => START,
            Arm::Control => "control",
            Arm::Regular => "regular",
            Arm::Modified => "modified",
        }
    }

    /// Title in tables.
    pub fn title(self) -> &'static str {
        match self {
            Arm::Start => "base (before)",
            Arm::Control => "SFT on chosen (control)",
            Arm::Regular => "regular SMPO",
            Arm::Modified => "modified SMPO",
        }
    }
}
