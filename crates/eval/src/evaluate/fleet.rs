//! Sampling on several servers or devices: each with its own fidelity check, what they say of themselves compared.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use smpo_inference::fleet::{self, Admission, News, Verdict};
use smpo_inference::{Completion, Request, Sampler, TeacherForced};
use smpo_results::{EvaluationDir, FidelityInfo, RunManifest, Sample, ServerInfo, WorkerInfo, files};

use super::disagreement::{Disagreement, disagreements};
use super::engines::Worker;
use super::watch::Watch;
use super::{Engines, EvaluateError, Event, FidelityCheck, Options, before};
use crate::fidelity::{self, Bound, OWN};
use crate::runner::{Incident, RunError, Sampled, Supervision, sample_on_fleet};
use crate::suite::Suite;

/// Reasons of one worker that are recorded.
const REASONS: usize = 20;

/// Samples on all workers of `engines`, and records them in `manifest`.
pub(super) fn sample(
    suite: &Suite,
    dir: &EvaluationDir,
    manifest: &mut RunManifest,
    engines: &mut Engines,
    options: &Options,
    on_event: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<Sampled, EvaluateError> {
    let earlier = before(dir).workers;
    let sampler = fidelity::sampler(suite, engines);
    let (mut members, mut workers) = (Vec::new(), Vec::new());
    for Worker { mut name, generators, server } in std::mem::take(&mut engines.workers) {
        let engine = generators.first().map(|one| one.engine());
        if name.is_empty() {
            name = engine.as_ref().map(|engine| engine.device.clone()).unwrap_or_default();
        }
        let dtype = engine.and_then(|engine| engine.dtype);
        let tolerance = match options.fidelity {
            FidelityCheck::Run { tolerance } => tolerance,
            FidelityCheck::Skip => None,
        };
        members.push(Member {
            info: WorkerInfo { name: name.clone(), ..WorkerInfo::default() },
            watch: Watch::new(server, ServerInfo::default()),
            connections: generators.len(),
            bound: Bound::of(tolerance, dtype),
            told_sequential: false,
        });
        workers.push(fleet::Worker { name, generators });
    }
    let mut supervisor = Supervisor {
        suite,
        sampler,
        scorer: engines.scorer.as_deref_mut().filter(|_| options.fidelity != FidelityCheck::Skip),
        sequential: engines.sequential_unless_checked,
        members,
        told: BTreeMap::new(),
        on_event,
    };
    manifest.observed.workers = supervisor.infos(&earlier, &[]);
    let sampled = sample_on_fleet(suite, dir, manifest, workers, &engines.patience, &mut supervisor);
    supervisor.record(dir, manifest, &earlier, &sampled)?;
    Ok(sampled?)
}

/// One worker of a fleet.
struct Member {
    info: WorkerInfo,
    watch: Watch,
    /// Requests in flight at most.
    connections: usize,
    bound: Bound,
    told_sequential: bool,
}

/// The workers, what is known of them, and what admits them.
struct Supervisor<'a> {
    suite: &'a Suite,
    /// The sampler of the fidelity check.
    sampler: Sampler,
    scorer: Option<&'a mut (dyn TeacherForced + 'static)>,
    sequential: bool,
    members: Vec<Member>,
    /// Names that were told as different, by kind.
    told: BTreeMap<&'static str, Disagreement>,
    on_event: &'a mut dyn FnMut(Event) -> ControlFlow<()>,
}

