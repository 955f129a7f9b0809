//! Routed experts: their routers and the load-balancing loss.

use smpo_model::DecoderSpec;

use crate::config::builder::setters;
use crate::config::check::{Problems, is_non_negative};
use crate::config::{TrainConfig, TrainConfigBuilder};

impl TrainConfigBuilder {
    setters! {
        freeze_router: bool,
        router_aux_loss_coef?: f64,
    }
}

impl TrainConfig {
    /// Coefficient of the load-balancing loss of a model; 0 for none.
    pub(crate) fn balance_coefficient(&self, spec: &DecoderSpec) -> f64 {
        let own = spec.experts.as_ref().and_then(|experts| experts.auxiliary);
        self.router_aux_loss_coef.or(own).unwrap_or(0.0)
    }

    /// The key of experts that is set for a model without; `None` if there is none.
    pub(crate) fn refused_without_experts(&self, spec: &DecoderSpec) -> Option<&'static str> {
        let keys =
            [("freeze_router", self.freeze_router), ("router_aux_loss_coef", self.router_aux_loss_coef.is_some())];
        keys.into_iter().find(|(_, given)| *given && spec.experts.is_none()).map(|(key, _)| key)
    }

    pub(in crate::config) fn check_experts(&self, problems: &mut Problems) {
        if let Some(coefficient) = self.router_aux_loss_coef {
            problems.range("router_aux_loss_coef", is_non_negative(coefficient), "0 (off) or more", coefficient);
        }
    }
}
