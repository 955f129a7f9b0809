//! A server's part in a run, told when it comes to light and recorded.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use smpo_inference::Served;
use smpo_results::ServerInfo;

use super::{Event, Server};

/// Watches the server of a run, if it has one.
pub(super) struct Watch {
    server: Option<Server>,
    /// From interrupted parts of the run.
    before: ServerInfo,
    /// Models and fields that were told.
    told: BTreeSet<String>,
}

impl Watch {
    /// Watches `server` in a run of which parts observed `before`.
    pub fn new(server: Option<Server>, before: ServerInfo) -> Self {
        Watch { server, before, told: BTreeSet::new() }
    }

    /// Tells what has come to light since the last call.
    pub fn tell(&mut self, on_event: &mut dyn FnMut(Event) -> ControlFlow<()>) {
        let Some(Server { model, served }) = &self.server else { return };
        let served = served();
        for answered in served.other_models(model) {
            if self.told.insert(format!("model {answered}")) {
                let _ = on_event(Event::OtherModel { requested: model.clone(), answered: answered.to_owned() });
            }
        }
        let new = served.own_defaults.iter().filter(|field| self.told.insert(format!("field {field}")));
        let new: Vec<String> = new.cloned().collect();
        if !new.is_empty() {
            let _ = on_event(Event::OwnDefaults(new));
        }
    }

    /// The server's part in this call.
    pub fn served(&self) -> Option<Served> {
        Some((self.server.as_ref()?.served)())
    }

    /// The server's part in the whole run.
    pub fn info(&self) -> Option<ServerInfo> {
        let Served { models, own_defaults, .. } = self.served()?;
        let with = |before: &[String], now: BTreeSet<String>| {
            now.into_iter().chain(before.iter().cloned()).collect::<BTreeSet<_>>().into_iter().collect()
        };
        let models = with(&self.before.models, models);
        Some(ServerInfo { models, own_defaults: with(&self.before.own_defaults, own_defaults) })
    }
}
