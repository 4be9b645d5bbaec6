//! What a task has asked the keeper and was not told yet: it says what may be asked next.
//!
//! ```text
//! if outstanding.may_ask(JobKind::Save) {
//!     keeper.ask(task, save, &mut outstanding);
//! }
//! outstanding.answered(outcome.kind());      // before anything is made of it
//! ```

use super::{Job, Outcome};

/// The kinds of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    /// `Job::Survey`.
    Survey,
    /// `Job::Prepare`.
    Prepare,
    /// `Job::Save`.
    Save,
    /// `Job::LookAnew`.
    LookAnew,
    /// `Job::Remove`.
    Remove,
    /// `Job::Close`.
    Close,
}

impl Job {
    /// Its kind.
    pub fn kind(&self) -> JobKind {
        match self {
            Job::Survey { .. } => JobKind::Survey,
            Job::Prepare { .. } => JobKind::Prepare,
            Job::Save { .. } => JobKind::Save,
            Job::LookAnew { .. } => JobKind::LookAnew,
            Job::Remove => JobKind::Remove,
            Job::Close => JobKind::Close,
        }
    }
}

impl Outcome {
    /// The kind of the job that this is the answer to.
    pub fn kind(&self) -> JobKind {
        match self {
            Outcome::Surveyed(_) => JobKind::Survey,
            Outcome::Prepared(_) => JobKind::Prepare,
            Outcome::Saved(_) => JobKind::Save,
            Outcome::LookedAnew(_) => JobKind::LookAnew,
            Outcome::Removed(_) => JobKind::Remove,
            Outcome::Closed => JobKind::Close,
        }
    }
}

/// The jobs of one task that were not answered yet.
#[derive(Debug, Default)]
pub struct Outstanding {
    // Bound: two, a `Save` and a `LookAnew`.
    out: Vec<JobKind>,
}

impl Outstanding {
    /// Whether a job of this kind may be asked for now.
    pub fn may_ask(&self, kind: JobKind) -> bool {
        match kind {
            // A claim is made before its job is sent. What a look finds changed the keeper takes for known from then
            // on: a claim that did not know of it would vouch for bytes that nobody has hashed.
            JobKind::Save => self.is_idle(),
            // These begin or end something for all that comes after them.
            JobKind::Survey | JobKind::Prepare | JobKind::Remove | JobKind::Close => self.is_idle(),
            // It needs nothing of a save, whose sync may take long, and peers wait for its verdict. What the save
            // finds changed is told before what the look finds.
            JobKind::LookAnew => self.out.iter().all(|out| *out == JobKind::Save),
        }
    }

    /// Whether everything was answered.
    pub fn is_idle(&self) -> bool {
        self.out.is_empty()
    }

    /// A job was asked for.
    pub(super) fn asked(&mut self, kind: JobKind) {
        debug_assert!(
            self.may_ask(kind),
            "{kind:?} was asked for while {:?} are out",
            self.out
        );
        self.out.push(kind);
    }

    /// A job was answered.
    pub fn answered(&mut self, kind: JobKind) {
        if let Some(at) = self.out.iter().position(|out| *out == kind) {
            self.out.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use JobKind::{Close, LookAnew, Prepare, Remove, Save, Survey};

    const ALL: [JobKind; 6] = [Survey, Prepare, Save, LookAnew, Remove, Close];

    fn when_out(jobs: &[JobKind]) -> Vec<JobKind> {
        let mut outstanding = Outstanding::default();
        jobs.iter().for_each(|kind| outstanding.asked(*kind));
        let may = ALL.into_iter().filter(|kind| outstanding.may_ask(*kind));
        may.collect()
    }

    #[test]
    fn of_an_idle_keeper_anything_may_be_asked() {
        assert_eq!(when_out(&[]), ALL);
    }

    #[test]
    fn a_look_need_not_wait_for_a_save_and_everything_else_waits_for_everything() {
        assert_eq!(when_out(&[Save]), [LookAnew]);
        for job in [Survey, Prepare, LookAnew, Remove, Close] {
            assert_eq!(when_out(&[job]), [], "while {job:?} is out");
        }
        assert_eq!(when_out(&[Save, LookAnew]), []);
    }

    #[test]
    fn each_answer_is_to_its_own_question() {
        let mut outstanding = Outstanding::default();
        outstanding.asked(Save);
        outstanding.asked(LookAnew);
        outstanding.answered(Save);
        assert!(!outstanding.may_ask(Save));
        outstanding.answered(LookAnew);
        assert!(outstanding.is_idle() && outstanding.may_ask(Save));
    }
}