impl Supervisor<'_> {
    fn tell(&mut self, worker: usize, event: Event) {
        let worker = self.members[worker].info.name.clone();
        let _ = (self.on_event)(Event::Of { worker, event: Box::new(event) });
    }

    /// Requests in flight at most on a worker that could not be checked.
    fn unchecked(&mut self, worker: usize) -> usize {
        let member = &mut self.members[worker];
        if !self.sequential || member.connections < 2 {
            return member.connections;
        }
        if !std::mem::replace(&mut member.told_sequential, true)
            && self.members.iter().filter(|one| one.told_sequential).count() == 1
        {
            let _ = (self.on_event)(Event::Sequential);
        }
        1
    }

    /// Tells what the servers say of themselves, once it is news.
    fn look(&mut self) {
        for member in &mut self.members {
            let (worker, on_event) = (&member.info.name, &mut *self.on_event);
            member.watch.tell(&mut |event| on_event(Event::Of { worker: worker.clone(), event: Box::new(event) }));
        }
        let served = self.members.iter().filter_map(|member| Some((member.info.name.clone(), member.watch.served()?)));
        for found in disagreements(&served.collect::<Vec<_>>()) {
            if self.told.get(found.names) != Some(&found) {
                let _ = (self.on_event)(Event::Disagree(found.clone()));
                self.told.insert(found.names, found);
            }
        }
    }

    /// The workers of the whole run: of this call and of `earlier` ones.
    fn infos(&self, earlier: &[WorkerInfo], samples: &[Sample]) -> Vec<WorkerInfo> {
        let mut infos: Vec<WorkerInfo> = self
            .members
            .iter()
            .map(|member| {
                let served = member.watch.served().unwrap_or_default();
                WorkerInfo {
                    models: served.models.into_iter().collect(),
                    fingerprints: served.fingerprints.into_iter().collect(),
                    own_defaults: served.own_defaults.into_iter().collect(),
                    ..member.info.clone()
                }
            })
            .collect();
        for old in earlier {
            match infos.iter_mut().find(|info| info.name == old.name) {
                Some(info) => continue_from(info, old),
                None => infos.push(old.clone()),
            }
        }
        for info in &mut infos {
            info.samples = samples.iter().filter(|sample| sample.worker.as_ref() == Some(&info.name)).count();
        }
        infos
    }

    /// Records the workers in the manifest, and tells who did how much; a run that ended early has them on disk too.
    fn record(
        &mut self,
        dir: &EvaluationDir,
        manifest: &mut RunManifest,
        earlier: &[WorkerInfo],
        sampled: &Result<Sampled, RunError>,
    ) -> Result<(), EvaluateError> {
        let read;
        let samples = match sampled {
            Ok(Sampled::All(samples)) => samples,
            Err(RunError::OtherRun { .. } | RunError::ForeignSample { .. } | RunError::Locked { .. }) => return Ok(()),
            _ => {
                read = files::read_jsonl::<Sample>(&dir.samples(), "sample").unwrap_or_default();
                &read
            }
        };
        let observed = &mut manifest.observed;
        observed.workers = self.infos(earlier, samples);
        let worst = |a: &&FidelityInfo, b: &&FidelityInfo| a.max.total_cmp(&b.max);
        let counted = observed.workers.iter().filter(|worker| worker.samples > 0);
        observed.fidelity = counted.filter_map(|worker| worker.fidelity.as_ref()).max_by(worst).cloned();
        manifest.fidelity_max_abs_nats = observed.fidelity.as_ref().map(|fidelity| fidelity.max);
        let union = |of: fn(&WorkerInfo) -> &Vec<String>| {
            let mut names: Vec<String> = observed.workers.iter().flat_map(of).cloned().collect();
            names.sort();
            names.dedup();
            names
        };
        let server = ServerInfo { models: union(|one| &one.models), own_defaults: union(|one| &one.own_defaults) };
        observed.server = Some(server).filter(|server| *server != ServerInfo::default());
        let shares = observed.workers.iter().map(|worker| (worker.name.clone(), worker.samples)).collect();
        if !samples.is_empty() {
            let _ = (self.on_event)(Event::Shares(shares));
        }
        if sampled.is_err() {
            files::write_json(&dir.manifest(), "run manifest", manifest).map_err(RunError::from)?;
        }
        Ok(())
    }
}

/// Adds what an earlier part of the run recorded of a worker.
fn continue_from(info: &mut WorkerInfo, old: &WorkerInfo) {
    for (now, before) in [
        (&mut info.models, &old.models),
        (&mut info.fingerprints, &old.fingerprints),
        (&mut info.own_defaults, &old.own_defaults),
    ] {
        now.extend(before.iter().cloned());
        now.sort();
        now.dedup();
    }
    info.fidelity = info.fidelity.take().or_else(|| old.fidelity.clone());
    let now = std::mem::replace(&mut info.set_aside, old.set_aside.clone());
    info.set_aside.extend(now);
    info.set_aside.truncate(REASONS);
}

impl Supervision for Supervisor<'_> {
    fn trial(&mut self, worker: usize, returning: bool) -> Admission {
        let connections = self.members[worker].connections;
        if self.scorer.is_some() {
            return Admission::Trial(fidelity::requests(self.suite, self.sampler, connections));
        }
        if returning {
            let one = fidelity::requests(self.suite, self.sampler, 1).into_iter().take(1);
            return Admission::Trial(one.collect());
        }
        Admission::Free(self.unchecked(worker))
    }

    fn verdict(&mut self, worker: usize, completions: &[(Arc<Request>, Completion)]) -> Verdict {
        self.look();
        let Some(scorer) = &mut self.scorer else { return Verdict::Admitted(self.unchecked(worker)) };
        let with_ids: Vec<(&Request, Completion)> = completions
            .iter()
            .map(|(request, completion)| (&**request, fidelity::with_ids(&**scorer, completion.clone())))
            .collect();
        let compared = fidelity::rescore(with_ids.iter().map(|(request, one)| (*request, one)), &mut **scorer);
        match compared {
            Err(error) => Verdict::Refused(format!("fidelity check: {error}")),
            Ok(None) => {
                self.tell(worker, Event::Unchecked);
                Verdict::Admitted(self.unchecked(worker))
            }
            Ok(Some(fidelity)) => {
                let member = &mut self.members[worker];
                let info = fidelity::info(&fidelity, OWN);
                member.info.fidelity = Some(info.clone());
                if !member.bound.holds(&fidelity) {
                    let bound = member.bound.tolerance;
                    return Verdict::Refused(format!("fidelity check: {}", fidelity::explain(&fidelity, bound)));
                }
                let connections = member.connections;
                self.tell(worker, Event::Compared(info));
                Verdict::Admitted(connections)
            }
        }
    }

    fn told(&mut self, incident: Incident) -> ControlFlow<()> {
        match incident {
            Incident::Progress(progress) => {
                self.look();
                (self.on_event)(Event::Sampling(progress))
            }
            Incident::News(News::SetAside { worker, reason, pause, again }) => {
                let reasons = &mut self.members[worker].info.set_aside;
                let news = reasons.last() != Some(&reason) || !again;
                if news && reasons.len() < REASONS {
                    reasons.push(reason.clone());
                }
                if news || pause.is_none() {
                    self.tell(worker, Event::Standing { set_aside: Some(reason), pause });
                }
                ControlFlow::Continue(())
            }
            Incident::News(News::Back { worker }) => {
                self.tell(worker, Event::Standing { set_aside: None, pause: None });
                ControlFlow::Continue(())
            }
            Incident::Idle => (self.on_event)(Event::Waiting),
        }
    }
}
